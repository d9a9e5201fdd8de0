"""The portability report: what each schedule gets on each scheduler."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialects import CRON_IN_UTC, DIALECTS, KUBERNETES, SYSTEMD, TEMPORAL, ZONES, crons
from tests.test_compiling import BELLS, CATCH_UP, CELLS, HORIZON, JITTERY, REQUEST, Bells, due

from purista import Cron, Every, Schedule
from purista.clockchange import Timing
from purista.compiling import Placed, timing_of
from purista.cover import Cover, Fit, cover
from purista.dialect import Dialect
from purista.exclusion import DateRange
from purista.portability import CapabilityTable, Note, Support, by_ingress
from purista.report import Cell, fires, notes, report
from purista.settings import Settings
from purista.turnover import Horizon

FOUR_YEARS = Horizon(
    datetime(2027, 1, 1, tzinfo=UTC), datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC)
)


def cell(schedule: Schedule, scheduler: Bells = BELLS, **changes: Any) -> Cell:
    request = replace(REQUEST, **changes)
    (row,) = report([schedule], [scheduler], {"bells": request}, HORIZON).rows
    (found,) = row.cells
    return found


def noted(schedule: Schedule, dialect: Dialect, horizon: Horizon = HORIZON) -> list[Note]:
    found = cover(timing_of(schedule), dialect, horizon)
    assert isinstance(found, Cover)
    request = replace(REQUEST, horizon=horizon)
    return list(notes(Placed(schedule, found, Settings()), dialect, request))


def berlin(text: str, **options: Any) -> Schedule:
    return due("berlin", Cron(text), timezone="Europe/Berlin", **options)


def test_a_report_has_a_row_for_each_schedule_by_id_and_a_cell_for_each_scheduler():
    other = Bells()
    other.name, other.title = "chimes", "The Chimes"
    found = report(
        [due("b"), due("a")], [BELLS, other], {"bells": REQUEST, "chimes": REQUEST}, HORIZON
    )
    assert found.titles == {"bells": "The Bells", "chimes": "The Chimes"}
    assert [row.schedule.name for row in found.rows] == ["a", "b"]
    assert [[each.scheduler for each in row.cells] for row in found.rows] == [
        ["bells", "chimes"]
    ] * 2
    assert found.horizon == HORIZON


def test_findings_that_nobody_accepted_are_those_of_the_report():
    accepted = replace(REQUEST, accepted=frozenset({"jitter"}))
    found = report([JITTERY, CATCH_UP, due()], [BELLS], {"bells": accepted}, HORIZON)
    assert [f"{each.code}@{each.schedule_id}" for each in found.findings] == [
        "missed-run-policy-catchup@Shop.v1.catchUp",
        "missed-run-policy-catchup@Shop.v1.jittery",
    ]
    assert [each.code for row in found.rows for one in row.cells for each in one.accepted] == [
        "jitter"
    ]


def test_support_is_the_weakest_of_what_the_options_get():
    assert cell(due()).support is Support.NATIVE
    assert cell(berlin("30 2 * * *")).support is Support.INGRESS
    assert cell(CATCH_UP).support is Support.NONE
    assert cell(CATCH_UP, accepted=frozenset({"missed-run-policy-catchup"})).support is Support.NONE
    assert cell(due(at=Every(timedelta(seconds=90)))).support is Support.NONE


def test_an_option_that_a_scheduler_could_honour_and_the_ingress_does_is_not_native():
    lazy = Bells()
    lazy.capabilities = CapabilityTable(
        CELLS
        | {
            "missed_run_policy=skip": by_ingress("judged there", "docs/ingress.md"),
            "payload": by_ingress("rendered there", "docs/ingress.md"),
        }
    )
    assert cell(due(missed_run_policy="skip"), lazy).support is Support.INGRESS
    assert cell(due(missed_run_policy="runOnce", payload="x"), lazy).support is Support.NATIVE


def test_a_cell_shows_lines_options_and_the_naive_export():
    found = cell(due(at=Cron("0 2 13 * FRI")))
    assert found.lines == ("0 2 13 * * UTC", "0 2 * * 5 UTC")
    assert found.options["expression=day rule or"] == CELLS["expression=day rule or"]
    assert found.copied is not None
    assert found.copied.text.startswith("The Bells refuses '0 2 13 * FRI'")
    assert cell(due(at=Every(timedelta(seconds=90)))).lines == ()


def test_how_many_triggers_are_dropped_is_noted_with_the_first():
    (note,) = noted(berlin("30 2 * * *"), CRON_IN_UTC)
    assert (note.code, note.until) == ("superset", None)
    assert note.message == (
        "366 triggers a year are sent only to be dropped, first at 2027-01-01T00:30:00Z: "
        "lines in UTC cover its times before and after every clock change"
    )
    assert note.dropped_per_year == pytest.approx(366.25, abs=0.01)


def test_seldom_dropped_triggers_are_counted_in_parts():
    (note,) = noted(berlin("30 2 * * *"), KUBERNETES)
    assert note.message.startswith(
        "1 trigger a year is sent only to be dropped, first at 2027-10-31"
    )
    (rare,) = noted(berlin("30 2 31 10 *"), KUBERNETES, FOUR_YEARS)
    assert rare.dropped_per_year == pytest.approx(0.25)
    assert rare.message.startswith("0.25 triggers a year")


def test_excluded_days_are_a_reason():
    schedule = due(exclude=[DateRange(date(2027, 12, 24), date(2027, 12, 26))])
    (note,) = noted(schedule, KUBERNETES, FOUR_YEARS)
    assert note.message == (
        "0.75 triggers a year are sent only to be dropped, first at 2027-12-24T02:00:00Z: "
        "excluded days"
    )


@settings(deadline=None, max_examples=40)
@given(crons(), st.sampled_from(ZONES), st.sampled_from(["kubernetes", "cron in UTC", "airflow"]))
def test_dropped_triggers_are_those_sent_less_those_due(cron: Cron, zone: str, name: str):
    dialect, schedule = DIALECTS[name], due(at=cron, timezone=zone)
    found = cover(timing_of(schedule), dialect, FOUR_YEARS)
    assert isinstance(found, Cover)
    for note in noted(schedule, dialect, FOUR_YEARS):
        if note.code == "superset":
            sent = sorted(fires(found.lines, dialect, FOUR_YEARS))
            dropped = len(sent) - len(list(schedule.between(FOUR_YEARS.start, FOUR_YEARS.end)))
            assert note.dropped_per_year == pytest.approx(dropped / 4, abs=0.01)
            first = next((at for at in sent if not schedule.contains(at)), None)
            assert first is None or f"first at {first:%Y-%m-%dT%H:%M:%SZ}" in note.message


def test_a_horizon_may_begin_on_a_leap_day():
    leap = datetime(2096, 2, 29, tzinfo=UTC)
    (note,) = noted(berlin("30 2 * * *"), CRON_IN_UTC, Horizon(leap, leap + timedelta(days=3652)))
    assert note.dropped_per_year == pytest.approx(365.25, abs=1)


def test_until_when_a_line_is_exact_is_noted():
    near = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 12, 31, tzinfo=UTC))
    (note,) = noted(berlin("30 2 25 3 *", dst_gap="next"), KUBERNETES, near)
    assert (note.code, note.until) == ("exact-until", datetime(2029, 3, 25, 1, tzinfo=UTC))
    assert note.message == "its native line is exact until the clock change of 2029-03-25T01:00:00Z"


@pytest.mark.parametrize(
    ("schedule", "dialect"),
    [
        (berlin("30 2 * * *"), SYSTEMD),
        (berlin("30 4 * * *"), TEMPORAL),
        (berlin("0 * * * *"), TEMPORAL),
        (due(at=Cron("0 2 13 * FRI")), SYSTEMD),
        (due(at=Every(timedelta(hours=6))), KUBERNETES),
    ],
)
def test_lines_that_stay_exact_need_no_note(schedule: Schedule, dialect: Dialect):
    assert noted(schedule, dialect) == []


def test_what_a_scheduler_says_in_its_own_way_needs_no_note():
    placed = Placed(berlin("30 2 * * *"), Cover((), Fit.EXACT), Settings())
    assert list(notes(placed, TEMPORAL, REQUEST)) == []


def test_lines_fire_as_often_as_they_might_where_clock_changes_are_not_known():
    found = cover(Timing(Cron("30 2 * * *"), "Europe/Berlin"), SYSTEMD, HORIZON)
    assert isinstance(found, Cover)
    day = Horizon(datetime(2027, 10, 31, tzinfo=UTC), datetime(2027, 11, 1, tzinfo=UTC))
    assert len(list(fires(found.lines, SYSTEMD, day))) == 1
    assert len(list(fires(found.lines, TEMPORAL, day))) == 2


def test_reports_are_equal_for_equal_contracts():
    again = [due("a"), CATCH_UP, berlin("30 2 * * *")]
    first = report(again, [BELLS], {"bells": REQUEST}, HORIZON)
    assert report(reversed(again), [BELLS], {"bells": REQUEST}, HORIZON) == first
    assert [note.code for row in first.rows for note in row.cells[0].notes] == ["superset"]


def test_lines_that_one_object_fires_together_are_counted_once():
    excluded = [DateRange(date(2027, 12, 24), date(2027, 12, 26))]
    (note,) = noted(due(at=Cron("0 2 13 * FRI"), exclude=excluded), SYSTEMD, FOUR_YEARS)
    assert note.dropped_per_year == pytest.approx(0.25)


def test_what_holds_for_all_schedules_together_is_a_finding_of_the_report():
    schedules = [due(f"s{number:02}") for number in range(21)]
    found = report(schedules, [BELLS], {"bells": REQUEST}, HORIZON)
    assert [each.code for each in found.limits["bells"]] == ["limit-number"]
    assert [each.code for each in found.findings] == ["limit-number"]
    accepting = replace(REQUEST, accepted=frozenset({"limit-number"}))
    assert report(schedules, [BELLS], {"bells": accepting}, HORIZON).limits == {}
