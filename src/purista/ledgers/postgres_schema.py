"""The tables and functions of a PostgreSQL ledger, version by version.

The rules are those of ``purista.ledgers.book``, said in PL/pgSQL, so that a decision is one statement
and one round trip. What a function does must not change under its name: a new rule is a new function
in a new version (``purista.postgres.migration``).

Locks, in this order, so that nothing ever waits in a circle:

1. ``decide`` takes its schedule's row, and of another schedule's only one that is free at once.
2. Under it, it takes rows of runs. Everybody else takes one row of a run and waits for nothing
   while it has it; ``renew`` and ``prune`` take many, and pass over those that are not free.
"""

from __future__ import annotations

from purista.postgres.migration import Migrations

PRUNE_EVERY = 32
PRUNED_AT_ONCE = 100
"""With every 32nd record at most 100 old rows of each table are deleted: more than were added."""

_TABLES = """
CREATE TABLE {schema}.schedules (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id text NOT NULL,
    latest timestamptz
);
CREATE UNIQUE INDEX schedules_id ON {schema}.schedules (sha256(decode(schedule_id, 'escape')));
COMMENT ON TABLE {schema}.schedules IS
    'Texts here and in the other tables are in the escape format of bytea: \\\\ is a backslash, \\000 a NUL.';

CREATE TABLE {schema}.runs (
    token bigint PRIMARY KEY,
    run_id text NOT NULL,
    schedule bigint NOT NULL,
    nominal_time timestamptz NOT NULL,
    key text NOT NULL,
    status text NOT NULL,
    owner text NOT NULL,
    claimed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    lease_until timestamptz,
    ended_at timestamptz,
    outcome text NOT NULL,
    is_dispatched boolean NOT NULL,
    kept_until timestamptz NOT NULL
);
CREATE UNIQUE INDEX runs_id ON {schema}.runs (sha256(decode(run_id, 'escape')));
CREATE INDEX runs_of_key ON {schema}.runs (schedule, sha256(decode(key, 'escape')), claimed_at);
CREATE INDEX runs_of_schedule ON {schema}.runs (schedule, nominal_time, token);
CREATE INDEX runs_by_time ON {schema}.runs (nominal_time, token);
CREATE INDEX runs_active ON {schema}.runs (schedule, expires_at)
    WHERE status IN ('claimed', 'active');
CREATE INDEX runs_unfinished ON {schema}.runs (nominal_time, token) WHERE ended_at IS NULL;
CREATE INDEX runs_leased ON {schema}.runs (sha256(decode(owner, 'escape')))
    WHERE lease_until IS NOT NULL AND status IN ('claimed', 'active');
CREATE INDEX runs_kept ON {schema}.runs (kept_until);

CREATE TABLE {schema}.skips (
    schedule bigint NOT NULL,
    key text NOT NULL,
    nominal_time timestamptz NOT NULL,
    run_id text NOT NULL,
    seen_at timestamptz NOT NULL,
    kept_until timestamptz NOT NULL
);
CREATE UNIQUE INDEX skips_of_key
    ON {schema}.skips (schedule, sha256(decode(key, 'escape')), nominal_time);
CREATE INDEX skips_kept ON {schema}.skips (kept_until);

CREATE TABLE {schema}.records (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule bigint NOT NULL,
    nominal_time timestamptz NOT NULL,
    key text NOT NULL,
    run_id text NOT NULL,
    verdict text NOT NULL,
    reason text NOT NULL,
    source text NOT NULL,
    decided_at timestamptz NOT NULL,
    kept_until timestamptz NOT NULL
);
CREATE INDEX records_of_schedule ON {schema}.records (schedule, number);
CREATE INDEX records_kept ON {schema}.records (kept_until);
"""

