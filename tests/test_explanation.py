from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from purista import Cron, DateRange, Every, Expression, Once, Schedule, Service
from purista.clockchange import Effect, Timing
from purista.exclusion import HolidayCalendar
from purista.explanation import Explanation, change_text, effect_text, explain, sentence

YEAR = datetime(2027, 1, 1, tzinfo=UTC)
NIGHTLY = Cron("30 2 * * *")


@dataclass
class Day:
    day: str


def nightly(**options: Any) -> Schedule:
    given = {"expression": NIGHTLY, "timezone": "Europe/Berlin", **options}
    return Service("Nightly").schedule("purge").emit_event("due", **given)


def rules(explanation: Explanation) -> dict[str, str]:
    return {rule.topic: rule.text for rule in explanation.rules}


def told(explanation: Explanation) -> list[str]:
    return [f"{change_text(one.transition)}: {effect_text(one)}" for one in explanation.changes]


def test_a_schedule_is_explained_with_its_sentence_first():
    found = explain(nightly(), YEAR)
    assert found.sentence == sentence(NIGHTLY, "Europe/Berlin")
    assert rules(found) == {
        "clock changes": (
            "a time that a clock change leaves out is skipped;"
            " of a time that comes twice, the first counts"
        ),
        "overlap": "a run that is due while another is active runs beside it",
        "missed runs": "a trigger that is more than 10 minutes late is skipped",
        "duplicates": "one run for each nominal time within 7 days",
    }


def test_the_next_clock_changes_come_with_dates_and_what_happens():
    assert told(explain(nightly(), YEAR)) == [
        "Sunday 2027-03-28: 02:00 becomes 03:00 (+01:00 to +02:00):"
        " 02:30 does not exist and is skipped",
        "Sunday 2027-10-31: 03:00 becomes 02:00 (+02:00 to +01:00):"
        " 02:30 comes twice and is due the first time",
        "Sunday 2028-03-26: 02:00 becomes 03:00 (+01:00 to +02:00):"
        " 02:30 does not exist and is skipped",
        "Sunday 2028-10-29: 03:00 becomes 02:00 (+02:00 to +01:00):"
        " 02:30 comes twice and is due the first time",
    ]
    assert len(explain(nightly(), YEAR, changes=1).changes) == 1


@pytest.mark.parametrize(
    ("text", "options", "spring", "autumn"),
    [
        (
            "30 2 * * *",
            {"dst_gap": "shift", "dst_overlap": "both"},
            "02:30 does not exist and moves to 03:30",
            "02:30 comes twice and is due both times",
        ),
        (
            "0,30 2 * * *",
            {"dst_gap": "next", "dst_overlap": "last"},
            "02:00 and 02:30 do not exist and move to 03:00, once",
            "02:00 and 02:30 come twice and are due the second time",
        ),
        (
            "0,30 2 * * *",
            {"dst_gap": "shift"},
            "02:00 and 02:30 do not exist and move to 03:00 and 03:30",
            "02:00 and 02:30 come twice and are due the first time",
        ),
        (
            "*/5 * * * *",
            {"dst_gap": "shift"},
            "02:00 to 02:55 (12 times) do not exist and are skipped",
            "02:00 to 02:55 (12 times) come twice and are due both times",
        ),
        ("0 12 * * *", {}, "nothing is left out or repeated", "nothing is left out or repeated"),
    ],
)
def test_what_happens_follows_the_words_of_the_schedule(
    text: str, options: dict[str, str], spring: str, autumn: str
):
    found = explain(Timing(Cron(text), "Europe/Berlin", **options), YEAR)
    assert [effect_text(one) for one in found.changes[:2]] == [spring, autumn]


