"""Plan, apply and drift against a real development server of Temporal."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pytest
import temporalio.api.schedule.v1
from google.protobuf.json_format import MessageToDict
from temporalio.api.workflowservice.v1 import ListSchedulesResponse
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleHandle,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode
from tests.engines.proxy import Proxy, Trap, proxy
from tests.engines.temporal import BINARY, NAMESPACE, temporal_server
from tests.live_suite import PAUSED, TOLD, PausingShop, PausingSuite, with_options
from tests.planned import DAILY, HOURLY, MOVED, Capture, cut_at_every_call, in_folder

from purista.cli.app import run
from purista.compiling import MARKER
from purista.expression import Cron
from purista.plan import Desired
from purista.sync import SyncError, apply_plan
from purista.sync.temporal import TemporalSchedules
from purista.sync.temporal_calls import Calls
from purista.sync.temporal_fields import read

T = TypeVar("T")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with asyncio.Runner() as runner:
        server = temporal_server()
        client = runner.run(server.__aenter__())
        yield client.service_client.config.target_host
        runner.run(server.__aexit__(None, None, None))


class Shop(PausingShop):
    """A shop in a deployment of its own."""

    def __init__(self, folder: Path, capsys: Capture, deployment: str, address: str) -> None:
        super().__init__("temporal", folder, capsys, deployment)
        self.address = address

    def name(self, schedule: str) -> str:
        return f"{self.deployment}.Shop.v1.{schedule}"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, f"{self.deployment}x", self.address)

    def by_hand(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Do what a person does with Temporal's own tools."""

        async def done() -> T:
            return await work(await Client.connect(self.address, namespace=NAMESPACE))

        return asyncio.run(done())

    def with_handle(self, schedule: str, work: Callable[[ScheduleHandle], Awaitable[Any]]) -> None:
        async def done(client: Client) -> None:
            await work(client.get_schedule_handle(self.name(schedule)))

        self.by_hand(done)

    def held(self) -> dict[str, Any]:
        return self.by_hand(self._held)

    async def _held(self, client: Client) -> dict[str, Any]:
        listed = [each.id async for each in await client.list_schedules()]
        names = {each for each in listed if each.startswith(self.deployment)}
        found: dict[str, Any] = {}
        for name in sorted(names | {*map(self.name, ("daily", "hourly", "nightly"))}):
            with contextlib.suppress(RPCError):  # the list is behind what was just changed
                said = await client.get_schedule_handle(name).describe()
                found[name] = _but_for_the_write(said.raw_description.schedule)
        return found

    def take(self, schedule: str) -> None:
        async def create(client: Client) -> None:
            action = ScheduleActionStartWorkflow("Other", id="other", task_queue="nobody")
            theirs = Schedule(action=action, spec=ScheduleSpec(), state=ScheduleState(paused=True))
            await client.create_schedule(self.name(schedule), theirs)

        self.by_hand(create)

    def move(self, schedule: str) -> str:
        def moved(found: ScheduleUpdateInput) -> ScheduleUpdate:
            there = found.description.schedule
            at_seven = [ScheduleCalendarSpec(hour=[ScheduleRange(7)])]
            return ScheduleUpdate(replace(there, spec=replace(there.spec, calendars=at_seven)))

        self.with_handle(schedule, lambda handle: handle.update(moved))
        return "spec.structuredCalendar"

    def delete(self, schedule: str) -> None:
        self.with_handle(schedule, lambda handle: handle.delete())

    def pause(self, schedule: str) -> None:
        self.with_handle(schedule, lambda handle: handle.pause(note="incident"))

    def resume(self, schedule: str) -> None:
        self.with_handle(schedule, lambda handle: handle.unpause(note="go"))

    def call_via(self, schedule: str, *options: str) -> tuple[int, str, str]:
        """Let a schedule fire now."""
        named = ["--via", "temporal", "--deployment", self.deployment, "-s", schedule]
        return self.run("trigger", "shop:shop", *named, *options)

    def call_import(self, *options: str) -> tuple[int, str, str]:
        """Import what is none of ours."""
        return self.run("import", "temporal", *options)


def _but_for_the_write(schedule: temporalio.api.schedule.v1.Schedule) -> dict[str, Any]:
    memo = schedule.action.start_workflow.memo.fields
    told = read(memo.pop(MARKER, None)) or {}
    return {**MessageToDict(schedule), **{name: told.get(name) for name in ("version", "applied")}}


