"""Plan, apply and drift against a real Airflow: one server, and for each test a deployment of its own."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import pytest
from tests.engines.airflow_api import USER, Server, airflow_with_api
from tests.live_suite import (
    NIGHTLY,
    PAUSED,
    TOLD,
    PausingShop,
    PausingSuite,
    with_options,
)
from tests.planned import DAILY, HOURLY, MOVED, Capture, in_folder

from purista import Cron, Every, Once
from purista.cli.deploying import Asked, Wish, asked_for
from purista.compiling import compile_schedules, request_for
from purista.contract import Event, Schedule
from purista.native.dagparts import parts_of, text_of
from purista.schedulers.airflow import SCHEDULER, dag_file
from purista.sync import Foreign, SyncError, airflow_api
from purista.sync.airflow import AirflowDags
from purista.sync.airflow_api import AirflowApi
from purista.sync.airflow_config import BUNDLES, bundle_name, folder_path
from purista.sync.airflow_folder import DagFileThere, DagFolder
from purista.sync.airflow_times import dag_times, foreign_of
from purista.sync.opening import live_scheduler
from purista.testing.corpus import END, START
from purista.turnover import Horizon

GOLDENS = Path(__file__).parent / "goldens/compile/airflow"
SETTINGS = """
[ingress]
url = "https://triggers.example.com"

