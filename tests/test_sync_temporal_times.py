"""When specs fire, and which contracts they would have: asked of Temporal's own server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from temporalio.api.schedule.v1 import ScheduleSpec
from temporalio.api.workflowservice.v1 import CreateScheduleRequest, DescribeScheduleRequest
from temporalio.client import Client
from tests.engines import temporal as engine

from purista.compiling import compile_schedules, default_horizon, request_for
from purista.contract import Event, Schedule
from purista.exclusion import DateRange
from purista.expression import Cron, Every, Expression, Once
from purista.schedulers.temporal import SCHEDULER
from purista.sync.temporal import TemporalSchedules
from purista.sync.temporal_fields import part
from purista.sync.temporal_times import foreign_schedules, spec_times

START = datetime(2027, 1, 1, tzinfo=UTC)
WINDOWS = (
    (START, START + timedelta(days=20)),
    (datetime(2027, 3, 10, tzinfo=UTC), datetime(2027, 4, 2, tzinfo=UTC)),
    (datetime(2027, 8, 10, tzinfo=UTC), datetime(2027, 8, 20, tzinfo=UTC)),
    (datetime(2027, 10, 25, tzinfo=UTC), datetime(2027, 11, 9, tzinfo=UTC)),
)
EXPRESSIONS: Mapping[str, tuple[Expression, dict[str, Any]]] = {
    "daily": (Cron("0 2 * * *"), {}),
    "berlin": (Cron("30 2 * * *"), {"timezone": "Europe/Berlin"}),
    "new-york": (Cron("*/20 * * * 1-5"), {"timezone": "America/New_York"}),
    "friday-or-13th": (Cron("0 0 13 * 5", day_rule="or"), {}),
    "friday-the-13th": (Cron("0 0 13 * 5", day_rule="and"), {}),
    "last": (Cron("0 6 L * *"), {"timezone": "Asia/Tokyo"}),
    "every": (Every(timedelta(hours=7), START + timedelta(minutes=11)), {}),
    "once": (Once(datetime(2027, 1, 9, 7, 30, tzinfo=UTC)), {}),
    "bounded": (Cron("0 * * * *"), {"start_at": START + timedelta(days=3, minutes=30)}),
    "holidays": (Cron("0 5 * * *"), {"exclude": [DateRange(date(2027, 1, 5), date(2027, 1, 8))]}),
}


def specs() -> dict[str, Any]:
    """Return the specs of the contracts, as plans have them."""
    target = Event("due", str, service_name="S", service_version="1")
    common: dict[str, Any] = {"target": target, "payload": "x", "missed_run_policy": "skip"}
    schedules = [
        Schedule(
            name=name, service_name="S", service_version="1", expression=one, **common, **options
        )
        for name, (one, options) in EXPRESSIONS.items()
    ]
    document = {"ingress": {"url": "http://127.0.0.1:1"}}
    asked = request_for(SCHEDULER, document, default_horizon(START))
    placed = compile_schedules(SCHEDULER, schedules, asked).placed
    service: Any = type("Client", (), {"workflow_service": None})
    desired = TemporalSchedules(service, "default").desired(placed, asked, "default")
    return {
        each.owner.schedule_id.rpartition(".")[2]: part(each.fields, "spec") for each in desired
    }


async def asked(wanted: Iterable[Mapping[str, Any]]) -> list[list[list[datetime]]]:
    """Return what the server says of each spec, for each window."""
    async with engine.temporal_server() as client:
        return [
            [await engine.fires(client, spec, start=start, end=end) for start, end in WINDOWS]
            for spec in wanted
        ]


def test_what_is_foretold_of_a_contract_is_what_the_server_does() -> None:
    ours = specs()
    for (name, spec), theirs in zip(ours.items(), asyncio.run(asked(ours.values())), strict=True):
        for (start, end), expected in zip(WINDOWS, theirs, strict=True):
            found = spec_times(spec, start, end)
            assert found is not None
            assert list(found) == expected, name
        assert any(theirs), name


BY_HAND: Mapping[str, dict[str, Any]] = {
    "0 9 * * MON-FRI": {"cronString": ["0 9 * * MON-FRI"]},
    "0 0 13 * 5": {"cronString": ["0 0 13 * 5"]},
    "30 4 1,15 * *": {"cronString": ["CRON_TZ=Europe/Berlin 30 4 1,15 * *"]},
    "calendar": {"calendar": [{"hour": "6", "dayOfWeek": "Monday"}]},
    "interval": {"interval": [{"interval": "5400s", "phase": "600s"}]},
    "once": {"cronString": ["CRON_TZ=Europe/Berlin 0 7 9 1 * 2027"]},
    "year": {"cronString": ["0 0 1 * * 2028"]},
    "comment": {"cronString": ["0 6 * * *  # each morning"]},
}


async def described() -> dict[str, dict[str, Any]]:
    found = {}
    async with engine.temporal_server() as client:
        for name, spec in BY_HAND.items():
            found[name] = await _described(client, f"x-{len(found)}", spec)
            times = found[name]["times"]
            times += await engine.fires(client, spec, start=START, end=START + timedelta(days=40))
    return found


async def _described(client: Client, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    request = CreateScheduleRequest(namespace="default", schedule_id=name, request_id=name)
    request.schedule.spec.CopyFrom(ParseDict(spec, ScheduleSpec()))
    request.schedule.action.CopyFrom(engine.ACTION)
    request.schedule.state.paused = True
    await client.workflow_service.create_schedule(request)
    live = TemporalSchedules(client, "default")
    await client.workflow_service.describe_schedule(
        DescribeScheduleRequest(namespace="default", schedule_id=name), retry=True
    )
    (found,) = [each async for each in live.observed("default", [name])]
    return {"fields": dict(found.fields), "times": []}


def test_schedules_that_are_none_of_ours_become_contracts_that_mean_the_same() -> None:
    for name, one in asyncio.run(described()).items():
        (found,) = foreign_schedules(name, one["fields"])
        assert found.enabled is False
        assert "it starts workflow NeverRun" in found.doubts
        assert found.expression is not None
        target = Event("due", str, service_name="S", service_version="1")
        contract = Schedule(
            name="x",
            service_name="S",
            service_version="1",
            target=target,
            payload="x",
            expression=found.expression,
            timezone=found.timezone,
            dst_gap=found.dst_gap,  # type: ignore[arg-type]
            dst_overlap=found.dst_overlap,  # type: ignore[arg-type]
        )
        due = list(contract.between(START, START + timedelta(days=40)))
        if name == "comment":
            assert any("each morning" in doubt for doubt in found.doubts), found.doubts
        if name == "year":
            assert any("it fires in 2028 only" in doubt for doubt in found.doubts)
        else:
            assert due == one["times"], name


AT_CHANGES: Mapping[str, str] = {
    "Berlin, left out": "CRON_TZ=Europe/Berlin 30 2 28 3 * 2027",
    "Berlin, twice": "CRON_TZ=Europe/Berlin 30 2 31 10 * 2027",
    "New York, left out": "CRON_TZ=America/New_York 30 2 14 3 * 2027",
    "New York, twice": "CRON_TZ=America/New_York 30 1 7 11 * 2027",
    "Lord Howe, twice": "CRON_TZ=Australia/Lord_Howe 45 1 4 4 * 2027",
    "plain": "CRON_TZ=Europe/Berlin 30 2 1 7 * 2027",
    "a Friday": "CRON_TZ=Europe/Berlin 30 2 1 1 5 2027",
    "no Monday": "CRON_TZ=Europe/Berlin 30 2 1 1 1 2027",
}


async def described_at_changes() -> dict[str, dict[str, Any]]:
    found = {}
    async with engine.temporal_server() as client:
        for name, text in AT_CHANGES.items():
            spec = {"cronString": [text]}
            found[name] = await _described(client, f"x-{len(found)}", spec)
            end = START + timedelta(days=365)
            found[name]["times"] += await engine.fires(client, spec, start=START, end=end)
    return found


def test_a_calendar_of_one_day_is_one_time_only_where_it_fires_once() -> None:
    for name, one in asyncio.run(described_at_changes()).items():
        foretold = spec_times(
            part(one["fields"], "spec"),
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        )
        assert foretold is not None
        assert (name, list(foretold)) == (name, one["times"])
        (found,) = foreign_schedules(name, one["fields"])
        is_once = isinstance(found.expression, Once)
        assert (name, is_once) == (name, len(one["times"]) == 1)
        assert is_once or "it fires in 2027 only" in found.doubts


def test_what_a_contract_does_not_say_is_a_doubt() -> None:
    calendar = {"hour": [{"start": 6}], "comment": "each morning"}
    days = {"dayOfMonth": (1, 31), "month": (1, 12), "dayOfWeek": (0, 6)}
    ranges = {name: [{"start": one, "end": two}] for name, (one, two) in days.items()}
    zero = {"second": [{}], "minute": [{}]}
    fields = {
        "spec.structuredCalendar": [calendar | ranges | zero],
        "policies.catchupWindow": "31536000s",
        "policies.pauseOnFailure": True,
        "policies.keepOriginalWorkflowId": True,
        **NOTHING_ELSE,
        "remainingActions": 3,
    }
    (found,) = foreign_schedules("x", fields)
    assert found.expression == Cron("0 6 * * *")
    assert found.doubts == (
        "it starts workflow something else",
        "what it missed it makes up for within 365 days, 0:00:00",
        "it is paused when its workflow fails",
        "its workflows have no time in their ids",
        "it fires 3 more times only",
        "its comment is each morning",
    )


NOTHING_ELSE = {"notes": "", "paused": False, "remainingActions": None}


@pytest.mark.parametrize(
    "spec",
    [
        {"calendar": [{"hour": "25"}]},
        {"structuredCalendar": [{"hour": [{"start": 1}]}]},
        {"timezoneName": "Mars/Olympus", "interval": [{"interval": "60s"}]},
        {"interval": [{"interval": "0.5s"}]},
    ],
)
def test_what_is_not_understood_is_not_foretold(spec: dict[str, Any]) -> None:
    assert spec_times(spec, START, START + timedelta(days=1)) is None
    fields = {f"spec.{name}": value for name, value in spec.items()} | NOTHING_ELSE
    (found,) = foreign_schedules("x", fields)
    assert found.expression is None
    assert any("no contract can say it" in doubt for doubt in found.doubts)


def test_several_calendars_become_several_contracts() -> None:
    spec = {"interval": [{"interval": "60s"}, {"interval": "90s"}]}
    fields = {f"spec.{name}": value for name, value in spec.items()} | NOTHING_ELSE
    assert [each.name for each in foreign_schedules("x", fields)] == ["x-1", "x-2"]