@pytest.fixture
def shop(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, address: str
) -> Iterator[Shop]:
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    with in_folder(tmp_path, monkeypatch):
        yield Shop(tmp_path, capsys, f"d{uuid4().hex[:8]}", address)


class TestTemporal(PausingSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"action.input", "spec.structuredCalendar"},
        with_options('timezone="Europe/Berlin"'): {"action.input", "spec.structuredCalendar"},
        with_options("jitter=timedelta(seconds=30)"): {"action.input", "spec.jitter"},
        with_options("enabled=False"): {"action.input", "paused"},
        with_options('concurrency_policy="forbid"'): {"action.input"},
        with_options("run_timeout=timedelta(hours=3)"): {"action.input"},
        TOLD: {"notes"},
    }


def test_a_plan_says_where_inside_of_a_field_something_changes(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    before = shop.plan()
    assert before["changes"] == []
    shop.write(MOVED)
    _, out, _ = shop.call("plan", "--markdown", "plan.md")
    place = "spec.structuredCalendar[0].hour[0]"
    lines = {line.strip() for line in out.splitlines()}
    assert {f"{place}.start: 2 -> 3", f"{place}.end: 2 -> 3"} <= lines
    assert re.search(
        r'^    action\.input\[0\]\.fingerprint: "\w{16}" -> "\w{16}"$', out, re.MULTILINE
    )
    assert f"`{place}.start: 2 -> 3`" in Path("plan.md").read_text()
    shop.write(DAILY)
    shop.move("daily")
    _, out, _ = shop.call("plan")
    back = "--override Shop.v1.daily:spec.structuredCalendar takes it back"
    assert f"{place}.start: 7 is kept: changed by hand; {back}" in out


def test_what_is_no_kept_plan_is_refused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.call("plan", "--out", "plan.json")
    code, _, err = shop.run("apply", "plan.json", "shop:shop")
    assert (code, "a plan has its services" in err) == (2, True)
    Path("other.json").write_text('{"state": ""}')
    code, _, err = shop.run("apply", "other.json")
    assert (code, "'other.json' is no plan" in err) == (2, True)
    code, _, err = shop.run("apply", "temporal")
    assert (code, "no service is named" in err) == (2, True)


def before_it_is_applied(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]]
) -> None:
    """Do something once something is planned."""

    async def applied(*arguments: Any, **options: Any) -> Any:
        await act()
        return await apply_plan(*arguments, **options)

    monkeypatch.setattr("purista.cli.planning.apply_plan", applied)


@pytest.mark.parametrize("wanted", [MOVED, HOURLY], ids=["update", "delete"])
def test_what_a_person_does_between_plan_and_change_is_not_written_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """The server takes the update, and drops it without a word."""
    shop.write(DAILY)
    shop.apply()
    held = shop.held()

    async def pause_and_go_on() -> None:
        client = await Client.connect(shop.address, namespace=NAMESPACE)
        handle = client.get_schedule_handle(shop.name("daily"))
        await handle.pause(note="x")
        await handle.unpause(note=held[shop.name("daily")]["state"]["notes"])

    before_it_is_applied(monkeypatch, pause_and_go_on)
    shop.write(wanted)
    code, _, err = shop.call("apply", "--force")
    assert code == 75
    told = f"'{shop.name('daily')}' was changed or deleted meanwhile; plan again"
    assert told in " ".join(err.split())
    assert shop.held()[shop.name("daily")] == held[shop.name("daily")]


