from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from purista import Cron, Every, Expression, Once, Schedule, Service
from purista.pileup import MOST_TIMES, busiest_minute

YEAR = datetime(2027, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=31)


def schedules(*expressions: Expression, **options: Any) -> list[Schedule]:
    service = Service("Shop")
    return [
        service.schedule(f"s{number}").emit_event("due", expression=expression, **options)
        for number, expression in enumerate(expressions)
    ]


def busiest(found: list[Schedule], least: int = 2, start: datetime = YEAR) -> tuple[str, list[str]]:
    pile = busiest_minute(found, start, YEAR + MONTH, least=least)
    assert pile is not None
    return pile.minute.isoformat()[:16], [schedule.name for schedule in pile.schedules]


def test_the_first_of_the_busiest_minutes_is_found_with_its_schedules():
    found = schedules(Cron("0 2 * * *"), Cron("0 3 * * *"), Cron("0 */3 * * *"), Cron("0 3 4 * *"))
    assert busiest(found) == ("2027-01-04T03:00", ["s1", "s2", "s3"])
    pile = busiest_minute(found, YEAR, YEAR + MONTH, least=2)
    assert pile is not None
    assert pile.others == 30


def test_fewer_than_asked_for_are_no_pile_up():
    found = schedules(Cron("0 3 * * *"), Cron("0 3 * * *"), Cron("5 3 * * *"))
    assert busiest_minute(found, YEAR, YEAR + MONTH, least=3) is None
    assert busiest_minute(found[:2], YEAR, YEAR + MONTH, least=3) is None
    assert busiest_minute([], YEAR, YEAR + MONTH, least=1) is None


def test_schedules_of_different_zones_meet_in_the_same_minute():
    berlin = schedules(Cron("0 2 * * *"), timezone="Europe/Berlin")
    utc = schedules(Cron("0 1 * * *"))
    assert busiest([*berlin, *utc])[0] == "2027-01-01T01:00"


def test_every_kind_of_expression_counts():
    once = Once(datetime(2027, 1, 9, 6, 0, 30, tzinfo=UTC))
    found = schedules(once, Every(timedelta(hours=6)), Cron("59 5 * * *"), Cron("0 6 9 1 *"))
    assert busiest(found) == ("2027-01-09T06:00", ["s0", "s1", "s3"])


def test_intervals_that_begin_at_different_seconds_share_their_minutes():
    anchors = [YEAR + timedelta(seconds=second) for second in range(0, 60, 10)]
    found = schedules(*(Every(timedelta(minutes=5), anchor) for anchor in anchors))
    assert busiest(found) == ("2027-01-01T00:00", [f"s{number}" for number in range(6)])
    with_end = schedules(
        *(Every(timedelta(minutes=5), anchor) for anchor in anchors),
        end_at=YEAR + timedelta(seconds=25),
    )
    assert busiest(with_end) == ("2027-01-01T00:00", ["s0", "s1", "s2"])


def test_a_schedule_counts_once_in_a_minute():
    found = schedules(Cron("* 0 3 * * *", seconds=True))
    assert busiest_minute(found, YEAR, YEAR + MONTH, least=2) is None


def test_what_is_disabled_or_has_jitter_or_is_excluded_piles_up_nowhere():
    for options in (
        {"enabled": False},
        {"jitter": timedelta(minutes=1)},
        {"exclude": [date(2027, 1, 4)]},
        {"start_at": YEAR + MONTH},
    ):
        found = schedules(Cron("0 3 4 * *"), Cron("0 3 4 * *"), **options)
        assert busiest_minute(found, YEAR, YEAR + MONTH, least=2) is None


@pytest.mark.parametrize("seconds", [1, 59])
def test_a_minute_that_has_begun_is_over(seconds: int):
    found = schedules(Cron("0 * * * *"), Cron("0 * * * *"))
    start = YEAR + timedelta(seconds=seconds)
    assert busiest(found, start=start)[0] == "2027-01-01T01:00"
    assert busiest(found)[0] == "2027-01-01T00:00"


def test_with_very_many_times_only_the_beginning_is_looked_at():
    texts = [f"* * * {days}" for days in ("* * *", "1-15 * *", "* 1-6 *")]
    found = schedules(*(Cron(text, seconds=True) for text in texts))
    pile = busiest_minute(found, YEAR, YEAR + timedelta(days=99), least=3)
    assert pile is not None
    assert pile.end - YEAR < timedelta(days=MOST_TIMES / 3 / 86_400 + 1)


def test_a_rare_interval_does_not_stretch_the_window_beyond_time():
    found = schedules(Every(timedelta(days=300_000), YEAR), Every(timedelta(days=200_000), YEAR))
    assert busiest(found)[0] == "2027-01-01T00:00"