_DECIDE = """
CREATE FUNCTION {schema}.decide_1(
    its_schedule_id text, its_nominal_time timestamptz, its_key text, its_run_id text,
    its_source text, its_owner text, its_now timestamptz, its_verdict text, its_reason text,
    its_policy text, is_manual boolean, its_since timestamptz, its_expires_at timestamptz,
    its_lease_until timestamptz, its_kept_until timestamptz, its_run_kept_until timestamptz,
    OUT verdict text, OUT reason text, OUT run_id text, OUT token bigint, OUT taken_over boolean,
    OUT cancelled text[], OUT retry_at timestamp
) LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
#variable_conflict use_column
DECLARE
    the_schedule bigint;
    the_number bigint;
    the_home bigint;
    the_skip text;
    the_expired text[];
    the_replaced text[];
    earlier {schema}.runs;
    other {schema}.runs;
    is_known boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a decision needs a transaction that is READ COMMITTED';
    END IF;

    -- Lock the schedule. Every statement after this one sees what was committed before the lock.
    SELECT number INTO the_schedule FROM {schema}.schedules
    WHERE sha256(decode(schedule_id, 'escape')) = sha256(decode(its_schedule_id, 'escape'))
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        INSERT INTO {schema}.schedules (schedule_id) VALUES (its_schedule_id)
        ON CONFLICT (sha256(decode(schedule_id, 'escape'))) DO NOTHING;
        SELECT number INTO STRICT the_schedule FROM {schema}.schedules
        WHERE sha256(decode(schedule_id, 'escape')) = sha256(decode(its_schedule_id, 'escape'))
        FOR NO KEY UPDATE;
    END IF;

    -- Expire what is past its time-out.
    WITH over AS (
        UPDATE {schema}.runs SET
            status = 'expired', outcome = 'run_timeout', ended_at = expires_at,
            lease_until = CASE WHEN NOT is_dispatched THEN lease_until END
        WHERE schedule = the_schedule AND status IN ('claimed', 'active') AND expires_at <= its_now
        RETURNING run_id, token
    )
    SELECT array_agg(run_id ORDER BY token) INTO the_expired FROM over;

    -- Find the run that the trigger could be a duplicate of: by its key, else by its run id.
    SELECT * INTO earlier FROM {schema}.runs
    WHERE schedule = the_schedule
        AND sha256(decode(key, 'escape')) = sha256(decode(its_key, 'escape'))
        AND claimed_at > its_since AND NOT (status = 'failed' AND ended_at IS NOT NULL)
    ORDER BY claimed_at DESC, token DESC LIMIT 1
    FOR NO KEY UPDATE;
    is_known := FOUND;
    IF NOT is_known THEN
        SELECT schedule INTO the_home FROM {schema}.runs
        WHERE sha256(decode(run_id, 'escape')) = sha256(decode(its_run_id, 'escape'));
        IF FOUND THEN
            IF the_home <> the_schedule THEN
                PERFORM 1 FROM {schema}.schedules WHERE number = the_home
                FOR NO KEY UPDATE SKIP LOCKED;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'the run is being decided for another schedule'
                        USING ERRCODE = 'serialization_failure';
                END IF;
            END IF;
            SELECT * INTO earlier FROM {schema}.runs
            WHERE sha256(decode(run_id, 'escape')) = sha256(decode(its_run_id, 'escape'))
                AND schedule = the_home
            FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the run went to another schedule'
                    USING ERRCODE = 'serialization_failure';
            END IF;
            is_known := NOT (earlier.status = 'failed' AND earlier.ended_at IS NOT NULL)
                AND (earlier.status IN ('claimed', 'active') OR earlier.claimed_at > its_since);
        END IF;
    END IF;

    <<judging>>
    BEGIN
        IF is_known THEN
            verdict := 'duplicate';
            run_id := earlier.run_id;
            IF earlier.status = 'active' AND earlier.lease_until IS NOT NULL THEN
                reason := 'its run is active in this process';
                EXIT judging WHEN earlier.owner = its_owner;
            ELSE
                reason := 'its run is ' || earlier.status;
                EXIT judging WHEN earlier.is_dispatched OR earlier.status IN ('ended', 'replaced');
            END IF;
            IF earlier.lease_until > its_now THEN
                reason := 'its run is ' || earlier.status
                    || '; another process may still be at it';
                retry_at := earlier.lease_until AT TIME ZONE 'UTC';
                EXIT judging;
            END IF;
        END IF;

        verdict := its_verdict;
        reason := its_reason;
        run_id := its_run_id;
        EXIT judging WHEN its_verdict IN ('disabled', 'unexpected', 'rejected');
        IF NOT is_known THEN
            IF NOT is_manual THEN
                SELECT run_id INTO the_skip FROM {schema}.skips
                WHERE schedule = the_schedule
                    AND sha256(decode(key, 'escape')) = sha256(decode(its_key, 'escape'))
                    AND nominal_time = its_nominal_time AND seen_at > its_since;
                IF FOUND THEN
                    verdict := 'duplicate';
                    reason := 'it was skipped before';
                    run_id := the_skip;
                    EXIT judging;
                END IF;
            END IF;
            EXIT judging WHEN its_verdict <> 'accepted';
        END IF;

        IF its_policy = 'forbid' THEN
            SELECT * INTO other FROM {schema}.runs
            WHERE schedule = the_schedule AND status IN ('claimed', 'active')
                AND token IS DISTINCT FROM earlier.token
            ORDER BY token DESC LIMIT 1;
            IF FOUND THEN
                IF is_known AND NOT is_manual THEN
                    UPDATE {schema}.runs SET
                        status = 'failed', outcome = 'overlap', ended_at = its_now,
                        lease_until = NULL
                    WHERE token = earlier.token;
                END IF;
                verdict := 'overlap';
                reason := 'run ' || other.run_id || ' is ' || other.status || ' since '
                    || replace(to_char(other.claimed_at AT TIME ZONE 'UTC',
                        'YYYY-MM-DD"T"HH24:MI:SS.US'), '.000000', '') || '+00:00';
                EXIT judging;
            END IF;
        END IF;
        verdict := 'accepted';
        IF its_policy = 'replace' THEN
            WITH gone AS (
                UPDATE {schema}.runs SET
                    status = 'replaced', outcome = 'replaced', ended_at = its_now,
                    lease_until = NULL
                WHERE schedule = the_schedule AND status IN ('claimed', 'active')
                    AND token IS DISTINCT FROM earlier.token
                RETURNING run_id, token
            )
            SELECT array_agg(run_id ORDER BY token) INTO the_replaced FROM gone;
        END IF;
        IF is_known THEN
            run_id := earlier.run_id;
            reason := 'taken over, its run was ' || earlier.status || '; ' || its_reason;
        END IF;
    END judging;

    -- Record it.
    IF verdict IN ('overlap', 'late', 'coalesced') AND NOT is_manual THEN
        INSERT INTO {schema}.skips VALUES
            (the_schedule, its_key, its_nominal_time, run_id, its_now, its_kept_until)
        ON CONFLICT (schedule, sha256(decode(key, 'escape')), nominal_time) DO UPDATE SET
            run_id = excluded.run_id, seen_at = excluded.seen_at, kept_until = excluded.kept_until;
    END IF;
    INSERT INTO {schema}.records (
        schedule, nominal_time, key, run_id, verdict, reason, source, decided_at, kept_until
    ) VALUES (
        the_schedule, its_nominal_time, its_key, run_id, verdict, reason, its_source, its_now,
        its_kept_until
    ) RETURNING number INTO the_number;
    IF NOT is_manual AND its_verdict NOT IN ('disabled', 'unexpected', 'rejected') THEN
        UPDATE {schema}.schedules SET latest = its_nominal_time
        WHERE number = the_schedule AND (latest IS NULL OR latest < its_nominal_time);
    END IF;

    -- Claim the run: a new one, or the earlier one again under a larger token.
    token := 0;
    taken_over := false;
    cancelled := '{}';
    IF verdict = 'accepted' THEN
        token := the_number;
        taken_over := is_known;
        cancelled := array_remove(coalesce(the_expired, '{}'), run_id) || the_replaced;
        IF earlier.token IS NULL THEN
            INSERT INTO {schema}.runs (
                token, run_id, schedule, nominal_time, key, status, owner, claimed_at, expires_at,
                lease_until, outcome, is_dispatched, kept_until
            ) VALUES (
                the_number, run_id, the_schedule, its_nominal_time, its_key, 'claimed', its_owner,
                its_now, its_expires_at, its_lease_until, '', false, its_run_kept_until
            ) ON CONFLICT (sha256(decode(run_id, 'escape'))) DO NOTHING;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the run was claimed for another schedule'
                    USING ERRCODE = 'serialization_failure';
            END IF;
        ELSE
            UPDATE {schema}.runs SET
                token = the_number,
                schedule = the_schedule,
                nominal_time = CASE WHEN is_known THEN nominal_time ELSE its_nominal_time END,
                key = CASE WHEN is_known THEN key ELSE its_key END,
                status = 'claimed',
                owner = its_owner,
                claimed_at = CASE WHEN is_known THEN claimed_at ELSE its_now END,
                expires_at = its_expires_at,
                lease_until = its_lease_until,
                ended_at = NULL,
                outcome = '',
                is_dispatched = false,
                kept_until = its_run_kept_until
            WHERE token = earlier.token;
        END IF;
    END IF;

    -- Last, as whoever prunes must not wait: forget a little of what is old.
    IF the_number % PRUNE_EVERY = 0 THEN
        PERFORM {schema}.prune_1(its_now, PRUNED_AT_ONCE);
    END IF;
END;
$purista$;
""".replace("PRUNE_EVERY", str(PRUNE_EVERY)).replace("PRUNED_AT_ONCE", str(PRUNED_AT_ONCE))