def test_of_several_who_update_at_once_all_but_one_are_told(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()

    async def told(client: Client) -> tuple[list[str], str]:
        live = TemporalSchedules(client, NAMESPACE)
        (there,) = await live.named([shop.name("daily")])
        assert there.owner is not None
        wanted = Desired(there.name, there.owner, there.fields)
        made = await asyncio.gather(
            *(live.update(there, wanted, {**there.fields, "notes": str(n)}) for n in range(4)),
            return_exceptions=True,
        )
        assert all(each is None or "meanwhile" in str(each) for each in made)
        (now,) = await live.named([shop.name("daily")])
        return [str(n) for n, each in enumerate(made) if each is None], now.fields["notes"]

    made, notes = shop.by_hand(told)
    assert made == [notes]


def test_two_who_pause_and_resume_at_once_are_told_what_is(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()

    async def both(client: Client) -> None:
        live = TemporalSchedules(client, NAMESPACE)
        for _ in range(5):
            await asyncio.gather(
                live.trigger(shop.name("daily")), live.pause(shop.name("daily"), reason="x")
            )
            (now,) = await live.named([shop.name("daily")])
            assert now.fields["paused"] is True
            await live.resume(shop.name("daily"), reason="y")

    shop.by_hand(both)


def test_what_temporal_s_command_line_wrote_anew_is_kept_until_it_is_taken_back(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    name = shop.name("daily")
    options = ["--type", "PuristaTrigger", "--task-queue", "purista", "--workflow-id", name]
    command = [BINARY, "schedule", "update", "--address", shop.address, "--schedule-id", name]
    subprocess.run([*command, *options, "--cron", "0 5 * * *"], check=True, capture_output=True)
    (change,) = shop.plan()["changes"]
    by_hand = {one["name"]: one["before"] for one in change["kept"]}
    assert by_hand["spec.structuredCalendar"][0]["hour"] == [{"start": 5, "end": 5, "step": 1}]
    assert {"action.input", "notes", "policies.catchupWindow"} <= by_hand.keys()
    shop.apply()
    assert shop.kept().keys() == by_hand.keys()
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()


@pytest.mark.parametrize("text", [DAILY, HOURLY, with_options("jitter=timedelta(seconds=30)")])
def test_what_an_sdk_writes_back_unchanged_is_no_difference(shop: Shop, text: str) -> None:
    shop.write(text)
    shop.apply()
    name = "hourly" if text == HOURLY else "daily"
    unchanged = lambda found: ScheduleUpdate(found.description.schedule)  # noqa: E731
    shop.with_handle(name, lambda handle: handle.update(unchanged))
    assert (shop.kept(), shop.is_done()) == ({}, True)


def test_many_changes_at_once_are_refused_unless_forced(shop: Shop) -> None:
    every = [HOURLY.replace("hourly", f"hourly{number}") for number in range(10)]
    shop.write(*every)
    shop.apply()
    changed = [one.replace("hours=1", "hours=2") for one in every[:4]]
    shop.write(*changed, *every[4:])
    code, out, err = shop.call("apply")
    assert (code, out.count("~ update")) == (1, 4)
    assert "4 of 10 objects (40%) are updated or deleted; give --force" in err
    shop.apply("--force")
    assert shop.plan()["unchanged"] == 10


ENVIRONMENTS = {
    "away": (
        {"TEMPORAL_ADDRESS": "127.0.0.1:1"},
        "at 127.0.0.1:1 does not answer: Connection refused; set",
    ),
    "no address": ({"TEMPORAL_ADDRESS": "not a url"}, "set TEMPORAL_ADDRESS to HOST:PORT"),
    "no TLS": ({"TEMPORAL_TLS": "true"}, "does not speak TLS, which TEMPORAL_TLS"),
    "key": ({"TEMPORAL_API_KEY": "top-secret"}, "and an API key ask for; set TEMPORAL_ADDRESS"),
    "profile": ({"TEMPORAL_PROFILE": "nope"}, "Profile 'nope' not found; mend TEMPORAL_PROFILE"),
    "file": ({"TEMPORAL_CONFIG_FILE": "broken.toml"}, "TOML parse error at line 2"),
    "certificate": ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "/nope"}, "/nope"),
    "no key": ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "broken.toml"}, "client cert and private key"),
    "namespace": ({"TEMPORAL_NAMESPACE": "other"}, "'other'; say the same in both"),
}


