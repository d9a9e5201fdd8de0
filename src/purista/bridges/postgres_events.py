"""The PostgreSQL event bridge: events and commands in a database, for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from psycopg import sql

from purista.bridges.port import EventBridgeCapabilities, Health
from purista.bridges.postgres_jobs import enqueued
from purista.bridges.postgres_queues import PostgresQueueBridge
from purista.bridges.postgres_schema import CHANNEL
from purista.bridges.stored_events import KEEP, StoredEventBridge
from purista.bridges.stored_members import Kind, posted
from purista.clock import Clock, SystemClock
from purista.errors import BridgeError
from purista.message import Message
from purista.postgres.address import Address, quoted_schema
from purista.postgres.connections import TIMEOUT, Connection, Work
from purista.postgres.migration import Migrations
from purista.postgres.rowtext import restored, stored

CONNECTIONS: Final = 4
"""How many connections are open at most, beside the one that listens."""

T = TypeVar("T")

MIGRATIONS: Final = Migrations(
    "events",
    [
        """
CREATE TABLE {schema}.event_members (
    kind text NOT NULL,
    name text NOT NULL,
    queue text NOT NULL,
    until timestamptz NOT NULL
);
CREATE UNIQUE INDEX event_members_queue ON {schema}.event_members (
    kind, sha256(decode(name, 'escape')), sha256(decode(queue, 'escape'))
);
COMMENT ON TABLE {schema}.event_members IS
    'Who takes what is published: a queue for each; texts are as in the table jobs.';

CREATE FUNCTION {schema}.post_1(
    its_caller bigint, its_call bigint, its_kinds text, its_name text, its_queue text,
    its_message_id text, its_envelope text, its_body bytea, its_max_attempts bigint,
    its_now timestamptz
) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $purista$
DECLARE
    the_now timestamptz := coalesce(its_now, clock_timestamp());
    the_queues text[];
    the_count bigint;
    the_queue text;
BEGIN
    the_queues := ARRAY(
        SELECT coalesce(its_queue, queue) FROM {schema}.event_members
        WHERE kind = ANY (string_to_array(its_kinds, ','))
            AND sha256(decode(name, 'escape')) = sha256(decode(its_name, 'escape'))
            AND until > clock_timestamp()
        LIMIT CASE WHEN its_queue IS NOT NULL THEN 1 END
    );
    UPDATE {schema}.callers SET call = its_call, answer = cardinality(the_queues)
    WHERE caller = its_caller AND call < its_call;
    IF NOT FOUND THEN
        the_count := {schema}.call_2(its_caller, its_call, cardinality(the_queues));
        IF the_count IS NOT NULL THEN
            RETURN the_count;
        END IF;
    END IF;
    FOREACH the_queue IN ARRAY the_queues LOOP
        INSERT INTO {schema}.jobs (
            queue, message_id, envelope, body, max_attempts, attempts, due_at, waits_since
        ) VALUES (
            the_queue, its_message_id, its_envelope, its_body, its_max_attempts, 0, the_now, the_now
        );
        PERFORM pg_notify('{channel}',
            '{plain_schema}/' || encode(sha256(decode(the_queue, 'escape')), 'hex'));
    END LOOP;
    RETURN cardinality(the_queues);
END;
$purista$;
""".replace("{channel}", CHANNEL)
    ],
    by_hand="purista.bridges.postgres_events.schema_sql()",
)
"""Version 1: members, and what puts a message into their queues."""

_CAPABILITIES: Final = EventBridgeCapabilities(
    name="postgres",
    durable=True,
    delivery="at-least-once",
    redelivers=True,
    dead_letters=True,
    across_processes=True,
    commands=True,
    every_instance=True,
    ordered=False,
)
_OF_NAME: Final = "sha256(decode(name, 'escape')) = sha256(decode(%s, 'escape'))"
_OF_QUEUE: Final = "sha256(decode(queue, 'escape')) = sha256(decode(%s, 'escape'))"


def schema_sql(schema: str = "purista", *, since: int = 0) -> str:
    """Return the SQL that makes the bridge's own table, for an administrator to apply after that of the queues.

    See ``purista.bridges.postgres_queues.schema_sql``; the part is ``events``. Raises ``BridgeError`` for
    a schema whose name is no plain one.
    """
    try:
        return MIGRATIONS.sql(schema, since=since)
    except ValueError as error:
        raise BridgeError(str(error)) from None


class PostgresEventBridge(StoredEventBridge):
    """Implements ``EventBridge``, ``EventDeadLetters`` and ``Connects``; needs the extra ``postgres``.

    ``url``, ``schema`` and ``timeout`` are those of a ``PostgresQueueBridge``, in whose tables the
    events are. ``keep``: after so long without a receiver a subscriber name is forgotten, with what waits
    for it. For one event loop.
    """

    _queues: PostgresQueueBridge

    def __init__(
        self,
        url: str,
        *,
        schema: str = "purista",
        timeout: timedelta = TIMEOUT,
        keep: timedelta = KEEP,
        clock: Clock | None = None,
    ) -> None:
        queues = PostgresQueueBridge(
            url, schema=schema, connections=CONNECTIONS, timeout=timeout, clock=clock
        )
        super().__init__(
            queues,
            _PostgresMembers(queues, schema, clock),
            capabilities=_CAPABILITIES,
            place=f"'{Address.of(url)}'",
            clock=clock or SystemClock(),
            keep=keep,
        )

    @property
    def health(self) -> Health:
        """How the database was when it was last heard of."""
        return self._queues.health

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the database answers and has the tables. Raises ``BridgeError``."""
        await self._queues.connect(patience=patience)


