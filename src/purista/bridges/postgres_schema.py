"""The tables and functions of a PostgreSQL queue bridge, version by version.

A job is a row; while it is leased it has a token, and ``due_at`` says when the lease runs out: then it
is due again without anybody's doing. Where a function takes no instant (``its_now`` is NULL) it takes the
server's. What a function does must not change under its name (``purista.postgres.migration``).
"""

from __future__ import annotations

from datetime import timedelta

from purista.postgres.migration import Migrations

CHANNEL = "purista_jobs"
"""On which is told that a job of a queue may be due earlier than was known: ``schema/SHA-256``."""

CALLERS_KEPT = timedelta(days=1)
"""How long a caller is known from its first call on."""

_TABLES = """
CREATE TABLE {schema}.jobs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    message_id text NOT NULL,
    envelope text NOT NULL,
    body bytea NOT NULL,
    max_attempts bigint NOT NULL,
    attempts bigint NOT NULL,
    due_at timestamptz NOT NULL,
    waits_since timestamptz NOT NULL,
    token bigint
);
CREATE INDEX jobs_due ON {schema}.jobs (sha256(decode(queue, 'escape')), due_at, number);
CREATE UNIQUE INDEX jobs_leased ON {schema}.jobs (token) WHERE token IS NOT NULL;
CREATE SEQUENCE {schema}.lease_tokens;
COMMENT ON TABLE {schema}.jobs IS
    'Texts here and in the other tables are in the escape format of bytea: \\\\ is a backslash, \\000 a NUL.';

CREATE TABLE {schema}.job_keys (
    queue text NOT NULL,
    key text NOT NULL,
    kept_until timestamptz NOT NULL
);
CREATE UNIQUE INDEX job_keys_key
    ON {schema}.job_keys (sha256(decode(queue, 'escape')), sha256(decode(key, 'escape')));
CREATE INDEX job_keys_kept ON {schema}.job_keys (kept_until);

CREATE TABLE {schema}.dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    message_id text NOT NULL,
    envelope text NOT NULL,
    body bytea NOT NULL,
    max_attempts bigint NOT NULL,
    attempts bigint NOT NULL,
    reason text NOT NULL,
    died_at timestamptz NOT NULL
);
CREATE INDEX dead_letters_of_queue
    ON {schema}.dead_letters (sha256(decode(queue, 'escape')), number);
"""

_ENQUEUE = """
CREATE FUNCTION {schema}.tell_1(its_queue text)
RETURNS void LANGUAGE sql AS $purista$
    SELECT pg_notify('{channel}',
        '{plain_schema}/' || encode(sha256(decode(its_queue, 'escape')), 'hex'));
$purista$;

CREATE FUNCTION {schema}.enqueue_1(
    its_queue text, its_message_id text, its_envelope text, its_body bytea, its_max_attempts bigint,
    its_delay interval, its_key text, its_dedupe_window interval, its_now timestamptz
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_number bigint;
BEGIN
    IF its_key IS NOT NULL THEN
        INSERT INTO {schema}.job_keys AS known
        VALUES (its_queue, its_key, the_now + its_dedupe_window)
        ON CONFLICT (sha256(decode(queue, 'escape')), sha256(decode(key, 'escape')))
        DO UPDATE SET kept_until = excluded.kept_until WHERE known.kept_until <= the_now;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    INSERT INTO {schema}.jobs (
        queue, message_id, envelope, body, max_attempts, attempts, due_at, waits_since
    ) VALUES (
        its_queue, its_message_id, its_envelope, its_body, its_max_attempts, 0,
        the_now + its_delay, the_now + its_delay
    ) RETURNING number INTO the_number;
    PERFORM {schema}.tell_1(its_queue);
    IF the_number % 32 = 0 THEN
        DELETE FROM {schema}.job_keys WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.job_keys WHERE kept_until <= the_now
            ORDER BY kept_until LIMIT 100 FOR UPDATE SKIP LOCKED));
    END IF;
    RETURN true;
END;
$purista$;
"""