@pytest.mark.parametrize(("environment", "told"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_service_that_cannot_be_reached_is_told_with_the_cause(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    Path("broken.toml").write_text('[profile.default]\napi_key = "top-secret" x\n')
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shop.write(DAILY)
    code, out, err = shop.call("plan")
    assert code == 75
    assert told in " ".join(err.split())
    assert "secret" not in out + err


def test_an_apply_that_is_cut_off_at_any_call_is_completed_by_the_next(shop: Shop) -> None:
    shops = (
        Shop(shop.folder, shop.capsys, f"{shop.deployment}-{n}", shop.address) for n in count()
    )
    assert cut_at_every_call(shops, Calls, "made") >= 6


def test_a_plan_shows_which_fire_times_disappear_and_appear(shop: Shop) -> None:
    shop.write(DAILY)
    (created,) = shop.plan()["changes"]
    assert created["fires"]["disappear"] == []
    assert [one[11:] for one in created["fires"]["appear"]] == ["02:00:00Z"] * 3
    assert created["fires"]["more"] is True
    shop.apply()
    shop.write(DAILY.replace("0 2 * * *", "0 2,3 * * *"))
    (changed,) = shop.plan()["changes"]
    assert changed["fires"]["disappear"] == []
    assert [one[11:] for one in changed["fires"]["appear"]] == ["03:00:00Z"] * 3
    code, out, _ = shop.call("plan", "--markdown", "-")
    assert code == 0
    assert "fires, new: 20" in out
    shop.write(DAILY.replace('"daily"', '"daily", "Every night"'))
    (described,) = shop.plan()["changes"]
    assert described["fires"] == {"appear": [], "disappear": [], "more": False}
    shop.write()
    (deleted,) = shop.plan()["changes"]
    assert [one[11:] for one in deleted["fires"]["disappear"]] == ["02:00:00Z"] * 3


def test_a_plan_of_a_paused_schedule_has_no_fire_times(shop: Shop) -> None:
    shop.write(PAUSED)
    assert shop.plan()["changes"][0]["fires"]["appear"] == []


def test_a_person_lets_a_schedule_fire_now(shop: Shop, address: str) -> None:
    shop.write(DAILY)
    code, _, err = shop.call_via("daily")
    assert code == 75
    assert "Shop.v1.daily: not there, or not ours; purista apply makes it" in err
    shop.apply()
    code, _, err = shop.call_via("daily")
    assert code == 0, err
    assert f"temporal fires {shop.name('daily')}" in err

    async def started(client: Client) -> None:
        handle = client.get_schedule_handle(shop.name("daily"))
        async with asyncio.timeout(30):
            while not (await handle.describe()).info.num_actions:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.1)

    shop.by_hand(started)
    code, _, err = shop.call_via("daily", "--url", "http://127.0.0.1:1")
    assert (code, "--url is not for --via" in err) == (2, True)


def test_schedules_of_others_are_imported_as_contracts_that_can_be_loaded(
    shop: Shop, address: str
) -> None:
    shop.write(DAILY)
    shop.apply()

    async def theirs(client: Client) -> None:
        action = ScheduleActionStartWorkflow("Report", id="report", task_queue="nobody")
        spec = ScheduleSpec(cron_expressions=["30 6 * * MON-FRI"], time_zone_name="Europe/Berlin")
        state = ScheduleState(note='the "weekly" report', paused=True)
        name = f"{shop.deployment} reports/weekly"
        await client.create_schedule(name, Schedule(action=action, spec=spec, state=state))

    shop.by_hand(theirs)
    name = f"{shop.deployment}-reports-weekly"
    for _ in range(100):
        code, _, err = shop.call_import("--out", "from_temporal.py", "--service", "Reports")
        assert code == 0, err
        if name in Path("from_temporal.py").read_text():
            break
    found = importlib.import_module("from_temporal").reports.schedules[name]
    assert found.expression == Cron("30 6 * * 1-5")
    assert (found.timezone, found.enabled) == ("Europe/Berlin", False)
    assert found.description == 'the "weekly" report'
    assert "# it starts workflow Report" in Path("from_temporal.py").read_text()
    assert shop.name("daily") not in Path("from_temporal.py").read_text()
    assert run(["check", "from_temporal:reports"]) == 0


@contextmanager
def behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch, address: str, act: Callable[[Proxy], object]
) -> Iterator[Proxy]:
    """Let the way to the server lead through a proxy; ``act`` is done once something is planned."""
    with proxy(int(address.rpartition(":")[2])) as between:
        monkeypatch.setenv("TEMPORAL_ADDRESS", between.through(address))
        monkeypatch.setattr("purista.sync.retrying.FIRST_PAUSE", 0.01)
        monkeypatch.setattr("purista.sync.retrying.LONGEST_PAUSE", 0.1)

        async def acted() -> None:
            act(between)

        before_it_is_applied(monkeypatch, acted)
        yield between


@pytest.mark.parametrize(
    "cut",
    [
        lambda one: one.drop_request(),
        lambda one: one.drop_answer_to(),
    ],
    ids=["request", "answer"],
)
def test_a_connection_that_is_lost_in_the_middle_is_made_again(
    shop: Shop, address: str, monkeypatch: pytest.MonkeyPatch, cut: Callable[[Proxy], Trap]
) -> None:
    shop.write(*[HOURLY.replace("hourly", f"hourly{number}") for number in range(20)])
    traps: list[Trap] = []
    with behind_a_proxy(monkeypatch, address, lambda one: traps.append(cut(one))):
        code, _, err = shop.call("apply")
        assert traps[0].sprung.is_set()
        assert (code, "20 changes made, 0 failed" in err) == (0, True), err
        assert shop.plan()["unchanged"] == 20


def test_what_could_not_be_done_is_told_and_done_by_the_next(
    shop: Shop, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(*[HOURLY.replace("hourly", f"hourly{number}") for number in range(20)])

    def go_away(one: Proxy) -> None:
        one.refuse()
        one.cut()

    with behind_a_proxy(monkeypatch, address, go_away) as between:
        code, _, err = shop.call("apply")
        assert (code, "0 changes made, 20 failed" in err) == (75, True), err
        assert "it does not answer any more: try again later" in " ".join(err.split())
        assert f"create {shop.name('hourly7')}: Temporal, namespace 'default'" in err
        between.accept()
        monkeypatch.setattr("purista.cli.planning.apply_plan", apply_plan)
        shop.apply()
        assert shop.plan()["unchanged"] == 20


def test_a_server_that_hangs_is_given_up_once(
    shop: Shop, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purista.sync.temporal_calls.TIMEOUT", timedelta(seconds=0.5))
    monkeypatch.setattr("purista.sync.temporal_calls.ATTEMPTS", 3)
    shop.write(*[HOURLY.replace("hourly", f"hourly{number}") for number in range(20)])
    with behind_a_proxy(monkeypatch, address, lambda one: one.stall()):
        began = time.monotonic()
        code, _, err = shop.call("apply")
        assert time.monotonic() - began < 10
    assert (code, "0 changes made, 20 failed" in err) == (75, True), err
    assert "does not answer any more" in " ".join(err.split())


def test_a_command_ends_with_its_code_and_all_of_its_output(shop: Shop) -> None:
    """Although it ends without waiting for the SDK's threads."""
    shop.write(*[HOURLY.replace("hourly", f"hourly{number}") for number in range(100)])
    named = ["temporal", "shop:shop", "--deployment", shop.deployment, "--json"]
    for command, code in (("plan", 0), ("drift", 1)):
        line = [sys.executable, "-m", "purista", command, *named]
        done = subprocess.run(line, cwd=shop.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        assert len(json.loads(done.stdout)["changes"]) == 100


class Throttling:
    """A service that refuses each call some times, and then knows no schedule."""

    def __init__(self, status: RPCStatusCode, times: int) -> None:
        self.status = status
        self.left = times
        self.calls = 0

    async def list_schedules(self, request: Any, **options: Any) -> ListSchedulesResponse:
        self.refuse()
        return ListSchedulesResponse()

    async def get_system_info(self, request: Any, **options: Any) -> None:
        """It answers that."""

    def refuse(self) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise RPCError("slow down", self.status, b"")


async def observed(live: TemporalSchedules) -> list[Any]:
    return [each async for each in live.observed("prod", ())]


@pytest.mark.parametrize(
    ("status", "times", "calls", "is_refused"),
    [
        (RPCStatusCode.RESOURCE_EXHAUSTED, 3, 4, False),
        (RPCStatusCode.UNAVAILABLE, 7, 8, False),
        (RPCStatusCode.DEADLINE_EXCEEDED, 99, 8, True),
        (RPCStatusCode.PERMISSION_DENIED, 1, 1, True),
    ],
)
def test_what_is_refused_for_now_is_asked_again_with_pauses(
    monkeypatch: pytest.MonkeyPatch,
    status: RPCStatusCode,
    times: int,
    calls: int,
    is_refused: bool,
) -> None:
    monkeypatch.setattr("purista.sync.retrying.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("purista.sync.retrying.LONGEST_PAUSE", 0.002)
    service = Throttling(status, times)
    client: Any = SimpleNamespace(workflow_service=service)
    live = TemporalSchedules(client, NAMESPACE)
    if is_refused:
        with pytest.raises(SyncError, match="namespace 'default': slow down"):
            asyncio.run(observed(live))
    else:
        assert asyncio.run(observed(live)) == []
    assert service.calls == calls
