"""Plan, apply and drift against a Cloud Scheduler of the SDK's own types, over gRPC."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from google.cloud.scheduler_v1.types import Job
from tests.engines import cloud_scheduler
from tests.engines.cloud_scheduler_server import Fault, Server, cloud_scheduler_server
from tests.live_suite import PAUSED, TOLD, PausingShop, PausingSuite, with_options
from tests.planned import DAILY, HOURLY, MOVED, Capture, in_folder

from purista import Cron, Every, Once, Schedule, Service
from purista.compiling import Placed, Request, compile_schedules, default_horizon, request_for
from purista.plan import LEAST, Observed, Plan, Planner, brakes
from purista.schedulers.cloud_scheduler import SCHEDULER
from purista.sync import (
    FireTimes,
    Foreign,
    Imports,
    LiveScheduler,
    Pauses,
    Result,
    SyncError,
    Triggers,
    apply_plan,
)
from purista.sync.cloud_scheduler import CloudSchedulerJobs, open_live
from purista.sync.cloud_scheduler_calls import ATTEMPTS, ENDPOINT
from purista.sync.cloud_scheduler_job import Marker, read_description
from purista.sync.opening import live_scheduler

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SETTINGS = """
[ingress]
url = "https://triggers.example.com"
[cloud-scheduler]
project = "shop-123456"
location = "europe-west3"
"""
HTTP = (
    'target = { kind = "http", service_account_email = "s@shop-123456.iam.gserviceaccount.com" }\n'
)
PUBSUB = 'target = { kind = "pubsub", topic = "triggers" }\n'
TARGET = {"uri": "https://u:hunter2@example.com/x?token=hunter3"}
CODE = grpc.StatusCode

HTTP_TARGET = {"kind": "http", "service_account_email": "s@shop-123456.iam.gserviceaccount.com"}
DOCUMENT: dict[str, Any] = {
    "ingress": {"url": "https://triggers.example.com"},
    "cloud-scheduler": {
        "project": "shop-123456",
        "location": "europe-west3",
        "target": HTTP_TARGET,
    },
}


class Shop(PausingShop):
    """A shop whose jobs a server holds."""

    def __init__(
        self, folder: Path, capsys: Capture, server: Server, deployment: str = "default"
    ) -> None:
        super().__init__("cloud-scheduler", folder, capsys, deployment)
        self.server = server
        self.target(HTTP)

    def target(self, text: str) -> None:
        (self.folder / "purista.toml").write_text(SETTINGS + text)

    def name(self, schedule: str) -> str:
        return f"Shop-v1-{schedule}"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.server, "staging")

    def held(self) -> dict[str, Any]:
        return {name.rpartition("/")[2]: job for name, job in holding(self.server).items()}

    def take(self, schedule: str) -> None:
        self.server.make(self.name(schedule), schedule="0 5 * * *", httpTarget=TARGET)

    def move(self, schedule: str) -> str:
        self.server.edit(self.name(schedule), schedule="0 7 * * *")
        return "schedule"

    def delete(self, schedule: str) -> None:
        self.server.client.delete_job(name=self.server.path(self.name(schedule)))

    def pause(self, schedule: str) -> None:
        self.server.client.pause_job(name=self.server.path(self.name(schedule)))

    def resume(self, schedule: str) -> None:
        self.server.client.resume_job(name=self.server.path(self.name(schedule)))

    def changed(self, *options: str) -> dict[str, tuple[Any, Any]]:
        (change,) = self.plan(*options)["changes"]
        return {one["name"]: (one["before"], one["after"]) for one in change["fields"]}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with cloud_scheduler_server() as server:
        yield server


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv(ENDPOINT, running.url)
    monkeypatch.setattr("purista.sync.retrying.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("purista.sync.retrying.LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("purista.sync.cloud_scheduler_calls.QUOTA_SLOWER", 1.0)
    running.jobs.clear()
    running.calls.clear()
    running.runs.clear()
    running.fault = lambda _number, _name: None
    running.page, running.updates_resume = 500, False
    return running


@pytest.fixture
def shop(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, server: Server
) -> Iterator[Shop]:
    with in_folder(tmp_path, monkeypatch):
        yield Shop(tmp_path, capsys, server)


def always(fault: Fault, *names: str) -> Callable[[int, str], Fault | None]:
    return lambda _number, name: fault if not names or name in names else None


# With the command line: what a plan says, and what an apply makes of it.


class TestCloudScheduler(PausingSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"schedule"},
        with_options('timezone="Asia/Tokyo"'): {"timezone"},
        PAUSED: {"paused"},
        with_options('concurrency_policy="forbid"'): {"fingerprint"},
        with_options("misfire_grace=timedelta(hours=3)"): {"deadline", "retry"},
        with_options("run_timeout=timedelta(hours=3)"): {"fingerprint"},
        TOLD: {"description"},
    }


def test_a_job_is_what_its_contract_says(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    job = shop.server.json("Shop-v1-daily")
    assert (job["schedule"], job["timeZone"], job["state"]) == ("0 2 * * *", "Etc/UTC", "ENABLED")
    assert job["httpTarget"]["headers"]["ce-puristafingerprint"] in job["description"]
    assert job["description"].startswith("purista: Shop.v1.daily ")


def test_new_lines_of_a_schedule_that_is_paused_by_hand_are_paused(shop: Shop) -> None:
    one = DAILY.replace('"0 2 * * *")', '"30 2 * * *"), timezone="America/New_York"')
    shop.write(one)
    shop.apply()
    assert shop.call("pause", "-s", "daily", "--reason", "incident 42")[0] == 0
    shop.write(one.replace("**options", 'dst_gap="next", **options'))
    shop.apply("--force")
    jobs = shop.held().values()
    assert len(jobs) > 1
    assert {job["state"] for job in jobs} == {"PAUSED"}
    assert shop.kept() == {"paused": True}
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.is_done()


@pytest.mark.parametrize("state", ["DISABLED", "UPDATE_FAILED"])
def test_a_job_that_google_has_disabled_is_not_said_to_be_resumed(shop: Shop, state: str) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.jobs[shop.server.path("Shop-v1-daily")].state = Job.State[state]
    held = shop.held()
    for call in (("resume",), ("pause", "--reason", "x")):
        code, out, err = shop.call(*call, "-s", "daily")
        told = f"'Shop-v1-daily' is in state {state}, in which no job is paused or resumed; purista apply"
        assert (code, told in " ".join(err.split())) == (75, True), out
    assert shop.held() == held
    shop.apply()
    assert shop.call("resume", "-s", "daily")[0] == 0


def test_a_message_is_published_where_the_settings_say_so(shop: Shop) -> None:
    shop.target(PUBSUB)
    shop.write(DAILY, PAUSED.replace("daily", "off"))
    shop.apply()
    assert shop.actions() == []
    assert shop.server.json("Shop-v1-off")["state"] == "PAUSED"
    shop.target(HTTP)
    assert shop.actions() == [("update", "Shop-v1-daily"), ("update", "Shop-v1-off")]
    shop.apply("--force")
    assert shop.actions() == []
    job = shop.server.json("Shop-v1-daily")
    assert ("httpTarget" in job, "pubsubTarget" in job) == (True, False)


def test_a_schedule_of_several_lines_has_a_job_for_each(shop: Shop) -> None:
    shop.write(DAILY.replace('Cron("0 2 * * *")', 'Cron("0 2 * * *"), timezone="Europe/Berlin"'))
    names = [name for _, name in shop.actions()]
    assert names[0] == "Shop-v1-daily"
    shop.apply()
    assert shop.actions() == []
    shop.write(DAILY)
    shop.apply("--force")
    assert [*shop.server.jobs] == [shop.server.path("Shop-v1-daily")]


def test_what_is_accepted_stands_in_the_description(shop: Shop) -> None:
    shop.write(DAILY.replace("**options", "jitter=timedelta(seconds=30), **options"))
    shop.apply("--accept", "jitter")
    assert shop.server.json("Shop-v1-daily")["description"].endswith(" - accepted=jitter")
    assert shop.actions("--accept", "jitter") == []


def test_a_long_description_is_cut_off_behind_the_marker(shop: Shop) -> None:
    shop.write(DAILY.replace('"daily"', f'"daily", "{"x" * 300} end"'))
    shop.apply()
    assert len(shop.server.json("Shop-v1-daily")["description"]) <= 500
    assert shop.actions() == []
    assert shop.call("pause", "-s", "daily", "--reason", "r" * 600)[0] == 0
    assert len(shop.server.json("Shop-v1-daily")["description"]) <= 500
    assert shop.kept() == {"paused": True}


def test_another_edit_by_hand_is_kept_and_a_contract_that_changes_the_same_wins(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.edit("Shop-v1-daily", schedule="0 7 * * *", timeZone="America/New_York")
    assert shop.kept() == {"schedule": "0 7 * * *", "timezone": "America/New_York"}
    shop.write(MOVED)
    assert shop.changed() == {"schedule": ("0 7 * * *", "0 3 * * *")}
    shop.apply()
    assert shop.kept() == {"timezone": "America/New_York"}


def test_an_edited_description_keeps_whose_the_job_is(shop: Shop) -> None:
    shop.write(DAILY.replace('"daily"', '"daily", "Every night"'))
    shop.apply()
    text = shop.server.json("Shop-v1-daily")["description"]
    shop.server.edit("Shop-v1-daily", description=f"{text}, says Ann")
    assert shop.kept() == {"description": "Every night, says Ann"}
    shop.server.edit("Shop-v1-daily", description=f"Ask Ann! {text}")
    assert shop.kept() == {"description": "Ask Ann! Every night"}


def test_a_secret_header_is_kept_and_not_shown(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    target = shop.server.json("Shop-v1-daily")["httpTarget"]
    headers = {**target["headers"], "Authorization": "hunter2"}
    shop.server.edit("Shop-v1-daily", httpTarget={**target, "headers": headers})
    assert "hunter2" not in json.dumps(shop.plan())
    shop.write(MOVED)
    shop.apply()
    job = shop.server.json("Shop-v1-daily")
    assert job["httpTarget"]["headers"]["Authorization"] == "hunter2"
    assert job["httpTarget"]["headers"]["ce-puristafingerprint"] in job["description"]
    assert list(shop.kept()) == ["target"]


def test_a_taken_name_is_a_conflict_and_what_is_not_ours_stays_as_it_is(shop: Shop) -> None:
    shop.server.make("Shop-v1-daily", schedule="0 5 * * *", httpTarget=TARGET)
    shop.server.make("theirs", schedule="every 5 minutes", httpTarget=TARGET)
    before = {name: Job.serialize(job) for name, job in shop.server.jobs.items()}
    shop.write(DAILY, HOURLY)
    code, out, _ = shop.call("plan")
    assert code == 1
    assert "is taken by something that is not ours" in " ".join(out.split())
    assert shop.call("apply")[0] == 1
    shop.write(HOURLY)
    shop.apply()
    assert {name: Job.serialize(shop.server.jobs[name]) for name in before} == before


def test_a_broken_job_is_shown_and_written_again(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.jobs[shop.server.path("Shop-v1-daily")].state = Job.State.UPDATE_FAILED
    assert shop.changed() == {"state": ("UPDATE_FAILED", None)}
    shop.apply()
    assert shop.actions() == []
    assert shop.server.json("Shop-v1-daily")["state"] == "ENABLED"


def test_an_update_that_lets_a_paused_job_run_is_made_good(shop: Shop) -> None:
    shop.write(PAUSED)
    shop.apply()
    shop.server.updates_resume = True
    shop.write(PAUSED.replace("0 2", "0 3"))
    shop.apply()
    assert shop.server.json("Shop-v1-daily")["state"] == "PAUSED"
    assert shop.actions() == []


def test_a_reason_is_written_so_that_it_can_be_read_again(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    code, _, err = shop.call("pause", "-s", "daily", "--reason", 'incident "42"')
    assert code == 0, err
    job = shop.server.json("Shop-v1-daily")
    assert job["description"].endswith(" paused=\"incident '42'\"")
    shop.write(MOVED)
    shop.apply()
    assert "incident '42'" in shop.server.json("Shop-v1-daily")["description"]


def test_a_service_that_is_away_is_told_by_the_exit_code(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://u:hunter2@127.0.0.1:1/")
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert (code, "hunter2" in err) == (75, False)
    assert f"{ENDPOINT} says where it is" in " ".join(err.split())


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://example.com/", "http:// is for this machine only"),
        ("http://u:hunter2@10.0.0.1/", "http:// is for this machine only"),
        ("cloudscheduler.example.com", "is no address such as"),
        ("ftp://hunter2@example.com", "is no address such as"),
    ],
)
def test_a_wrong_address_is_misuse(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    monkeypatch.setenv(ENDPOINT, address)
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert (code, told in " ".join(err.split()), "hunter2" in err) == (2, True, False)


@pytest.mark.parametrize("text", [None, "hunter2", '{"type": "service_account", "x": "hunter2"}'])
def test_missing_and_broken_credentials_are_told_with_the_way_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = shop.folder / "credentials.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.delenv(ENDPOINT)
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert (code, "hunter2" in err) == (75, False)
    assert "gcloud auth application-default login" in " ".join(err.split())


# With the port itself: interruptions, races, fire times, what is foreign.


def service(*schedules: Callable[[Service], Schedule]) -> Sequence[Schedule]:
    shop = Service("Shop", version="1")
    return [make(shop) for make in schedules]


def due(name: str, expression: Any = Cron("0 2 * * *"), **options: Any) -> Callable[..., Schedule]:  # noqa: B008
    def make(shop: Service) -> Schedule:
        event = shop.event(f"shop.{name}", str, external=True)
        made = {"payload": "x", "missed_run_policy": "skip", **options}
        return shop.schedule(name).emit_event(event, expression=expression, **made)

    return make


def compiled(
    *schedules: Callable[[Service], Schedule], **target: Any
) -> tuple[Sequence[Placed], Request]:
    table = {**DOCUMENT["cloud-scheduler"], **({"target": target} if target else {})}
    document = {**DOCUMENT, "cloud-scheduler": table}
    request = request_for(SCHEDULER, document, default_horizon(NOW), accepted=("limit-number",))
    return compile_schedules(SCHEDULER, service(*schedules), request).placed, request


@asynccontextmanager
async def opened(request: Request) -> AsyncIterator[CloudSchedulerJobs]:
    async with open_live(request) as live:
        yield live


async def planned(live: LiveScheduler, placed: Sequence[Placed], request: Request) -> Plan:
    wanted = live.desired(placed, request, "default")
    planner = Planner("cloud-scheduler", "default", wanted)
    async for each in live.observed("default", {one.name for one in wanted}):
        planner.see(each)
    return planner.plan()


def applied(made: tuple[Sequence[Placed], Request], at_once: int = 1) -> Sequence[Result] | str:
    """Apply what was compiled; a text where it could not even be planned."""
    placed, request = made

    async def work() -> Sequence[Result] | str:
        async with opened(request) as live:
            try:
                plan = await planned(live, placed, request)
            except SyncError as error:
                return str(error)
            return await apply_plan(plan, live, at_once=at_once)

    return asyncio.run(work())


def plan_of(made: tuple[Sequence[Placed], Request]) -> Plan:
    async def work() -> Plan:
        async with opened(made[1]) as live:
            return await planned(live, *made)

    return asyncio.run(work())


def copies(jobs: dict[str, Job]) -> dict[str, Job]:
    return {name: Job(job) for name, job in jobs.items()}


def holding(server: Server) -> dict[str, Any]:
    """Return what the jobs say, but for their times."""
    times = ("userUpdateTime", "scheduleTime")
    found = {name: server.json(name.rpartition("/")[2]) for name in server.jobs}
    return {
        name: {key: value for key, value in job.items() if key not in times}
        for name, job in found.items()
    }


BEFORE = (
    due("keeps"),
    due("moves"),
    due("goes"),
    due("stops"),
    due("starts", enabled=False),
)
AFTER = (
    due("keeps"),
    due("moves", Cron("0 3 * * *")),
    due("stops", Cron("0 4 * * *"), enabled=False),
    due("starts", Cron("0 5 * * *")),
    due("comes"),
    due("comesOff", enabled=False),
)


@pytest.mark.parametrize("after", [False, True])
def test_an_apply_that_is_killed_at_any_call_is_completed_by_the_next(
    server: Server, after: bool
) -> None:
    applied(compiled(*BEFORE))
    snapshot, made = copies(server.jobs), compiled(*AFTER)
    applied(made)
    wanted = holding(server)
    off = server.path("Shop-v1-comesOff")
    for number in range(100):
        server.jobs.clear()
        server.jobs.update(copies(snapshot))
        server.calls.clear()
        killed = Fault(CODE.PERMISSION_DENIED, after=after), Fault(CODE.PERMISSION_DENIED)
        server.fault = lambda at, _name, number=number, killed=killed: (  # type: ignore[misc]
            killed[at > number] if at >= number else None
        )
        applied(made)
        if len(server.calls) <= number:
            break
        if off in server.jobs and server.json("Shop-v1-comesOff")["state"] == "ENABLED":
            assert server.json("Shop-v1-comesOff")["schedule"] != "0 2 * * *"
        server.fault = lambda _number, _name: None
        assert not plan_of(made).kept
        results = applied(made)
        assert [each.error for each in results if isinstance(each, Result)] == [""] * len(results)
        assert holding(server) == wanted
        assert plan_of(made).is_empty
    assert 15 < number < 100


@pytest.mark.parametrize(
    ("code", "after"),
    [(CODE.RESOURCE_EXHAUSTED, False), (CODE.UNAVAILABLE, True), (None, False), (None, True)],
)
def test_a_failure_for_now_at_any_call_is_got_over_within_the_apply(
    server: Server, code: grpc.StatusCode | None, after: bool
) -> None:
    applied(compiled(*BEFORE))
    snapshot, made = copies(server.jobs), compiled(*AFTER)
    applied(made)
    wanted = holding(server)
    for number in range(100):
        server.jobs.clear()
        server.jobs.update(copies(snapshot))
        server.calls.clear()
        server.fault = lambda at, _name, number=number: (  # type: ignore[misc]
            Fault(code, after=after) if at == number else None
        )
        results = applied(made)
        if len(server.calls) <= number:
            break
        assert [each.error for each in results if isinstance(each, Result)] == [""] * 6
        assert holding(server) == wanted
    assert 15 < number < 100


def test_what_is_left_to_be_written_down_is_shown(server: Server) -> None:
    applied(compiled(due("x", enabled=False)))
    made = compiled(due("x"))
    writes = iter([False, True])
    server.fault = lambda _number, name: (
        Fault(CODE.PERMISSION_DENIED) if name == "UpdateJob" and next(writes) else None
    )
    applied(made)
    assert server.json("Shop-v1-x")["state"] == "ENABLED"
    server.fault = lambda _number, _name: None
    (change,) = plan_of(made).changes
    assert [(one.name, one.before) for one in change.fields] == [("fingerprint", "unfinished")]
    applied(made)
    server.client.pause_job(name=server.path("Shop-v1-x"))
    assert [one.kept[0].name for one in plan_of(made).kept] == ["paused"]


def test_what_a_kill_left_of_a_job_that_begins_paused_is_shown_and_mended(server: Server) -> None:
    made = compiled(*(due(f"off{number}", enabled=False) for number in range(LEAST)))
    server.fault = always(Fault(CODE.PERMISSION_DENIED), "PauseJob")
    for result in applied(made):
        assert isinstance(result, Result)
        assert "roles/cloudscheduler.admin" in result.error
    server.fault = lambda _number, _name: None
    plan = plan_of(made)
    for change in plan.changes:
        fields = {one.name: (one.after, one.by_hand) for one in change.fields}
        assert fields == {"paused": (True, False), "schedule": ("0 2 * * *", False)}
    assert (len(plan.changes), list(brakes(plan))) == (LEAST, [])
    applied(made)
    assert plan_of(made).is_empty
    assert server.json("Shop-v1-off0")["state"] == "PAUSED"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (CODE.UNAVAILABLE, "it does not answer: as it was told"),
        (CODE.RESOURCE_EXHAUSTED, "as it was told"),
        (CODE.DEADLINE_EXCEEDED, "as it was told"),
        (CODE.INTERNAL, "as it was told"),
        (CODE.PERMISSION_DENIED, "as it was told; it takes roles/cloudscheduler.admin"),
        (CODE.UNAUTHENTICATED, "there is no valid access token; run gcloud auth"),
        (CODE.INVALID_ARGUMENT, "as it was told"),
    ],
)
def test_what_is_refused_for_now_is_asked_again_and_then_told(
    server: Server, code: grpc.StatusCode, told: str
) -> None:
    server.fault = always(Fault(code))
    found = applied(compiled(due("x")))
    assert isinstance(found, str)
    assert found.startswith(f"Cloud Scheduler, projects/shop-123456/locations/europe-west3: {told}")
    passing = code not in (CODE.PERMISSION_DENIED, CODE.UNAUTHENTICATED, CODE.INVALID_ARGUMENT)
    assert server.calls == ["ListJobs"] * (ATTEMPTS if passing else 1)


def test_failures_in_the_middle_are_reported_and_a_rerun_completes(server: Server) -> None:
    made = compiled(*(due(f"x{number}") for number in range(12)))
    server.fault = lambda number, name: (
        Fault(CODE.RESOURCE_EXHAUSTED) if name == "CreateJob" and number > 6 else None
    )
    results = applied(made, at_once=8)
    failed = [each for each in results if isinstance(each, Result) and each.error]
    assert len(failed) == 12 - len(server.jobs) > 0
    server.fault = lambda _number, _name: None
    applied(made)
    assert plan_of(made).unchanged == 12


def test_jobs_are_listed_in_pages(server: Server) -> None:
    made = compiled(*(due(f"x{number}") for number in range(7)))
    applied(made)
    server.page = 3
    server.calls.clear()
    assert plan_of(made).unchanged == 7
    assert server.calls == ["ListJobs"] * 3


def test_what_was_changed_between_plan_and_apply_is_not_touched(server: Server) -> None:
    applied(compiled(*BEFORE))
    made = compiled(*AFTER)

    async def work() -> Sequence[Result]:
        async with opened(made[1]) as live:
            plan = await planned(live, *made)
            server.edit("Shop-v1-moves", schedule="0 9 * * *")
            server.edit("Shop-v1-goes", description="mine now")
            server.edit("Shop-v1-stops", description="mine now")
            server.client.delete_job(name=server.path("Shop-v1-starts"))
            server.make("Shop-v1-comes", schedule="0 9 * * *", httpTarget=TARGET)
            server.make("Shop-v1-comesOff", schedule="0 9 * * *", httpTarget=TARGET)
            before = holding(server)
            results = await apply_plan(plan, live)
            assert holding(server) == before
            return results

    errors = {each.change.name: each.error for each in asyncio.run(work())}
    changed = "was changed or deleted meanwhile; plan again"
    assert errors == {
        **{f"Shop-v1-{name}": f"'Shop-v1-{name}' {changed}" for name in ("goes", "moves")},
        **{f"Shop-v1-{name}": f"'Shop-v1-{name}' {changed}" for name in ("stops", "starts")},
        "Shop-v1-comes": "'Shop-v1-comes' was made meanwhile; plan again",
        "Shop-v1-comesOff": "'Shop-v1-comesOff' was made meanwhile; plan again",
    }


def test_a_deleted_job_is_deleted_again_without_an_error(server: Server) -> None:
    applied(compiled(due("x")))

    async def work() -> None:
        async with opened(compiled()[1]) as live:
            (found,) = [each async for each in live.observed("default", ())]
            await live.delete(found)
            await live.delete(found)

    asyncio.run(work())
    assert server.jobs == {}


def operated(work: Callable[[CloudSchedulerJobs], Any]) -> None:
    async def all_of_it() -> None:
        async with opened(compiled()[1]) as live:
            await work(live)

    asyncio.run(all_of_it())


def test_a_job_that_is_not_ours_is_not_operated(server: Server) -> None:
    server.make("theirs", schedule="0 9 * * *", httpTarget=TARGET)
    for work in (
        lambda live: live.pause("theirs", reason="x"),
        lambda live: live.resume("theirs", reason="x"),
        lambda live: live.trigger("theirs"),
        lambda live: live.pause("nothing", reason="x"),
    ):
        with pytest.raises(SyncError, match="is not there, or not ours"):
            operated(work)
    assert server.json("theirs")["state"] == "ENABLED"
    assert server.runs == []


def test_operating_twice_and_with_lost_answers_ends_in_the_same_state(server: Server) -> None:
    applied(compiled(due("x")))
    for number in range(4):
        start = len(server.calls)
        server.fault = lambda at, _name, lost=start + number: (  # type: ignore[misc]
            Fault(after=True) if at == lost else None
        )
        operated(lambda live: live.pause("Shop-v1-x", reason="why"))
        job = server.json("Shop-v1-x")
        assert (job["state"], 'paused="why"' in job["description"]) == ("PAUSED", True)
        operated(lambda live: live.resume("Shop-v1-x", reason=""))
        job = server.json("Shop-v1-x")
        assert (job["state"], "paused=" in job["description"]) == ("ENABLED", False)


def test_a_trigger_is_not_repeated_where_its_answer_is_lost(server: Server) -> None:
    applied(compiled(due("x")))
    operated(lambda live: live.trigger("Shop-v1-x"))
    assert server.runs == [server.path("Shop-v1-x")]
    server.fault = always(Fault(after=True), "RunJob")
    with pytest.raises(SyncError, match="it may have run: look before it is run again"):
        operated(lambda live: live.trigger("Shop-v1-x"))
    assert len(server.runs) == 2
    full = iter([True, False])
    server.fault = lambda _at, name: (
        Fault(CODE.RESOURCE_EXHAUSTED) if name == "RunJob" and next(full) else None
    )
    operated(lambda live: live.trigger("Shop-v1-x"))
    assert len(server.runs) == 3


def test_schedules_of_two_projects_are_refused(server: Server) -> None:
    hints = {"cloud-scheduler": {"project": "other-123456"}}
    placed, request = compiled(due("x", provider_hints=hints))
    with pytest.raises(SyncError, match="give it a deployment of its own"):
        operated_desired(placed, request)


def operated_desired(placed: Sequence[Placed], request: Request) -> None:
    async def work() -> None:
        async with opened(request) as live:
            live.desired(placed, request, "default")

    asyncio.run(work())


def test_it_can_do_all_that_the_port_has(server: Server) -> None:
    async def work() -> None:
        async with live_scheduler("cloud-scheduler", compiled()[1]) as live:
            for kind in (Pauses, Triggers, FireTimes, Imports):
                assert isinstance(live, kind)

    asyncio.run(work())


YEAR = NOW + timedelta(days=365)


@pytest.mark.parametrize(
    ("expression", "timezone"),
    [
        (Cron("0 2 * * *"), "UTC"),
        (Cron("*/20 9-17 13 * FRI"), "UTC"),
        (Cron("0 12 * * MON-FRI"), "Europe/Berlin"),
        (Cron("30 23 1,15 * *"), "Asia/Tokyo"),
        (Every(timedelta(hours=6)), "UTC"),
        (Every(timedelta(minutes=15)), "UTC"),
        (Once(datetime(2027, 5, 4, 3, 2, tzinfo=UTC)), "UTC"),
    ],
)
def test_a_job_is_told_to_run_at_the_contracts_times_and_at_the_schedulers(
    server: Server, expression: Any, timezone: str
) -> None:
    made = compiled(due("x", expression, timezone=timezone))
    applied(made)

    async def work() -> list[datetime]:
        async with opened(made[1]) as live:
            (found,) = [each async for each in live.observed("default", ())]
            times = live.fire_times(found.fields, NOW, YEAR)
            assert times is not None
            return list(times)

    found = asyncio.run(work())
    assert found == list(made[0][0].schedule.between(NOW, YEAR))
    assert found == cloud_scheduler.fires(server.json("Shop-v1-x"), start=NOW, end=YEAR)


@pytest.mark.parametrize(
    ("changed", "times"),
    [
        ({"paused": True}, []),
        ({"state": "DISABLED"}, []),
        ({"state": "UPDATE_FAILED"}, None),
        ({"schedule": "every 5 minutes"}, None),
        ({"schedule": "garbage"}, None),
        ({"schedule": "5-2 * * * *"}, None),
        ({"schedule": "30 2 * * *", "timezone": "Europe/Berlin"}, None),
        ({"timezone": "Mars/Base"}, None),
        ({"schedule": "0 2 */2 * 1"}, None),
        ({"schedule": "1 2 3 FEB *"}, [datetime(2027, 2, 3, 2, 1, tzinfo=UTC)]),
        ({"schedule": "3 of february 02:01"}, [datetime(2027, 2, 3, 2, 1, tzinfo=UTC)]),
    ],
)
def test_fire_times_of_what_a_person_wrote(
    server: Server, changed: dict[str, Any], times: list[datetime] | None
) -> None:
    fields = {"schedule": "0 2 * * *", "timezone": "Etc/UTC", "paused": False, **changed}

    async def work() -> None:
        async with opened(compiled()[1]) as live:
            found = live.fire_times(fields, NOW, YEAR)
            assert (None if found is None else list(found)) == times

    asyncio.run(work())


def foreign() -> list[Foreign]:
    async def work() -> list[Foreign]:
        async with opened(compiled()[1]) as live:
            return [each async for each in live.foreign()]

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("schedule", "expression"),
    [
        ("*/10 9-17 * * MON", Cron("*/10 9-17 * * MON")),
        ("0 2 13 * 5", Cron("0 2 13 * FRI", day_rule="or")),
        ("0 2 1-31 * 7", Cron("0 2 1-31 * 0", day_rule="or")),
        ("0 2 */2 * *", Cron("0 2 */2 * *")),
        ("every 5 minutes", Every(timedelta(minutes=5))),
        ("every 12 hours", Every(timedelta(hours=12))),
        ("every 15 minutes synchronized", Cron("*/15 * * * *")),
        ("every 2 hours synchronized", Cron("0 */2 * * *")),
        ("every 50 minutes synchronized", None),
        ("every day 00:30", Cron("30 0 * * *")),
        ("every monday 09:00", Cron("0 9 * * 1")),
        ("every mon,wed of jan,july 09:05", Cron("5 9 * 1,7 1,3")),
        ("1st,third monday of month 09:00", Cron("0 9 * * 1#1,1#3")),
        ("1,15 of march 17:00", Cron("0 17 1,15 3 *")),
        ("every 5 minutes from 10:00 to 14:00", None),
        ("every 0 minutes", None),
    ],
)
def test_a_foreign_job_is_read_as_google_reads_it(
    server: Server, schedule: str, expression: Any
) -> None:
    server.make("theirs", schedule=schedule, description="Their words", httpTarget=TARGET)
    (found,) = foreign()
    assert (found.name, found.description, found.timezone) == ("theirs", "Their words", "UTC")
    assert found.expression == expression
    assert found.enabled
    unread = any("leaves open what" in doubt for doubt in found.doubts)
    counted = any("from the end of the run before" in doubt for doubt in found.doubts)
    assert (unread, counted) == (expression is None, isinstance(expression, Every))
    if isinstance(expression, Cron) and re.match(r"[*\d/-]+ ", schedule):
        fires = cloud_scheduler.fires(server.json("theirs"), start=NOW, end=YEAR)
        assert fires == list(
            due("x", found.expression)(Service("S", version="1")).between(NOW, YEAR)
        )


def test_foreign_jobs_are_told_with_what_a_contract_cannot_say(server: Server) -> None:
    applied(compiled(due("ours")))
    server.make(
        "compiled", schedule="0 2 * * *", description="purista: S.v1.x 0123", httpTarget=TARGET
    )
    server.make("a", schedule="0 2 * * *", timeZone="Europe/Berlin", httpTarget=TARGET)
    topic = {"topicName": "projects/shop-123456/topics/theirs", "data": "eA=="}
    server.make("b", schedule="30 2 * * *", timeZone="Europe/Berlin", pubsubTarget=topic)
    server.make("c", schedule="0 2 * * *", appEngineHttpTarget={"relativeUri": "/cron?k=hunter2"})
    server.client.pause_job(name=server.path("c"))
    found = foreign()
    assert [(each.name, each.timezone, each.enabled) for each in found] == [
        ("a", "Europe/Berlin", True),
        ("b", "Europe/Berlin", True),
        ("c", "UTC", False),
    ]
    clock = "Google's page leaves open what it does at clock changes"
    assert [each.doubts for each in found] == [
        ("it calls POST https://example.com/x", clock),
        ("it publishes to 'projects/shop-123456/topics/theirs'", clock),
        ("it calls POST App Engine /cron",),
    ]


def test_a_marker_comes_back_as_it_was_written() -> None:
    owner = Observed("x", {}).owner
    assert owner is None
    text = "purista: S.v1.x 0123 deployment=prod applied=--------0123abcd - words - more"
    marker, words = read_description(text)
    assert marker is not None
    assert (marker.owner.deployment, marker.applied) == ("prod", {"timezone": "0123abcd"})
    assert words == "words - more"
    again, _ = read_description(Marker(*marker).text(words))
    assert again == marker
