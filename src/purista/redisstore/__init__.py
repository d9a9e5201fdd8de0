"""Redis and Valkey, for what keeps its data there: addresses, connections, scripts, errors in words."""

from __future__ import annotations

from purista.errors import MissingExtraError

try:
    import redis as _driver  # noqa: F401 - only whether it is there
except ImportError as error:  # pragma: no cover - the tests have the extra
    raise MissingExtraError("Redis or Valkey", "redis") from error
