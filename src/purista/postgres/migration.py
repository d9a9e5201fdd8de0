"""Tables and functions in a schema of the database, brought up to date by whoever comes first.

Each part (the ledger, the queues) has a version of its own in the table ``versions``. A migration only
adds: tables, columns with a default, indexes, functions under a name that ends in the version that
brought them. So a process that knows an older version, and is at work already, goes on working; one
that starts refuses what it does not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg import errors

from purista.postgres.address import quoted_schema
from purista.postgres.connections import Connection

_VERSIONS = """
CREATE TABLE IF NOT EXISTS {schema}.versions (
    part text PRIMARY KEY,
    version integer NOT NULL
);
"""
_RAISE_VERSION = """
INSERT INTO {schema}.versions VALUES ('{part}', {version})
ON CONFLICT (part) DO UPDATE SET version = excluded.version;
"""


class Migrations:
    """The versions of one part, each as the SQL that leads to it from the one before.

    ``{schema}`` in the SQL stands for the quoted name of the schema, ``{plain_schema}`` for the name as it
    is. ``by_hand`` names the function
    that gives the SQL to an administrator.
    """

    def __init__(self, part: str, steps: Sequence[str], *, by_hand: str) -> None:
        self.part = part
        self.by_hand = by_hand
        self.steps = tuple(steps)

    @property
    def version(self) -> int:
        """The newest version."""
        return len(self.steps)

    def sql(self, schema: str, *, since: int = 0) -> str:
        """Return the SQL that leads from version ``since`` to the newest, for one transaction.

        Raises ``ValueError`` for a schema whose name is no plain one.
        """
        quoted = quoted_schema(schema)
        parts = [] if since else [f"CREATE SCHEMA IF NOT EXISTS {quoted};\n", _VERSIONS]
        parts += self.steps[since:]
        raising = _RAISE_VERSION.replace("{part}", self.part)
        parts.append(raising.replace("{version}", str(self.version)))
        return "".join(parts).replace("{schema}", quoted).replace("{plain_schema}", schema)

    async def apply(self, connection: Connection, schema: str) -> None:
        """Bring the schema to the newest version; safe for several processes at once.

        Raises ``ValueError`` when the schema is newer than that, when the user may not change it, or
        when the database cannot hold all text.
        """
        try:
            if await self._version(connection, schema) != self.version:
                await self._migrate(connection, schema)
        except errors.InsufficientPrivilege as error:
            raise ValueError(
                f"{error.diag.message_primary}; let an administrator apply {self.by_hand} and grant "
                f"this user usage of schema '{schema}' and reading and writing of its tables"
            ) from error

    async def _migrate(self, connection: Connection, schema: str) -> None:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_lock(schema),))
            await connection.execute(
                "SELECT set_config('statement_timeout', '0', true), "
                "set_config('lock_timeout', '0', true)"
            )
            version = await self._version(connection, schema)
            self._check(version, schema)
            await self._check_encoding(connection)
            if version < self.version:
                await connection.execute(await self._script(connection, schema, version))

    async def _script(self, connection: Connection, schema: str, version: int) -> bytes:
        """Return the SQL; an existing schema is not created, as that asks for more rights."""
        script = self.sql(schema, since=version)
        found = await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
        if await found.fetchone() is not None:
            script = script.removeprefix(f"CREATE SCHEMA IF NOT EXISTS {quoted_schema(schema)};\n")
        return script.encode()

    async def _version(self, connection: Connection, schema: str) -> int:
        """Return the version that is there.

        The catalog is asked as a table: ``to_regclass`` answers from a cache, which need not have
        heard of what another process made while this one waited for the lock.
        """
        found = await connection.execute(
            "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE nspname = %s AND relname = 'versions'",
            (schema,),
        )
        if await found.fetchone() is None:
            return 0
        query = f"SELECT version FROM {quoted_schema(schema)}.versions WHERE part = %s"  # noqa: S608
        row = await (await connection.execute(query.encode(), (self.part,))).fetchone()
        return 0 if row is None else int(row[0])

    def _check(self, version: int, schema: str) -> None:
        if version > self.version:
            raise ValueError(
                f"its schema '{schema}' has version {version} of the {self.part}, this purista knows "
                f"{self.version}; use the purista that made it, or a newer one"
            )

    async def _check_encoding(self, connection: Connection) -> None:
        row = await (await connection.execute("SHOW server_encoding")).fetchone()
        if row is not None and row[0] != "UTF8":
            raise ValueError(
                f"its encoding is {row[0]}; name a database that was created WITH ENCODING 'UTF8'"
            )


def _lock(schema: str) -> int:
    """Return the key of the advisory lock under which a schema is changed."""
    digest = hashlib.sha256(f"purista schema {schema}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
