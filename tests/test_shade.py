from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.shade import SHADES, scale


@pytest.mark.parametrize(
    ("counts", "shades"),
    [([], []), ([0], []), ([7], [3]), ([7, 9], [2, 5]), ([1, 2, 3], [1, 3, 5])],
)
def test_few_counts_have_a_shade_each_far_from_the_next(counts: list[int], shades: list[int]):
    found = scale(counts)
    assert [step.shade for step in found.steps] == shades
    assert [step.low for step in found.steps] == [count for count in counts if count]


def test_nothing_has_no_shade():
    assert scale([0, 5]).shade(0) == 0


def test_a_day_unlike_all_others_has_a_shade_of_its_own():
    ordinary = [20, 21, 22, 23, 40, 41, 42] * 50
    top = scale([*ordinary, 900]).steps[-1]
    assert (top.low, top.high) == (900, 900)


def test_a_legend_says_from_where_to_where():
    assert [step.text for step in scale([1200, 1201, 5, 6, 90, 91, 400, 401, 7000]).steps] == [
        "5-6",
        "90-91",
        "400-401",
        "1,200-1,201",
        "7,000",
    ]


@given(st.lists(st.integers(0, 2000), max_size=60))
def test_every_count_is_in_exactly_one_step_and_more_is_never_paler(counts: list[int]):
    found = scale(counts)
    assert len(found.steps) <= SHADES
    shades = [found.shade(count) for count in sorted(counts)]
    assert shades == sorted(shades)
    assert all(one.high < other.low for one, other in pairwise(found.steps))
    for count in filter(None, counts):
        assert [step.shade for step in found.steps if step.low <= count <= step.high] == [
            found.shade(count)
        ]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=14))
def test_steps_are_as_narrow_as_steps_can_be(counts: list[int]):
    values = sorted(set(counts))
    found = spread(counts, [step.high for step in scale(counts).steps])
    cuts = min(SHADES, len(values)) - 1
    best = min(spread(counts, [*tops, values[-1]]) for tops in combinations(values[:-1], cuts))
    assert found == pytest.approx(best)


def spread(counts: list[int], tops: list[int]) -> float:
    """The sum of squared distances of each count to the mean of its step."""
    total, low = 0.0, 0
    for top in tops:
        inside = [count for count in counts if low < count <= top]
        mean = sum(inside) / len(inside)
        total += sum((count - mean) ** 2 for count in inside)
        low = top
    return total
