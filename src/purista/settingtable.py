"""A table of deployment settings, and the kinds of values that tables have in common.

No message of a mistake shows what was written: it could be a secret.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from purista.storeaddress import holds_password, scheme_of


class Settings(BaseModel):
    """A table of settings; unknown names are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its text holds what was written
        host = None
    if host is None or parts.scheme not in {"http", "https"}:
        raise ValueError("write an http or https address, such as https://triggers.example.com")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("write the address alone: no user, password, query or fragment")
    if not _URL.fullmatch(url):
        raise ValueError("write spaces, quotes and letters beyond ASCII as %20 and the like")
    return url.rstrip("/")


_URL = re.compile(r"[A-Za-z0-9._~:/@!$&'()*+,;=%\[\]-]+")
"""The characters of a URI (RFC 3986, appendix A), but for a query and a fragment."""

Url = Annotated[str, AfterValidator(_checked_url)]
"""An address without secrets; a slash at the end is cut off."""


def is_reference(text: str) -> bool:
    """Whether a text refers to a value that is held elsewhere: ``env:NAME`` or ``file:PATH``."""
    kind, _, name = text.partition(":")
    return (kind == "env" and _NAME.fullmatch(name) is not None) or (
        kind == "file" and name.isprintable() and bool(name.strip())
    )


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _checked_reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError(
            "refer to the secret, as env:NAME or file:PATH, and keep it out of this file"
        )
    return text


def _checked_store(text: str) -> str:
    if is_reference(text):
        return text
    if not scheme_of(text):
        raise ValueError("write an address such as sqlite:///runs.sqlite, or env:NAME")
    if holds_password(text):
        raise ValueError(
            "it holds a password; refer to the whole address, as env:NAME or file:PATH"
        )
    return text


Reference = Annotated[str, AfterValidator(_checked_reference)]
"""Where a secret is: ``env:NAME`` or ``file:PATH``."""

Store = Annotated[str, AfterValidator(_checked_store)]
"""The address of a store without a password, or a reference to one."""


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str], BeforeValidator(_listed)]
"""A text, or several of them in a list."""

References = Annotated[list[Reference], BeforeValidator(_listed)]
"""A reference to a secret, or several of them in a list."""