_LEASE = """
CREATE FUNCTION {schema}.lease_1(its_queue text, its_durations interval[], its_now timestamptz)
RETURNS TABLE (
    lease bigint, attempt bigint, id text, wrapping text, content bytea, most bigint,
    ran_out boolean, next_in double precision
) LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_duration interval;
    the_job {schema}.jobs;
BEGIN
    FOREACH the_duration IN ARRAY its_durations LOOP
        LOOP
            SELECT * INTO the_job FROM {schema}.jobs
            WHERE sha256(decode(queue, 'escape')) = sha256(decode(its_queue, 'escape'))
                AND due_at <= the_now
            ORDER BY due_at, number LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN
                -- One that is due and locked is somebody else's, who could still die: look again.
                SELECT CASE WHEN min(due_at) > the_now
                    THEN extract(epoch FROM min(due_at) - the_now) ELSE min(0.1) END INTO next_in
                FROM {schema}.jobs
                WHERE sha256(decode(queue, 'escape')) = sha256(decode(its_queue, 'escape'));
                lease := NULL;
                RETURN NEXT;
                RETURN;
            END IF;
            id := the_job.message_id;
            wrapping := the_job.envelope;
            content := the_job.body;
            most := the_job.max_attempts;
            ran_out := the_job.token IS NOT NULL;
            IF ran_out AND the_job.attempts >= the_job.max_attempts THEN
                PERFORM {schema}.bury_1(the_job.number, 'the lease ran out in attempt '
                    || the_job.attempts || ', the last', the_now);
                lease := 0;
                attempt := the_job.attempts;
                RETURN NEXT;
            ELSE
                lease := nextval('{schema}.lease_tokens');
                attempt := the_job.attempts + 1;
                UPDATE {schema}.jobs SET
                    token = lease, attempts = attempt, waits_since = due_at,
                    due_at = the_now + the_duration
                WHERE number = the_job.number;
                RETURN NEXT;
                EXIT;
            END IF;
        END LOOP;
    END LOOP;
END;
$purista$;

CREATE FUNCTION {schema}.give_back_1(its_queue text, its_tokens bigint[])
RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    UPDATE {schema}.jobs SET token = NULL, attempts = attempts - 1, due_at = waits_since
    WHERE token = ANY (its_tokens);
    PERFORM {schema}.tell_1(its_queue);
END;
$purista$;
"""

_SETTLE = """
CREATE FUNCTION {schema}.bury_1(its_number bigint, its_reason text, its_now timestamptz)
RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    WITH gone AS (DELETE FROM {schema}.jobs WHERE number = its_number RETURNING *)
    INSERT INTO {schema}.dead_letters (
        queue, message_id, envelope, body, max_attempts, attempts, reason, died_at
    ) SELECT queue, message_id, envelope, body, max_attempts, attempts, its_reason, its_now FROM gone;
END;
$purista$;

CREATE FUNCTION {schema}.extend_1(its_token bigint, its_duration interval, its_now timestamptz)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_job {schema}.jobs;
BEGIN
    SELECT * INTO the_job FROM {schema}.jobs WHERE token = its_token FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE {schema}.jobs SET due_at = the_now + its_duration WHERE number = the_job.number;
    IF the_now + its_duration < the_job.due_at THEN
        PERFORM {schema}.tell_1(the_job.queue);
    END IF;
    RETURN true;
END;
$purista$;

CREATE FUNCTION {schema}.ack_1(its_token bigint)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    DELETE FROM {schema}.jobs WHERE token = its_token;
    RETURN FOUND;
END;
$purista$;

CREATE FUNCTION {schema}.nack_1(
    its_token bigint, its_retry_in interval, its_reason text, its_now timestamptz
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_job {schema}.jobs;
BEGIN
    SELECT * INTO the_job FROM {schema}.jobs WHERE token = its_token FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF its_retry_in IS NULL OR the_job.attempts >= the_job.max_attempts THEN
        PERFORM {schema}.bury_1(the_job.number, its_reason, the_now);
        RETURN true;
    END IF;
    UPDATE {schema}.jobs SET token = NULL, due_at = the_now + its_retry_in
    WHERE number = the_job.number;
    PERFORM {schema}.tell_1(the_job.queue);
    RETURN false;
END;
$purista$;
"""

