from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from purista import Cron, Every, Once, Schedule, Service
from purista.agenda import Due, Skipped, agenda
from purista.expression import LATEST

SPRING = datetime(2027, 3, 28, tzinfo=UTC)  # Berlin: 01:00 UTC, 02:00 becomes 03:00
AUTUMN = datetime(2027, 10, 31, tzinfo=UTC)  # Berlin: 01:00 UTC, 03:00 becomes 02:00
DAY = timedelta(days=1)


def schedule(name: str, expression: Any, zone: str = "Europe/Berlin", **options: Any) -> Schedule:
    service = Service("Shop")
    event = service.event("due", dict)
    return service.schedule(name).emit_event(
        event, expression=expression, timezone=zone, payload={}, **options
    )


def shown(rows: Any) -> list[tuple[str, str, str]]:
    return [
        (f"{row.at:%d %H:%M}", row.schedule.name, row.mark)
        if isinstance(row, Due)
        else (f"{row.at:%d %H:%M}", row.schedule.name, f"skipped {row.local_time:%d %H:%M}")
        for row in rows
    ]


def test_at_one_instant_schedules_come_in_the_order_of_their_ids():
    ones = [schedule(name, Cron("0 12 * * *")) for name in "cab"]
    found = agenda(ones, SPRING, SPRING + DAY)
    assert [row.schedule.name for row in found] == ["a", "b", "c"]


def test_two_schedules_with_one_id_are_both_there():
    ones = [schedule("same", Cron("0 12 * * *")), schedule("same", Cron("0 12 * * *"))]
    assert len(list(agenda(ones, SPRING, SPRING + DAY))) == 2


def test_both_ends_of_the_window_count():
    ones = [schedule("hourly", Every(timedelta(hours=1)))]
    assert len(list(agenda(ones, SPRING, SPRING + timedelta(hours=3)))) == 4


def test_what_is_disabled_is_left_out():
    assert list(agenda([schedule("off", Cron("0 12 * * *"), enabled=False)], SPRING, LATEST)) == []


def test_no_schedules_are_an_empty_agenda():
    assert list(agenda([], SPRING, LATEST)) == []


def test_a_skipped_time_comes_where_the_clock_jumps_and_before_what_is_due_there():
    ones = [schedule("b", Cron("30 2 * * *")), schedule("a", Cron("0 1,3 * * *"))]
    assert shown(agenda(ones, SPRING, SPRING + timedelta(hours=4))) == [
        ("28 00:00", "a", ""),
        ("28 01:00", "b", "skipped 28 02:30"),
        ("28 01:00", "a", ""),
    ]


def test_each_skipped_time_of_an_expression_is_a_row_in_order():
    ones = [schedule("often", Cron("*/20 * * * *"))]
    assert shown(agenda(ones, SPRING + timedelta(minutes=40), SPRING + timedelta(hours=1))) == [
        ("28 00:40", "often", ""),
        ("28 01:00", "often", "skipped 28 02:00"),
        ("28 01:00", "often", "skipped 28 02:20"),
        ("28 01:00", "often", "skipped 28 02:40"),
        ("28 01:00", "often", ""),
    ]


@pytest.mark.parametrize(
    ("start", "end", "skipped"),
    [
        (timedelta(hours=1), timedelta(hours=1), 1),
        (timedelta(hours=1, microseconds=1), timedelta(hours=2), 0),
        (timedelta(0), timedelta(minutes=59), 0),
    ],
)
def test_a_skipped_time_belongs_to_the_window_that_holds_the_jump(
    start: timedelta, end: timedelta, skipped: int
):
    rows = agenda([schedule("s", Cron("30 2 * * *"))], SPRING + start, SPRING + end)
    assert [type(row) for row in rows] == [Skipped] * skipped


def test_a_skipped_time_of_an_excluded_day_is_no_row():
    one = schedule("s", Cron("30 2 * * *"), exclude=[date(2027, 3, 28)])
    assert shown(agenda([one], SPRING - DAY, SPRING + DAY)) == [("27 01:30", "s", "")]