_PRUNE = """
CREATE FUNCTION {schema}.prune_1(its_now timestamptz, at_most bigint)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_count bigint;
    the_sum bigint := 0;
BEGIN
    DELETE FROM {schema}.runs WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.runs WHERE kept_until <= its_now
        ORDER BY kept_until LIMIT at_most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS the_count = ROW_COUNT;
    the_sum := the_sum + the_count;
    DELETE FROM {schema}.skips WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.skips WHERE kept_until <= its_now
        ORDER BY kept_until LIMIT at_most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS the_count = ROW_COUNT;
    the_sum := the_sum + the_count;
    DELETE FROM {schema}.records WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.records WHERE kept_until <= its_now
        ORDER BY kept_until LIMIT at_most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS the_count = ROW_COUNT;
    RETURN the_sum + the_count;
END;
$purista$;
"""

_STEPS = """
CREATE FUNCTION {schema}.dispatched_1(its_run_id text, its_token bigint, its_lease_until timestamptz)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_run {schema}.runs;
BEGIN
    SELECT * INTO the_run FROM {schema}.runs WHERE token = its_token AND run_id = its_run_id
    FOR NO KEY UPDATE;
    IF the_run.status IN ('claimed', 'active') THEN
        UPDATE {schema}.runs SET
            status = 'active', is_dispatched = true, lease_until = its_lease_until
        WHERE token = its_token;
        RETURN true;
    END IF;
    IF the_run.status = 'expired' AND NOT the_run.is_dispatched THEN
        UPDATE {schema}.runs SET is_dispatched = true, lease_until = NULL WHERE token = its_token;
    END IF;
    RETURN coalesce(the_run.status = 'ended', false);
END;
$purista$;

CREATE FUNCTION {schema}.release_1(its_run_id text, its_token bigint)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    UPDATE {schema}.runs SET status = 'failed', lease_until = NULL, is_dispatched = false
    WHERE token = its_token AND run_id = its_run_id AND status IN ('claimed', 'active');
    RETURN FOUND;
END;
$purista$;

CREATE FUNCTION {schema}.end_1(its_run_id text, its_outcome text, its_now timestamptz)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_status text;
BEGIN
    UPDATE {schema}.runs SET
        status = CASE WHEN expires_at <= its_now THEN 'expired' ELSE 'ended' END,
        outcome = CASE WHEN expires_at <= its_now THEN 'run_timeout' ELSE its_outcome END,
        ended_at = least(expires_at, its_now),
        lease_until = CASE WHEN expires_at <= its_now AND NOT is_dispatched THEN lease_until END
    WHERE sha256(decode(run_id, 'escape')) = sha256(decode(its_run_id, 'escape'))
        AND status IN ('claimed', 'active')
    RETURNING status INTO the_status;
    RETURN coalesce(the_status = 'ended', false);
END;
$purista$;

CREATE FUNCTION {schema}.renew_1(its_owner text, its_lease_until timestamptz)
RETURNS SETOF bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    UPDATE {schema}.runs SET lease_until = its_lease_until WHERE token = ANY (ARRAY(
        SELECT token FROM {schema}.runs
        WHERE sha256(decode(owner, 'escape')) = sha256(decode(its_owner, 'escape'))
            AND lease_until IS NOT NULL AND status IN ('claimed', 'active')
            AND lease_until < its_lease_until
        FOR NO KEY UPDATE SKIP LOCKED));
    RETURN QUERY SELECT token FROM {schema}.runs
        WHERE sha256(decode(owner, 'escape')) = sha256(decode(its_owner, 'escape'))
            AND lease_until IS NOT NULL AND status IN ('claimed', 'active')
            AND lease_until < its_lease_until;
END;
$purista$;

CREATE FUNCTION {schema}.renew_run_1(its_token bigint, its_owner text, its_lease_until timestamptz)
RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    UPDATE {schema}.runs SET lease_until = its_lease_until
    WHERE token = its_token AND owner = its_owner AND status IN ('claimed', 'active')
        AND lease_until < its_lease_until;
END;
$purista$;
"""

