"""The Python that ``purista import`` writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.cli.app import run
from purista.cli.importing import module_text
from purista.contract import NAME, Schedule
from purista.expression import Cron, Every, Once
from purista.service import Service
from purista.sync import Foreign

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
EXPRESSIONS = (
    Cron("0 2 * * *"),
    Cron("*/5 30 4-6 13 * FRI", day_rule="and", seconds=True),
    Cron("15 6 L * *"),
    Every(timedelta(minutes=90)),
    Every(timedelta(days=1, microseconds=5), NOON + timedelta(seconds=7)),
    Once(NOON + timedelta(seconds=3, microseconds=4)),
)


def loaded(found: list[Foreign], service: str = "Imported") -> list[Schedule]:
    """Return the schedules of what is written, in its order."""
    names: dict[str, Any] = {}
    exec(compile(module_text(found, service, "cron"), "imported.py", "exec"), names)
    made: Service = names[service.lower()]
    return list(made.schedules.values())


foreign = st.builds(
    Foreign,
    name=st.text(max_size=30),
    expression=st.sampled_from(EXPRESSIONS),
    timezone=st.sampled_from(["UTC", "Europe/Berlin"]),
    enabled=st.booleans(),
    description=st.text(max_size=30),
    start_at=st.sampled_from([None, NOON - timedelta(days=800, microseconds=1)]),
    end_at=st.sampled_from([None, NOON + timedelta(days=20_000)]),
    jitter=st.sampled_from([timedelta(0), timedelta(days=2, seconds=3, microseconds=4)]),
    dst_gap=st.sampled_from(["skip", "next", "shift"]),
    dst_overlap=st.sampled_from(["first", "last", "both"]),
    doubts=st.lists(st.text(max_size=20), max_size=2).map(tuple),
)
COMPARED = (
    *("expression", "timezone", "enabled", "description", "start_at", "end_at", "jitter"),
    *("dst_gap", "dst_overlap"),
)


@given(st.lists(foreign, max_size=5))
def test_what_is_written_means_what_was_read(found: list[Foreign]) -> None:
    made = loaded(found)
    assert len(made) == len(found)
    for one, schedule in zip(found, made, strict=True):
        assert NAME.match(schedule.name)
        for field in COMPARED:
            assert getattr(schedule, field) == getattr(one, field), field


def test_names_that_become_the_same_are_told_apart() -> None:
    names = ["a b", "a/b", "a-b", "-2", "", "ä", "3"]
    found = [Foreign(name, Cron("0 2 * * *")) for name in names]
    assert [each.name for each in loaded(found)] == [
        *("a-b", "a-b-2", "a-b-3", "schedule-2", "schedule", "schedule-3", "schedule-3-2")
    ]


def test_what_no_contract_can_say_stands_there_as_a_comment() -> None:
    text = module_text([Foreign("x\ny", None, doubts=("it is\r\nodd",))], "Old", "cron")
    assert text.endswith("\n# x y is left out.\n# it is odd\n")
    assert loaded([Foreign("x", None)]) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, "is no name") for name in ("1a", "a b", "")),
        *((name, "is a word of the module itself") for name in ("class", "Triggered", "Datetime")),
    ],
)
def test_a_service_needs_a_name(name: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "temporal", "--service", name]) == 2
    assert told in capsys.readouterr().err
