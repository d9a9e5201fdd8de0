"""Instants as a person types them on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from purista.errors import LoadError


def read_instant(option: str, text: str | None) -> datetime | None:
    """Return the instant that an option names, in UTC; None where it is not given."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise LoadError(
            f"{option} '{text}' is no instant; write it as 2027-03-01T01:00:00Z"
        ) from None
    if instant.utcoffset() is None:
        raise LoadError(f"{option} '{text}' has no zone; add Z, or an offset such as +01:00")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise LoadError(f"{option} '{text}' is out of bounds; use the years 1970 to 2200") from None