def test_a_skipped_time_after_the_end_of_the_schedule_is_no_row():
    one = schedule("s", Cron("30 2 * * *"), end_at=SPRING)
    assert shown(agenda([one], SPRING - DAY, SPRING + 300 * DAY)) == [("27 01:30", "s", "")]


def test_a_skipped_time_is_a_row_where_nothing_else_ever_is():
    one = schedule("s", Cron("30 2 28 3 *"))
    assert shown(agenda([one], SPRING - DAY, SPRING + 300 * DAY)) == [
        ("28 01:00", "s", "skipped 28 02:30")
    ]


def test_moved_and_doubled_times_are_marked():
    moved = schedule("moved", Cron("30 2 * * *"), dst_gap="shift")
    doubled = schedule("doubled", Cron("30 2 * * *"), dst_overlap="both")
    assert shown(agenda([moved], SPRING, SPRING + DAY)) == [
        ("28 01:30", "moved", "moved from 02:30 by the clock change")
    ]
    assert shown(agenda([doubled], AUTUMN, AUTUMN + DAY)) == [
        ("31 00:30", "doubled", "first of two 02:30"),
        ("31 01:30", "doubled", "second of two 02:30"),
    ]


def test_the_first_pass_is_marked_though_the_clock_changes_after_the_window():
    ones = [schedule("s", Cron("30 2 * * *"))]
    found = shown(agenda(ones, AUTUMN, AUTUMN + timedelta(minutes=30)))
    assert found == [("31 00:30", "s", "first of two 02:30")]


def test_the_second_pass_is_marked_though_the_clock_changed_before_the_window():
    ones = [schedule("s", Cron("30 2 * * *"), dst_overlap="both")]
    start = AUTUMN + timedelta(hours=1, minutes=15)
    assert shown(agenda(ones, start, start + timedelta(hours=1))) == [
        ("31 01:30", "s", "second of two 02:30")
    ]


def test_a_day_that_never_was_is_skipped_whole():
    # Apia went from the east of the date line to the west: there was no 30 December 2011.
    ones = [schedule("s", Cron("0 0,12 * * *"), "Pacific/Apia")]
    start = datetime(2011, 12, 29, 12, tzinfo=UTC)
    assert shown(agenda(ones, start, start + DAY)) == [
        ("29 22:00", "s", ""),
        ("30 10:00", "s", "skipped 30 00:00"),
        ("30 10:00", "s", "skipped 30 12:00"),
        ("30 10:00", "s", ""),
    ]


def test_intervals_and_single_instants_know_no_clock_change():
    ones = [
        schedule("every", Every(timedelta(minutes=30))),
        schedule("once", Once(SPRING + timedelta(hours=1))),
    ]
    found = shown(agenda(ones, SPRING + timedelta(minutes=30), SPRING + timedelta(hours=1)))
    assert found == [("28 00:30", "every", ""), ("28 01:00", "every", ""), ("28 01:00", "once", "")]


def test_what_is_due_is_what_the_schedules_say():
    ones = [
        schedule("a", Cron("*/30 * * * *")),
        schedule("b", Cron("15 2 * * *"), dst_gap="next", dst_overlap="both"),
        schedule("c", Cron("0 0 * * SUN"), "America/Havana"),
        schedule("d", Cron("45 1 * * *"), "Australia/Lord_Howe", dst_gap="shift"),
    ]
    start, end = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    due = [row for row in agenda(ones, start, end) if isinstance(row, Due)]
    expected = sorted((at, one.id) for one in ones for at in one.between(start, end))
    assert [(row.at, row.schedule.id) for row in due] == expected


def test_the_first_rows_of_a_window_without_an_end_come_at_once():
    ones = [schedule(f"s{number}", Cron(f"{number} 2 29 2 *")) for number in range(3)]
    ones.append(schedule("tokyo", Cron("0 2 * * *"), "Asia/Tokyo"))
    assert len(list(islice(agenda(ones, SPRING, LATEST), 700))) == 700
