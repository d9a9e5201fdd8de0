"""Shades: counts as steps from pale to dark, and the legend that says which is which."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

SHADES: Final = 5
"""Shade 0 is for nothing, 1 is the palest, 5 the darkest."""


class Step(NamedTuple):
    """The counts from ``low`` to ``high``, both inclusive, and their shade."""

    low: int
    high: int
    shade: int

    @property
    def text(self) -> str:
        """The counts as a legend shows them."""
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}-{self.high:,}"


@dataclass(frozen=True, slots=True)
class Scale:
    """Steps of counts, ascending."""

    steps: tuple[Step, ...]

    def shade(self, count: int) -> int:
        """Return the shade of a count that the scale was made for; 0 for nothing."""
        if count == 0:
            return 0
        return self.steps[bisect_left(self.steps, count, key=lambda step: step.high)].shade


def scale(counts: Iterable[int]) -> Scale:
    """Return a scale for some counts: at most five steps, each of counts that are near each other.

    The steps are those with the smallest sum of squared distances from each count to its step's mean
    (the natural breaks of cartography), so that a day unlike all others has a shade of its own.

    >>> [step.text for step in scale([0, 24, 24, 25]).steps]
    ['24', '25']
    >>> [step.text for step in scale([1, 2, 3, 70, 72, 155, 156, 161, 162, 300]).steps]
    ['1-3', '70-72', '155-156', '161-162', '300']
    """
    occurrences = Counter(counts)
    found = sorted(set(occurrences) - {0})
    tops = _tops(found, [occurrences[count] for count in found])
    bottoms = [found[0], *(found[top + 1] for top in tops[:-1])] if found else []
    shades = _SPREAD[len(tops)]
    return Scale(tuple(map(Step, bottoms, (found[top] for top in tops), shades)))


_SPREAD: Final = ((), (3,), (2, 5), (1, 3, 5), (1, 2, 4, 5), (1, 2, 3, 4, 5))
"""Which shades so many steps have, as far from each other as can be."""


def _tops(values: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Return the place of the last value of each step, by dynamic programming over the first ones."""
    spread = _spread(values, weights)
    count = len(values)
    # Of the values up to each place: the least sum with so many steps, and where the steps end.
    best = [(spread(0, end), [end]) for end in range(count)]
    for steps in range(2, min(SHADES, count) + 1):
        best = [
            min(
                (best[before][0] + spread(before + 1, end), [*best[before][1], end])
                for before in range(steps - 2, end)
            )
            if end >= steps - 1
            else best[end]
            for end in range(count)
        ]
    return best[-1][1] if best else []


def _spread(values: Sequence[int], weights: Sequence[int]) -> Callable[[int, int], float]:
    """Return a function: the sum of squared distances to the mean, from one place to another."""
    pairs = list(zip(values, weights, strict=True))
    many = list(accumulate((weight for _, weight in pairs), initial=0))
    sums = list(accumulate((value * weight for value, weight in pairs), initial=0))
    squares = list(accumulate((value * value * weight for value, weight in pairs), initial=0))

    def spread(first: int, last: int) -> float:
        weight, total = many[last + 1] - many[first], sums[last + 1] - sums[first]
        return ((squares[last + 1] - squares[first]) * weight - total * total) / weight

    return spread
