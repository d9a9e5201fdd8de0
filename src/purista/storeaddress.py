"""The address of a store, as settings name it: its scheme, and the file of a SQLite one. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


def scheme_of(url: str) -> str:
    """Return what stands before ``://`` in lower case, or an empty text; the rest could be a password.

    >>> scheme_of("postgresql://user:secret@db/runs")
    'postgresql'
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    return "" if match is None else match[1].lower()


def rest_of(url: str) -> str:
    """Return what stands behind ``://``."""
    return url.partition("://")[2]


def sqlite_path(url: str) -> Path:
    """Return the file that a ``sqlite:///`` address names: relative with three slashes, absolute with four.

    The path stands as it is, as SQLAlchemy has it. Raises ``ValueError`` with what to write.

    >>> str(sqlite_path("sqlite:///runs.sqlite")), str(sqlite_path("sqlite:////var/runs.sqlite"))
    ('runs.sqlite', '/var/runs.sqlite')
    """
    rest = rest_of(url)
    if not rest.startswith("/") or not rest[1:].strip("/") or "?" in rest or "#" in rest:
        raise ValueError("write sqlite:///FILE, or sqlite:////FOLDER/FILE for an absolute path")
    return Path(rest[1:])


def holds_password(url: str) -> bool:
    """Whether an address holds a password; one that cannot be read may. A lone user of NATS is a token.

    >>> holds_password("postgresql://user:secret@db/runs"), holds_password("postgresql://user@db/runs")
    (True, False)
    >>> holds_password("nats://s3cr3t@broker"), holds_password("nats://one,two:4222")
    (True, False)
    """
    if scheme_of(url) in ("nats", "tls"):
        return "@" in rest_of(url)
    try:
        parts = urlsplit(url)
        names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        return parts.password is not None or bool(names & {"password", "sslpassword"})
    except ValueError:
        return True