[airflow]
start_date = "2027-01-01"
"""
SETTINGS_DATA = {
    "ingress": {"url": "https://triggers.example.com"},
    "airflow": {"start_date": "2027-01-01"},
}
SHIFTED = {"dst_gap": "shift", "dst_overlap": "last"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "theirs.py").write_text(THEIRS)
    with airflow_with_api(folder) as running:
        yield running


class Shop(PausingShop):
    """A shop in a deployment of its own."""

    def __init__(self, folder: Path, capsys: Capture, server: Server, deployment: str) -> None:
        super().__init__("airflow", folder, capsys, deployment)
        self.server = server

    def name(self, schedule: str) -> str:
        return f"{self.deployment}.Shop.v1.{schedule}"

    def file(self, schedule: str) -> Path:
        return self.server.folder / f"{self.name(schedule).lower()}.py"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.server, f"{self.deployment}x")

    def call(self, command: str, *options: str) -> tuple[int, str, str]:
        """Run a command; before a pause Airflow has read all files."""
        if command in ("pause", "resume"):
            for name in self.held():
                self.server.wait_for(name, is_stale=False)
        return super().call(command, *options)

    def held(self) -> dict[str, Any]:
        """Return the files, and whether their DAGs are paused; Airflow keeps records of others."""
        found = {}
        for path in sorted(self.server.folder.glob(f"{self.deployment}*.py")):
            name = path.stem.replace("shop.", "Shop.")
            dag = self.server.dag(name)
            found[name] = (path.read_text(), dag is not None and dag["is_paused"])
        return found

    def take(self, schedule: str) -> None:
        self.file(schedule).write_text("# by hand\n")

    def move(self, schedule: str) -> str:
        self.edit(schedule, '"0 2 * * *"', '"0 7 * * *"')
        return "schedule"

    def delete(self, schedule: str) -> None:
        self.file(schedule).unlink()

    def pause(self, schedule: str) -> None:
        self.server.wait_for(self.name(schedule))
        self.server.pause(self.name(schedule))

    def resume(self, schedule: str) -> None:
        self.server.pause(self.name(schedule), paused=False)

    def edit(self, schedule: str, old: str, new: str) -> None:
        """Change a file as a person does, with an editor."""
        text = self.file(schedule).read_text()
        assert old in text
        self.file(schedule).write_text(text.replace(old, new))

    def fields(self, *options: str) -> dict[str, tuple[Any, Any]]:
        """Return what the only change of a plan changes."""
        (change,) = self.plan(*options)["changes"]
        return {one["name"]: (one["before"], one["after"]) for one in change["fields"]}

    def asked(self) -> Asked:
        """Return what a plan is made of."""
        sys.modules.pop("shop", None)
        found = asked_for(Wish("airflow", ("shop:shop",), self.deployment))
        assert found is not None
        return found

    def live(self, work: Callable[[AirflowDags], Awaitable[Any]]) -> Any:
        """Do something with the live scheduler itself."""

        async def opened() -> Any:
            async with live_scheduler("airflow", self.asked().request) as live:
                assert isinstance(live, AirflowDags)
                return await work(live)

        return asyncio.run(opened())


@pytest.fixture
def shop(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, server: Server
) -> Iterator[Shop]:
    for name in [each for each in os.environ if each.startswith("AIRFLOW")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(server.folder))
    monkeypatch.setenv("AIRFLOW_API_URL", server.url)
    monkeypatch.setenv("AIRFLOW_API_USERNAME", USER)
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", server.password)
    (tmp_path / "purista.toml").write_text(SETTINGS)
    deployment = f"d{uuid4().hex[:8]}"
    with in_folder(tmp_path, monkeypatch):
        yield Shop(tmp_path, capsys, server, deployment)
    for folder in (server.folder, server.team):
        for path in folder.glob(f"{deployment}*"):
            path.unlink()


class TestAirflow(PausingSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"schedule"},
        with_options('timezone="Asia/Tokyo"'): {"schedule"},
        with_options("jitter=timedelta(seconds=30)"): {"code", "imports"},
        PAUSED: {"imports", "schedule"},
        with_options("end_at=datetime(2040, 1, 1, tzinfo=UTC)"): {"end_date", "imports"},
        with_options("misfire_grace=timedelta(hours=1)"): {"retries"},
        with_options('concurrency_policy="forbid"'): {"fingerprint"},
        TOLD: {"description"},
    }

    def test_a_pause_by_contract_is_lifted_by_a_person_until_the_contract_lifts_it(
        self, shop: PausingShop
    ) -> None:
        """Not here: disabled, a DAG has no timetable, which no switch lifts."""
        assert isinstance(shop, Shop)
        shop.write(PAUSED)
        shop.apply()
        dag = shop.server.wait_for(shop.name("daily"), is_stale=False)
        assert (dag["timetable_summary"], dag["is_paused"]) == (None, False)
        shop.pause("daily")
        shop.write(DAILY)
        shop.apply()
        assert shop.kept() == {"paused": True}

    def test_a_pause_that_the_settings_followed_is_lifted_by_them(self, shop: PausingShop) -> None:
        """Not here: settings take the timetable away, and leave the switch to persons."""
        shop.write(DAILY)
        shop.deploy()
        shop.apply()
        shop.pause("daily")
        for settings in ('disabled = ["*.daily"]', ""):
            shop.deploy(settings)
            shop.apply()
            assert shop.kept() == {"paused": True}


def test_what_is_created_airflow_reads(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    dag = shop.server.wait_for(shop.name("daily"), is_paused=False, is_stale=False)
    assert dag["timetable_summary"] == "0 2 * * *"
    assert shop.is_done()
    leftovers = {each.name for each in shop.server.folder.iterdir() if each.name[:1] == "."}
    assert leftovers == {".purista.lock"}


def test_a_file_is_what_compile_writes_with_one_line_more(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    asked = shop.asked()
    (compiled,) = SCHEDULER.artifacts(asked.placed, asked.request)
    line, text = shop.file("daily").read_text().split("\n", 1)
    assert text == compiled.text
    assert line.startswith('# purista: {"name": ')


def test_what_a_person_wrote_is_kept_unless_the_contract_changes_the_same(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("daily", '"retries": 6', '"retries": 3')
    shop.edit("daily", 'tags=["purista"]', 'tags=["purista", "night"]')
    assert shop.kept() == {"retries": 3, "tags": ["purista", "night"]}
    shop.write(MOVED)
    shop.apply()
    assert '"retries": 3' in shop.file("daily").read_text()
    assert shop.kept() == {"retries": 3, "tags": ["purista", "night"]}
    shop.write(MOVED.replace("**options", "misfire_grace=timedelta(hours=1), **options"))
    assert shop.fields() == {"retries": (3, 11)}
    shop.apply()
    assert shop.kept() == {"tags": ["purista", "night"]}
    shop.apply("--override", "Shop.v1.daily")
    assert (shop.kept(), shop.actions()) == ({}, [])


def test_any_edit_of_the_code_is_shown_and_survives(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("daily", "    trigger()\n", "    trigger()  # slowly\n")
    assert set(shop.kept()) == {"code"}
    shop.write(MOVED)
    shop.apply()
    text = shop.file("daily").read_text()
    assert ("trigger()  # slowly" in text, '"0 3 * * *"' in text) == (True, True)
    assert shop.actions() == []


def test_an_edit_that_would_break_with_the_contract_s_change_is_refused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("daily", "import DAG, CronTriggerTimetable", "import DAG, DeltaTriggerTimetable")
    shop.edit(
        "daily",
        'CronTriggerTimetable("0 2 * * *", timezone="UTC")',
        "DeltaTriggerTimetable(timedelta(hours=5))",
    )
    assert shop.kept()["schedule"] == {"python": "DeltaTriggerTimetable(timedelta(hours=5))"}
    before = shop.file("daily").read_bytes()
    shop.write(DAILY.replace("**options", "jitter=timedelta(seconds=30), **options"))
    code, _, err = shop.call("apply")
    assert code == 75
    assert "it does not import DeltaTriggerTimetable; mend the file, or give --override" in err
    assert shop.file("daily").read_bytes() == before
    shop.apply("--override", "Shop.v1.daily")
    assert (shop.kept(), shop.actions()) == ({}, [])


def test_what_was_deleted_by_hand_is_created_again_and_runs(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    shop.server.pause(shop.name("daily"))
    shop.file("daily").unlink()
    assert shop.actions() == [("create", shop.name("daily"))]
    shop.apply()
    assert (shop.kept(), shop.actions()) == ({}, [])
    shop.server.wait_for(shop.name("daily"), is_paused=False, is_stale=False)


def test_a_deleted_schedule_fires_no_more_and_runs_when_it_is_made_again(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    shop.write()
    shop.apply("--force")
    dag = shop.server.dag(shop.name("daily"))
    assert dag is not None
    assert dag["is_paused"]
    shop.server.wait_for(shop.name("daily"), is_stale=True)
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"), is_stale=False, is_paused=False)
    assert shop.is_done()


def test_a_dag_of_another_bundle_is_a_conflict_and_its_errors_are_not_ours(shop: Shop) -> None:
    theirs = shop.server.team / shop.file("daily").name
    theirs.write_text(f"from airflow.sdk import DAG\ndag = DAG({shop.name('daily')!r})\n")
    shop.server.wait_for(shop.name("daily"), bundle_name="team-git")
    shop.write(DAILY)
    code, out, _ = shop.call("plan")
    assert (code, "is taken by something that is not ours" in " ".join(out.split())) == (1, True)
    assert shop.call("apply", "--force")[0] == 1
    assert not shop.file("daily").exists()
    (shop.server.team / shop.file("hourly").name).write_text("import airflow, no_dag\n")
    shop.server.wait_for_error(shop.file("hourly").name)
    shop.write(HOURLY)
    shop.apply()
    assert shop.is_done()


def test_what_airflow_reads_from_another_bundle_is_told_and_not_touched(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    folder = {"path": str(shop.server.folder)}
    monkeypatch.setenv(BUNDLES, json.dumps([{"name": "mine", "kwargs": folder}]))
    long_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(shop.file("daily"), (long_ago, long_ago))
    place = f"'{shop.file('daily').name} of bundle dags-folder'"
    assert shop.kept() == {"problem": f"Airflow reads it from {place}"}
    code, _, err = shop.call("pause", "-s", "daily", "--reason", "x")
    told = f"is left as it is: Airflow reads it from {place}; remove one of the two"
    assert (code, told in " ".join(err.split())) == (75, True)
    with pytest.raises(SyncError, match="is left as it is"):
        shop.live(lambda live: live.trigger(shop.name("daily")))
    shop.write()
    shop.apply("--force")
    dag = shop.server.dag(shop.name("daily"))
    assert dag is not None
    assert not dag["is_paused"]


def test_the_bundle_is_the_one_whose_path_the_dag_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bundle(name: str, kind: str = "LocalDagBundle", **options: str) -> dict[str, Any]:
        return {"name": name, "classpath": f"airflow.{kind}", "kwargs": options}

    for each in [each for each in os.environ if each.startswith("AIRFLOW")]:
        monkeypatch.delenv(each)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert bundle_name(tmp_path) == "dags-folder"
    git = bundle("git", "GitDagBundle", subdir="dags")
    said = json.dumps([git, bundle("own"), bundle("x", path="/x")])
    (tmp_path / "airflow.cfg").write_text(f"[dag_processor]\ndag_bundle_config_list = {said}\n")
    assert bundle_name(tmp_path) == "own"
    monkeypatch.setenv(BUNDLES, json.dumps([git, bundle("y", path=f"{tmp_path}/.")]))
    assert bundle_name(tmp_path) == "y"
    monkeypatch.setenv(BUNDLES, json.dumps([git, bundle("z", path="/z")]))
    with pytest.raises(SyncError, match=f"is the path of no bundle, .* or {BUNDLES} as"):
        bundle_name(tmp_path)
    for nonsense in ("hunter2", "7", "[7]", '[{"name": "x"}]'):
        monkeypatch.setenv(BUNDLES, nonsense)
        with pytest.raises(SyncError, match="is no JSON list of bundles; set") as raised:
            bundle_name(tmp_path)
        assert "hunter2" not in str(raised.value)


def test_a_dag_that_another_file_defines_is_a_conflict(shop: Shop) -> None:
    shop.write(DAILY)
    theirs = shop.server.folder / f"{shop.deployment}-theirs.py"
    theirs.write_text(
        "from airflow.sdk import DAG\n"
        f"dag = DAG({shop.name('daily')!r}, schedule=None, is_paused_upon_creation=True)\n"
    )
    shop.server.wait_for(shop.name("daily"))
    code, out, _ = shop.call("plan")
    assert (code, "is taken by something that is not ours" in " ".join(out.split())) == (1, True)
    assert shop.call("apply", "--force")[0] == 1


def test_a_file_that_lost_its_mark_between_plan_and_apply_is_left_alone(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.write(MOVED)
    asked = shop.asked()

    async def work(live: AirflowDags) -> None:
        (desired,) = live.desired(asked.placed, asked.request, asked.deployment)
        (observed,) = [each async for each in live.observed(asked.deployment, ())]
        text = shop.file("daily").read_text().split("\n", 1)[1]
        shop.file("daily").write_text(text)
        for call in (
            live.update(observed, desired, desired.fields),
            live.delete(observed),
            live.create(desired, desired.fields),
        ):
            with pytest.raises(SyncError, match="meanwhile; plan again"):
                await call
        assert shop.file("daily").read_text() == text

    shop.live(work)


def test_a_file_that_another_apply_writes_while_the_folder_is_read_is_ours(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(DAILY)
    shop.apply()
    text = shop.file("daily").read_text()
    listed = DagFolder.ours

    def ours(folder: DagFolder) -> Iterator[DagFileThere]:
        shop.delete("daily")
        yield from listed(folder)
        shop.file("daily").write_text(text)

    monkeypatch.setattr(DagFolder, "ours", ours)
    assert (shop.kept(), shop.is_done()) == ({}, True)


def test_one_dag_in_two_files_is_an_error_that_names_both(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    copy = shop.server.folder / f"{shop.deployment}-copy.py"
    copy.write_bytes(shop.file("daily").read_bytes())
    code, _, err = shop.call("plan")
    assert code == 75
    assert f"is in two files, '{copy.name}' and '{shop.file('daily').name}'" in err


def test_a_broken_file_shows_what_airflow_says_of_it(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    shop.edit("daily", "import DAG, CronTrigger", "import DAG, NoSuchThing, CronTrigger")
    shop.server.wait_for_error(shop.file("daily").name)
    found = shop.kept()
    assert set(found) == {"imports", "problem"}
    assert found["problem"].startswith("Airflow cannot import it: ImportError: cannot import name")
    assert shop.call("drift")[0] == 1
    shop.apply("--override", "Shop.v1.daily")
    assert (shop.kept(), shop.actions()) == ({}, [])


def test_a_file_that_cannot_be_read_at_all_is_given_back_by_an_override(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("daily", "with DAG(", "with DAG((")
    assert "code" in shop.kept()
    shop.write(MOVED)
    code, _, err = shop.call("apply")
    assert (code, "its parts do not fit into its code" in err) == (75, True)
    shop.apply("--override", "Shop.v1.daily")
    assert (shop.kept(), shop.actions()) == ({}, [])


def test_a_file_that_airflow_never_read_is_told_after_a_while(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    shop.write(HOURLY)
    shop.apply("--force")
    path = shop.file("hourly")
    hidden = path.rename(shop.file("unread"))
    long_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(hidden, (long_ago, long_ago))
    (shop.server.folder / ".airflowignore").write_text("unread\n")
    try:
        assert "Airflow has not read it" in shop.kept()["problem"]
    finally:
        (shop.server.folder / ".airflowignore").unlink()


def test_a_run_is_made_for_what_is_there_and_not_paused(shop: Shop) -> None:
    shop.write(DAILY)
    with pytest.raises(SyncError, match=r"is not in .*; apply it first"):
        shop.live(lambda live: live.pause(shop.name("daily"), reason="x"))
    shop.apply()
    assert shop.call("pause", "-s", "daily", "--reason", "incident 42")[0] == 0
    assert shop.kept() == {"note": "incident 42", "paused": True}
    with pytest.raises(SyncError, match="is paused, and a run would wait; resume it first"):
        shop.live(lambda live: live.trigger(shop.name("daily")))
    assert shop.call("resume", "-s", "daily")[0] == 0
    shop.live(lambda live: live.trigger(shop.name("daily")))
    (run,) = shop.server.manual_runs(shop.name("daily"))
    assert run["logical_date"] is None


def test_what_is_to_begin_paused_is_refused_where_airflow_has_no_record_of_it(shop: Shop) -> None:
    shop.write(DAILY)
    asked = shop.asked()

    async def work(live: AirflowDags) -> None:
        (desired,) = live.desired(asked.placed, asked.request, asked.deployment)
        assert [each async for each in live.observed(asked.deployment, ())] == []
        with pytest.raises(SyncError, match="cannot begin paused"):
            await live.create(desired, {**desired.fields, "paused": True})

    shop.live(work)
    assert not shop.file("daily").exists()


class Killed(BaseException):
    """The process ends here."""


EFFECTS = (
    (AirflowApi, "set_paused"),
    (DagFolder, "_written"),
    (DagFolder, "create"),
    (DagFolder, "replace"),
    (DagFolder, "remove"),
)


def die_after(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let the process end after its so manieth effect; return the effects that it had."""
    had: list[str] = []

    def note(name: str) -> None:
        had.append(name)
        if len(had) == number:
            raise Killed

    def deadly(name: str, call: Any) -> Any:
        async def slow(*given: Any) -> Any:
            found = await call(*given)
            note(name)
            return found

        def fast(*given: Any) -> Any:
            found = call(*given)
            note(name)
            return found

        return slow if inspect.iscoroutinefunction(call) else fast

    for owner, name in EFFECTS:
        patch.setattr(owner, name, deadly(name, getattr(owner, name)))
    return had


