"""How Airflow reads cron lines, asked of Airflow 3.3.2 itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from tests.engines import airflow
from tests.engines.airflow import Case

from purista.compiling import default_horizon, timing_of
from purista.contract import Event, Schedule
from purista.cover import Cover, Fit, Line
from purista.expression import Cron
from purista.firetimes import transitions
from purista.native.airflowcron import (
    LONGEST_DESCRIPTION,
    airflow_cover,
    cron_text,
    cron_texts,
    longest_description,
    shortest_gap_of_lines,
)
from purista.testing.corpus import END, START, contracts

DAY = timedelta(days=1)
BERLIN = "Europe/Berlin"
HORIZON = default_horizon(START)

FACTS = [
    # every hour: the time that has passed counts, so that a change before its days moves them
    ("0 * * * *", "2027-03-28 00:00", "2027-03-28 02:00", ["00:00", "01:00", "02:00"]),
    ("0 * * * *", "2027-10-31 00:00", "2027-10-31 01:00", ["00:00", "01:00"]),
    ("0 * * * 1", "2027-03-27 00:00", "2027-03-29 00:00", ["23:00", "00:00"]),
    ("0 * * * 1", "2027-10-30 00:00", "2027-11-01 00:00", ["22:00", "23:00", "00:00"]),
    # certain hours: later by the gap, in an overlap the second pass alone
    ("30 2 * * *", "2027-03-28 00:00", "2027-03-28 12:00", ["01:30"]),
    ("30 2 * * *", "2027-10-31 00:00", "2027-10-31 12:00", ["01:30"]),
    ("0 */2 * * *", "2027-10-30 23:00", "2027-10-31 04:00", ["01:00", "03:00"]),
    # the second of two times in a gap is lost
    ("0,30 2 * * *", "2027-03-28 00:00", "2027-03-28 12:00", ["01:00"]),
]
"""A line in Berlin, from when to when, and when it fires, all in UTC."""


def test_what_a_change_of_the_clock_does_depends_on_a_lines_hours() -> None:
    answers = airflow.fires(
        [_case([text], BERLIN, _at(start), _at(end)) for text, start, end, _ in FACTS]
    )
    found = [[f"{at:%H:%M}" for at in fired] for fired in answers if isinstance(fired, list)]
    assert found == [fired for *_, fired in FACTS]


def test_of_several_lines_one_takes_the_slot_that_another_would_have_after_a_gap() -> None:
    window = _at("2027-03-28 00:00"), _at("2027-03-28 12:00")
    [fired] = airflow.fires([_case(["30 2 * * *", "0 2 * * *"], BERLIN, *window)])
    assert fired == [_at("2027-03-28 01:00")]
    found = _cover(_schedule("30 2 * * *", timezone=BERLIN, dst_gap="next"))
    assert {line.timezone for line in found.lines} == {"UTC"}


def test_day_words_are_read_as_ours_but_for_a_weekday_near_a_day_that_is_not_there() -> None:
    words = {"L * *": "L * *", "15W * *": "15W * *", "* * 5#3": "* * 5#3", "* * L5": "* * 5#L"}
    answers = airflow.fires(
        [_case([f"0 9 {each}"], "UTC", START, END) for each in [*words, "31W * *"]]
    )
    for ours, fired in zip(words.values(), answers, strict=False):
        assert fired == list(_schedule(f"0 9 {ours}").between(START, END))
    assert isinstance(answers[-1], list)
    assert _at("2027-02-26 09:00") in answers[-1]


def test_contracts_of_all_kinds_keep_their_meaning_around_clock_changes() -> None:
    tried = [_random_schedule(Random(number)) for number in range(160)]
    asked = [(one, _cover(one), *window) for one in tried for window in _windows(one)]
    answers = airflow.fires(
        [
            _case(cron_texts(cover.lines), cover.lines[0].timezone, *window)
            for _, cover, *window in asked
        ]
    )
    wrong = []
    for (one, cover, *window), fired in zip(asked, answers, strict=True):
        assert isinstance(fired, list), (one.expression, cover.lines, fired)
        due = list(one.between(*window))
        kept = [at for at in fired if one.contains(at)]
        if kept != due or (cover.fit is Fit.EXACT and fired != due):
            wrong.append((one.expression, one.timezone, cover.lines, window[0]))
    assert wrong == []
    assert {cover.fit for _, cover, *_ in asked} == {Fit.EXACT, Fit.SUPERSET}


_MINUTES = ("0", "30", "*/20", "15,45", "0,59", "*/7", "5")
_HOURS = ("*", "0-23", "2", "1", "0", "23", "1-3", "0,2", "*/2", "2,3", "9-17")
_DAYS = ("* * *", "* * 1", "1 * *", "L * *", "* 3,10 *", "15W * *", "30W * *", "* * FRI#L")
_MORE_DAYS = ("* * *", "28-31 * *", "* * 0", "1 * MON", "* * MON#1,SUN#L")
_ZONES = (BERLIN, "America/New_York", "Africa/Cairo", "America/Santiago")
_ODD_ZONES = ("Australia/Lord_Howe", "Antarctica/Troll", "Pacific/Chatham", "Africa/Casablanca")


def _random_schedule(random: Random) -> Schedule:
    days = random.choice([*_DAYS, *_MORE_DAYS])
    return _schedule(
        f"{random.choice(_MINUTES)} {random.choice(_HOURS)} {days}",
        timezone=random.choice([*_ZONES, *_ODD_ZONES]),
        dst_gap=random.choice(["skip", "next", "shift"]),
        dst_overlap=random.choice(["first", "last", "both"]),
    )


def _windows(one: Schedule) -> Iterator[tuple[datetime, datetime]]:
    for change in islice(transitions(one.timezone, START, END), 2):
        yield change.instant - 2 * DAY, change.instant + 2 * DAY


DESCRIBE = """
import json, sys
from airflow.timetables.trigger import MultipleCronTriggerTimetable
found = [MultipleCronTriggerTimetable(*texts, timezone="UTC") for texts in json.load(sys.stdin)]
print(json.dumps([each.description for each in found]))
"""


def test_airflow_describes_no_timetable_at_more_length_than_its_database_takes() -> None:
    corpus = [_cover(each).lines for each in contracts()]
    lines = [*corpus, _long_lines(4), _long_lines(12)]
    apart = [line for each in lines for line in each]
    texts = [*map(cron_texts, lines), *([cron_text(line)] for line in apart)]
    described = _in_airflow(DESCRIBE, texts)
    together, alone = described[: len(lines)], described[len(lines) :]
    assert max(map(len, together)) <= LONGEST_DESCRIPTION
    assert together[-2]
    assert together[-1] == ", " * 11
    for line, text in zip(apart, alone, strict=True):
        assert len(text) <= longest_description(line.cron)


def _long_lines(count: int) -> tuple[Line, ...]:
    return tuple(
        Line(Cron(f"{each},{each + 30} 0,3,5,7,9,11 * * *"), "UTC") for each in range(count)
    )


def _in_airflow(program: str, question: Any) -> Any:
    """Return what a program says in Airflow's environment."""
    with TemporaryDirectory() as home:
        done = subprocess.run(
            [airflow.python(), "-c", program],
            input=json.dumps(question),
            env={"AIRFLOW_HOME": home, "HOME": home, "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_shortest_gap_of_lines_reaches_over_midnight() -> None:
    lines = [Line(Cron("59 23 * * *"), "UTC"), Line(Cron("1 0,12 * * *"), "UTC")]
    assert shortest_gap_of_lines(lines) == timedelta(minutes=2)
    assert shortest_gap_of_lines(lines[:1]) == DAY


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _schedule(text: str, **options: Any) -> Schedule:
    due = Event("due", str, service_name="S", service_version="1")
    values: dict[str, Any] = {"expression": Cron(text), "payload": "due", **options}
    return Schedule(name="x", service_name="S", service_version="1", target=due, **values)


def _cover(one: Schedule) -> Cover:
    found = airflow_cover(timing_of(one), HORIZON, exact_native=False)
    assert isinstance(found, Cover)
    return found


def _case(texts: Sequence[str], zone: str, start: datetime, end: datetime) -> Case:
    name = "CronTriggerTimetable" if len(texts) == 1 else "MultipleCronTriggerTimetable"
    return Case(name, texts, start, end, {"timezone": zone}, limit=20_000)
