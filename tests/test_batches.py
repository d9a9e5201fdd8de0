from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from purista.batches import Batch, Batches, cut
from purista.expression import Cron
from purista.wallclock import first_match

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def steps(cron: Cron, start: datetime, end: datetime) -> list[datetime]:
    found = []
    match = first_match(cron, start)
    while match is not None and match < end:
        found.append(match)
        match = first_match(cron, match + SECOND)
    return found


def spread(batches: list[Batch]) -> list[datetime]:
    return [base + distance for base, distances in batches for distance in distances]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("* * * * *", {}),
        ("*/20 9-17 * * 1-5", {}),
        ("0 2,14 * * *", {}),
        ("0 2 * * 1", {}),
        ("0 2 1,15 * *", {}),
        ("0 2 L * *", {}),
        ("30 2 * * MON#2", {}),
        ("0 0 1 1 *", {}),
        ("0 0 29 2 *", {}),
        ("0 0,6,12 29 2 *", {}),
        ("0 0 13 * FRI", {"day_rule": "and"}),
        ("* */5 2 1 * *", {"seconds": True}),
        ("*/2 * 2 1 6 *", {"seconds": True}),
    ],
)
@pytest.mark.parametrize("days", [0, 1, 40, 1200])
def test_batches_are_what_steps_find(text: str, options: dict[str, Any], days: int) -> None:
    cron = Cron(text, **options)
    start = at("2027-05-14T09:40:00")
    end = start + min(days, 2 if len(cron.minute.values) > 30 else days) * DAY
    length = timedelta(days=days)
    assert spread(list(Batches(cron, length).between(start, end))) == steps(cron, start, end)


def test_batches_are_ascending_and_never_empty_nor_huge() -> None:
    for text in ("* * * * *", "0 2 * * *", "0 2 1 * *"):
        start, end = at("2027-01-01"), at("2029-06-01")
        sizes = [
            len(distances) for _, distances in Batches(Cron(text), end - start).between(start, end)
        ]
        assert sizes
        assert all(0 < size <= 1440 for size in sizes)
        found = spread(list(Batches(Cron(text), end - start).between(start, end)))
        assert all(before < after for before, after in pairwise(found))


def test_every_second_of_a_day_comes_hour_by_hour() -> None:
    cron = Cron("* * * * * *", seconds=True)
    batches = list(Batches(cron, DAY).between(at("2027-01-31T00:30:00"), at("2027-02-01T01:00:00")))
    assert [len(distances) for _, distances in batches] == [1800, *[3600] * 24]


def test_a_batch_is_cut_at_both_ends() -> None:
    batch: Batch = (at("2027-01-01"), (0 * DAY, 1 * DAY, 2 * DAY))
    assert list(cut(batch, at("2026-01-01"), at("2028-01-01"))) == [batch]
    assert list(cut(batch, at("2027-01-02"), at("2027-01-03"))) == [(batch[0], (DAY,))]
    assert list(cut(batch, at("2027-01-01"), at("2027-01-03"))) == [(batch[0], (0 * DAY, DAY))]
    assert not cut(batch, at("2027-01-04"), at("2028-01-01"))
    assert not cut(batch, at("2026-01-01"), at("2027-01-01"))