def test_an_apply_that_was_killed_anywhere_is_completed_by_the_next(shop: Shop) -> None:
    options = ("--force", "--override", "Shop.v1.daily")
    killed: list[str] = []
    while True:
        shop.write(DAILY, HOURLY)
        shop.apply(*options)
        shop.server.wait_for(shop.name("daily"))
        shop.server.pause(shop.name("daily"))
        shop.write(MOVED, NIGHTLY)
        with pytest.MonkeyPatch.context() as patch:
            had = die_after(patch, len(killed) + 1)
            try:
                shop.call("apply", *options)
                break
            except Killed:
                killed.append(had[-1])
        shop.apply(*(("--force",) if killed[-1] == "replace" else options))
        found = shop.plan()
        assert (found["kept"], found["changes"], found["unchanged"]) == ([], [], 2), killed
        dag = shop.server.dag(shop.name("daily"))
        assert dag is not None
        assert not dag["is_paused"]
    assert set(killed) == {name for _, name in EFFECTS}


class Middle(ThreadingHTTPServer):
    """Stands before Airflow, and answers some calls by itself: with a status, or, for 0, not at all."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.client = httpx.Client(base_url=url, timeout=30)
        self.refusals: list[tuple[str, int]] = []
        self.methods: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Passing(BaseHTTPRequestHandler):
    """Passes a call on, unless it is to be refused."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Middle)
        self.server.methods.append(self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for at, (method, status) in enumerate(self.server.refusals):
            if method == self.command:
                del self.server.refusals[at]
                if status == 0:
                    self._passed(body)
                    self.close_connection = True
                else:
                    self._answer(status, b"{}")
                return
        answer = self._passed(body)
        self._answer(answer.status_code, answer.content)

    do_PATCH = do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _passed(self, body: bytes) -> httpx.Response:
        assert isinstance(self.server, Middle)
        names = ("Authorization", "Content-Type", "Accept")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        return self.server.client.request(self.command, self.path, content=body, headers=headers)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def middle(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Middle]:
    monkeypatch.setattr("purista.sync.retrying.FIRST_PAUSE", 0.001)
    with Middle(shop.server.url) as between:
        thread = threading.Thread(target=between.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("AIRFLOW_API_URL", between.url)
        yield between
        between.shutdown()
        thread.join()
        between.client.close()


def test_what_is_refused_for_now_is_asked_again(shop: Shop, middle: Middle) -> None:
    shop.write(DAILY)
    middle.refusals = [("GET", 429), ("GET", 503), ("POST", 502), ("GET", 500), ("GET", 0)]
    shop.apply()
    assert middle.refusals == []
    assert shop.actions() == []


def test_a_change_that_fails_is_told_and_made_by_the_next(shop: Shop, middle: Middle) -> None:
    shop.write(DAILY, HOURLY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    shop.write(MOVED)
    middle.refusals = [("PATCH", 503)] * airflow_api.ATTEMPTS
    code, out, err = shop.call("apply", "--force")
    assert (code, "1 change made, 1 failed" in err) == (75, True), out
    assert "PATCH /api/v2/dags/" in err
    assert shop.file("hourly").exists()
    assert '"0 3 * * *"' in shop.file("daily").read_text()
    shop.apply("--force")
    assert shop.actions() == []


def test_a_run_whose_answer_is_lost_is_made_once(shop: Shop, middle: Middle) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    token = shop.server.client.headers["Authorization"].removeprefix("Bearer ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CLI_TOKEN", token)
        middle.refusals = [("POST", 0)]
        shop.live(lambda live: live.trigger(shop.name("daily")))
    assert middle.methods.count("POST") >= 2
    assert len(shop.server.manual_runs(shop.name("daily"))) == 1


def test_what_is_missing_to_reach_airflow_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop.write(DAILY)

    def told(**variables: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            for name, text in variables.items():
                patch.setenv(name, text)
            code, out, err = shop.call("plan")
        assert code == 75, out
        assert "hunter2" not in out + err
        return " ".join(err.split())

    away = told(AIRFLOW_API_URL="http://u:hunter2@127.0.0.1:1")
    assert "Airflow at http://127.0.0.1:1 does not answer (ConnectError); AIRFLOW_API_URL" in away
    assert "set AIRFLOW_CLI_TOKEN, or AIRFLOW_API_USERNAME" in told(AIRFLOW_API_PASSWORD="hunter2")
    assert "refuses (403)" in told(AIRFLOW_CLI_TOKEN="hunter2")
    assert "is no address such as" in told(AIRFLOW_API_URL="hunter2")
    assert "there is no DAG folder" in told(AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path / "none"))
    monkeypatch.delenv("AIRFLOW_API_USERNAME")
    assert "refuses (403)" in told()
    monkeypatch.delenv("AIRFLOW_API_URL")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert "nothing says where its API is; set AIRFLOW_API_URL" in told()


def test_a_server_that_is_no_airflow_is_told(shop: Shop, middle: Middle) -> None:
    shop.write(DAILY)

    def told(url: str, **variables: str) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            for name, text in {"AIRFLOW_API_URL": url, **variables}.items():
                patch.setenv(name, text)
            code, out, err = shop.call("plan")
        assert code == 75, out
        return f"at {url} is no Airflow API; see AIRFLOW_API_URL" in " ".join(err.split())

    token = shop.server.client.headers["Authorization"].removeprefix("Bearer ")
    home = f"{shop.server.url}/home"
    assert told(home)
    assert told(home, AIRFLOW_API_USERNAME="")
    assert told(home, AIRFLOW_CLI_TOKEN=token)
    for status in (302, 404):
        middle.refusals = [("GET", status)]
        assert told(middle.url, AIRFLOW_CLI_TOKEN=token), status
    middle.refusals = [("POST", 302)]
    assert told(middle.url)
    middle.refusals = [("POST", 503)] * airflow_api.ATTEMPTS
    assert not told(middle.url)
    middle.refusals = [("POST", 405)]
    assert not told(middle.url)


def test_the_address_and_the_folder_are_where_airflow_s_own_tools_have_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AIRFLOW_API_URL", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW_API_USERNAME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CLI_ENVIRONMENT", "test")
    token = shop.server.client.headers["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("AIRFLOW_CLI_TOKEN", token)
    (tmp_path / "test.json").write_text(json.dumps({"api_url": f"{shop.server.url}/"}))
    (tmp_path / "airflow.cfg").write_text(f"[core]\ndags_folder = {shop.server.folder}\n")
    shop.write(DAILY)
    shop.apply()
    assert shop.file("daily").exists()
    (tmp_path / "airflow.cfg").write_text("[core]\n")
    (tmp_path / "dags").mkdir()
    assert folder_path() == tmp_path / "dags"


THEIRS = """
import pendulum
from datetime import datetime, timedelta
from airflow.sdk import DAG, CronTriggerTimetable, MultipleCronTriggerTimetable

BEGAN = datetime(2026, 1, 1)
BERLIN = pendulum.datetime(2026, 1, 1, tz="Europe/Berlin")
NEW_YORK = CronTriggerTimetable("30 2 * * L5", timezone="America/New_York")
TWICE = MultipleCronTriggerTimetable("0 2 * * *", "0 4 * * 1", timezone="UTC")
LATER = datetime(2090, 1, 1)
for name, schedule, start, end in (
    ("text", "30 4 13 * 5", BEGAN, LATER),
    ("preset", "@daily", LATER, None),
    ("often", "*/10 * * * *", BEGAN, None),
    ("berlin", "0 5 * * *", BERLIN, None),
    ("friday", NEW_YORK, None, None),
    ("twice", TWICE, BEGAN, None),
    ("delta", timedelta(hours=3), BEGAN, None),
    ("never", None, None, None),
    ("once", "@once", BEGAN, None),
):
    globals()[name] = DAG(
        f"their_{name}", schedule=schedule, start_date=start, end_date=end, catchup=name == "often",
        is_paused_upon_creation=True, description=f"Their {name}",
    )
"""


def test_dags_of_others_are_read_as_contracts(shop: Shop) -> None:
    theirs = (shop.server.folder / "theirs.py").read_bytes()
    shop.write(DAILY)
    shop.apply()
    shop.server.wait_for(shop.name("daily"))
    shop.server.wait_for("their_twice")

    async def work(live: AirflowDags) -> list[Foreign]:
        return [each async for each in live.foreign()]

    found = {each.name: each for each in shop.live(work) if each.name.startswith("their_")}
    said = {
        name.removeprefix("their_"): (each.expression and each.expression.text, each.timezone)
        for name, each in found.items()
    }
    assert said == {
        "text": ("30 4 13 * 5", "UTC"),
        "preset": ("0 0 * * *", "UTC"),
        "often": ("*/10 * * * *", "UTC"),
        "berlin": ("0 5 * * *", "Europe/Berlin"),
        "friday": ("30 2 * * 5#L", "America/New_York"),
        "twice": (None, "UTC"),
        "delta": (None, "UTC"),
        "once": (None, "UTC"),
    }
    text = found["their_text"]
    assert text.expression == Cron("30 4 13 * 5", day_rule="or")
    assert (text.enabled, text.description) == (False, "Their text")
    assert (text.start_at, text.end_at) == (None, datetime(2090, 1, 1, tzinfo=UTC))
    assert found["their_preset"].start_at == datetime(2090, 1, 1, tzinfo=UTC)
    assert found["their_friday"].dst_gap == "shift"
    assert found["their_delta"].doubts[0] == "its timetable '3:00:00' is no cron line"
    assert any("catchup=True" in each for each in found["their_often"].doubts)
    assert shop.name("daily") not in {each.name for each in shop.live(work)}
    assert (shop.server.folder / "theirs.py").read_bytes() == theirs


WINTER = datetime(2026, 11, 26, 21, 30, tzinfo=UTC)
LONDON = 'CronTriggerTimetable("x", timezone="Europe/London")'
UTC_TOO = f'{LONDON}, CronTriggerTimetable("y", timezone="UTC")'


@pytest.mark.parametrize(
    ("cron", "due", "source", "zone", "is_sure"),
    [
        ("*/15 8-18 * * *", "2026-11-27T08:00:00Z", LONDON, "Europe/London", False),
        ("* 8-18 * * *", "2026-11-27T08:00:00Z", LONDON, "Europe/London", False),
        ("0 8 * * *", "2026-11-27T08:00:00Z", LONDON, "Europe/London", False),
        ("0 8 * * *", "2026-11-27T08:00:00Z", UTC_TOO, "UTC", None),
        ("0 8 * * *", "2026-11-27T08:00:00Z", "", "UTC", True),
        ("*/10 * * * *", "2026-11-26T21:40:00Z", LONDON, "UTC", True),
        ("0 8 * * *", "2026-06-01T07:00:00Z", LONDON, "Europe/London", True),
        ("0 8 * * *", "2026-06-01T08:00:00Z", LONDON, "UTC", True),
    ],
)
def test_a_zone_that_a_file_names_is_taken_before_the_assumed_utc(
    cron: str, due: str, source: str, zone: str, is_sure: bool | None
) -> None:
    found = foreign_of(details_of(cron, due), source, WINTER)
    assert (found.timezone, found.expression is None) == (zone, is_sure is None)
    said = f"its next run is the same in UTC; its file names {zone}" in found.doubts
    assert said == (is_sure is False)


def test_a_dag_that_ends_before_it_begins_is_left_out() -> None:
    bounds = {"start_date": "2030-01-01T00:00:00Z", "end_date": "2029-01-01T00:00:00Z"}
    found = foreign_of({**details_of("0 8 * * *", None), **bounds}, "", WINTER)
    assert (found.expression, found.start_at, found.end_at) == (None, None, None)
    assert found.doubts[0] == "it never fires: it ends before it begins"


def details_of(cron: str, due: str | None) -> dict[str, Any]:
    """Return what the API tells of a DAG."""
    return {
        "dag_id": "x",
        "timetable_summary": cron,
        "is_paused": False,
        "description": None,
        "start_date": None,
        "end_date": None,
        "catchup": False,
        "next_dagrun_run_after": due,
    }


def schedule(name: str, **options: Any) -> Schedule:
    due = Event("due", str, service_name="S", service_version="1")
    values: dict[str, Any] = {"expression": Cron("0 4 * * *"), "payload": "due", **options}
    return Schedule(name=name, service_name="S", service_version="1", target=due, **values)


EXACT = {
    "utc": {"expression": Cron("15 4 13 * 5", day_rule="or")},
    "berlin": {"expression": Cron("30 2 * * *"), "timezone": "Europe/Berlin", **SHIFTED},
    "weekday": {"expression": Cron("0 22 * * 5#L"), "timezone": "Asia/Tokyo"},
    "seconds": {"expression": Cron("10 0 9 * * 1-5", seconds=True)},
    "once": {"expression": Once(datetime(2027, 5, 6, 7, 8, 9, tzinfo=UTC))},
    "interval": {"expression": Every(timedelta(hours=6))},
    "odd": {"expression": Every(timedelta(minutes=480))},
    "bounded": {
        "start_at": datetime(2027, 3, 1, tzinfo=UTC),
        "end_at": datetime(2027, 9, 1, 4, tzinfo=UTC),
    },
}


@pytest.mark.parametrize("name", EXACT)
def test_a_dag_fires_when_its_contract_is_due(name: str) -> None:
    one = schedule(name, **EXACT[name])
    fields = fields_of(one)
    year = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    times = dag_times(fields, *year)
    assert times is not None
    assert list(times) == list(one.between(*year))
    assert dag_times({**fields, "paused": True}, *year) == ()
    assert dag_times({**fields, "schedule": None}, *year) == ()
    for odd in ({"python": "X()"}, {"cron": ["H 1 * * *"], "timezone": "UTC"}):
        assert dag_times({**fields, "schedule": odd}, *year) is None


def fields_of(one: Schedule) -> dict[str, Any]:
    request = request_for(SCHEDULER, SETTINGS_DATA, Horizon(START, END))
    (placed,) = compile_schedules(SCHEDULER, [one], request).placed
    return parts_of(dag_file(placed, request).text, placed.fingerprint)


@pytest.mark.parametrize("path", sorted(GOLDENS.glob("*/*.py.txt")), ids=lambda path: path.stem)
def test_the_parts_of_a_file_make_the_file_again(path: Path) -> None:
    text = path.read_text()
    fingerprint = re.search(r"purista: \S+ ([0-9a-f]{16})", text)
    assert fingerprint is not None
    parts = parts_of(text, fingerprint[1])
    assert text_of(parts, fingerprint[1]) == text
    assert fingerprint[1] not in json.dumps(parts)
    sources = {name for name, part in parts.items() if isinstance(part, dict) and "python" in part}
    assert sources == (set() if "Request(" in text else {"url"})