_LETTERS = """
CREATE FUNCTION {schema}.letters_1(its_queue text, its_now timestamptz)
RETURNS TABLE (
    id text, wrapping text, content bytea, most bigint, attempt bigint, why text, died timestamp
) LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
BEGIN
    -- Nobody may have looked for a job since the last lease of one ran out.
    PERFORM {schema}.bury_1(late.number,
        'the lease ran out in attempt ' || late.attempts || ', the last', the_now)
    FROM (
        SELECT number, attempts FROM {schema}.jobs
        WHERE sha256(decode(queue, 'escape')) = sha256(decode(its_queue, 'escape'))
            AND due_at <= the_now AND token IS NOT NULL AND attempts >= max_attempts
        ORDER BY due_at, number FOR UPDATE SKIP LOCKED
    ) AS late;
    RETURN QUERY
        SELECT message_id, envelope, body, max_attempts, attempts, reason,
            died_at AT TIME ZONE 'UTC'
        FROM {schema}.dead_letters
        WHERE sha256(decode(queue, 'escape')) = sha256(decode(its_queue, 'escape'))
        ORDER BY number;
END;
$purista$;

CREATE FUNCTION {schema}.redrive_1(its_queue text, its_message_id text, its_now timestamptz)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_count bigint;
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.dead_letters
        WHERE sha256(decode(queue, 'escape')) = sha256(decode(its_queue, 'escape'))
            AND (its_message_id IS NULL OR message_id = its_message_id)
        RETURNING *
    )
    INSERT INTO {schema}.jobs (
        queue, message_id, envelope, body, max_attempts, attempts, due_at, waits_since
    ) SELECT queue, message_id, envelope, body, max_attempts, 0, the_now, the_now
    FROM gone ORDER BY number;
    GET DIAGNOSTICS the_count = ROW_COUNT;
    PERFORM {schema}.tell_1(its_queue);
    RETURN the_count;
END;
$purista$;

CREATE FUNCTION {schema}.purge_letters_1(its_queue text, its_message_id text)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_count bigint;
BEGIN
    DELETE FROM {schema}.dead_letters
    WHERE sha256(decode(queue, 'escape')) = sha256(decode(its_queue, 'escape'))
        AND (its_message_id IS NULL OR message_id = its_message_id);
    GET DIAGNOSTICS the_count = ROW_COUNT;
    RETURN the_count;
END;
$purista$;
"""

_CALLS = """
CREATE TABLE {schema}.callers (
    caller bigint PRIMARY KEY,
    call bigint NOT NULL,
    answer bigint NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE INDEX callers_began ON {schema}.callers (began_at);
COMMENT ON TABLE {schema}.callers IS
    'The latest call of each caller, who makes one after another and repeats one that was not answered.';

-- Note a call and what it is going to answer. NULL: it is made for the first time; else it was made
-- before, and this is what it answered (0 when its caller has given it up since).
CREATE FUNCTION {schema}.call_2(its_caller bigint, its_call bigint, its_answer bigint)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    UPDATE {schema}.callers SET call = its_call, answer = its_answer
    WHERE caller = its_caller AND call < its_call;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.callers (caller, call, answer) VALUES (its_caller, its_call, its_answer)
    ON CONFLICT (caller) DO NOTHING;
    IF NOT FOUND THEN
        RETURN coalesce({schema}.answer_2(its_caller, its_call), 0);
    END IF;
    DELETE FROM {schema}.callers WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.callers
        WHERE began_at < clock_timestamp() - interval '{callers_kept} seconds'
        ORDER BY began_at LIMIT 100 FOR UPDATE SKIP LOCKED));
    RETURN NULL;
END;
$purista$;

CREATE FUNCTION {schema}.answer_2(its_caller bigint, its_call bigint)
RETURNS bigint LANGUAGE sql AS $purista$
    SELECT answer FROM {schema}.callers WHERE caller = its_caller AND call = its_call;
$purista$;
"""

