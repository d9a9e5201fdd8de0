from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from purista import ContractError, Cron, Every, Schedule, Service
from purista.load import MOST_DAYS, QUARTERS, Days, Load, Peak, days_between, load

YEAR = Days("Europe/Berlin", date(2027, 1, 1), 365)


def schedule(name: str, expression: Any, zone: str = "Europe/Berlin", **options: Any) -> Schedule:
    service = Service("Shop")
    event = service.event("due", dict)
    return service.schedule(name).emit_event(
        event, expression=expression, timezone=zone, payload={}, **options
    )


SCHEDULES = [
    schedule("a", Cron("*/20 * * * *")),
    schedule("b", Cron("30 2 * * *"), dst_gap="next", dst_overlap="both"),
    schedule("c", Cron("30 2 * * *"), dst_gap="next", dst_overlap="both"),
    schedule("d", Cron("0 0 * * SUN"), "America/New_York"),
    schedule("e", Every(timedelta(minutes=37)), "UTC"),
    schedule("f", Cron("0 12 * * *"), exclude=[date(2027, 5, 1)]),
    schedule("off", Cron("* * * * *"), enabled=False),
]


def instants(days: Days) -> list[datetime]:
    zone = ZoneInfo(days.timezone)
    wide = days.start - timedelta(days=1), days.end + timedelta(days=1)
    found = [at.astimezone(zone) for one in SCHEDULES if one.enabled for at in one.between(*wide)]
    last = days.first + timedelta(days=days.count - 1)
    return [at for at in found if days.first <= at.date() <= last]


@pytest.mark.parametrize(
    "days",
    [
        YEAR,
        Days("UTC", date(2027, 3, 1), 60),
        Days("America/Havana", date(2027, 3, 10), 10),  # the clock jumps over midnight
        Days("America/Havana", date(2027, 11, 7), 1),  # midnight comes twice
        Days("Asia/Beirut", date(2027, 10, 25), 9),  # midnight falls back to the day before
        Days("Australia/Lord_Howe", date(2027, 4, 1), 9),  # by half an hour
        Days("Asia/Kathmandu", date(2027, 1, 1), 3),  # five hours and 45 minutes from UTC
        Days("Pacific/Apia", date(2011, 12, 28), 5),  # a day is left out
        Days("Pacific/Apia", date(2011, 12, 30), 1),  # which is this one
        Days("Africa/Monrovia", date(1972, 1, 5), 5),  # by 44 minutes and 30 seconds
    ],
    ids=lambda days: f"{days.timezone} {days.first}",
)
def test_counts_are_those_of_the_wall_clock(days: Days):
    found, expected = load(SCHEDULES, days), instants(days)
    by_day = Counter((at.date() - days.first).days for at in expected)
    by_quarter = Counter(at.hour * 4 + at.minute // 15 for at in expected)
    assert found.by_day == tuple(by_day[index] for index in range(days.count))
    assert found.by_quarter == tuple(by_quarter[index] for index in range(QUARTERS))
    assert found.count == len(expected)


def test_the_peak_of_a_quarter_of_an_hour_is_its_busiest_minute_of_any_day():
    found, expected = load(SCHEDULES, YEAR), instants(YEAR)
    minutes = Counter(at.astimezone(UTC).replace(second=0) for at in expected)
    most: dict[int, int] = {}
    for at in expected:
        quarter = at.hour * 4 + at.minute // 15
        count = minutes[at.astimezone(UTC).replace(second=0)]
        most[quarter] = max(most.get(quarter, 0), count)
    counts = [peak.count if peak else 0 for peak in found.peaks]
    assert counts == [most.get(quarter, 0) for quarter in range(QUARTERS)]
    assert all(peak is None or minutes[peak.at] == peak.count for peak in found.peaks)


def test_the_busiest_minute_is_the_earliest_of_the_busiest():
    ones = [schedule(name, Cron("0 0,6 * * *"), "UTC") for name in "ab"]
    found = load(ones, Days("UTC", date(2027, 1, 1), 2))
    assert found.busiest == Peak(datetime(2027, 1, 1, tzinfo=UTC), 2)
    assert load([], YEAR).busiest is None


def test_two_passes_of_one_local_minute_are_two_minutes():
    # Berlin's 02:30 comes twice on 31 October 2027.
    both = schedule("both", Cron("30 2 * * *"), dst_overlap="both")
    found = load([both], Days("Europe/Berlin", date(2027, 10, 31), 1))
    assert found.by_day == (2,)
    assert found.busiest == Peak(datetime(2027, 10, 31, 0, 30, tzinfo=UTC), 1)


def test_who_is_due_in_a_minute_can_be_told():
    found = load(SCHEDULES, Days("Europe/Berlin", date(2027, 5, 2), 1))
    noon = Peak(datetime(2027, 5, 2, 10, tzinfo=UTC), 2)
    assert [one.name for one in found.due_at(noon)] == ["a", "f"]


def test_each_schedule_has_numbers_of_its_own_in_the_order_of_the_ids():
    found = load(reversed(SCHEDULES), YEAR)
    assert [one.schedule.name for one in found.schedules] == ["a", "b", "c", "d", "e", "f"]
    assert [one.count for one in found.schedules][1:4] == [366, 366, 52]
    assert sum(one.count for one in found.schedules) == found.count


def test_clock_changes_are_told_for_each_zone_whose_clock_matters():
    found = load(SCHEDULES, YEAR)
    assert {str(YEAR.day(index)): texts for index, texts in found.changes.items()} == {
        "2027-03-14": ("America/New_York: 02:00 becomes 03:00",),
        "2027-03-28": ("Europe/Berlin: 02:00 becomes 03:00",),
        "2027-10-31": ("Europe/Berlin: 03:00 becomes 02:00",),
        "2027-11-07": ("America/New_York: 02:00 becomes 01:00",),
    }
    assert load(SCHEDULES[4:5], Days("UTC", date(2027, 1, 1), 365)).changes == {}


def test_of_many_zones_whose_clocks_change_four_are_named():
    cities = ["Berlin", "Madrid", "Paris", "Prague", "Rome", "Vienna"]
    ones = [schedule(city, Cron("0 9 * * *"), f"Europe/{city}") for city in cities]
    found = load(ones, Days("Europe/Berlin", date(2027, 3, 28), 1))
    assert found.changes[0][3:] == (
        "Europe/Prague: 02:00 becomes 03:00",
        "and 2 more zones",
    )


def test_days_are_those_that_have_a_part_in_a_window():
    start = datetime(2027, 3, 1, 22, 59, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert days_between("Europe/Berlin", start, start + hour) == Days(
        "Europe/Berlin", date(2027, 3, 1), 2
    )
    assert days_between("UTC", start, start + hour).count == 1
    midnight = datetime(2027, 3, 1, tzinfo=UTC)
    assert days_between("UTC", midnight, midnight + timedelta(days=1)).count == 1
    assert days_between("UTC", midnight, midnight).count == 1


def test_a_leap_year_seen_from_the_middle_of_a_day_fits_in():
    start = datetime(2028, 1, 1, 12, tzinfo=UTC)
    assert days_between("UTC", start, start + timedelta(days=366)).count <= MOST_DAYS


def test_an_unknown_zone_is_refused():
    with pytest.raises(ContractError, match="unknown time zone 'Mars'"):
        load(SCHEDULES, Days("Mars", date(2027, 1, 1), 1))


def test_an_empty_load_is_full_of_zeros():
    assert load([], YEAR) == Load(
        YEAR, (), (0,) * 365, (0,) * QUARTERS, (None,) * QUARTERS, load([], YEAR).changes
    )
