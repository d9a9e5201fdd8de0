"""Cron texts that cover intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purista import Cron, Every, firetimes
from purista.everycover import EveryCover, every_lines
from purista.expression import EPOCH

START = datetime(2027, 2, 27, tzinfo=UTC)
HOURS = timedelta(hours=1)

INTERVALS = st.one_of(
    st.integers(1, 3000).map(lambda minutes: timedelta(minutes=minutes)),
    st.sampled_from([7, 45, 90, 3601, 5400, 86399]).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(1, 30).map(lambda days: timedelta(days=days)),
    st.integers(1, 3).map(lambda weeks: timedelta(weeks=weeks)),
)
PHASES = st.one_of(
    st.just(timedelta(0)),
    st.integers(0, 20_000).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(0, 700_000).map(lambda seconds: timedelta(seconds=seconds)),
)


def fired(found: EveryCover, *, seconds: bool, days: int) -> list[datetime]:
    crons = [Cron(text, seconds=seconds) for text in found.texts]
    end = START + timedelta(days=days)
    return [at for cron in crons for at in firetimes.between(cron, "UTC", START, end)]


@settings(deadline=None)
@given(INTERVALS, PHASES, st.booleans(), st.integers(1, 24))
def test_texts_fire_at_every_time_of_the_interval(
    interval: timedelta, phase: timedelta, seconds: bool, most: int
):
    every = Every(interval, EPOCH + phase)
    found = every_lines(every, seconds=seconds, most=most)
    finest = 1 if seconds else 60
    on_lines = not interval.total_seconds() % finest and not every.phase.total_seconds() % finest
    assert (found is not None) == on_lines
    if found is None:
        return
    days = 3 if interval < 30 * HOURS else 40
    due = set(firetimes.between(every, "UTC", START, START + timedelta(days=days)))
    times = fired(found, seconds=seconds, days=days)
    assert due <= set(times)
    assert len(found.texts) <= most
    if found.exact:
        assert due == set(times)
        assert len(times) == len(set(times))


@pytest.mark.parametrize(
    ("interval", "phase", "most", "texts", "exact"),
    [
        (timedelta(minutes=5), 0, 1, ("*/5 * * * *",), True),
        (timedelta(hours=6), 30, 1, ("30 */6 * * *",), True),
        (timedelta(minutes=90), 0, 2, ("0 */3 * * *", "30 1,4,7,10,13,16,19,22 * * *"), True),
        (timedelta(minutes=7), 0, 1, ("* * * * *",), False),
        (timedelta(hours=5), 0, 1, ("0 * * * *",), False),
        (timedelta(hours=36), 0, 1, ("0 */12 * * *",), False),
        (timedelta(days=2), 60, 1, ("0 1 * * *",), False),
        (timedelta(days=7), 0, 1, ("0 0 * * 4",), True),
        (timedelta(days=14), 1500, 1, ("0 1 * * 5",), False),
    ],
)
def test_texts_are_few_and_fire_seldom(
    interval: timedelta, phase: int, most: int, texts: tuple[str, ...], exact: bool
):
    every = Every(interval, EPOCH + timedelta(minutes=phase))
    found = every_lines(every, seconds=False, most=most)
    assert found == EveryCover(texts, exact)


def test_what_is_due_between_minutes_has_texts_only_with_seconds():
    every = Every(timedelta(seconds=90))
    assert every_lines(every, seconds=False, most=9) is None
    found = every_lines(every, seconds=True, most=9)
    assert found is not None
    assert found.exact
    assert every_lines(Every(timedelta(seconds=1.5)), seconds=True, most=9) is None
    assert (
        every_lines(Every(timedelta(minutes=5), START.replace(second=1)), seconds=False, most=9)
        is None
    )


def test_seconds_that_are_too_many_become_one_text():
    every = Every(timedelta(seconds=45))
    exact = every_lines(every, seconds=True, most=4)
    assert exact is not None
    assert (len(exact.texts), exact.exact) == (3, True)
    found = every_lines(every, seconds=True, most=2)
    assert found == EveryCover(("0,15,30,45 * * * * *",), exact=False)


def test_a_weekly_interval_keeps_its_second():
    every = Every(timedelta(days=7), START.replace(second=9))
    assert every_lines(every, seconds=True, most=1) == EveryCover(("9 0 0 * * 6",), exact=True)