_REPEATABLE = """
-- Durations are microseconds.
CREATE FUNCTION {schema}.enqueue_2(
    its_caller bigint, its_call bigint,
    its_queue text, its_message_id text, its_envelope text, its_body bytea, its_max_attempts bigint,
    its_delay bigint, its_key text, its_dedupe_window bigint, its_now timestamptz
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_due timestamptz := the_now + its_delay * interval '1 microsecond';
    the_answer bigint;
BEGIN
    UPDATE {schema}.callers SET call = its_call, answer = 1
    WHERE caller = its_caller AND call < its_call;
    IF NOT FOUND THEN
        the_answer := {schema}.call_2(its_caller, its_call, 1);
        IF the_answer IS NOT NULL THEN
            RETURN the_answer = 1;
        END IF;
    END IF;
    IF its_key IS NOT NULL THEN
        IF {schema}.enqueue_1(its_queue, its_message_id, its_envelope, its_body, its_max_attempts,
                its_delay * interval '1 microsecond', its_key,
                its_dedupe_window * interval '1 microsecond', its_now) THEN
            RETURN true;
        END IF;
        UPDATE {schema}.callers SET answer = 0 WHERE caller = its_caller;
        RETURN false;
    END IF;
    INSERT INTO {schema}.jobs (
        queue, message_id, envelope, body, max_attempts, attempts, due_at, waits_since
    ) VALUES (
        its_queue, its_message_id, its_envelope, its_body, its_max_attempts, 0, the_due, the_due
    );
    PERFORM pg_notify('{channel}',
        '{plain_schema}/' || encode(sha256(decode(its_queue, 'escape')), 'hex'));
    RETURN true;
END;
$purista$;

CREATE FUNCTION {schema}.ack_2(its_caller bigint, its_call bigint, its_token bigint)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    DELETE FROM {schema}.jobs WHERE token = its_token;
    IF NOT FOUND THEN
        RETURN {schema}.answer_2(its_caller, its_call) IS NOT NULL;
    END IF;
    UPDATE {schema}.callers SET call = its_call, answer = 1
    WHERE caller = its_caller AND call < its_call;
    IF NOT FOUND THEN
        PERFORM {schema}.call_2(its_caller, its_call, 1);
    END IF;
    RETURN true;
END;
$purista$;

CREATE FUNCTION {schema}.nack_2(
    its_caller bigint, its_call bigint,
    its_token bigint, its_retry_in interval, its_reason text, its_now timestamptz
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    is_buried boolean := {schema}.nack_1(its_token, its_retry_in, its_reason, its_now);
BEGIN
    IF is_buried IS NULL THEN
        RETURN {schema}.answer_2(its_caller, its_call) = 1;
    END IF;
    PERFORM {schema}.call_2(its_caller, its_call, is_buried::integer);
    RETURN is_buried;
END;
$purista$;

CREATE FUNCTION {schema}.redrive_2(
    its_caller bigint, its_call bigint, its_queue text, its_message_id text, its_now timestamptz
) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_count bigint := {schema}.call_2(its_caller, its_call, 0);
BEGIN
    IF the_count IS NULL THEN
        the_count := {schema}.redrive_1(its_queue, its_message_id, its_now);
        UPDATE {schema}.callers SET answer = the_count WHERE caller = its_caller;
    END IF;
    RETURN the_count;
END;
$purista$;

CREATE FUNCTION {schema}.purge_letters_2(
    its_caller bigint, its_call bigint, its_queue text, its_message_id text
) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_count bigint := {schema}.call_2(its_caller, its_call, 0);
BEGIN
    IF the_count IS NULL THEN
        the_count := {schema}.purge_letters_1(its_queue, its_message_id);
        UPDATE {schema}.callers SET answer = the_count WHERE caller = its_caller;
    END IF;
    RETURN the_count;
END;
$purista$;

-- Like lease_1; whoever leases gives the tokens, and can so give back what it was never told of.
CREATE FUNCTION {schema}.lease_2(
    its_queue text, its_durations bigint[], its_tokens bigint[], its_now timestamptz
) RETURNS TABLE (
    lease bigint, attempt bigint, id text, wrapping text, content bytea, most bigint,
    ran_out boolean, next_in double precision
) LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_queue bytea := sha256(decode(its_queue, 'escape'));
    the_number bigint;
BEGIN
    FOR the_place IN 1 .. cardinality(its_tokens) LOOP
        LOOP
            UPDATE {schema}.jobs AS job SET
                token = its_tokens[the_place], attempts = job.attempts + 1,
                waits_since = job.due_at,
                due_at = the_now + its_durations[the_place] * interval '1 microsecond'
            FROM (
                SELECT one.number, one.token IS NOT NULL AS ran_out FROM {schema}.jobs AS one
                WHERE sha256(decode(one.queue, 'escape')) = the_queue AND one.due_at <= the_now
                ORDER BY one.due_at, one.number LIMIT 1 FOR UPDATE SKIP LOCKED
            ) AS next
            WHERE job.number = next.number
            RETURNING job.token, job.attempts, job.message_id, job.envelope, job.body,
                job.max_attempts, next.ran_out, job.number
            INTO lease, attempt, id, wrapping, content, most, ran_out, the_number;
            IF NOT FOUND THEN
                -- One that is due and locked is somebody else's, who could still die: look again.
                SELECT CASE WHEN min(due_at) > the_now
                    THEN extract(epoch FROM min(due_at) - the_now) ELSE min(0.1) END INTO next_in
                FROM {schema}.jobs WHERE sha256(decode(queue, 'escape')) = the_queue;
                lease := NULL;
                RETURN NEXT;
                RETURN;
            END IF;
            IF attempt <= most OR NOT ran_out THEN
                RETURN NEXT;
                EXIT;
            END IF;
            attempt := attempt - 1;
            UPDATE {schema}.jobs SET attempts = attempt WHERE number = the_number;
            PERFORM {schema}.bury_1(the_number,
                'the lease ran out in attempt ' || attempt || ', the last', the_now);
            lease := 0;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END;
$purista$;
"""

MIGRATIONS = Migrations(
    "queues",
    [
        (_TABLES + _ENQUEUE + _SETTLE + _LEASE + _LETTERS).replace("{channel}", CHANNEL),
        (_CALLS + _REPEATABLE)
        .replace("{channel}", CHANNEL)
        .replace("{callers_kept}", str(CALLERS_KEPT // timedelta(seconds=1))),
    ],
    by_hand="purista.bridges.postgres_queues.schema_sql()",
)
"""Version 1: jobs, their keys, dead letters. Version 2: calls that can be repeated."""
