"""The naive export: what becomes of a cron text that is copied as it stands, against real engines."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from tests.test_firetimes_oracles import CASES, LISTED

from purista import Cron, Every, Schedule, Service
from purista.copying import Copied, copied
from purista.dialect import Reading, Special
from purista.errors import ExpressionError
from purista.exclusion import DateRange
from purista.schedulers import scheduler_named
from purista.turnover import Horizon

HORIZON = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2036, 12, 31, 23, 59, 59, tzinfo=UTC))
WORDS: frozenset[Special] = frozenset({"L", "L-n", "W", "LW", "#", "#L"})
NTH: frozenset[Special] = frozenset({"#", "#L"})

READINGS = {
    "Debian cron": Reading(
        day_rule="or",
        star_rule=True,
        refused=WORDS - NTH,
        misread=NTH,
        dst_gap="next",
        dst_overlap="first",
        wildcard="both",
    ),
    "cronie": Reading(
        day_rule="or",
        star_rule=True,
        refused=WORDS,
        dst_gap="next",
        dst_overlap="first",
        wildcard="both",
    ),
    "Kubernetes": Reading(
        day_rule="or", refused=WORDS, dst_gap="skip", dst_overlap="both", wildcard="both"
    ),
    "Airflow": Reading(
        day_rule="or",
        refused=frozenset({"L-n", "LW", "#L"}),
        dst_gap="shift",
        dst_overlap="last",
        wildcard="both",
    ),
    "Temporal": scheduler_named("temporal").reading,
}
RECORDED = {
    "Debian cron": "debian_cron_3.0pl1-197",
    "cronie": "cronie_1.7.2-4",
    "Kubernetes": "robfig_cron_v3.0.1_as_kubernetes",
    "Airflow": "airflow_3.3.2_CronTriggerTimetable",
    "Temporal": "temporal_server_1.32.0",
}
SYSTEMD = Reading(day_rule="and", dst_gap="skip", dst_overlap="first", wildcard="first")
EVENTBRIDGE = Reading(day_rule=None, refused=frozenset({"L-n", "LW"}), dst_gap="skip")


def due(text: str, rule: Any = None, **options: Any) -> Schedule:
    cron = Cron(text, day_rule=rule)
    return Service("Shop").schedule("s").emit_event("due", expression=cron, **options)


def told(schedule: Schedule, reading: Reading, horizon: Horizon = HORIZON) -> str | None:
    found = copied(schedule, reading, "it", horizon)
    return found.text if found else None


UNSAID = {("Kubernetes", "domdow-17")}
"""What no reading says, beside ``oracles/DIFFERENCES.md``: to robfig/cron ``*/1`` is a star, so that
``0 0 */1 * 5`` is every Friday."""


def recorded(engine: str, case: dict[str, Any]) -> list[datetime] | None:
    """Return when an engine fired; None where it refused."""
    found = case["engines"][RECORDED[engine]]
    if isinstance(found, dict):
        return None
    return sorted({datetime.fromisoformat(instant) for instant in found})


@pytest.mark.parametrize("engine", READINGS)
@pytest.mark.parametrize("case", CASES)
def test_what_is_told_is_what_the_engine_did(engine: str, case: str):
    if LISTED.get((engine, case)) == "instants" or (engine, case) in UNSAID:
        return
    asked = CASES[case]
    try:
        cron = Cron(asked["expr"], day_rule="or")
    except ExpressionError:
        return
    schedule = due(asked["expr"], "or", timezone=asked["timezone"])
    start, end = (datetime.fromisoformat(asked[edge]) for edge in ("start", "end"))
    found = copied(schedule, READINGS[engine], engine, Horizon(start, end))
    theirs, ours = recorded(engine, asked), set(schedule.between(start, end))
    if theirs is None or (found and "can be relied on" in found.text):
        return
    assert found is None or "refuses" not in found.text
    seen = max(theirs, default=end) if len(theirs) == asked["n"] else end
    if found is None:
        assert list(islice(sorted(ours), asked["n"])) == theirs, cron
    elif found.missing and found.missing <= seen:
        assert found.missing in ours.difference(theirs)
    elif found.extra and found.extra <= seen:
        assert found.extra in set(theirs) - ours


THIRTEENTH = due("0 0 13 * FRI")
NIGHTLY = due("30 2 * * *", timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (READINGS["Debian cron"], None),
        (READINGS["Kubernetes"], None),
        (READINGS["Airflow"], None),
        (
            READINGS["Temporal"],
            "at 2027-01-01T00:00:00Z it is due, and it does not fire",
        ),
        (SYSTEMD, "at 2027-01-01T00:00:00Z it is due, and it does not fire"),
        (EVENTBRIDGE, "it refuses '0 0 13 * FRI': only one of the two day fields may restrict"),
    ],
)
def test_the_thirteenth_or_a_friday(reading: Reading, text: str | None):
    assert told(THIRTEENTH, reading) == text


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (
            READINGS["Debian cron"],
            "at 2027-03-28T01:00:00Z it fires, and nothing is due",
        ),
        (
            READINGS["Kubernetes"],
            "at 2027-10-31T01:30:00Z it fires, and nothing is due",
        ),
        (
            READINGS["Airflow"],
            "at 2027-03-28T01:30:00Z it fires, and nothing is due",
        ),
        (SYSTEMD, None),
        (
            READINGS["Temporal"],
            "at 2027-10-31T00:30:00Z it is due, and it does not fire; "
            "at 2027-10-31T01:30:00Z it fires, and nothing is due",
        ),
        (
            Reading(day_rule="or", zone="UTC"),
            "at 2027-01-01T01:30:00Z it is due, and it does not fire; "
            "at 2027-01-01T02:30:00Z it fires, and nothing is due",
        ),
    ],
)
def test_half_past_two_in_berlin(reading: Reading, text: str | None):
    assert told(NIGHTLY, reading) == text


def test_instants_are_kept_beside_their_text():
    found = copied(NIGHTLY, Reading(day_rule="or", zone="UTC"), "it", HORIZON)
    assert found is not None
    assert (found.missing, found.extra) == (
        datetime(2027, 1, 1, 1, 30, tzinfo=UTC),
        datetime(2027, 1, 1, 2, 30, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("text", "rule", "reading", "said"),
    [
        ("0 0 L,15W * *", None, READINGS["Kubernetes"], "it refuses '0 0 L,15W * *': it does not know L, W"),
        ("0 0 LW * *", None, EVENTBRIDGE, "it refuses '0 0 LW * *': it does not know LW"),
        ("0 0 L-2 * *", None, READINGS["Airflow"], "it refuses '0 0 L-2 * *': it does not know L-n"),
        ("0 0 * * FRI#L", None, READINGS["cronie"], "it refuses '0 0 * * FRI#L': it does not know #L"),
        ("0 0 * * FRI#3", None, READINGS["Debian cron"], "at 2027-01-01T00:00:00Z it fires, and nothing is due"),
        ("0 0 * * MON,FRI#3", None, READINGS["Temporal"], "at 2027-01-01T00:00:00Z it fires, and nothing is due"),
        ("0 0 */2 * 5", "or", READINGS["Debian cron"], "at 2027-01-03T00:00:00Z it is due, and it does not fire"),
        ("0 0 */2 * 5", "and", READINGS["Debian cron"], None),
        ("0 0 1-31 * 5", "and", READINGS["Kubernetes"], "at 2027-01-02T00:00:00Z it fires, and nothing is due"),
        ("0 0 1-31 * 5", "or", READINGS["Temporal"], "at 2027-01-02T00:00:00Z it is due, and it does not fire"),
        ("0 0 30 2 MON", None, READINGS["Temporal"], "it takes '0 0 30 2 MON' for days that never come"),
        ("@daily", None, READINGS["Kubernetes"], None),
    ],
)  # fmt: skip
def test_days_are_read_as_they_are_written(
    text: str, rule: Any, reading: Reading, said: str | None
):
    assert told(due(text, rule), reading) == said


def test_days_that_never_come_are_missing_from_the_first_on():
    found = copied(due("0 0 30 2 MON"), READINGS["Temporal"], "it", HORIZON)
    assert found is not None
    assert found.missing == datetime(2027, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "reading", "said"),
    [
        ("*/30 * * * *", READINGS["Kubernetes"], None),
        ("*/30 * * * *", SYSTEMD, "at 2027-10-31T01:00:00Z it is due, and it does not fire"),
        (
            "*/30 * * * *",
            READINGS["Temporal"],
            "nothing it does at the clock change of Sunday 2027-03-28: 02:00 becomes 03:00 "
            "(+01:00 to +02:00) can be relied on",
        ),
        ("*/30 9-17 * * *", READINGS["Temporal"], None),
        ("*/30 9-17 * * *", SYSTEMD, None),
        ("30 9 * * *", READINGS["Airflow"], None),
    ],
)
def test_what_follows_the_clock_differs_only_where_it_meets_a_change(
    text: str, reading: Reading, said: str | None
):
    assert told(due(text, timezone="Europe/Berlin"), reading) == said


def test_what_is_not_known_of_clock_changes_is_no_difference_of_days():
    schedule = due("30 2 1-31 3,10 SUN", "or", timezone="Europe/Berlin", dst_gap="next")
    unknown = Reading(day_rule="and")
    assert told(schedule, unknown) == "at 2027-03-01T01:30:00Z it is due, and it does not fire"


def test_only_clock_changes_of_the_horizon_count():
    winter = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 3, 28, 0, 59, tzinfo=UTC))
    assert told(NIGHTLY, READINGS["Airflow"], winter) is None


def test_what_is_missing_is_really_due():
    """Bounds and exclusions are no part of a text: they make no difference of it."""
    options: dict[str, Any] = {
        "start_at": datetime(2027, 6, 1, tzinfo=UTC),
        "exclude": [DateRange(date(2027, 6, 1), date(2027, 6, 30))],
    }
    found = copied(due("0 0 13 * FRI", **options), SYSTEMD, "it", HORIZON)
    assert found is not None
    assert found.missing == datetime(2027, 7, 2, tzinfo=UTC)
    assert copied(due("0 0 * * *", **options), SYSTEMD, "it", HORIZON) is None


def test_intervals_have_no_text_to_copy():
    every = Service("Shop").schedule("s").emit_event("due", expression=Every(timedelta(hours=1)))
    assert copied(every, SYSTEMD, "it", HORIZON) is None
    assert Copied("text") == Copied("text", None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0 * * FRI", None),
        (
            "0 0 * * 5",
            "at 2027-01-01T00:00:00Z it is due, and it, with a ? and a year put in, does not fire; "
            "at 2027-01-07T00:00:00Z it, with a ? and a year put in, fires, and nothing is due",
        ),
        (
            "0 0 13 * 5",
            "it, with a ? and a year put in, refuses '0 0 13 * 5': "
            "only one of the two day fields may restrict",
        ),
    ],
)
def test_where_sunday_is_1_the_numbers_of_weekdays_are_other_days(text: str, said: str | None):
    assert told(due(text), scheduler_named("eventbridge").reading) == said