_CONTRACTS_AND_NONCES = """
CREATE TABLE {schema}.contracts (
    schedule_id text NOT NULL,
    fingerprint text NOT NULL,
    previous text,
    since timestamptz NOT NULL,
    known_since timestamptz NOT NULL
);
CREATE UNIQUE INDEX contracts_id ON {schema}.contracts (sha256(decode(schedule_id, 'escape')));

CREATE FUNCTION {schema}.note_contracts_2(
    its_schedule_ids text[], its_fingerprints text[], its_now timestamptz
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    -- In one order for all, so that two at once do not wait in a circle.
    INSERT INTO {schema}.contracts AS known (schedule_id, fingerprint, since, known_since)
    SELECT given.schedule_id, given.fingerprint, its_now, its_now
    FROM unnest(its_schedule_ids, its_fingerprints) AS given (schedule_id, fingerprint)
    ORDER BY sha256(decode(given.schedule_id, 'escape'))
    ON CONFLICT (sha256(decode(schedule_id, 'escape'))) DO UPDATE SET
        fingerprint = excluded.fingerprint, previous = known.fingerprint, since = excluded.since
    WHERE known.fingerprint <> excluded.fingerprint;
END;
$purista$;

CREATE TABLE {schema}.nonces (
    nonce text NOT NULL,
    kept_until timestamptz NOT NULL
);
CREATE UNIQUE INDEX nonces_nonce ON {schema}.nonces (sha256(decode(nonce, 'escape')));
CREATE INDEX nonces_kept ON {schema}.nonces (kept_until);

CREATE FUNCTION {schema}.use_nonce_2(
    its_nonce text, its_now timestamptz, its_kept_until timestamptz
) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    is_new boolean;
BEGIN
    INSERT INTO {schema}.nonces AS known VALUES (its_nonce, its_kept_until)
    ON CONFLICT (sha256(decode(nonce, 'escape'))) DO UPDATE SET kept_until = excluded.kept_until
    WHERE known.kept_until <= its_now;
    is_new := FOUND;
    DELETE FROM {schema}.nonces WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {schema}.nonces WHERE kept_until <= its_now
        ORDER BY kept_until LIMIT 4 FOR UPDATE SKIP LOCKED));
    RETURN is_new;
END;
$purista$;

CREATE FUNCTION {schema}.drop_nonce_2(its_nonce text)
RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
BEGIN
    DELETE FROM {schema}.nonces
    WHERE sha256(decode(nonce, 'escape')) = sha256(decode(its_nonce, 'escape'));
END;
$purista$;

CREATE INDEX records_by_time ON {schema}.records (nominal_time, number);
"""

MIGRATIONS = Migrations(
    "ledger",
    [_TABLES + _PRUNE + _DECIDE + _STEPS, _CONTRACTS_AND_NONCES],
    by_hand="purista.ledgers.postgres.schema_sql()",
)
"""Version 1: schedules, runs, skips, records. Version 2: contracts, nonces, records by nominal time."""
