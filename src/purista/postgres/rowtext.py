r"""Text and instants as PostgreSQL can hold them, and back.

PostgreSQL's text has no NUL. Text is stored in the escape format of ``bytea``: a NUL is ``\000``, a
backslash is doubled, all else stays as it is; ``decode(column, 'escape')`` gives the bytes, whose
SHA-256 is what is indexed, so that text may be of any length.
https://www.postgresql.org/docs/current/datatype-binary.html
"""

from __future__ import annotations

from datetime import UTC, datetime


def stored(text: str) -> str:
    r"""Return text as it is stored.

    >>> stored("a\x00b"), stored("C:\\")
    ('a\\000b', 'C:\\\\')
    """
    if "\\" in text or "\x00" in text:
        return text.replace("\\", "\\\\").replace("\x00", "\\000")
    return text


def restored(text: str) -> str:
    r"""Return stored text as it was.

    >>> restored(stored("a\x00b\\000"))
    'a\x00b\\000'
    """
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\000", "\x00") for part in text.split("\\\\"))


def instant(stamp: datetime) -> datetime:
    """Return a ``timestamp`` without a time zone, which was read ``AT TIME ZONE 'UTC'``."""
    return stamp.replace(tzinfo=UTC)


def instant_or_none(stamp: datetime | None) -> datetime | None:
    """Return the same for what may be missing."""
    return None if stamp is None else stamp.replace(tzinfo=UTC)
