from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from purista.expression import Cron
from purista.wallclock import first_match, last_match

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


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
