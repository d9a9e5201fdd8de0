"""SVG and HTML, written as text: elements, escaped text, numbers for people.

Every text goes through ``escaped``, so that no name or description can become markup.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Markup: TypeAlias = str
"""Text that is markup already."""


def element(
    tag: str, *children: Markup, text: str = "", **attributes: str | float | None
) -> Markup:
    """Return an element with a text and children; an attribute that is None is left out.

    Names are as Python can write them: ``class_`` and ``text_anchor`` are ``class`` and ``text-anchor``.

    >>> element("text", text="a < b", x=1.5, class_="soft")
    '<text x="1.5" class="soft">a &lt; b</text>'
    """
    shown = "".join(
        f' {_name(key)}="{_value(value)}"' for key, value in attributes.items() if value is not None
    )
    content = escaped(text) + "".join(children)
    return f"<{tag}{shown}>{content}</{tag}>" if content else f"<{tag}{shown}/>"


def html_page(title: str, style: str, body: Markup) -> str:
    """Return an HTML file that loads nothing and runs nothing, whatever the texts in it hold."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", text=title),
        element("style", style),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def box(
    x: float, y: float, width: float, height: float, class_: str, title: str = "", radius: float = 0
) -> Markup:
    """Return a rectangle; ``title`` is shown when a mouse rests on it, and read aloud."""
    inside = [element("title", text=title)] if title else []
    return element(
        "rect", *inside, x=x, y=y, width=width, height=height, class_=class_, rx=radius or None
    )


def words(x: float, y: float, text: str, class_: str, anchor: str | None = None) -> Markup:
    """Return one line of text; ``anchor`` is ``middle`` or ``end``."""
    return element("text", text=text, x=x, y=y, class_=class_, text_anchor=anchor)


def escaped(text: str) -> Markup:
    r"""Return a text as XML; what XML cannot hold at all becomes a replacement character.

    >>> escaped("a & b\x00")
    'a &amp; b\ufffd'
    """
    clean = _FORBIDDEN.sub("\ufffd", text)
    for sign, reference in _SIGNS:
        clean = clean.replace(sign, reference)
    return clean


def number(value: int) -> str:
    """Return a whole number for people.

    >>> number(1234567)
    '1,234,567'
    """
    return f"{value:,}"


def counted(count: int, one: str) -> str:
    """Return a number and what it counts.

    >>> counted(1, "schedule"), counted(1000, "nominal time")
    ('1 schedule', '1,000 nominal times')
    """
    return f"{number(count)} {one}" if count == 1 else f"{number(count)} {one}s"


_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What is no character of XML 1.0 (section 2.2)."""

_SIGNS: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escaped(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