class _PostgresMembers:
    """Implements ``Members``, by the server's clock."""

    def __init__(
        self,
        queues: PostgresQueueBridge,
        schema: str,
        clock: Clock | None,
    ) -> None:
        self._queues = queues
        self._now: Callable[[], datetime | None] = (lambda: None) if clock is None else clock.now
        self._schema = sql.Identifier(schema)
        places = ", ".join(f"${number}" for number in range(1, 11))
        self._post = f"SELECT {quoted_schema(schema)}.post_1({places})".encode()
        self._name = schema
        self._is_prepared = False

    async def join(self, kind: Kind, name: str, queue: str, *, lasts: timedelta) -> None:
        await self._done(lambda connection: self._join(connection, kind, name, queue, lasts))

    async def leave(self, kind: Kind, name: str, queue: str) -> None:
        await self._done(lambda connection: self._leave(connection, kind, name, queue))

    async def post(
        self, kinds: Sequence[Kind], name: str, message: Message, *, to: str | None = None
    ) -> int:
        if not self._is_prepared:
            await self._done(_nothing)
        _, message_id, envelope, body, most, *_ = enqueued(posted(message, ""), None)
        queue = None if to is None else stored(to)
        values = ",".join(kinds), stored(name), queue, message_id, envelope, body, most, self._now()
        return int(await self._queues.called(self._post, *values))

    async def names(self, kind: Kind) -> Sequence[str]:
        return await self._done(lambda connection: self._names(connection, kind))

    async def close(self) -> None:
        """Do nothing: the connections are those of the queues."""

    async def _done(self, work: Work[T]) -> T:
        """Do a piece of work, once the tables are there."""

        async def prepared(connection: Connection) -> T:
            try:
                await MIGRATIONS.apply(connection, self._name)
            except ValueError as error:
                raise BridgeError(f"event bridge, schema '{self._name}': {error}") from None
            self._is_prepared = True
            return await work(connection)

        return await self._queues.done(work if self._is_prepared else prepared)

    async def _join(
        self, connection: Connection, kind: Kind, name: str, queue: str, lasts: timedelta
    ) -> None:
        async with connection.transaction():
            await self._run(
                connection,
                "INSERT INTO {schema}.event_members VALUES (%s, %s, %s, clock_timestamp() + %s) "
                "ON CONFLICT (kind, sha256(decode(name, 'escape')), sha256(decode(queue, 'escape'))) "
                "DO UPDATE SET until = excluded.until",
                (kind, stored(name), stored(queue), lasts),
            )
            gone = await self._run(
                connection,
                "DELETE FROM {schema}.event_members WHERE until <= clock_timestamp() "
                "RETURNING kind, queue",
            )
            for kind_of, queue_of in gone:
                await self._forget(connection, kind_of, queue_of)

    async def _leave(self, connection: Connection, kind: Kind, name: str, queue: str) -> None:
        async with connection.transaction():
            await self._run(
                connection,
                f"DELETE FROM {{schema}}.event_members WHERE kind = %s AND {_OF_NAME} AND {_OF_QUEUE}",  # noqa: S608
                (kind, stored(name), stored(queue)),
            )
            await self._forget(connection, kind, stored(queue))

    async def _forget(self, connection: Connection, kind: str, queue: str) -> None:
        """Forget what waits for a receiver that is gone."""
        if kind == "responder":
            return
        for table in ("jobs", "dead_letters"):
            query = f"DELETE FROM {{schema}}.{table} WHERE {_OF_QUEUE}"  # noqa: S608
            await self._run(connection, query, (queue,))

    async def _names(self, connection: Connection, kind: Kind) -> list[str]:
        query = "SELECT DISTINCT name FROM {schema}.event_members WHERE kind = %s"
        return [restored(name) for (name,) in await self._run(connection, query, (kind,))]

    async def _run(
        self, connection: Connection, query: str, values: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        text = sql.SQL(query).format(schema=self._schema)
        cursor = await connection.execute(text, values, prepare=True)
        return [] if cursor.description is None else await cursor.fetchall()


async def _nothing(connection: Connection) -> None:
    """Do nothing."""