def test_a_change_at_midnight_or_of_a_whole_day_says_both_dates():
    cairo = explain(Timing(Cron("0 23 * * *"), "Africa/Cairo"), YEAR, changes=2)
    assert told(cairo)[1] == (
        "Friday 2027-10-29: 00:00 becomes 2027-10-28 23:00 (+03:00 to +02:00):"
        " 2027-10-28 23:00 comes twice and is due the first time"
    )
    december = datetime(2011, 12, 1, tzinfo=UTC)
    apia = explain(Timing(Cron("0 12 * * *"), "Pacific/Apia", "shift"), december, changes=1)
    assert told(apia) == [
        "Friday 2011-12-30: 00:00 becomes 2011-12-31 00:00 (-10:00 to +14:00):"
        " 12:00 does not exist and moves to 2011-12-31 12:00"
    ]


def test_the_first_change_that_is_met_is_found_however_late_it_comes():
    found = explain(Timing(Cron("30 2 28 3 *"), "Europe/Berlin"), YEAR + timedelta(days=365))
    assert all(one.effect == Effect.UNAFFECTED for one in found.changes)
    assert found.first_met is not None
    assert found.first_met.local_times == (datetime(2032, 3, 28, 2, 30),)
    assert explain(Timing(Cron("30 2 1 * *"), "Europe/Berlin"), YEAR).first_met is None


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo"])
def test_a_zone_may_have_no_clock_changes(timezone: str):
    found = explain(Timing(NIGHTLY, timezone), YEAR)
    assert (found.changes, found.first_met) == ((), None)


@pytest.mark.parametrize(
    ("expression", "rule"),
    [
        (Cron("*/5 * * * *"), "it follows the wall clock"),
        (Every(timedelta(hours=1)), "it counts elapsed time"),
        (Once(YEAR), "it is one instant"),
    ],
)
def test_the_rule_for_clock_changes_depends_on_the_expression(expression: Expression, rule: str):
    found = explain(Timing(expression, "Europe/Berlin"), YEAR)
    assert [topic for topic, _ in found.rules] == ["clock changes"]
    assert rules(found)["clock changes"].startswith(rule)


def test_policies_are_said_in_words():
    found = rules(
        explain(
            nightly(
                concurrency_policy="replace",
                missed_run_policy="catchUp",
                catch_up_window=timedelta(days=3),
                max_catch_up=5,
                jitter=timedelta(minutes=5),
                payload_schema=Day,
                payload={"day": "{nominal_time:%Y-%m-%d}"},
                idempotency_key="payload.day",
                enabled=False,
            ),
            YEAR,
        )
    )
    assert found["overlap"].endswith("takes its place: that one is cancelled")
    assert found["missed runs"] == (
        "each time of the last 3 days runs, oldest first, the latest 5 at most"
    )
    assert found["duplicates"] == "one run for each payload.day within 7 days"
    assert found["jitter"] == "each run is fired up to 5 minutes late, at random"
    assert found["disabled"] == "its triggers start nothing"
    once = rules(explain(nightly(missed_run_policy="runOnce", concurrency_policy="forbid"), YEAR))
    assert once["missed runs"] == (
        "of all times that are more than 10 minutes late, the latest runs, once"
    )
    assert once["overlap"].endswith("is skipped")


def test_bounds_and_excluded_days_are_said():
    holidays = HolidayCalendar("DE", date(2027, 1, 1), date(2028, 12, 31), (date(2027, 5, 1),))
    found = explain(
        nightly(
            start_at=YEAR,
            end_at=datetime(2029, 1, 1, tzinfo=UTC),
            exclude=[
                date(2027, 12, 24),
                DateRange(date(2027, 8, 1), date(2027, 8, 14)),
                holidays,
            ],
        ),
        YEAR,
    )
    said = [rule.text for rule in found.rules if rule.topic in ("start", "end", "excluded")]
    assert said == [
        "not before 2027-01-01T00:00:00Z",
        "not after 2029-01-01T00:00:00Z",
        "not on the 1 holiday of DE, known from 2027-01-01 to 2028-12-31",
        "not from 2027-08-01 to 2027-08-14",
        "not on 2027-12-24",
    ]
