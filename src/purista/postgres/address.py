"""Where a database is: libpq's address, and what of it may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from psycopg import Error, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""So that a connection to a machine that is gone is noticed after a minute."""

_REMEDY = (
    "write postgresql://user:password@host:5432/database, with every other character of user and "
    "password than letters and digits percent-encoded"
)
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Address:
    """An address as libpq takes it, resolved with its defaults and environment (``PGHOST`` ...).

    As text it tells host, port and database: no user, no password.
    """

    conninfo: str = field(repr=False)
    host: str
    port: str
    database: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """Read an address.

        Raises ``ValueError`` with a text in which nothing of the address is quoted, as any part of
        one that is wrong could be the password.
        """
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        except Error:
            raise ValueError(f"its address cannot be read; {_REMEDY}") from None
        known = _defaults() | given
        host = known.get("host") or known.get("hostaddr") or ""
        port, database = known.get("port") or "5432", known.get("dbname") or known.get("user") or ""
        if "@" in host + port + database or re.search(r"[^0-9,]", port):
            raise ValueError(f"its address cannot be read; {_REMEDY}")
        conninfo = make_conninfo(**(_KEEPALIVES | given))
        return cls(conninfo, host, port, database, known.get("password") or "")

    def __str__(self) -> str:
        return f"postgresql://{self.host}:{self.port}/{self.database}"

    def scrubbed(self, text: str) -> str:
        """Return a text of libpq on one line and without the password."""
        line = " ".join(text.split())
        return line.replace(self.password, "***") if self.password else line


def quoted_schema(name: str) -> str:
    """Return a schema's name as SQL takes it. Raises ``ValueError`` for what is no plain name."""
    if _SCHEMA.fullmatch(name) is None:
        raise ValueError(
            f"schema '{name}' is no plain name; use at most 63 lower-case letters, digits and '_', "
            "beginning with a letter, and not with 'pg_'"
        )
    return f'"{name}"'


def _defaults() -> dict[str, str]:
    """Return what libpq takes from the environment and from itself."""
    options = pq.Conninfo.get_defaults()
    return {one.keyword.decode(): one.val.decode() for one in options if one.val is not None}
