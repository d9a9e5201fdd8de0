"""Temporal's Schedules mean what their contracts mean: asked of its real development server."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from google.protobuf.json_format import ParseDict
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DescribeScheduleRequest,
    DescribeScheduleResponse,
)
from temporalio.client import Client, ScheduleBackfill, WorkflowFailureError
from temporalio.service import RPCError
from tests.engines import temporal as engine
from tests.engines.temporal import temporal_server

from purista.compiling import (
    Artifact,
    Compilation,
    Request,
    compile_schedules,
    default_horizon,
    place,
)
from purista.contract import Event, Schedule
from purista.dialect import clock_windows
from purista.errors import PortabilityError
from purista.exclusion import DateRange
from purista.expression import Cron, Every, Once
from purista.schedulers import temporal
from purista.schedulers.temporal import MODULE, SCHEDULER
from purista.settings import IngressSettings
from purista.testing import SchedulerSuite
from purista.testing.corpus import END, START
from purista.trigger import Trigger

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
GOLDENS = Path(__file__).parent / "goldens/compile/temporal"
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)


class TestTemporal(SchedulerSuite):
    scheduler = SCHEDULER
    _asked: ClassVar[dict[tuple[str, datetime, datetime], list[datetime]]] = {}

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, list[datetime]]:
        specs = {
            document["scheduleId"]: document["schedule"]["spec"]
            for document in documents(compilation.artifacts)
            if not document["schedule"]["state"].get("paused")
        }
        keys = {one: (json.dumps(spec), start, end) for one, spec in specs.items()}
        missing = {one: specs[one] for one, key in keys.items() if key not in self._asked}
        for one, found in asyncio.run(ask(missing, start, end)).items():
            self._asked[keys[one]] = found
        return {one: self._asked[key] for one, key in keys.items()}


def documents(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    return [json.loads(each.text) for each in artifacts if each.path.endswith(".json")]


async def ask(
    specs: Mapping[str, dict[str, Any]], start: datetime, end: datetime
) -> dict[str, list[datetime]]:
    """Ask the server; its answers contain the jitter, so it is not told of any."""
    if not specs:
        return {}
    some = asyncio.Semaphore(16)

    async def one(client: Client, spec: dict[str, Any]) -> list[datetime]:
        plain = {name: value for name, value in spec.items() if name != "jitter"}
        async with some:
            return await engine.fires(client, plain, start=start, end=end)

    async with temporal_server() as client:
        found = await asyncio.gather(*(one(client, spec) for spec in specs.values()))
    return dict(zip(specs, found, strict=True))


def schedule(name: str = "x", **options: Any) -> Schedule:
    values: dict[str, Any] = {"expression": Cron("0 4 * * *"), "payload": "due", **options}
    target = Event("due", str, service_name="S", service_version="1")
    return Schedule(name=name, service_name="S", service_version="1", target=target, **values)


def request(url: str = "http://127.0.0.1:8080", **options: Any) -> Request:
    settings = temporal.TemporalSettings.model_validate(options)
    ingress = IngressSettings.model_validate({"url": url})
    return Request(settings, ingress, default_horizon(NEW_YEAR))


def compiled(*schedules: Schedule, asked: Request | None = None) -> Compilation:
    return compile_schedules(SCHEDULER, schedules, asked or request())


def document(*, asked: Request | None = None, **options: Any) -> dict[str, Any]:
    return documents(compiled(schedule(**options), asked=asked).artifacts)[0]


def spec(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = document(**options)["schedule"]["spec"]
    return found


def policies(**options: Any) -> dict[str, Any]:
    found: dict[str, Any] = document(**options)["schedule"]["policies"]
    return found


def codes(**options: Any) -> list[str]:
    return [each.code for each in place(SCHEDULER, [schedule(**options)], request())[1]]


ZONES = (
    *("Africa/Cairo", "Africa/Casablanca", "Europe/Berlin", "America/New_York", "America/Nuuk"),
    *("America/Havana", "America/Santiago", "Australia/Sydney", "Pacific/Auckland"),
    *("Antarctica/Troll", "Asia/Beirut", "Europe/Helsinki", "Asia/Gaza", "Asia/Jerusalem"),
    *("Atlantic/Azores", "Europe/London", "Australia/Lord_Howe", "Pacific/Easter"),
    *("Pacific/Chatham", "America/St_Johns", "Asia/Tehran"),
)
"""All kinds of clock changes that the time-zone database knows for 2027 to 2036."""


def around_changes() -> Iterator[Schedule]:
    """Yield schedules of every hour, and of every day of week and month next to a change."""
    for zone in ZONES:
        windows = clock_windows(zone, START, END)
        texts = {f"15 {hour} * * *" for hour in range(24)}
        for window in windows:
            for shift in (-1, 0, 1):
                day = (window.first + shift * DAY).date()
                texts |= {f"40 0,9,23 * * {day.isoweekday() % 7}", f"5 0,1,6 {day.day} * *"}
        for number, text in enumerate(sorted(texts)):
            name = f"{zone.replace('/', '_')}-{number}"
            yield schedule(name, expression=Cron(text), timezone=zone, dst_overlap="both")


def test_in_every_kind_of_zone_what_is_called_exact_is_exact_and_nothing_is_missed() -> None:
    asked = request()
    placed, found = place(SCHEDULER, around_changes(), asked)
    assert found == []
    specs = {
        each["scheduleId"]: each["schedule"]["spec"]
        for each in documents(compile_schedules(SCHEDULER, around_changes(), asked).artifacts)
    }
    fired = asyncio.run(ask(specs, START, END))
    wrong = {}
    for each in placed:
        due, sent = set(each.schedule.between(START, END)), set(fired[each.schedule.id])
        if due - sent or (sent - due and each.cover.fit == "exact"):
            wrong[each.schedule.id] = (each.cover, sorted(due ^ sent)[:3])
    assert wrong == {}
    local = {each.schedule.timezone for each in placed if each.cover.lines[0].timezone != "UTC"}
    assert {"Europe/Berlin", "America/New_York"} <= local
    assert not local & {"Africa/Cairo", "America/Havana", "Australia/Lord_Howe"}


# What a specification says.


def test_an_interval_is_said_with_its_phase_and_a_one_shot_with_its_year() -> None:
    every = Every(90 * MINUTE, anchor=NEW_YEAR + 17 * MINUTE)
    phase = int(every.phase.total_seconds())
    assert spec(expression=every)["interval"] == [{"interval": "5400s", "phase": f"{phase}s"}]
    calendar = spec(expression=Once(datetime(2028, 2, 29, 12, tzinfo=UTC)))["structuredCalendar"]
    assert calendar[0]["year"] == [{"start": 2028}]


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        (Every(timedelta(milliseconds=1500)), "interval"),
        (Once(datetime(2028, 1, 1, microsecond=1, tzinfo=UTC)), "one-shot"),
        (Once(datetime(2101, 1, 1, tzinfo=UTC)), "limit-years"),
    ],
)
def test_what_no_specification_says_is_a_finding(expression: Any, code: str) -> None:
    assert codes(expression=expression) == [code]


def test_the_last_day_takes_a_calendar_for_each_length_of_month_and_february_two_by_year() -> None:
    calendars = spec(expression=Cron("0 9 L * *"))["structuredCalendar"]
    assert [each["dayOfMonth"] for each in calendars] == [
        [{"start": day}] for day in (31, 30, 29, 28)
    ]
    assert [each["year"][0] for each in calendars if "year" in each] == [
        {"start": 2000, "end": 2096, "step": 4},
        {"start": 2001, "end": 2097, "step": 4},
    ]


DAY_WORDS = ("L", "L-3", "1W", "15W", "31W", "LW", "1,L", "L-30")
WEEK_WORDS = ("MON#1", "WED#5", "FRI#L", "MON,FRI#3")


def test_every_word_for_days_is_exact_over_forty_years() -> None:
    texts = [f"0 9 {each} * *" for each in DAY_WORDS] + [f"0 9 * * {each}" for each in WEEK_WORDS]
    texts += [f"0 9 {each} 2 *" for each in DAY_WORDS if each not in {"31W", "L-30"}]
    crons = [Cron(text) for text in texts]
    crons += [Cron("0 9 L * MON#1", day_rule="or"), Cron("0 9 13 * FRI")]
    crons += [Cron(f"0 9 {each} * MON-WED", day_rule="and") for each in DAY_WORDS]
    schedules = [schedule(f"x{number}", expression=cron) for number, cron in enumerate(crons)]
    compilation = compiled(*schedules)
    assert {each.cover.fit for each in compilation.placed} == {"exact"}
    specs = {
        each["scheduleId"]: each["schedule"]["spec"] for each in documents(compilation.artifacts)
    }
    end = datetime(2067, 1, 1, tzinfo=UTC)
    fired = asyncio.run(ask(specs, NEW_YEAR, end))
    assert fired == {each.id: list(each.between(NEW_YEAR, end)) for each in schedules}


def test_excluded_days_are_native_where_the_calendars_are_in_their_zone() -> None:
    days = {"exclude": (date(2027, 7, 4), DateRange(date(2027, 12, 20), date(2028, 1, 6)))}
    zone = {"timezone": "America/New_York"}
    schedules = [
        schedule("daily", expression=Cron("0 20 * * *"), **zone, **days),
        schedule("every", expression=Every(HOUR), **zone, **days),
        schedule("moved", expression=Cron("30 1 * * *"), **zone, **days),
    ]
    documented = documents(compiled(*schedules).artifacts)
    specs = {each["scheduleId"]: each["schedule"]["spec"] for each in documented}
    assert "excludeStructuredCalendar" not in specs.pop("S.v1.moved")
    fired = asyncio.run(ask(specs, START, END))
    assert fired == {each.id: list(each.between(START, END)) for each in schedules[:2]}


def test_exclusions_that_would_end_the_search_for_a_next_slot_are_left_to_the_ingress() -> None:
    months = {"exclude": (DateRange(date(2027, 1, 10), date(2027, 3, 10)),)}
    assert "excludeStructuredCalendar" in spec(expression=Every(MINUTE), **months)
    found = spec(expression=Every(timedelta(seconds=1)), **months)
    assert "excludeStructuredCalendar" not in found


def test_too_many_excluded_slots_in_a_row_end_the_search_of_the_server() -> None:
    months = {"exclude": (DateRange(date(2027, 1, 10), date(2027, 3, 10)),)}
    native = spec(expression=Every(MINUTE), **months)
    seconds = native | {"interval": [{"interval": "1s"}]}
    start = datetime(2027, 1, 9, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(RPCError, match="too many exclusions"):
        asyncio.run(ask({"seconds": seconds}, start, start + 61 * DAY))


def test_a_bound_within_a_second_is_rounded_inwards() -> None:
    half = timedelta(milliseconds=500)
    found = spec(expression=Every(HOUR), start_at=NEW_YEAR + half, end_at=NEW_YEAR + DAY + half)
    assert (found["startTime"], found["endTime"]) == (
        "2027-01-01T00:00:01Z",
        "2027-01-02T00:00:00Z",
    )


def test_jitter_is_said_and_stays_before_the_next_slot() -> None:
    jittered = spec(expression=Every(MINUTE), jitter=5 * MINUTE)
    assert jittered["jitter"] == "300s"

    async def fired() -> list[datetime]:
        async with temporal_server() as client:
            return await engine.fires(client, jittered, start=NEW_YEAR, end=NEW_YEAR + HOUR)

    moved = asyncio.run(fired())
    slots = [at.replace(second=0, microsecond=0) for at in moved]
    assert sorted(set(slots)) == slots
    assert moved != slots


# Policies.


def test_a_skipped_slot_is_not_sent_after_its_grace_but_at_least_for_ten_seconds() -> None:
    assert policies(misfire_grace=7 * MINUTE)["catchupWindow"] == "420s"
    assert policies(misfire_grace=timedelta(0))["catchupWindow"] == "10s"


@pytest.mark.parametrize(
    ("options", "window"),
    [
        ({"expression": Cron("0 4 * * *")}, DAY),
        ({"expression": Cron("0 4 * * 1-5")}, 3 * DAY),
        ({"expression": Cron("0 4 29 2 *")}, 4 * 365 * DAY),
        ({"expression": Every(90 * MINUTE)}, 90 * MINUTE),
        ({"expression": Cron("30 2 * * SUN"), "timezone": "America/New_York"}, 13 * DAY),
        (
            {
                "expression": Cron("0 4 * * *"),
                "exclude": (DateRange(date(2027, 1, 5), date(2027, 1, 9)),),
            },
            6 * DAY,
        ),
    ],
)
def test_run_once_is_sent_for_as_long_as_no_later_slot_can_have_come(
    options: dict[str, Any], window: timedelta
) -> None:
    found = policies(missed_run_policy="runOnce", **options)
    seconds = timedelta(seconds=int(found["catchupWindow"].removesuffix("s")))
    one = schedule(missed_run_policy="runOnce", **options)
    times = list(one.between(START, datetime(2036, 1, 1, tzinfo=UTC)))
    longest = max(after - before for before, after in pairwise(times))
    assert longest <= seconds <= longest + 5 * HOUR
    assert window <= seconds


def test_what_is_caught_up_is_sent_in_order_and_nothing_else_waits_for_another() -> None:
    caught_up = policies(missed_run_policy="catchUp", catch_up_window=3 * DAY)
    assert caught_up["overlapPolicy"] == "SCHEDULE_OVERLAP_POLICY_BUFFER_ALL"
    assert caught_up["catchupWindow"] == "259200s"
    for policy in ("allow", "forbid", "replace"):
        found = policies(concurrency_policy=policy, missed_run_policy="runOnce")
        assert found["overlapPolicy"] == "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL"


def test_more_missed_slots_than_temporal_remembers_are_a_finding() -> None:
    minutely: dict[str, Any] = {"expression": Cron("* * * * *"), "missed_run_policy": "catchUp"}
    assert codes(**minutely) == ["missed-run-policy-catchup"]
    assert codes(**minutely, catch_up_window=12 * HOUR) == []
    assert codes(expression=Cron("* * * * *"), missed_run_policy="runOnce") == []
    recovering = replace(request(), ingress=IngressSettings(recovery="ingress"))
    assert place(SCHEDULER, [schedule(**minutely)], recovering)[1] == []


def test_a_disabled_schedule_is_paused_and_its_notes_say_whose_it_is() -> None:
    state = document(enabled=False, description="Once a day")["schedule"]["state"]
    assert state["paused"] is True
    assert re.fullmatch(r"purista: S\.v1\.x [0-9a-f]+\nOnce a day", state["notes"])
    assert "paused" not in document()["schedule"]["state"]


def test_a_description_that_no_notes_can_hold_is_a_finding() -> None:
    assert codes(description="x" * 1_000_001) == ["limit-notes"]


def test_an_accepted_finding_stands_in_the_notes() -> None:
    minutely = schedule(expression=Cron("* * * * *"), missed_run_policy="catchUp")
    asked = replace(request(), accepted=frozenset({"missed-run-policy-catchup"}))
    with pytest.raises(PortabilityError):
        compiled(minutely)
    notes = documents(compiled(minutely, asked=asked).artifacts)[0]["schedule"]["state"]["notes"]
    assert "accepted: missed-run-policy-catchup" in notes


def test_the_settings_of_one_schedule_reach_its_request_and_the_worker() -> None:
    hints = {"temporal": {"task_queue": "other", "bearer": "OTHER_TOKEN"}}
    compilation = compiled(schedule("x", provider_hints=hints), schedule("y"))
    action = documents(compilation.artifacts)[0]["schedule"]["action"]["startWorkflow"]
    assert action["taskQueue"] == {"name": "other"}
    source = compilation.artifacts[-1].text
    assert '[("default", "other"), ("default", "purista")]' in source
    assert '{"S.v1.x": "OTHER_TOKEN"}' in source


def test_the_marker_and_the_input_are_the_only_payloads_and_hold_no_secret() -> None:
    found = document(asked=request(bearer="PURISTA_BEARER"), payload="due")
    action = found["schedule"]["action"]["startWorkflow"]
    payloads = [found["memo"]["fields"]["purista"], *action["input"]["payloads"]]
    marker, told = (json.loads(b64decode(each["data"])) for each in payloads)
    assert marker == "S.v1.x"
    assert {*told} == {"schedule", "fingerprint", "period", "phase", "seconds"}


WAITING: dict[str, Any] = {"provider_hints": {"temporal": {"wait": True}}}


def test_a_workflow_that_waits_is_told_how_long_and_has_the_time() -> None:
    plain, waiting = (
        document(run_timeout=2 * HOUR, **options)["schedule"]["action"]["startWorkflow"]
        for options in ({}, WAITING)
    )
    told = json.loads(b64decode(waiting["input"]["payloads"][0]["data"]))
    assert told["wait"] == 7200
    assert plain["workflowExecutionTimeout"] == "660s"
    assert waiting["workflowExecutionTimeout"] == f"{660 + 7200 + 600}s"


def test_a_run_without_an_end_is_waited_for_ten_years() -> None:
    endless = document(run_timeout=timedelta.max, **WAITING)["schedule"]["action"]["startWorkflow"]
    assert endless["workflowExecutionTimeout"] == f"{660 + 3650 * 86400 + 600}s"


def test_a_run_that_is_waited_for_keeps_no_other_slot_waiting() -> None:
    missed: dict[str, Any] = {"missed_run_policy": "catchUp", **WAITING}
    assert codes(**missed) == ["missed-run-policy-catchup"]
    recovering = replace(request(), ingress=IngressSettings(recovery="ingress"))
    found = document(asked=recovering, **missed)["schedule"]["policies"]
    assert found["overlapPolicy"] == "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL"
    assert codes(missed_run_policy="runOnce", **WAITING) == []


@pytest.mark.parametrize("recovery", ["ingress", "scheduler"])
def test_the_example_compiles_to_the_golden_files(recovery: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    try:
        billing = importlib.import_module("billing").billing
    finally:
        sys.path.pop(0)
    ingress = IngressSettings.model_validate({"recovery": recovery})
    asked = replace(request(), ingress=ingress)
    placed, found = place(SCHEDULER, billing.schedules.values(), asked)
    texts = {"findings.txt": "".join(f"{each}\n" for each in found)}
    if recovery == "ingress":
        accepted = frozenset(each.code for each in found)
        compilation = compile_schedules(
            SCHEDULER, billing.schedules.values(), replace(asked, accepted=accepted)
        )
        texts |= {each.path: each.text for each in compilation.artifacts}
    folder = GOLDENS / ("." if recovery == "ingress" else "without-recovery")
    for name, text in texts.items():
        golden = folder / name
        if os.environ.get("UPDATE_GOLDENS"):
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(text)
        assert golden.read_text() == text, f"{golden} differs; UPDATE_GOLDENS=1 writes it"
    assert len(placed) == 3


# The workflow that carries the trigger, on the real server.


@dataclass
class Receiver:
    """An ingress that notes what it is sent, and answers what it is told; 202 in the end."""

    url: str = ""
    answers: list[str] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
        answer = self.answers.pop(0) if self.answers else "202 Accepted"
        decision = '{"decision": "accepted", "reason": "on time", "runId": "r"}'
        end = f"\r\nContent-Length: {len(decision)}\r\nConnection: close\r\n\r\n{decision}"
        writer.write(f"HTTP/1.1 {answer}{end}".encode())
        await writer.drain()
        writer.close()
        async with self.came:
            self.headers.append(headers)
            self.triggers.append(Trigger.from_headers(headers, body))
            self.came.notify_all()

    async def wait_for(self, count: int) -> list[Trigger]:
        async with asyncio.timeout(60), self.came:
            await self.came.wait_for(lambda: len(self.triggers) >= count)
        return self.triggers


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    server = await asyncio.start_server(found.take, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield found


@contextmanager
def loaded(folder: Path, compilation: Compilation) -> Iterator[ModuleType]:
    """Write the artifacts down, and load the module as a worker does."""
    for each in compilation.artifacts:
        (folder / each.path).parent.mkdir(exist_ok=True)
        (folder / each.path).write_text(each.text)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module("purista_schedules")
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("purista_schedules", None)


@asynccontextmanager
async def working(
    folder: Path, compilation: Compilation
) -> AsyncIterator[tuple[Client, ModuleType]]:
    """Let the module work, on a server of its own."""
    with loaded(folder, compilation) as module:
        async with temporal_server() as client, module.worker(client, "purista"):
            yield client, module


async def test_a_schedule_fires_and_its_trigger_arrives_with_its_slot(tmp_path: Path) -> None:
    one = schedule(expression=Cron("* * * * * *", seconds=True))
    async with receiver() as ingress:
        compilation = compiled(one, asked=request(ingress.url))
        async with working(tmp_path, compilation) as (client, module):
            assert await module.apply(client, tmp_path / "schedules") == ["S.v1.x"]
            first, second = (await ingress.wait_for(2))[:2]
            # A worker that ends while workflows go on being started can wait for ever.
            await client.get_schedule_handle("S.v1.x").delete()
    assert first.nominal_time is not None
    assert second.nominal_time is not None
    assert one.contains(first.nominal_time)
    assert abs(datetime.now(UTC) - first.nominal_time) < MINUTE
    assert second.nominal_time != first.nominal_time
    assert (first.schedule_id, first.source) == ("S.v1.x", "temporal/default")
    assert first.id == f"S.v1.x/{first.nominal_time:%Y-%m-%dT%H:%M:%SZ}"
    assert first.fingerprint == compilation.placed[0].fingerprint
    assert not first.manual


async def test_backfilled_slots_are_sent_with_their_own_times_oldest_first(
    tmp_path: Path,
) -> None:
    one = schedule(expression=Every(6 * HOUR), missed_run_policy="catchUp")
    async with receiver() as ingress:
        compilation = compiled(one, asked=request(ingress.url))
        async with working(tmp_path, compilation) as (client, module):
            await module.apply(client, tmp_path / "schedules")
            start = datetime(2026, 1, 1, tzinfo=UTC)
            missed = ScheduleBackfill(start, start + 2 * DAY)
            await client.get_schedule_handle("S.v1.x").backfill(missed)
            sent = [each.nominal_time for each in await ingress.wait_for(9)]
    assert sent == [start + hours * HOUR for hours in range(0, 49, 6)]


async def test_a_run_that_a_person_starts_is_marked_and_has_no_slot(tmp_path: Path) -> None:
    tomorrow = datetime.now(UTC).replace(microsecond=0) + 12 * HOUR
    one = schedule(expression=Every(DAY, anchor=tomorrow))
    async with receiver() as ingress:
        compilation = compiled(one, asked=request(ingress.url))
        async with working(tmp_path, compilation) as (client, module):
            await module.apply(client, tmp_path / "schedules")
            await client.get_schedule_handle("S.v1.x").trigger()
            (clicked,) = await ingress.wait_for(1)
            action = documents(compilation.artifacts)[0]["schedule"]["action"]
            told = json.loads(b64decode(action["startWorkflow"]["input"]["payloads"][0]["data"]))
            await client.execute_workflow(
                "PuristaTrigger", told, id="by-hand", task_queue="purista"
            )
            started = (await ingress.wait_for(2))[1]
    assert (clicked.manual, clicked.nominal_time) == (True, None)
    assert (started.manual, started.nominal_time) == (True, None)
    assert started.id != clicked.id


async def test_a_busy_ingress_is_asked_again_when_it_says_and_a_refusal_ends_the_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURISTA_BEARER", "sesame")
    async with receiver() as ingress:
        asked = request(ingress.url, bearer="PURISTA_BEARER")
        compilation = compiled(schedule(), asked=asked)
        told = {"schedule": "S.v1.x", "fingerprint": "f", "period": 1, "phase": 0, "seconds": 60}
        async with working(tmp_path, compilation) as (client, _):
            ingress.answers = ["503 Busy\r\nRetry-After: 1", "429 Wait", "202 Accepted"]
            run = {"id": "run", "task_queue": "purista"}
            carried = await client.execute_workflow("PuristaTrigger", told, **run)
            assert (carried["decision"], carried["run_id"]) == ("accepted", "r")
            assert len({each.id for each in await ingress.wait_for(3)}) == 1
            for answer in ("400 Bad", "401 No", "302 Found\r\nLocation: /elsewhere"):
                ingress.answers = [answer]
                with pytest.raises(WorkflowFailureError):
                    await client.execute_workflow("PuristaTrigger", told, **run)
    assert len(ingress.triggers) == 6
    assert {each["Authorization"] for each in ingress.headers} == {"Bearer sesame"}


async def test_applying_again_updates_a_schedule_and_leaves_one_that_is_not_ours_alone(
    tmp_path: Path,
) -> None:
    later = documents(compiled(schedule(description="Changed")).artifacts)[0]
    async with working(tmp_path, compiled(schedule())) as (client, module):
        await module.apply(client, tmp_path / "schedules")
        (tmp_path / "schedules/s.v1.x.json").write_text(json.dumps(later))
        await module.apply(client, tmp_path / "schedules")
        assert "Changed" in (await described(client, "S.v1.x")).schedule.state.notes
        foreign = later | {"scheduleId": "S.v1.y", "memo": {}, "requestId": "theirs"}
        await client.workflow_service.create_schedule(ParseDict(foreign, CreateScheduleRequest()))
        (tmp_path / "schedules/s.v1.y.json").write_text(
            json.dumps(later | {"scheduleId": "S.v1.y"})
        )
        with pytest.raises(RuntimeError, match=r"S\.v1\.y is none of purista's"):
            await module.apply(client, tmp_path / "schedules")


# Outages: the server is started again, and finds that days have passed.


async def described(client: Client, schedule_id: str) -> DescribeScheduleResponse:
    """Describe a schedule, once the server has begun to watch its times."""
    asked = DescribeScheduleRequest(namespace="default", schedule_id=schedule_id)
    async with asyncio.timeout(60):
        return await client.workflow_service.describe_schedule(asked, retry=True)


async def test_after_an_outage_what_the_policy_names_is_sent_and_the_oldest_first(
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    every = Every(6 * HOUR, anchor=now + 3 * HOUR)
    words: dict[str, Any] = {
        "skip": {},
        "runOnce": {},
        "catchUp": {"catch_up_window": 2 * DAY},
    }
    schedules = [
        schedule(word, expression=every, missed_run_policy=word, **options)
        for word, options in words.items()
    ]
    async with receiver() as ingress:
        compilation = compiled(*schedules, asked=request(ingress.url))
        with loaded(tmp_path, compilation) as module:
            async with engine.kept_server(tmp_path) as client:
                for one in await module.apply(client, tmp_path / "schedules"):
                    await described(client, one)
            async with (
                engine.kept_server(tmp_path, ahead=3 * DAY) as client,
                module.worker(client, "purista"),
            ):
                sent = list(await ingress.wait_for(9))
    slots = {
        word: [each.nominal_time for each in sent if word in each.schedule_id] for word in words
    }
    assert slots == {
        "skip": [],
        "runOnce": [now + 69 * HOUR],
        "catchUp": [now + hours * HOUR for hours in range(27, 70, 6)],
    }


async def test_of_more_than_a_thousand_missed_slots_the_latest_are_dropped(
    tmp_path: Path,
) -> None:
    minutely = schedule(expression=Every(MINUTE), missed_run_policy="catchUp")
    accepted = replace(request(), accepted=frozenset({"missed-run-policy-catchup"}))
    wanted = documents(compiled(minutely, asked=accepted).artifacts)[0] | {"requestId": "x"}
    async with engine.kept_server(tmp_path) as client:
        await client.workflow_service.create_schedule(ParseDict(wanted, CreateScheduleRequest()))
        await described(client, "S.v1.x")
    async with engine.kept_server(tmp_path, ahead=DAY) as client:
        async with asyncio.timeout(60):
            while not (found := await described(client, "S.v1.x")).info.buffer_dropped:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.1)
    assert 439 <= found.info.buffer_dropped <= 442


async def test_the_module_is_a_command_that_finds_the_service_as_temporal_s_tools_do(
    tmp_path: Path,
) -> None:
    with loaded(tmp_path, compiled(schedule())):
        async with temporal_server() as client:
            host = client.service_client.config.target_host
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, MODULE, "apply", "schedules"),
                cwd=tmp_path,
                env={"TEMPORAL_ADDRESS": host, "HOME": str(tmp_path)},
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await process.communicate()
            assert (process.returncode, said) == (0, b"S.v1.x\n")
            assert (await described(client, "S.v1.x")).schedule.policies.catchup_window.seconds


def test_what_retry_after_says_is_seconds_or_a_date(tmp_path: Path) -> None:
    with loaded(tmp_path, compiled(schedule())) as module:
        delay_of = module.delay_of
    assert [delay_of(text) for text in (None, "", "soon")] == [None] * 3
    assert delay_of("120") == timedelta(seconds=120)
    assert delay_of("0") == timedelta(milliseconds=1)
    assert delay_of("Wed, 21 Oct 2015 07:28:00 GMT") == timedelta(milliseconds=1)
    assert delay_of("Wed, 21 Oct 2099 07:28:00 GMT") == DAY
