"""PostgreSQL, for what keeps its rows there: addresses, connections, migrations, text and instants."""

from __future__ import annotations

from purista.errors import MissingExtraError

try:
    import psycopg as _driver  # noqa: F401 - only whether it is there
except ImportError as error:  # pragma: no cover - the tests have the extra
    raise MissingExtraError("PostgreSQL", "postgres") from error
