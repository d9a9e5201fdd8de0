"""Descriptions of limited length: the ownership marker, what was accepted, the schedule's own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from purista.compiling import Placed, accepted_text, marker_text
from purista.portability import Finding, example_of

CODE: Final = "limit-description"
"""The code of the finding that a description is cut off."""


def described(placed: Placed, words: str, longest: int) -> str:
    """Return the marker and then ``words``, cut off after ``longest`` characters."""
    text = _marker(placed, accepted_text(placed))
    return f"{text}{_BETWEEN}{words}"[:longest] if words else text[:longest]


def description_findings(
    placed: Placed,
    words: str,
    longest: int,
    *,
    codes: Sequence[str],
    source: str,
    since: datetime,
) -> Iterator[Finding]:
    """Yield a finding where ``described`` will cut off; ``codes`` are those of the other findings."""
    if len(words) <= _room(placed, codes, longest):
        return
    room = _room(placed, [*codes, CODE], longest)
    yield Finding(
        code=CODE,
        schedule_id=placed.schedule.id,
        option="description",
        message=f"its description of {len(words)} characters is cut off after {room}: the limit is "
        f"{longest}, with the marker",
        example=example_of("description", placed.schedule, since),
        remedy="shorten it",
        source=source,
    )


_BETWEEN: Final = " - "
_FINGERPRINT: Final = 16
"""Characters of a fingerprint, which is not there yet where findings are made."""


def _marker(placed: Placed, accepted: str) -> str:
    return f"{marker_text(placed)} accepted={accepted}" if accepted else marker_text(placed)


def _room(placed: Placed, codes: Sequence[str], longest: int) -> int:
    """Return how many characters are left beside the marker, once some codes are accepted."""
    marker = len(_marker(placed, ",".join(sorted(set(codes))))) + _FINGERPRINT
    return max(longest - marker - len(_BETWEEN), 0)
