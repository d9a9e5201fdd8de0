"""Plan, apply and drift of timers: a real systemd, as the manager of a user, with its real systemctl."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, ClassVar, TypeVar

import pytest
from tests.engines import systemd
from tests.engines.systemd_user import UserManager, user_manager
from tests.live_suite import PAUSED, TOLD, PausingShop, PausingSuite, with_options
from tests.planned import DAILY, HOURLY, MOVED, Capture, in_folder, make_plan

from purista.compiling import Request, compile_schedules, request_for
from purista.contract import Event, Schedule
from purista.expression import Cron, Every, Expression, Once
from purista.plan import Plan
from purista.schedulers.systemd import SCHEDULER, unit_name, unit_texts
from purista.sync import SyncError, apply_plan
from purista.sync.port import Foreign
from purista.sync.systemd import SystemdUnits, open_live
from purista.sync.systemd_folder import UnitsFolder
from purista.sync.systemd_manager import Manager
from purista.sync.systemd_unit import KINDS, Marker, settings_of, unit_text
from purista.turnover import Horizon

T = TypeVar("T")

START = datetime(2027, 1, 1, tzinfo=UTC)
END = datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC)
HORIZON = Horizon(START, datetime(2036, 12, 31, tzinfo=UTC))
NAME = "purista-shop.v1.daily"
THEIRS = """\
# a comment
[Unit]
Description=Back up

[Timer]
OnCalendar=Mon..Fri 04:30
OnCalendar=*-*-01 12:00 UTC
RandomizedDelaySec=5min
Persistent=yes
"""


WANTED = ("Install", "WantedBy", "timers.target")


class Shop(PausingShop):
    """A shop whose timers are a manager's of its own."""

    def __init__(
        self, folder: Path, capsys: Capture, manager: UserManager, deployment: str = "default"
    ) -> None:
        super().__init__("systemd", folder, capsys, deployment)
        self.manager = manager
        self.fired = folder / "fired"
        self.program = folder / "trigger"
        self.program.write_text(f'#!/bin/sh\nenv >"{self.fired}"\n')
        self.program.chmod(0o755)
        self.settings()

    def settings(self, *more: str) -> None:
        lines = [
            "[systemd]",
            f'program = "{self.program}"',
            *more,
            "[ingress]",
            'url = "https://t.example.com/a%20b"',
        ]
        (self.folder / "purista.toml").write_text("\n".join(lines))

    def name(self, schedule: str) -> str:
        place = "" if self.deployment == "default" else f"{self.deployment}."
        return f"purista-{place}shop.v1.{schedule}"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.manager, "staging")

    def held(self) -> dict[str, Any]:
        names = {each.stem for each in self.manager.units.glob("*.timer")}
        return {name: [self.state(name), self.files(f"{name}.*")] for name in names}

    def take(self, schedule: str) -> None:
        self.put(f"{self.name(schedule)}.timer", THEIRS)

    def move(self, schedule: str) -> str:
        self.edit("02:00:00", "07:00:00", name=self.name(schedule))
        return "timer.OnCalendar"

    def delete(self, schedule: str) -> None:
        self.manager.call("disable", "--now", f"{self.name(schedule)}.timer")
        for kind in KINDS:
            (self.manager.units / f"{self.name(schedule)}.{kind}").unlink()
        self.manager.call("daemon-reload")

    def pause(self, schedule: str) -> None:
        self.manager.call("disable", "--now", f"{self.name(schedule)}.timer")

    def resume(self, schedule: str) -> None:
        self.manager.call("enable", "--now", f"{self.name(schedule)}.timer")

    def state(self, name: str = NAME) -> tuple[str, str]:
        return (
            self.manager.call("is-enabled", f"{name}.timer"),
            self.manager.call("is-active", f"{name}.timer"),
        )

    def text(self, kind: str = "timer", name: str = NAME) -> str:
        return (self.manager.units / f"{name}.{kind}").read_text()

    def put(self, name: str, text: str) -> Path:
        """Write a file below the units."""
        file = self.manager.units / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    def edit(self, before: str, after: str, kind: str = "timer", name: str = NAME) -> None:
        """Do what a person does with ``systemctl edit --full``."""
        text = self.text(kind, name)
        assert before in text
        self.put(f"{name}.{kind}", text.replace(before, after))
        self.manager.call("daemon-reload")

    def variables(self) -> str:
        return self.manager.call("show", "--property=Environment", "--value", f"{NAME}.service")

    def files(self, pattern: str = "*") -> dict[str, str]:
        found = self.manager.units.rglob(pattern)
        return {str(each.relative_to(self.manager.units)): _text(each) for each in sorted(found)}


