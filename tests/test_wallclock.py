from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from purista import wallclock
from purista.expression import Cron
from purista.wallclock import Run, Runs, cut, first_match, last_match

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


def spread(runs: list[Run]) -> list[datetime]:
    return [base + distance for base, distances in runs for distance in distances]


@pytest.mark.parametrize(
    ("text", "start", "first"),
    [
        ("30 2 * * *", "2027-03-28T02:30:00", "2027-03-28T02:30:00"),
        ("30 2 * * *", "2027-03-28T02:30:01", "2027-03-29T02:30:00"),
        ("30 2 * * *", "2027-12-31T03:00:00", "2028-01-01T02:30:00"),
        ("*/7 * * * *", "2027-03-28T02:56:01", "2027-03-28T03:00:00"),
        ("5 1,3 * * *", "2027-03-28T01:06:00", "2027-03-28T03:05:00"),
        ("0 0 31 * *", "2027-01-31T00:00:01", "2027-03-31T00:00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
        ("0 0 1 3,11 *", "2027-03-01T00:00:01", "2027-11-01T00:00:00"),
        ("0 0 L * *", "2027-02-01T00:00:00", "2027-02-28T00:00:00"),
        ("0 0 * * FRI#5", "2027-02-01T00:00:00", "2027-04-30T00:00:00"),
    ],
)
def test_the_first_match_is_at_or_after(text: str, start: str, first: str) -> None:
    assert first_match(Cron(text), at(start)) == at(first)


@pytest.mark.parametrize(
    ("text", "start", "last"),
    [
        ("30 2 * * *", "2027-03-28T02:30:00", "2027-03-28T02:30:00"),
        ("30 2 * * *", "2027-03-28T02:29:59", "2027-03-27T02:30:00"),
        ("30 2 * * *", "2027-01-01T02:00:00", "2026-12-31T02:30:00"),
        ("*/7 * * * *", "2027-03-28T03:00:00", "2027-03-28T03:00:00"),
        ("7 * * * *", "2027-03-28T03:06:59", "2027-03-28T02:07:00"),
        ("5 1,3 * * *", "2027-03-28T03:04:00", "2027-03-28T01:05:00"),
        ("0 0 31 * *", "2027-03-30T23:59:59", "2027-01-31T00:00:00"),
        ("0 0 29 2 *", "2104-02-28T00:00:00", "2096-02-29T00:00:00"),
        ("0 0 1 3,11 *", "2027-10-31T00:00:00", "2027-03-01T00:00:00"),
    ],
)
def test_the_last_match_is_at_or_before(text: str, start: str, last: str) -> None:
    assert last_match(Cron(text), at(start)) == at(last)


def test_seconds_are_searched_both_ways() -> None:
    cron = Cron("10,40 0 2 * * *", seconds=True)
    assert first_match(cron, at("2027-01-01T02:00:11")) == at("2027-01-01T02:00:40")
    assert last_match(cron, at("2027-01-01T02:00:39")) == at("2027-01-01T02:00:10")
    assert last_match(cron, at("2027-01-01T02:00:09")) == at("2026-12-31T02:00:40")


def test_the_search_ends_with_the_years() -> None:
    assert first_match(Cron("0 0 29 2 *"), at("2196-03-01")) is None
    assert last_match(Cron("0 0 29 2 *"), at("1972-02-28")) is None
    assert first_match(Cron("0 0 1 1 *"), at("2201-01-01")) == at("2201-01-01")
    assert last_match(Cron("0 0 31 12 *"), at("1970-01-01")) == at("1969-12-31")


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
        ("0 0 13 * FRI", {"day_rule": "and"}),
        ("* */5 2 1 * *", {"seconds": True}),
        ("*/2 * 2 1 6 *", {"seconds": True}),
    ],
)
@pytest.mark.parametrize("days", [0, 1, 40, 1200])
def test_runs_are_what_steps_find(text: str, options: dict[str, Any], days: int) -> None:
    cron = Cron(text, **options)
    start = at("2027-05-14T09:40:00")
    end = start + min(days, 2 if len(cron.minute.values) > 30 else days) * DAY
    length = timedelta(days=days)
    assert spread(list(Runs(cron, length).between(start, end))) == steps(cron, start, end)


def test_runs_are_ascending_and_never_empty_nor_huge() -> None:
    for text in ("* * * * *", "0 2 * * *", "0 2 1 * *"):
        start, end = at("2027-01-01"), at("2029-06-01")
        sizes = [
            len(distances) for _, distances in Runs(Cron(text), end - start).between(start, end)
        ]
        assert sizes
        assert all(0 < size <= wallclock._MANY_IN_DAY for size in sizes)
        found = spread(list(Runs(Cron(text), end - start).between(start, end)))
        assert all(before < after for before, after in pairwise(found))


def test_every_second_of_a_day_comes_hour_by_hour() -> None:
    cron = Cron("* * * * * *", seconds=True)
    runs = list(Runs(cron, DAY).between(at("2027-01-31T00:30:00"), at("2027-02-01T01:00:00")))
    assert [len(distances) for _, distances in runs] == [1800, *[3600] * 24]


def test_a_run_is_cut_at_both_ends() -> None:
    run: Run = (at("2027-01-01"), (0 * DAY, 1 * DAY, 2 * DAY))
    assert list(cut(run, at("2026-01-01"), at("2028-01-01"))) == [run]
    assert list(cut(run, at("2027-01-02"), at("2027-01-03"))) == [(run[0], (DAY,))]
    assert list(cut(run, at("2027-01-01"), at("2027-01-03"))) == [(run[0], (0 * DAY, DAY))]
    assert not cut(run, at("2027-01-04"), at("2028-01-01"))
    assert not cut(run, at("2026-01-01"), at("2027-01-01"))
