"""One field of a cron line as the plainest text that every engine reads alike: numbers and ranges.

No names, no steps, no wrapping ranges: vendors' pages differ in these, or are silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from purista.cronfield import Unit


def field_text(unit: Unit, values: tuple[int, ...], *, shift: int = 0) -> str:
    """Return ascending values as numbers and ranges, each ``shift`` higher; a star for all of them.

    >>> from purista.cronfield import DAY_OF_WEEK, HOUR
    >>> field_text(HOUR, (0, 1, 2, 22, 23)), field_text(DAY_OF_WEEK, (1, 5), shift=1)
    ('0-2,22,23', '2,6')
    """
    if len(values) == unit.cycle:
        return "*"
    return ranges_text(tuple(value + shift for value in values))


def ranges_text(values: tuple[int, ...]) -> str:
    """Return ascending values as numbers, and as ranges where three or more follow each other.

    >>> ranges_text((1, 2, 3, 5, 6))
    '1-3,5,6'
    """
    return ",".join(
        f"{first}-{last}" if last - first > 1 else ",".join(map(str, range(first, last + 1)))
        for first, last in _runs(values)
    )


def _runs(values: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of values that follow each other."""
    first = last = values[0]
    for value in values[1:]:
        if value != last + 1:
            yield first, last
            first = value
        last = value
    yield first, last