def _text(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""


@pytest.fixture(scope="module")
def manager() -> Iterator[UserManager]:
    with user_manager() as manager:
        yield manager


@pytest.fixture
def shop(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, manager: UserManager
) -> Iterator[Shop]:
    for name, value in {**manager.environment, "PURISTA_SYSTEMD": "user"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("purista.sync.systemd_times.host_timezone", lambda: "UTC")
    with in_folder(tmp_path, monkeypatch):
        yield Shop(tmp_path, capsys, manager)
    monkeypatch.undo()
    manager.clear()


class TestSystemd(PausingSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"service.Environment.PURISTA_PHASE", "timer.OnCalendar"},
        with_options('timezone="Europe/Berlin"'): {
            "service.Environment.PURISTA_PERIOD",
            "service.Environment.PURISTA_PHASE",
            "timer.OnCalendar",
        },
        PAUSED: {"paused"},
        DAILY.replace('"daily"', r'"daily", " 100 % \"quoted\" \u00fc\\ "'): {
            "service.Unit.Description",
            "timer.Unit.Description",
        },
        with_options('concurrency_policy="forbid"'): {"fingerprint"},
        with_options("jitter=timedelta(seconds=30)"): {
            "service.Environment.PURISTA_JITTER",
            "service.Environment.PURISTA_OFFSET",
            "service.TimeoutStartSec",
        },
        DAILY.replace("**options", '**options | {"missed_run_policy": "runOnce"}'): {
            "service.Environment.PURISTA_TIME",
            "service.Environment.PURISTA_TRY_SECONDS",
            "service.TimeoutStartSec",
            "timer.Persistent",
        },
    }


def test_the_files_are_what_systemd_takes_and_the_timers_run(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    shop.apply()
    assert shop.state() == shop.state("purista-shop.v1.hourly") == ("enabled", "active")
    files = shop.files()
    assert {each.partition("/")[0] for each in files} == {
        *(f"{NAME}.{kind}" for kind in KINDS),
        *(f"purista-shop.v1.hourly.{kind}" for kind in KINDS),
        "timers.target.wants",
    }
    texts = {name: text for name, text in files.items() if "/" not in name and text}
    assert systemd.verify(texts) == []
    shop.write()
    shop.apply("--force")
    assert set(shop.files()) <= {"timers.target.wants"}
    assert "purista" not in shop.manager.call("list-units", "--all", "--plain", "purista*", "-q")


def test_a_changed_time_is_the_next_one_of_the_running_timer(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.write(MOVED)
    shop.apply()
    assert "OnCalendar=*-*-* 03:00:00 UTC" in shop.text()
    told = shop.manager.call("show", "--property=TimersCalendar", f"{NAME}.timer")
    assert "OnCalendar=*-*-* 03:00:00 UTC" in told
    assert " 03:00:00 UTC ;" in told or " 03:00:00 UTC }" in told


STOP = (["stop"], ("enabled", "inactive"), "until the host starts again")
DISABLE = (["disable"], ("disabled", "active"), "once the host starts again")


@pytest.mark.parametrize(("by_hand", "state", "paused"), [STOP, DISABLE])
def test_half_a_pause_by_hand_is_shown_and_kept_as_it_is_until_it_is_taken_back(
    shop: Shop, by_hand: list[str], state: tuple[str, str], paused: str
) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.manager.call(*by_hand, f"{NAME}.timer")
    assert shop.state() == state
    assert shop.kept() == {"paused": paused}
    assert shop.plan()["kept"][0]["fires"] is None
    assert shop.call("drift")[0] == 1
    shop.write(MOVED)
    shop.apply()
    assert (shop.kept(), shop.state()) == ({"paused": paused}, state)
    shop.apply("--override", "Shop.v1.daily:paused")
    assert (shop.state(), shop.is_done()) == (("enabled", "active"), True)


@pytest.mark.parametrize(("by_hand", "state", "paused"), [STOP, DISABLE])
def test_half_a_pause_by_hand_is_made_whole_where_it_is_paused_by_contract(
    shop: Shop, by_hand: list[str], state: tuple[str, str], paused: str
) -> None:
    shop.write(DAILY)
    shop.deploy()
    shop.apply()
    shop.manager.call(*by_hand, f"{NAME}.timer")
    shop.deploy('disabled = ["*.daily"]')
    assert shop.call("drift")[0] == 1
    shop.apply()
    assert (shop.state(), shop.is_done()) == (("disabled", "inactive"), True)


@pytest.mark.parametrize("by_hand", ["start", "enable"])
def test_half_a_resumption_by_hand_is_taken_back(shop: Shop, by_hand: str) -> None:
    shop.write(PAUSED)
    shop.apply()
    shop.manager.call(by_hand, f"{NAME}.timer")
    (change,) = shop.plan()["changes"]
    assert [one["name"] for one in change["fields"]] == ["paused"]
    shop.apply()
    assert (shop.state(), shop.is_done()) == (("disabled", "inactive"), True)


def test_a_timer_that_still_runs_without_its_files_is_stopped_where_it_is_to_be_paused(
    shop: Shop,
) -> None:
    shop.write(DAILY)
    shop.apply()
    for kind in KINDS:
        (shop.manager.units / f"{NAME}.{kind}").unlink()
    shop.write(PAUSED)
    shop.apply()
    assert (shop.state(), shop.is_done()) == (("disabled", "inactive"), True)


def test_a_timer_that_is_masked_while_it_runs_is_paused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    (shop.manager.units / f"{NAME}.timer").unlink()
    shop.manager.call("mask", f"{NAME}.timer")
    shop.manager.call("daemon-reload")
    assert shop.kept()["paused"] is True
    shop.write(MOVED)
    shop.apply()
    assert shop.kept()["paused"] is True


def test_a_masked_timer_is_a_pause_by_hand(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    timer = shop.manager.units / f"{NAME}.timer"
    shop.manager.call("disable", "--now", timer.name)
    timer.unlink()
    shop.manager.call("mask", timer.name)
    assert "paused" in shop.kept()
    shop.write(MOVED)
    shop.apply()
    assert timer.readlink() == Path("/dev/null")
    assert "paused" in shop.kept()
    assert shop.actions() == []
    shop.apply("--override", "Shop.v1.daily:paused")
    assert shop.state() == ("enabled", "active")
    assert shop.is_done()
    shop.manager.call("disable", "--now", timer.name)
    timer.unlink()
    shop.manager.call("mask", timer.name)
    shop.write()
    shop.apply("--force")
    assert list(shop.manager.units.glob("purista*")) == []


def test_what_a_person_changed_is_kept_until_the_contract_changes_the_same(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("02:00:00 UTC", "05:00:00 UTC\nOnCalendar=*-*-* 06:00:00 UTC\nRandomizedDelaySec=5")
    shop.edit("[Service]", "[Service]\nNice=5\nEnvironment=A=1", "service")
    assert shop.kept().keys() == {
        "service.Environment.A",
        "service.Nice",
        "timer.OnCalendar",
        "timer.RandomizedDelaySec",
    }
    shop.write(DAILY.replace('"daily"', '"daily", "Each night"'))
    shop.apply()
    assert shop.text().count("OnCalendar=") == 2
    assert "Nice=5\n" in shop.text("service")
    assert len(shop.kept()) == 4
    shop.write(MOVED)
    changed = {one["name"]: one["byHand"] for one in shop.plan()["changes"][0]["fields"]}
    assert changed["timer.OnCalendar"]
    shop.apply()
    assert shop.text().count("OnCalendar=") == 1
    assert "timer.OnCalendar" not in shop.kept()
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()
    assert "Nice" not in shop.text("service")


def test_files_of_systemctl_edit_are_shown_and_removed_only_by_name(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    drop_in = shop.manager.units / f"{NAME}.timer.d" / "override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Timer]\nOnCalendar=\nOnCalendar=09:00\n")
    shop.manager.call("daemon-reload")
    (kept,) = shop.plan()["kept"][0]["kept"]
    assert kept["before"] == {"timer.d/override.conf": drop_in.read_text()}
    shop.write(MOVED)
    shop.apply()
    assert drop_in.exists()
    shop.apply("--override", "Shop.v1.daily:drop-ins")
    assert not drop_in.parent.exists()
    assert shop.is_done()


ENVIRONMENT = r"""
Environment=HOST=%H "G=a\tb" 'Q=x "y"' X=\x41 "P=100%%" B=\\\\ E=
Environment="T=it's" NOTHING Z="a b"c 'S=\'' "U=%%%%" O=1
Environment=O=2
Environment="L=a \
   b"
Environment="broken=1
"""


def test_the_environment_that_a_person_added_means_the_same_after_another_change(
    shop: Shop,
) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("[Service]\n", f"[Service]{ENVIRONMENT}", "service")
    before = shop.variables()
    assert {'"G=a\\tb"', "P=100%", "X=A", "O=2"} <= set(before.split())
    kept = shop.kept()
    assert kept["service.Environment.HOST"] == {"written": "HOST=%H"}
    assert kept["service.Environment.P"] == "100%"
    for text in (TOLD, DAILY):
        shop.write(text)
        shop.apply()
        assert set(shop.variables().split()) == set(before.split())
        assert shop.kept() == kept
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()


def test_an_environment_that_a_person_emptied_is_shown(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("ExecStart=", "Environment=\nEnvironment=PURISTA_URL=%h/x\nExecStart=", "service")
    kept = shop.kept()
    assert kept["service.Environment.PURISTA_SCHEDULE"] is None
    assert kept["service.Environment.PURISTA_URL"] == {"written": "PURISTA_URL=%h/x"}


MORNING = "[Timer]\nOnCalendar=\nOnCalendar=05:55\n"


@pytest.mark.parametrize("folder", ["purista-.timer.d", "timer.d"])
def test_drop_ins_for_more_than_one_timer_are_shown_and_never_removed(
    shop: Shop, folder: str
) -> None:
    shop.write(DAILY)
    shop.apply()
    drop_in = shop.put(f"{folder}/x.conf", MORNING)
    for _ in range(2):
        assert shop.kept() == {"drop-ins": {str(drop_in): MORNING}}
        assert shop.call("drift")[0] == 1
        shop.manager.call("daemon-reload")
    shop.write(MOVED)
    shop.apply()
    assert shop.kept() == {"drop-ins": {str(drop_in): MORNING}}
    code, _, err = shop.call("apply", "--override", "Shop.v1.daily")
    assert (code, f"not {drop_in}; remove that by hand" in " ".join(err.split())) == (75, True)
    (shop.manager.units / f"{NAME}.service").unlink()
    shop.apply()
    assert shop.kept() == {"drop-ins": {str(drop_in): MORNING}}
    shop.write()
    shop.apply("--force")
    assert drop_in.read_text() == MORNING


def test_drop_ins_of_another_folder_of_systemd_are_shown(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    folder = shop.manager.others / f"{NAME}.timer.d"
    folder.mkdir()
    for name in ("x.conf", "with space.conf"):
        (folder / name).write_text(MORNING)
    shop.manager.call("daemon-reload")
    told = shop.kept()["drop-ins"]
    assert told == {str(folder / name): MORNING for name in ("x.conf", "with space.conf")}


def test_a_drop_in_that_is_no_utf8_is_shown_and_kept(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    drop_in = shop.put(f"{NAME}.timer.d/x.conf", "")
    drop_in.write_bytes(b"[Timer]\n# caf\xe9\n")
    shop.manager.call("daemon-reload")
    assert "drop-ins" in shop.kept()
    assert [shop.call(command)[0] for command in ("plan", "drift")] == [0, 1]
    assert shop.call("plan", "--markdown", "plan.md")[0] == 0
    shop.write(MOVED)
    assert shop.call("plan", "--out", "plan.json")[0] == 0
    code, _, err = shop.run("apply", "plan.json")
    assert (code, drop_in.read_bytes()) == (0, b"[Timer]\n# caf\xe9\n"), err
    shop.apply("--override", "Shop.v1.daily:drop-ins")
    assert shop.is_done()


def test_what_is_no_file_is_left_alone_and_a_name_that_it_has_is_taken(shop: Shop) -> None:
    shop.write(DAILY)
    units = shop.manager.units
    (units / "purista-dir.timer").mkdir()
    shop.apply()
    assert shop.is_done()
    shop.write()
    shop.apply("--force")
    (units / f"{NAME}.timer").symlink_to("nowhere")
    shop.write(DAILY)
    code, out, _ = shop.call("plan")
    assert (code, "is taken by something that is not ours" in " ".join(out.split())) == (1, True)


def test_another_name_of_a_timer_of_ours_is_no_timer_to_delete(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    (shop.manager.units / "purista-other.timer").symlink_to(f"{NAME}.timer")
    shop.manager.call("daemon-reload")
    assert shop.actions() == []


def test_files_that_systemd_has_not_read_are_a_difference(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    sleep(0.01)
    file = shop.manager.units / f"{NAME}.service"
    file.write_text(file.read_text())
    (change,) = shop.plan()["changes"]
    assert [one["name"] for one in change["fields"]] == ["in force"]
    shop.apply()
    assert shop.actions() == []


def test_what_was_deleted_in_part_is_made_again(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    held = shop.held()
    for kind in KINDS:
        (shop.manager.units / f"{NAME}.{kind}").unlink()
        shop.manager.call("daemon-reload")
        assert shop.actions() == [("update", NAME)]
        shop.apply()
        assert (shop.held(), shop.is_done()) == (held, True)


def test_a_service_that_is_not_ours_takes_the_name_as_well(shop: Shop) -> None:
    shop.write(DAILY)
    shop.put("backup.timer", THEIRS)
    taken = shop.put(f"{NAME}.service", THEIRS)
    before = shop.files()
    assert shop.call("apply")[0] == 1
    assert shop.files() == before
    taken.unlink()
    shop.apply()
    shop.write()
    shop.apply("--force")
    assert shop.text(name="backup") == THEIRS


def test_the_reason_of_a_pause_stands_in_the_file_of_the_service(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    code, _, err = shop.call("pause", "-s", "daily", "--reason", "incident\n42")
    assert (code, shop.state()) == (0, ("disabled", "inactive")), err
    assert "\n# paused: incident 42\n" in shop.text("service")
    shop.write(MOVED)
    shop.apply()
    assert "\n# paused: incident 42\n" in shop.text("service")
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert "# paused" not in shop.text("service")


def test_a_service_is_started_at_once(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    live(lambda units: units.trigger(NAME))
    wait_for(shop.fired)
    told = shop.fired.read_text().splitlines()
    assert {
        "PURISTA_SCHEDULE=Shop.v1.daily",
        f"PURISTA_SOURCE=systemd/{NAME}",
        "PURISTA_URL=https://t.example.com/a%20b/triggers",
    } <= set(told)
    with pytest.raises(SyncError, match=r"Unit purista-other\.service not found"):
        live(lambda units: units.trigger("purista-other"))


def test_a_timer_fires_by_itself(shop: Shop) -> None:
    often = HOURLY.replace("hours=1", "seconds=1")
    shop.write(often)
    shop.apply()
    wait_for(shop.fired)
    assert f"PURISTA_FINGERPRINT={fingerprint(shop)}" in shop.fired.read_text().splitlines()
    shop.write(often.replace('"hourly"', '"hourly", "Each second"'))
    shop.apply()
    shop.fired.unlink(missing_ok=True)
    wait_for(shop.fired)


def fingerprint(shop: Shop) -> str:
    marker = shop.text("service", "purista-shop.v1.hourly").splitlines()[0]
    return str(json.loads(marker.removeprefix("# purista: "))["fingerprint"])


def wait_for(file: Path) -> None:
    deadline = monotonic() + 60
    while not file.exists() or not file.read_text():
        assert monotonic() < deadline
        sleep(0.02)


def test_a_one_shot_that_is_over_is_held_and_does_not_fire(shop: Shop) -> None:
    shop.write(
        DAILY.replace('Cron("0 2 * * *")', "Once(datetime(2020, 1, 1, tzinfo=UTC))"),
    )
    shop.apply("--accept", "never-due")
    assert shop.state() == ("enabled", "active")
    assert shop.actions("--accept", "never-due") == []
    assert not shop.fired.exists()


def test_the_units_of_the_host_say_what_compiled_ones_do(shop: Shop) -> None:
    units = SystemdUnits(Manager("system"), UnitsFolder(shop.folder))
    placed = compile_schedules(SCHEDULER, NEW, requested()).placed
    texts: dict[str, str] = {}
    for each in units.desired(placed, requested(), "default"):
        marker = Marker(each.owner)
        for kind in ("timer", "service"):
            texts[f"{each.name}.{kind}"] = unit_text(kind, each.fields, marker)
    assert systemd.verify(texts) == []
    for one in placed:
        for kind, compiled in zip(("timer", "service"), unit_texts(one, requested()), strict=True):
            said = set(settings_of(texts[f"{unit_name(one)}.{kind}"]))
            assert said == {*settings_of(compiled), *([WANTED] if kind == "timer" else ())}


def test_who_may_not_or_cannot_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(DAILY)
    shop.settings('user = "alice"')
    code, _, err = shop.call("plan")
    assert (code, "a user's own manager runs all as that user" in " ".join(err.split())) == (
        75,
        True,
    )
    shop.settings()
    monkeypatch.setenv("PURISTA_SYSTEMD", "mine")
    code, _, err = shop.call("plan")
    assert (code, "say system or user" in err) == (2, True)
    monkeypatch.setenv("PURISTA_SYSTEMD", "user")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shop.folder))
    code, _, err = shop.call("plan")
    assert (code, "no manager answers" in " ".join(err.split())) == (75, True)
    monkeypatch.setenv("PATH", str(shop.folder))
    code, _, err = shop.call("plan")
    assert (code, "there is no program systemctl" in err) == (75, True)


# --- over the port ---


def schedule(name: str, expression: Expression, **options: object) -> Schedule:
    due = Event("due", str, service_name="Shop", service_version="1")
    return Schedule(
        name=name,
        service_name="Shop",
        service_version="1",
        target=due,
        expression=expression,
        payload="x",
        **{"missed_run_policy": "skip", **options},  # type: ignore[arg-type]
    )


def requested() -> Request:
    document = {"systemd": {"program": "/bin/true"}, "ingress": {"url": "https://t.example.com"}}
    return request_for(SCHEDULER, document, HORIZON)


def live(work: Callable[[SystemdUnits], Awaitable[T]]) -> T:
    """Do something with a live scheduler."""

    async def done() -> T:
        async with open_live(requested()) as units:
            return await work(units)

    return asyncio.run(done())


async def planned(units: SystemdUnits, schedules: list[Schedule]) -> Plan:
    request = requested()
    placed = compile_schedules(SCHEDULER, schedules, request).placed
    desired = units.desired(placed, request, "default")
    names = {one.name for one in desired}
    observed = [each async for each in units.observed("default", names)]
    return make_plan("systemd", "default", desired, observed)


def applied(schedules: list[Schedule]) -> list[str]:
    """Apply; return what went wrong."""

    async def work(units: SystemdUnits) -> list[str]:
        results = await apply_plan(await planned(units, schedules), units)
        return [each.error for each in results if each.error]

    return live(work)


def is_done(schedules: list[Schedule]) -> bool:
    found = live(lambda units: planned(units, schedules))
    return found.is_empty and not found.kept


OLD = [
    schedule("a", Cron("0 2 * * *")),
    schedule("b", Cron("0 3 * * *")),
    schedule("off", Cron("0 5 * * *"), enabled=False),
]
NEW = [
    schedule("b", Cron("5 3 * * *"), description="b"),
    schedule("c", Cron("0 4 * * *")),
    schedule("off", Cron("0 5 * * *")),
]


class Broken:
    """A ``systemctl`` that does not answer from a call on, before or after it did what was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = shutil.which("systemctl")
        self._folder = folder / "bin"
        self._folder.mkdir()
        self._calls = folder / "calls"
        monkeypatch.setenv("PATH", f"{self._folder}:{os.environ['PATH']}")
        self.mend()

    def mend(self) -> None:
        self._write(f'exec {self._real} "$@"')

    def after(self, number: int, moment: str, told: str = "Broken pipe", times: int = 999) -> None:
        self._calls.write_text("")
        done = {"before": "", "after": f'{self._real} "$@" >/dev/null 2>&1; '}[moment]
        self._write(
            f"echo x >>{self._calls}; n=$(wc -l <{self._calls})\n"
            f'if [ "$n" -ge {number} ] && [ "$n" -lt {number + times} ]; then\n'
            f"  {done}echo 'Failed: {told}' >&2; exit 1; fi\n"
            f'exec {self._real} "$@"'
        )

    def _write(self, text: str) -> None:
        file = self._folder / "systemctl.new"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        file.rename(self._folder / "systemctl")


@pytest.mark.parametrize(("moment", "step"), [("before", 5), ("after", 1)])
def test_an_apply_cut_off_at_any_call_ends_as_wanted_when_it_is_run_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str, step: int
) -> None:
    """A call that was done and not answered is, to what is there, the same as the next one not done."""
    broken = Broken(shop.folder, monkeypatch)
    failures = 0
    for stop in range(1, 100, step):
        assert applied(OLD) == []
        broken.after(stop, moment)
        try:
            failed = bool(applied(NEW))
        except SyncError:
            failed = True
        broken.mend()
        failures += failed
        assert applied(NEW) == []
        assert is_done(NEW)
        for name in ("b", "c", "off"):
            assert shop.state(f"purista-shop.v1.{name}") == ("enabled", "active")
        assert not (shop.manager.units / "purista-shop.v1.a.timer").exists()
        if not failed:
            break
    assert failures >= 10 // step


def test_a_process_killed_between_two_files_is_no_harm(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written: the run is cut off before each file, then run again."""
    whole, real = 0, Path.replace

    def cut(number: int) -> None:
        left = iter(range(number))

        def replace(self: Path, target: Path) -> Path:
            if next(left, None) is None:
                raise SyncError("killed")
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)

    for number in range(20):
        assert applied(OLD) == []
        cut(number)
        failed = applied(NEW)
        monkeypatch.setattr(Path, "replace", real)
        assert applied(NEW) == []
        assert is_done(NEW)
        whole = number
        if not failed:
            break
    assert whole == 7  # two files and a marker for each of two updates, a marker for what is new


def test_a_kept_pause_stays_whatever_is_cut_off(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(shop.folder, monkeypatch)
    for stop in range(3, 9):
        assert applied(OLD) == []
        shop.manager.call("disable", "--now", "purista-shop.v1.b.timer")
        broken.after(stop, "before")
        applied(NEW)
        broken.mend()
        assert applied(NEW) == []
        assert shop.state("purista-shop.v1.b") == ("disabled", "inactive")
        shop.manager.call("enable", "--now", "purista-shop.v1.b.timer")


def test_what_a_manager_refuses_for_now_is_tried_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(shop.folder, monkeypatch)
    broken.after(2, "before", told="Connection timed out", times=3)
    assert applied(OLD) == []
    broken.mend()
    assert is_done(OLD)


def test_applies_at_once_end_as_wanted(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    code = "import sys; from purista.cli.app import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "apply", "systemd", "shop:shop", "--yes"]
    processes = [
        subprocess.Popen(
            [*command, "--deployment", deployment], cwd=shop.folder, stderr=subprocess.DEVNULL
        )
        for deployment in ("default", "default", "staging")
    ]
    assert {process.wait(60) for process in processes} <= {0, 75}
    for deployment in ("default", "staging"):
        shop.apply("--deployment", deployment)
        assert shop.actions("--deployment", deployment) == []
    assert shop.state() == ("enabled", "active")


def test_what_changed_after_the_plan_is_left_alone(shop: Shop) -> None:
    async def work(units: SystemdUnits) -> list[str]:
        found = await planned(units, NEW)
        shop.manager.call("disable", "--now", "purista-shop.v1.b.timer")
        timer = shop.manager.units / "purista-shop.v1.a.timer"
        timer.write_text(THEIRS)
        (shop.manager.units / "purista-shop.v1.c.service").write_text(THEIRS)
        results = await apply_plan(found, units)
        return [each.error for each in results]

    assert applied(OLD) == []
    told = live(work)
    meanwhile = "was changed or deleted meanwhile; plan again"
    assert [meanwhile in each for each in told[:2]] == [True, True]
    assert "'purista-shop.v1.c.service' is there meanwhile" in told[-1]
    assert shop.state("purista-shop.v1.b") == ("disabled", "inactive")
    assert shop.text("timer", "purista-shop.v1.a") == THEIRS
    assert shop.text("service", "purista-shop.v1.c") == THEIRS


EXACT = (
    schedule("utc", Cron("*/20 8-17 1,15 * MON", day_rule="or")),
    schedule("weekdays", Cron("30 2 * * MON-FRI")),
    schedule("last", Cron("0 9 L * *")),
    schedule("fridays", Cron("0 9 * 3,11 FRI#L")),
    schedule("every", Every(timedelta(minutes=30))),
    schedule("berlin", Cron("30 2 * * *"), timezone="Europe/Berlin", dst_gap="skip"),
    schedule("hours", Cron("15 6-20 * * *"), timezone="Europe/Berlin"),
    schedule("once", Once(datetime(2027, 5, 4, 3, 2, tzinfo=UTC))),
)


def test_fire_times_are_the_contracts(shop: Shop) -> None:
    async def work(units: SystemdUnits) -> dict[str, list[datetime]]:
        found: dict[str, list[datetime]] = {}
        async for each in units.observed("default", ()):
            assert each.owner is not None
            times = units.fire_times(each.fields, START, END)
            assert times is not None
            found[each.owner.schedule_id] = list(times)
        return found

    assert applied(list(EXACT)) == []
    told = live(work)
    for each in EXACT:
        assert told[each.id] == list(each.between(START, END)), each.id


LINES = (
    "daily",
    "Mon..Fri *-*-* 08:00",
    "*:0/15",
    "Sat,Sun 2027-*-* 12:00",
    "*-*-* *:00:00 Europe/Berlin",
    "*-*~03 02:30 Europe/Berlin",
    "Sun *-*-* 02:30:15 America/New_York",
    "*-03~07/1 *:30",
    "2027-10-31 02:30 Europe/Berlin",
    "hourly Australia/Lord_Howe",
    "Fri..Sun 9:00/20",
)


def test_lines_of_a_person_are_read_as_systemd_reads_them(shop: Shop) -> None:
    def told(line: str) -> list[datetime] | None:
        async def work(units: SystemdUnits) -> list[datetime] | None:
            times = units.fire_times({"timer.OnCalendar": ["x", "", line]}, *around)
            return None if times is None else list(times)

        return live(work)

    for around in (
        (datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 4, 5, tzinfo=UTC)),
        (datetime(2027, 10, 28, tzinfo=UTC), datetime(2027, 11, 9, tzinfo=UTC)),
    ):
        real = systemd.fires_of_each(LINES, start=around[0], end=around[1])
        for line in LINES:
            assert told(line) in (real[line], None), line
    assert [line for line in LINES if told(line) is None] == ["Sat,Sun 2027-*-* 12:00"]


def test_fire_times_say_nothing_of_what_is_unknown(shop: Shop) -> None:
    async def work(units: SystemdUnits) -> None:
        plain = {"timer.OnCalendar": "12:00 UTC"}
        assert len(list(units.fire_times(plain, START, END) or ())) == 365
        assert list(units.fire_times({**plain, "paused": True}, START, END) or ()) == []
        for unknown in (
            {"timer.OnBootSec": "5"},
            {"timer.OnBootSec": ""},
            {"paused": "once the host starts again"},
            {"timer.RandomizedDelaySec": "5"},
            {"drop-ins": {"timer.d/override.conf": ""}},
            {"timer.OnCalendar": ["12:00", "whenever"]},
        ):
            assert units.fire_times({**plain, **unknown}, START, END) is None

    live(work)


def test_timers_of_others_are_read_as_contracts(shop: Shop) -> None:
    async def work(units: SystemdUnits) -> list[Foreign]:
        return [each async for each in units.foreign()]

    assert applied(OLD) == []
    units = shop.manager.units
    (units / "backup.timer").write_text(THEIRS + "[Install]\nWantedBy=timers.target\n")
    (units / "backup.service").write_text("[Service]\nExecStart=/bin/backup --key hunter2\n")
    (units / "boot.timer").write_text("[Timer]\nOnBootSec=5min\nUnit=other.service\n")
    (units / "odd.timer").write_text("[Timer]\nOnCalendar=2027-*-* 12:00\n")
    (units / "off.timer").symlink_to("/dev/null")
    shop.manager.call("daemon-reload")
    shop.manager.call("enable", "--now", "backup.timer")
    found = live(work)
    assert [(each.name, each.expression, each.timezone, each.enabled) for each in found] == [
        ("backup", Cron("0 30 4 * * 1-5", seconds=True), "UTC", True),
        ("backup-2", Cron("0 0 12 1 * *", seconds=True), "UTC", True),
        ("boot", None, "UTC", False),
        ("odd", None, "UTC", False),
    ]
    assert (found[0].description, found[0].jitter) == ("Back up", timedelta(minutes=5))
    assert found[0].doubts == (
        "systemd starts /bin/backup",
        "Persistent=true: say missed_run_policy='runOnce'",
    )
    assert found[2].doubts == (
        "systemd starts other.service",
        "no contract says OnBootSec",
        "it does not elapse by the calendar",
    )
    assert "'2027-*-* 12:00' is no time that a contract can say" in found[3].doubts


def imported() -> dict[str, Foreign]:
    """Return the timers of others as contracts, by their names."""

    async def work(units: SystemdUnits) -> dict[str, Foreign]:
        return {each.name: each async for each in units.foreign()}

    return live(work)


def test_an_import_counts_what_changes_a_timer(shop: Shop) -> None:
    shop.put("backup.timer", THEIRS)
    shop.put("backup.service", "[Service]\nExecStart=/bin/backup\n")
    shop.put(
        "backup.timer.d/x.conf",
        "[Timer]\nOnBootSec=\nOnCalendar=03:00\nRandomizedDelaySec=0\nPersistent=no\n",
    )
    shop.put("backup.service.d/x.conf", "[Service]\nExecStart=\nExecStart=/bin/other\n")
    shop.manager.call("daemon-reload")
    (found,) = imported().values()
    assert found.expression == Cron("0 0 3 * * *", seconds=True)
    assert (found.jitter, found.description) == (timedelta(0), "Back up")
    assert found.doubts == ("systemd starts /bin/other",)
    shop.manager.call("start", "backup.timer")
    shop.put("backup.timer.d/y.conf", "[Timer]\nOnCalendar=04:00\n")
    (found,) = imported().values()
    assert "systemd has not read the files as they are" in found.doubts[-1]


def test_an_import_takes_each_timer_once_and_as_it_runs(shop: Shop) -> None:
    units = shop.manager.units
    shop.put("active.timer", "[Timer]\nOnCalendar=daily\n")
    shop.put("active.service", "[Service]\nExecStart=/bin/true\n")
    shop.put("boot.timer", "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n")
    shop.put("tpl@.timer", "[Timer]\nOnCalendar=daily\n")
    (units / "nightly.timer").symlink_to("active.timer")
    (units / "old.timer").mkdir()
    (units / "loop.timer").symlink_to("loop.timer")
    (units / "gone.timer").symlink_to("nowhere")
    shop.put("@a.timer", THEIRS)
    shop.manager.call("daemon-reload")
    shop.manager.call("start", "active.timer")
    shop.manager.call("enable", "boot.timer")
    found = imported()
    assert {name: each.enabled for name, each in found.items()} == {
        "active": True,
        "boot": True,
        "tpl@": False,
    }
    assert found["tpl@"].expression is None
    assert found["tpl@"].doubts == (
        "it is a template: each unit of it that runs is a schedule of its own",
    )
