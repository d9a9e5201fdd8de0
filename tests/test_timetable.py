import dataclasses
import io
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from purista.column import SCHEDULE_COLUMNS
from purista.contract import Schedule
from purista.exclusion import DateRange
from purista.expression import Cron, Every, Once
from purista.manifest import export_manifest
from purista.service import Service
from purista.timetable import Timetable, timetable_of

START, END = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 12, 31, tzinfo=UTC)

WITHOUT_BEARING = {
    "description",
    "jitter",
    "concurrency_policy",
    "missed_run_policy",
    "misfire_grace",
    "catch_up_window",
    "max_catch_up",
    "run_timeout",
    "dedupe_window",
    "idempotency_key",
    "payload",
    "completed_by",
    "provider_hints",
    "tags",
}
"""Options that decide no nominal time; ``enabled`` decides whether there is a timetable."""


def declared(**options: Any) -> tuple[Schedule, dict[str, Any]]:
    service = Service("S")
    schedule = service.schedule("s").emit_event(service.event("e", dict), **options)
    return schedule, dict(export_manifest(service).schedules["S.v1.s"])


def test_every_option_of_a_schedule_is_known_to_decide_its_times_or_not():
    options = {each.attribute for each in SCHEDULE_COLUMNS}
    decides = {each.name for each in dataclasses.fields(Timetable)}
    assert options == decides | WITHOUT_BEARING | {"enabled"}


@pytest.mark.parametrize(
    "options",
    [
        {"expression": Cron("30 2 * * *"), "timezone": "Europe/Berlin"},
        {"expression": Cron("30 2 * * *"), "timezone": "Europe/Berlin", "dst_gap": "shift"},
        {"expression": Cron("30 2 * * *"), "timezone": "Europe/Berlin", "dst_overlap": "both"},
        {"expression": Cron("0 0 13 * 5", day_rule="and")},
        {"expression": Cron("*/20 30 4 * * *", seconds=True)},
        {"expression": Every(timedelta(hours=7), datetime(2027, 1, 1, 1, tzinfo=UTC))},
        {"expression": Once(datetime(2027, 6, 1, tzinfo=UTC))},
        {
            "expression": Cron("0 12 * * *"),
            "start_at": datetime(2027, 3, 1, 12, tzinfo=UTC),
            "end_at": datetime(2027, 3, 5, 12, tzinfo=UTC),
        },
        {
            "expression": Every(timedelta(hours=12)),
            "timezone": "Asia/Tokyo",
            "exclude": [DateRange(date(2027, 2, 1), date(2027, 11, 1)), date(2027, 12, 24)],
        },
    ],
)
def test_the_timetable_of_an_entry_is_that_of_its_schedule(options: dict[str, Any]):
    schedule, entry = declared(**options)
    timetable = timetable_of(entry)
    assert timetable is not None
    assert list(timetable.between(START, END)) == list(schedule.between(START, END))


def test_nothing_is_due_while_a_schedule_is_disabled():
    _, entry = declared(expression=Cron("0 2 * * *"), enabled=False)
    assert timetable_of(entry) is None


def test_spelling_is_no_part_of_a_timetable():
    tables = [
        timetable_of(declared(expression=Cron(text))[1]) for text in ("0 2 * * 1", "00 2 * * MON")
    ]
    assert tables[0] == tables[1]
    assert hash(tables[0]) == hash(tables[1])


def tokyo_as_berlin() -> ZoneInfo:
    tokyo = resources.files("tzdata").joinpath("zoneinfo/Asia/Tokyo").read_bytes()
    return ZoneInfo.from_file(io.BytesIO(tokyo), key="Europe/Berlin")


def test_another_clock_under_the_same_name_moves_times_and_excluded_days():
    noon = Timetable(
        Cron("0 12 * * *"), "Europe/Berlin", exclude=(DateRange(START.date(), START.date()),)
    )
    there = noon.in_zone(tokyo_as_berlin())
    assert there.zone.key == noon.zone.key == "Europe/Berlin"
    assert next(noon.between(START, END)) == datetime(2027, 1, 2, 11, tzinfo=UTC)
    assert next(there.between(START, END)) == datetime(2027, 1, 2, 3, tzinfo=UTC)
    assert ZoneInfo("Europe/Berlin").utcoffset(datetime(2027, 1, 1)) == timedelta(hours=1)
