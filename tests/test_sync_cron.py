"""Plan, apply and drift of a user's crontab: Debian's real crontab command, and its real daemon."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import ClassVar

import pytest
from tests.engines import crond
from tests.engines.crontab import Crontabs
from tests.live_suite import TOLD, PausingShop, PausingSuite, with_options
from tests.planned import DAILY, HOURLY, MOVED, Capture, in_folder, make_plan

from purista.cli.importing import module_text
from purista.clockchange import Timing
from purista.compiling import Request, compile_schedules, request_for
from purista.contract import Event, Schedule
from purista.expression import Cron, Every, Expression, Once
from purista.plan import Plan
from purista.schedulers.cron import SCHEDULER, CronSettings
from purista.sync import SyncError, apply_plan
from purista.sync.cron import CronSchedules, open_live
from purista.sync.cron_block import read_crontab
from purista.sync.cron_foreign import foreign_jobs
from purista.sync.cron_line import other_jobs
from purista.sync.port import Foreign
from purista.turnover import Horizon

START = datetime(2027, 1, 1, tzinfo=UTC)
END = datetime(2028, 1, 1, tzinfo=UTC)
HORIZON = Horizon(START, datetime(2036, 12, 31, tzinfo=UTC))
THEIRS = b"""\
# Edit this file to introduce tasks to be run by cron.

MAILTO=ops@example.com
CRON_TZ=Asia/Tokyo
  30 4\t* * 1-5   /usr/local/bin/backup --password=hunter2 >/dev/null 2>&1
# 0 5 * * * /usr/local/bin/off
@reboot /opt/start % caf\xe9
"""


class Shop(PausingShop):
    """A shop whose schedules are in a crontab of its own."""

    def __init__(
        self, folder: Path, capsys: Capture, crontabs: Crontabs, deployment: str = "default"
    ) -> None:
        super().__init__("cron", folder, capsys, deployment)
        self.crontabs = crontabs

    def settings(self, *, user: str = "", more: str = "") -> None:
        name = user or pwd.getpwuid(os.geteuid()).pw_name
        ingress = '[ingress]\nurl = "https://t.example.com/a%20b"\n'
        (self.folder / "purista.toml").write_text(f'[cron]\nuser = "{name}"\n{more}{ingress}')

    def address(self, before: str, after: str) -> None:
        """Give the ingress another address."""
        file = self.folder / "purista.toml"
        file.write_text(file.read_text().replace(before, after))

    def text(self) -> str:
        return self.crontabs.read().decode(errors="surrogateescape")

    def edit(self, before: str, after: str) -> None:
        """Do what a person does with ``crontab -e``."""
        text = self.text()
        assert before in text
        self.crontabs.write(text.replace(before, after).encode(errors="surrogateescape"))

    def comment_out(self) -> None:
        """Make a comment of each line."""
        lines = self.text().splitlines(keepends=True)
        self.crontabs.write("".join(f"# {line}" for line in lines).encode())

    def jobs(self) -> list[str]:
        """Return the lines that cron starts."""
        return [line for line in self.text().splitlines() if line and not line.startswith("#")]

    def name(self, schedule: str) -> str:
        prefix = "" if self.deployment == "default" else f"{self.deployment}."
        return f"{prefix}Shop.v1.{schedule}"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.crontabs, "staging")

    def held(self) -> dict[str, str]:
        crontab = read_crontab(self.text())
        return {"": crontab.others, **{each.name: each.text for each in crontab.entries}}

    def take(self, schedule: str) -> None:
        self.write(DAILY.replace("daily", schedule))
        self.apply()
        self.edit("default\n", "other\n")

    def move(self, schedule: str) -> str:
        self._replace(schedule, "\n0 2 ", "\n0 7 ")
        return "schedule"

    def delete(self, schedule: str) -> None:
        self.edit(self.held()[self.name(schedule)], "")

    def pause(self, schedule: str) -> None:
        self._replace(schedule, "\n0 ", "\n#0 ")

    def resume(self, schedule: str) -> None:
        self._replace(schedule, "\n# 0 ", "\n0 ")

    def _replace(self, schedule: str, before: str, after: str) -> None:
        entry = self.held()[self.name(schedule)]
        assert before in entry
        self.edit(entry, entry.replace(before, after))


@pytest.fixture
def shop(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    crontabs = Crontabs(tmp_path / "cron")
    monkeypatch.setenv("PATH", f"{crontabs.program}:{os.environ['PATH']}")
    with in_folder(tmp_path, monkeypatch):
        shop = Shop(tmp_path, capsys, crontabs)
        shop.settings()
        yield shop


class TestCron(PausingSuite):
    """What holds for every scheduler."""

    taken: ClassVar = "is taken by deployment 'other', for schedule"
    parts: ClassVar = {
        MOVED: {"PURISTA_PHASE", "schedule"},
        with_options('timezone="Europe/Berlin"'): {
            "PURISTA_PERIOD",
            "PURISTA_PHASE",
            "schedule",
        },
        with_options("enabled=False"): {"paused"},
        with_options('concurrency_policy="forbid"'): {"fingerprint"},
        with_options("jitter=timedelta(seconds=30)"): {"PURISTA_JITTER", "PURISTA_OFFSET"},
        with_options("misfire_grace=timedelta(hours=1)"): {"PURISTA_TRY_SECONDS"},
        DAILY.replace('"daily"', '"daily", " * * * * * x: caf\u00e9\u2028 "'): {"description"},
        TOLD: {"description"},
    }


def test_a_block_stands_before_all_else(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    shop.apply()
    text = shop.text()
    assert text.startswith("# purista: begin default\n# purista: {")
    assert text.endswith("\n# purista: end default\n")
    assert re.findall(r"^0 2 \* \* \* (.*)", text, re.MULTILINE)[0].endswith("/purista-trigger")
    shop.write()
    shop.apply("--force")
    assert shop.text() == ""


def test_a_changed_address_changes_the_lines(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    assert r"PURISTA_URL=https://t.example.com/a\%20b/" in shop.text()
    shop.address("a%20b", "other")
    (change,) = shop.plan()["changes"]
    assert [one["name"] for one in change["fields"]] == ["PURISTA_URL"]
    shop.apply()
    assert shop.actions() == []


def test_a_line_that_a_person_made_a_comment_is_a_pause_that_is_kept(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    for mark in ("#", "## "):
        shop.edit("\n0 2 * * * ", f"\n{mark}0 2 * * * ")
        assert list(shop.kept()) == ["paused"]
        assert shop.call("drift")[0] == 1
        shop.write(MOVED)
        shop.apply()
        assert "\n# 0 3 * * * " in shop.text()
        assert list(shop.kept()) == ["paused"]
        shop.write(DAILY)
        shop.apply("--override", "Shop.v1.daily:paused")
        assert "\n0 2 * * * " in shop.text()
        assert (shop.kept(), shop.is_done()) == ({}, True)


def test_what_a_person_changed_is_kept_until_the_contract_changes_the_same(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("\n0 2 * * * ", "\n# ours, later\n  15  2 * * * ")
    shop.edit("/purista-trigger\n", "/purista-trigger >>/tmp/log 2>&1\n")
    shop.edit(" PURISTA_SOURCE=cron ", " PURISTA_SOURCE=cron PURISTA_X='a b' ")
    assert list(shop.kept()) == ["PURISTA_X", "comments", "program", "schedule"]
    shop.write(MOVED)
    changed = {one["name"]: one["byHand"] for one in shop.plan()["changes"][0]["fields"]}
    assert changed == {"PURISTA_PHASE": False, "schedule": True}
    shop.apply()
    assert re.search(r"\n# ours, later\n0 3 \* \* \* .* >>/tmp/log 2>&1\n", shop.text())
    assert list(shop.kept()) == ["PURISTA_X", "comments", "program"]
    shop.apply("--override", "Shop.v1.daily")
    assert (shop.kept(), shop.is_done()) == ({}, True)
    assert "later" not in shop.text()


def test_an_entry_that_a_person_copied_is_one_with_more_lines(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    whole = shop.text()
    entry = "".join(whole.splitlines(keepends=True)[1:-1])
    shop.edit(entry, entry + entry.replace("\n0 2 ", "\n0 7 "))
    assert list(shop.kept()) == ["schedule"]
    shop.apply("--override", "Shop.v1.daily")
    assert shop.text() == whole


def test_lines_of_a_schedule_that_a_person_made_unequal_stay_so(shop: Shop) -> None:
    two = DAILY.replace("**options", 'timezone="Europe/Berlin", dst_gap="shift", **options')
    shop.write(two)
    shop.apply()
    first = next(line for line in shop.text().splitlines() if line.endswith("trigger"))
    shop.edit(f"{first}\n", f"{first}\n30 9 * * * /bin/true\n# 40 9 * * * /bin/true\n")
    before = shop.text()
    assert {"program", "schedule"} <= set(shop.kept())
    shop.write(two.replace('"daily"', '"daily", "Each night"'))
    shop.apply()
    assert "\n30 9 * * * /bin/true\n" in shop.text()
    assert "\n# 40 9 * * * /bin/true\n" in shop.text()
    assert before != shop.text()
    shop.write(MOVED)
    assert shop.call("apply")[0] == 75
    shop.apply("--override", "Shop.v1.daily")
    assert (shop.kept(), shop.is_done()) == ({}, True)
    assert "9 * * *" not in shop.text()


def test_lines_of_others_stay_byte_for_byte_and_come_after_ours(shop: Shop) -> None:
    shop.crontabs.write(THEIRS)
    for schedules in ((DAILY,), (MOVED, HOURLY), (HOURLY,), (DAILY,)):
        shop.write(*schedules)
        shop.apply("--force")
        assert shop.crontabs.read().endswith(b"\n# purista: end default\n" + THEIRS)
    shop.apply("--deployment", "staging")
    shop.write()
    shop.apply("--force")
    shop.apply("--force", "--deployment", "staging")
    assert shop.crontabs.read() == THEIRS


def test_no_setting_of_others_holds_for_our_lines(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    ours = shop.crontabs.read()
    shop.crontabs.write(THEIRS + ours)
    (change,) = shop.plan()["changes"]
    assert [(one["name"], one["before"]) for one in change["fields"]] == [
        ("settings above", ["CRON_TZ", "MAILTO"])
    ]
    shop.apply()
    assert shop.crontabs.read() == ours + THEIRS
    assert shop.actions() == []


def test_a_crontab_without_its_last_newline_is_refused_as_cron_does(shop: Shop) -> None:
    shop.write(DAILY)
    theirs = THEIRS + b"0 1 * * * x"
    shop.crontabs.spool(theirs)
    code, _, err = shop.call("apply")
    assert (code, "missing newline before EOF" in err) == (75, True)
    assert shop.crontabs.spooled() == theirs


def test_comments_of_a_spool_file_without_a_head_are_kept(shop: Shop) -> None:
    shop.write(DAILY)
    shop.crontabs.spool(THEIRS)
    shop.apply()
    assert shop.crontabs.spooled().endswith(b"\n# purista: end default\n" + THEIRS)
    shop.write()
    shop.apply("--force")
    assert shop.crontabs.read() == THEIRS


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("# purista: end default\n", "", "begins in line 1 has no end"),
        ("# purista: begin default\n", "", "of deployment 'default' that does not begin"),
        ("begin default\n", "begin default\n# purista: begin x\n", "begins in line 1 has no end"),
        ('# purista: {"applied"', '# purista: {"appl', "line 2 is a marker of ours"),
    ],
)
def test_a_block_that_cannot_be_told_from_others_stops_all(
    shop: Shop, before: str, after: str, told: str
) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit(before, after)
    broken = shop.text()
    for command in ("plan", "apply"):
        code, _, err = shop.call(command)
        assert code == 75
        assert told in " ".join(err.split())
    assert shop.text() == broken


def test_purista_pauses_and_resumes_as_a_person_does(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    shop.apply()
    whole = shop.text()
    code, _, err = shop.call("pause", "-s", "daily", "--reason", "incident\n42")
    assert code == 0, err
    assert re.search(r"\n# paused: incident 42\n# 0 2 \* \* \* ", shop.text())
    assert list(shop.kept()) == ["paused"]
    shop.write(MOVED, HOURLY)
    shop.apply()
    assert re.search(r"\n# paused: incident 42\n# 0 3 \* \* \* ", shop.text())
    shop.write(DAILY, HOURLY)
    shop.apply()
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.text() == whole
    shop.write(DAILY, HOURLY.replace("hourly", "new"))
    code, _, err = shop.call("pause", "-s", "new", "--reason", "x")
    assert code == 75


def test_another_users_crontab_is_for_root(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.settings(user="alice")
    shop.write(DAILY)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    shop.apply()
    assert shop.text() == ""
    assert b"daily" in shop.crontabs.read("alice")
    shop.settings(user="bob")
    code, _, err = shop.call("plan")
    assert (code, "user `bob' unknown" in err) == (75, True)
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    code, _, err = shop.call("plan")
    assert (code, "run this as bob or root" in " ".join(err.split())) == (75, True)


def test_limits_are_told_before_anything_is_written(shop: Shop) -> None:
    full = b"# x\n" * 9_998
    shop.crontabs.write(full)
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert (code, "would have 10,002 lines; cron takes 10,000" in " ".join(err.split())) == (
        75,
        True,
    )
    assert shop.crontabs.read() == full
    shop.crontabs.write(full[: -4 * 2])
    shop.apply()
    shop.address("a%20b", "a" * 900)
    code, _, err = shop.call("plan")
    assert (
        code,
        "cron takes 998; give the ingress a shorter address" in " ".join(err.split()),
    ) == (
        75,
        True,
    )


def test_a_host_without_cron_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(DAILY)
    monkeypatch.setenv("PATH", str(shop.folder))
    code, _, err = shop.call("plan")
    assert (code, "there is no program crontab" in err) == (75, True)


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


def requested(**settings: str) -> Request:
    user = pwd.getpwuid(os.geteuid()).pw_name
    document = {
        "cron": {"user": user, **settings},
        "ingress": {"url": "https://t.example.com/a%20b&c;'d'"},
    }
    return request_for(SCHEDULER, document, HORIZON)


async def planned(live: CronSchedules, schedules: list[Schedule], request: Request) -> Plan:
    placed = compile_schedules(SCHEDULER, schedules, request).placed
    desired = live.desired(placed, request, "default")
    names = {one.name for one in desired}
    observed = [each async for each in live.observed("default", names)]
    return make_plan("cron", "default", desired, observed)


async def applied(schedules: list[Schedule], request: Request) -> list[str]:
    """Apply; return what went wrong."""
    async with open_live(request) as live:
        results = await apply_plan(await planned(live, schedules, request), live)
    return [each.error for each in results if each.error]


async def is_done(schedules: list[Schedule], request: Request) -> bool:
    async with open_live(request) as live:
        found = await planned(live, schedules, request)
        return found.is_empty and not found.kept


OLD = [schedule("a", Cron("0 2 * * *")), schedule("b", Cron("0 3 * * *"))]
NEW = [schedule("b", Cron("5 3 * * *")), schedule("c", Cron("0 4 * * *"))]


def test_an_apply_that_is_cut_off_anywhere_ends_as_wanted_when_it_is_run_again(shop: Shop) -> None:
    request = requested()
    programs = shop.crontabs.program
    real = programs / "real"
    (programs / "crontab").rename(real)
    calls = programs / "calls"
    for stop in range(1, 100):
        for moment in ("before", "after"):
            (programs / "crontab").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
            (programs / "crontab").chmod(0o755)
            assert asyncio.run(applied(OLD, request)) == []
            calls.write_text("")
            fake = f"echo 'disk full' >&2; {real} \"$@\" >/dev/null 2>&1; exit 1"
            broken = {"before": "echo 'disk full' >&2; exit 1", "after": fake}[moment]
            (programs / "crontab").write_text(
                f"#!/bin/sh\necho x >>{calls}\n"
                f'if [ "$(wc -l <{calls})" -ge {stop} ]; then {broken}; fi\nexec {real} "$@"\n'
            )
            failed: object = None
            try:
                failed = asyncio.run(applied(NEW, request))
            except SyncError as error:
                failed = str(error)
            (programs / "crontab").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
            assert asyncio.run(applied(NEW, request)) == []
            assert asyncio.run(is_done(NEW, request))
            assert [each.name for each in read_crontab(shop.text()).entries] == [
                "Shop.v1.b",
                "Shop.v1.c",
            ]
        if failed == []:
            break
        assert "disk full" in str(failed)
    assert stop == 8  # a plan reads once, each of its three changes reads and writes


def test_a_process_killed_while_it_writes_leaves_a_whole_crontab(shop: Shop) -> None:
    """``crontab`` gets a file, so it never sees an end that is not the text's, and the lock: it is waited for."""
    shop.crontabs.write(b"# x\n" * 2000)
    program = shop.crontabs.program / "crontab"
    real = program.rename(program.with_name("real"))
    started, done, read = (shop.crontabs.program / name for name in ("started", "done", "read"))
    program.write_text(
        f"""#!/bin/sh
case "$*" in
*-) if mkdir {started}; then
        for _ in $(seq 200); do [ -e {read} ] && break; sleep 0.1; done
        {real} "$@"; touch {done}; exit
    fi;;
*) {real} "$@"; code=$?; [ -e {started} ] && touch {read}; exit $code;;
esac
exec {real} "$@"
"""
    )
    program.chmod(0o755)
    shop.write(DAILY)
    process = subprocess.Popen(command("default"), cwd=shop.folder, stderr=subprocess.DEVNULL)
    wait_for(started)
    process.kill()
    process.wait()
    shop.write(MOVED)
    assert shop.call("apply")[0] == 75  # it was planned on what was there before
    assert done.exists()
    assert "\n0 2 * * * " in shop.text()
    shop.apply()
    assert shop.is_done()
    assert shop.crontabs.read().endswith(b"# purista: end default\n" + b"# x\n" * 2000)


def command(deployment: str) -> list[str]:
    """Return a command that applies in a process of its own."""
    code = "import sys; from purista.cli.app import run; sys.exit(run(sys.argv[1:]))"
    words = ["apply", "cron", "shop:shop", "--yes", "--deployment", deployment]
    return [sys.executable, "-c", code, *words]


def wait_for(file: Path) -> None:
    deadline = monotonic() + 60
    while not file.exists():
        assert monotonic() < deadline
        sleep(0.02)


def test_applies_at_once_end_as_wanted(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    shop.crontabs.write(THEIRS)
    processes = [
        subprocess.Popen(command(deployment), cwd=shop.folder, stderr=subprocess.DEVNULL)
        for deployment in ("default", "default", "staging", "other")
    ]
    codes = [process.wait(60) for process in processes]
    assert set(codes) <= {0, 75}
    for deployment in ("default", "staging", "other"):
        shop.apply("--deployment", deployment)
        assert shop.actions("--deployment", deployment) == []
    assert shop.text().count("purista-trigger\n") == 6
    assert shop.crontabs.read().endswith(b"\n" + THEIRS)


def test_what_changed_after_the_plan_is_left_alone(shop: Shop) -> None:
    async def work() -> list[str]:
        async with open_live(request) as live:
            found = await planned(live, NEW, request)
            shop.edit("0 2 * * * ", "7 2 * * * ")
            shop.edit("0 3 * * * ", "7 3 * * * ")
            results = await apply_plan(found, live)
        return [each.error for each in results]

    request = requested()
    assert asyncio.run(applied(OLD, request)) == []
    told = "was changed or deleted meanwhile; plan again"
    assert [told in each for each in asyncio.run(work())] == [True, True, False]
    assert "\n7 2 * * * " in shop.text()
    assert "\n7 3 * * * " in shop.text()


def test_what_is_there_or_gone_meanwhile_is_no_harm(shop: Shop) -> None:
    async def work() -> None:
        async with open_live(request) as live:
            found = await planned(live, OLD, request)
            create = found.changes[0].desired
            assert create is not None
            for _ in range(2):
                await live.create(create, create.fields)
            with pytest.raises(SyncError, match="is there meanwhile"):
                await live.create(create, {**create.fields, "paused": True})
            [there] = [each async for each in live.observed("default", ())]
            for _ in range(2):
                await live.delete(there)
            with pytest.raises(SyncError, match="was changed or deleted meanwhile"):
                await live.update(there, create, create.fields)

    request = requested()
    asyncio.run(work())
    assert shop.text() == ""


def test_a_crontab_in_use_by_another_purista_is_waited_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> list[str]:
        async with open_live(request) as live:
            with live._program.alone():
                return await applied(OLD[:1], request)

    request = requested()
    monkeypatch.setattr("purista.sync.filelock.PATIENCE", 0.2)
    [told] = asyncio.run(work())
    assert told.endswith("is locked by another purista; try again")
    assert shop.text() == ""


EXACT: dict[str, tuple[Schedule, dict[str, str]]] = {
    "either": (schedule("either", Cron("*/20 8-17 1,15 * MON", day_rule="or")), {}),
    "weekdays": (schedule("weekdays", Cron("30 2 * * MON-FRI")), {}),
    "every": (schedule("every", Every(timedelta(minutes=30))), {}),
    "berlin": (
        schedule("berlin", Cron("30 2 * * *"), timezone="Europe/Berlin", dst_gap="next"),
        {"host_timezone": "Europe/Berlin"},
    ),
    "hours": (
        schedule("hours", Cron("15 * * * *"), timezone="Europe/Berlin"),
        {"host_timezone": "Europe/Berlin"},
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_fire_times_are_the_contracts_and_the_daemons(shop: Shop, name: str) -> None:
    one, settings = EXACT[name]

    async def told() -> list[datetime]:
        async with open_live(request) as live:
            [there] = [each async for each in live.observed("default", ())]
            times = live.fire_times(there.fields, START, END - timedelta(seconds=1))
            assert times is not None
            return list(times)

    request = requested(**settings)
    assert asyncio.run(applied([one], request)) == []
    due = list(one.between(START, END - timedelta(seconds=1)))
    assert asyncio.run(told()) == due
    zone = settings.get("host_timezone", "UTC")
    around = (datetime(2027, 3, 26, tzinfo=UTC), datetime(2027, 3, 30, tzinfo=UTC))
    fired = crond.fires(shop.text(), timezone=zone, start=around[0], end=around[1])
    [(command, times)] = fired.items()
    assert times == list(one.between(*around))
    assert "PURISTA_SCHEDULE=Shop.v1." in command


def test_fire_times_cover_a_one_shot_and_say_nothing_of_what_is_unknown(shop: Shop) -> None:
    async def work() -> None:
        async with open_live(request) as live:
            found = await planned(live, [once], request)
            assert found.changes[0].desired is not None
            fields = found.changes[0].desired.fields
            assert once.expression.at in set(live.fire_times(fields, START, END) or ())
            assert list(live.fire_times({**fields, "paused": True}, START, END) or ()) == []
            for unknown in (
                {"schedule": ["@reboot"]},
                {"settings above": ["CRON_TZ"]},
                {"settings": ["CRON_TZ=UTC"]},
            ):
                assert live.fire_times({**fields, **unknown}, START, END) is None
            by_hand = {**fields, "schedule": ["0 1 */9 1 mon", "# 0 2 * * *", "@yearly"]}
            times = live.fire_times(by_hand, START, END - timedelta(seconds=1))
            assert [f"{at:%d %H}" for at in times or ()] == ["01 00"]  # the 1st is no Monday

    request = requested()
    once = schedule("once", Once(datetime(2027, 5, 4, 3, 2, tzinfo=UTC)))
    assert isinstance(once.expression, Once)
    asyncio.run(work())


def test_the_shell_gets_the_address_as_it_is(shop: Shop) -> None:
    """cron hands the shell what is before ``%``, and ``\\%`` as ``%`` (crontab(5))."""
    request = requested(program="/usr/bin/env")
    assert asyncio.run(applied(OLD[:1], request)) == []
    at = datetime(2027, 5, 4, 2, tzinfo=UTC)
    [command] = crond.fires(shop.text(), timezone="UTC", start=at, end=at)
    told = subprocess.run(
        ["/bin/sh", "-c", command.replace(r"\%", "%")], capture_output=True, text=True, check=True
    ).stdout
    assert f"\nPURISTA_URL={request.ingress.triggers_url}\n" in f"\n{told}"
    assert "\nPURISTA_SOURCE=cron\n" in f"\n{told}"


def foreign(text: bytes, **settings: str) -> Callable[[Shop], list[Foreign]]:
    async def work() -> list[Foreign]:
        async with open_live(requested(**settings)) as live:
            return [each async for each in live.foreign()]

    def found(shop: Shop) -> list[Foreign]:
        shop.crontabs.write(text)
        assert asyncio.run(applied(OLD, requested())) == []
        return asyncio.run(work())

    return found


def test_lines_of_others_are_read_as_cron_reads_them(shop: Shop) -> None:
    found = foreign(THEIRS + b"@daily A='b c' D=e /opt/backup.sh x\n0 1 */2 * 1 /opt/rare\n")(shop)
    assert [(each.name, each.expression) for each in found] == [
        ("backup", Cron("30 4 * * 1-5")),
        ("backup-2", Cron("0 0 * * *")),
        ("rare", Cron("0 1 */2 * 1", day_rule="and")),
        ("start", None),
    ]
    assert {each.timezone for each in found} == {"UTC"}
    assert "hunter2" not in str(found)
    assert found[0].doubts == (
        "cron starts /usr/local/bin/backup",
        "settings hold for it: MAILTO",
        "its CRON_TZ means nothing to Debian's cron; say daemon = 'cronie' if it counts",
    )
    assert "'@reboot' is no time that a contract can say" in found[3].doubts


def test_cronie_reads_a_line_in_the_zone_above_it(shop: Shop) -> None:
    found = foreign(THEIRS, daemon="cronie", host_timezone="UTC")(shop)
    assert [each.timezone for each in found] == ["Asia/Tokyo", "Asia/Tokyo"]


# --- what a person does to a command ---


TWO = with_options('timezone="Australia/Lord_Howe"').replace("0 2", "30 2")
"""It has two lines."""


def put_before(shop: Shop, word: str, *, line: int = 0) -> None:
    """Put a word before the command of a line."""
    before = shop.jobs()[line]
    time, _, command = before.partition(" PURISTA_")
    shop.edit(f"\n{before}\n", f"\n{time} {word}PURISTA_{command}\n")


@pytest.mark.parametrize(
    "word", ["cd /opt && ", "TZ=UTC ", "/usr/bin/env A='x y' ", "(", "[ -e /x ] || ", "true; "]
)
def test_what_stands_before_a_command_stays_and_what_is_told_changes(shop: Shop, word: str) -> None:
    shop.write(DAILY)
    shop.apply()
    put_before(shop, word)
    assert shop.kept() == {"program": f"{word}PURISTA_... /usr/local/bin/purista-trigger"}
    shop.write(MOVED)
    shop.apply()
    shop.address("a%20b", "b")
    shop.apply()
    [line] = shop.jobs()
    assert line.startswith(f"0 3 * * * {word}PURISTA_FINGERPRINT=")
    assert line.count("PURISTA_FINGERPRINT=") == line.count("PURISTA_PHASE=") == 1
    assert " PURISTA_PHASE=10800 " in line
    assert " PURISTA_URL=https://t.example.com/b/triggers /usr" in line
    shop.apply("--override", "Shop.v1.daily:program")
    assert shop.is_done()
    [line] = shop.jobs()
    assert line.startswith("0 3 * * * PURISTA_FINGERPRINT=")


@pytest.mark.parametrize("word", ["sh -c '", "X=1 PURISTA_Y=$Y ", "echo a% "])
def test_a_command_that_cannot_be_told_from_its_settings_is_not_half_changed(
    shop: Shop, word: str
) -> None:
    shop.write(DAILY)
    shop.apply()
    put_before(shop, word)
    assert "program" in shop.kept()
    shop.write(TOLD)
    shop.apply()
    for change in (lambda: shop.write(MOVED), lambda: shop.address("a%20b", "b")):
        held = shop.text()
        change()
        code, _, err = shop.call("apply")
        assert (code, "commands of their own" in err) == (75, True)
        assert shop.text() == held
    shop.apply("--override", "Shop.v1.daily:program")
    assert shop.is_done()
    assert " PURISTA_SCHEDULE=Shop.v1.daily " in shop.jobs()[0]


@pytest.mark.parametrize("value", ['"$HOME/x"', "~/x", "`x`", "a;b", "$X"])
def test_a_value_that_the_shell_makes_is_no_value(shop: Shop, value: str) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit("PURISTA_SOURCE=cron ", f"PURISTA_SOURCE=cron PURISTA_X={value} ")
    shop.write(TOLD)
    shop.apply()
    assert f" PURISTA_X={value} " in shop.jobs()[0]
    shop.write(MOVED)
    assert shop.call("apply")[0] == 75


def test_a_new_address_goes_into_each_line_also_where_they_differ(shop: Shop) -> None:
    shop.write(TWO)
    shop.apply()
    put_before(shop, "cd /opt && ", line=1)
    lines = shop.jobs()
    shop.address("a%20b", "b")
    assert [one["name"] for one in shop.plan()["changes"][0]["fields"]] == ["PURISTA_URL"]
    shop.apply()
    assert shop.jobs() == [line.replace(r"a\%20b", "b") for line in lines]
    shop.write(TWO.replace("30 2", "30 5"))
    assert shop.call("apply")[0] == 75
    assert shop.jobs() == [line.replace(r"a\%20b", "b") for line in lines]


def test_lines_that_tell_different_things_are_not_half_changed(shop: Shop) -> None:
    shop.write(TWO)
    shop.apply()
    last = shop.jobs()[-1]
    shop.edit(last, last.replace("PURISTA_SOURCE=cron", "PURISTA_SOURCE=other"))
    held = shop.text()
    shop.address("a%20b", "b")
    code, _, err = shop.call("apply")
    assert code == 75
    assert "--override Shop.v1.daily:program takes that back" in " ".join(err.split())
    assert shop.text() == held
    shop.apply("--override", "Shop.v1.daily:program")
    assert shop.is_done()


def test_a_command_that_a_person_replaced_is_taken_back_with_all_that_it_is_told(
    shop: Shop,
) -> None:
    shop.write(DAILY)
    shop.apply()
    held = shop.text()
    shop.edit(shop.jobs()[0], "0 2 * * * /bin/true")
    assert shop.kept()["program"] == "/bin/true"
    shop.write(TOLD)
    shop.apply()
    assert shop.jobs() == ["0 2 * * * /bin/true"]
    shop.write(MOVED)
    code, _, err = shop.call("apply")
    assert (code, "commands of their own" in err) == (75, True)
    assert shop.jobs() == ["0 2 * * * /bin/true"]
    shop.write(DAILY)
    shop.apply("--override", "Shop.v1.daily:program")
    assert shop.text() == held


# --- lines that are comments ---


def test_a_pause_keeps_what_a_person_switched_off(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    [line] = shop.jobs()
    shop.edit(f"\n{line}\n", f"\n{line}\n# {line.replace('0 2', '0 14')}\n")
    held, kept = shop.text(), shop.kept()
    for _ in range(2):
        assert shop.call("pause", "-s", "daily", "--reason", "x")[0] == 0
        assert shop.jobs() == []
        assert shop.kept() == {**kept, "paused": True}
        shop.write(TOLD)
        shop.apply()
        shop.write(DAILY)
        shop.apply()
    for _ in range(2):
        assert shop.call("resume", "-s", "daily")[0] == 0
        assert shop.text() == held


def test_a_pause_by_hand_is_lifted_by_a_resume(shop: Shop) -> None:
    shop.write(TWO)
    shop.apply()
    held = shop.text()
    for before in shop.jobs():
        shop.edit(f"\n{before}\n", f"\n#{before}\n")
    assert shop.kept() == {"paused": True}
    assert shop.call("pause", "-s", "daily", "--reason", "x")[0] == 0
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.text() == held


@pytest.mark.parametrize(
    "remark",
    [
        "2 3 * * * was the old time, see OPS-17",
        "30 9 * * * /bin/true",
        "old: 0 9 * * * PURISTA_SCHEDULE=Shop.v1.daily x",
        "purista: please do not touch",
    ],
)
def test_a_remark_never_becomes_a_line(shop: Shop, remark: str) -> None:
    shop.write(DAILY)
    shop.apply()
    lines = shop.jobs()
    shop.edit(f"\n{lines[0]}\n", f"\n# {remark}\n{lines[0]}\n")
    assert shop.kept() == {"comments": [remark]}
    assert shop.call("pause", "-s", "daily", "--reason", "x")[0] == 0
    assert shop.jobs() == []
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.jobs() == lines
    assert f"\n# {remark}\n" in shop.text()


@pytest.mark.parametrize("line", ["30 9 * * * /bin/true", "@reboot /bin/true", "0~9 9 * * * x"])
def test_a_line_that_a_person_added_is_paused_and_resumed(shop: Shop, line: str) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.edit(f"\n{shop.jobs()[0]}\n", f"\n{line}\n{shop.jobs()[0]}\n")
    held = shop.text()
    assert shop.call("pause", "-s", "daily", "--reason", "x")[0] == 0
    assert shop.jobs() == []
    assert shop.kept()["paused"] is True
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.text() == held


def test_a_block_that_a_person_made_a_comment_is_a_pause(shop: Shop) -> None:
    shop.write(TWO, HOURLY)
    shop.apply()
    held = shop.text()
    for _ in range(2):
        shop.comment_out()
        found = shop.plan()
        assert found["changes"] == []
        assert [[one["name"] for one in each["kept"]] for each in found["kept"]] == [["paused"]] * 2
    for name in ("daily", "hourly"):
        assert shop.call("resume", "-s", name)[0] == 0
    assert shop.text() == held


@pytest.mark.parametrize("gone", ["Shop.v1.daily", "Shop.v1.hourly"])
def test_a_line_whose_marker_is_gone_stops_all(shop: Shop, gone: str) -> None:
    shop.write(DAILY, HOURLY)
    shop.apply()
    marker = next(line for line in shop.text().splitlines() if f'"name": "{gone}"' in line)
    shop.edit(f"{marker}\n", "")
    held = shop.text()
    code, _, err = shop.call("apply")
    told = f"starts schedule '{gone}', and its marker does not stand above it"
    assert (code, told in " ".join(err.split())) == (75, True)
    assert shop.text() == held


# --- bytes ---


@pytest.mark.parametrize("line", [b"5 4 * * * /opt/a\r\n", b"# a\bb\n", b"5 4 * * * x 'a\\b'\n"])
def test_a_byte_that_crontab_does_not_show_as_it_is_stops_all(shop: Shop, line: bytes) -> None:
    shop.write(DAILY)
    shop.crontabs.write(b"# x\n" + line)
    for command in ("plan", "apply"):
        code, _, err = shop.call(command)
        assert (code, "line 2 shows \\r or \\b" in " ".join(err.split())) == (75, True)
    assert shop.crontabs.spooled().endswith(b"\n# x\n" + line)


def test_a_block_with_other_line_ends_is_not_made_twice(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    held = shop.text()
    shop.edit("\n", "\r\n")
    code, _, err = shop.call("apply")
    assert (code, "line 1 shows \\r" in " ".join(err.split())) == (75, True)
    mended = subprocess.run(["sed", r"s/\\r$//"], input=held, capture_output=True, text=True)
    shop.crontabs.write(mended.stdout.encode())
    assert shop.is_done()


def test_what_crontab_shows_as_it_is_may_be_in_a_description(shop: Shop) -> None:
    shop.write(DAILY.replace('"daily"', '"daily", r"all but \\bx and \\r"'))
    shop.apply()
    assert "all but \\bx and \\r" in shop.text()
    assert shop.is_done()


def test_cronies_crontab_shows_bytes_as_they_are(
    tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.crontabs = Crontabs(tmp_path / "cronie", "cronie")
    monkeypatch.setenv("PATH", f"{shop.crontabs.program}:{os.environ['PATH']}")
    theirs = THEIRS + b"5 4 * * * /opt/a\r\n# a\bb\r\n6 4 * * * x 'a\\b'\n"
    shop.crontabs.write(theirs)
    shop.write(DAILY)
    shop.apply()
    assert shop.crontabs.read().endswith(b"\n# purista: end default\n" + theirs)
    ours, theirs = shop.crontabs.read().split(b"# Edit this file")
    shop.crontabs.write(ours.replace(b"\n", b"\r\n") + b"# Edit this file" + theirs)
    assert shop.kept() == {"program": "/usr/local/bin/purista-trigger\r"}
    shop.apply("--override", "Shop.v1.daily:program")
    assert shop.text().count("purista: begin") == 1
    assert shop.is_done()


def test_a_byte_that_is_no_text_is_kept_in_a_comment_of_ours(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    before = shop.crontabs.read()
    shop.crontabs.write(before.replace(b"\n0 2", b"\n# caf\xe9\n0 2"))
    assert list(shop.kept()) == ["comments"]
    assert shop.call("drift")[0] == 1
    for option in ("--markdown", "--json"):
        assert shop.call("plan", option, *(["-"] if option == "--markdown" else []))[0] == 0
    shop.write(MOVED)
    assert shop.call("plan", "--out", "plan.json")[0] == 0
    assert shop.run("apply", "plan.json")[0] == 0
    assert b"\n# caf\xe9\n0 3" in shop.crontabs.read()
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()


# --- import ---


def module(found: list[Foreign]) -> str:
    """Return what is written, which Python takes."""
    text = module_text(found, "Imported", "cron")
    exec(compile(text, "imported.py", "exec"), {})
    return text


LINES = {
    f"/opt/j{number}": time
    for number, time in enumerate(
        [
            "30 2 * * *",
            "30 1 * * *",
            "0 0 * * *",
            "30 * * * *",
            "15 */6 * * *",
            "30 1-3 * * *",
            "*/20 2 * * *",
            "0 3 * * 0",
        ]
    )
}


@pytest.mark.parametrize(
    ("host", "zone"),
    [
        ("UTC", "Europe/Berlin"),
        ("UTC", "America/New_York"),
        ("UTC", ":Europe/London"),
        ("Europe/Berlin", "Europe/Berlin"),
        ("America/New_York", "America/New_York"),
    ],
)
def test_a_line_in_cronies_zone_is_imported_as_cronie_starts_it(
    shop: Shop, host: str, zone: str
) -> None:
    text = f"CRON_TZ={zone}\n" + "".join(f"{time} {name}\n" for name, time in LINES.items())
    found = foreign(text.encode(), daemon="cronie", host_timezone=host)(shop)
    module(found)
    end = END - timedelta(minutes=1)
    fired = crond.fires(text, timezone=host, start=START, end=end, daemon="cronie")
    assert {f"/opt/{each.name}": times_of(each, end) for each in found} == fired


def times_of(found: Foreign, end: datetime) -> list[datetime]:
    """Return when a contract that says this is due."""
    assert isinstance(found.expression, Cron)
    timing = Timing(found.expression, found.timezone, found.dst_gap, found.dst_overlap)  # type: ignore[arg-type]
    return list(timing.between(START, end))


def test_a_host_whose_clock_changes_is_a_doubt_in_another_zone(shop: Shop) -> None:
    lines = b"CRON_TZ=Asia/Tokyo\n0 3 * * * /opt/x\n"
    [found] = foreign(lines, daemon="cronie", host_timezone="Europe/Berlin")(shop)
    assert "where the host's own clock (Europe/Berlin) changes" in found.doubts[-1]


@pytest.mark.parametrize("zone", ["Mars/Base", "CET-1CEST,M3.5.0,M10.5.0/3", "hunter2"])
def test_a_zone_that_no_contract_can_say_is_told(shop: Shop, zone: str) -> None:
    lines = f"CRON_TZ={zone}\n0 3 * * * /opt/x\n".encode()
    [found] = foreign(lines, daemon="cronie")(shop)
    assert found.doubts[-1] == "its CRON_TZ is no time zone that a contract can say"
    assert "# x is left out." in module([found])
    assert zone not in module([found])


def test_each_line_that_cron_starts_is_told(shop: Shop) -> None:
    lines = b"~ 3 * * * x\n-5 3 * * * y\n0~30 * * * * z\n@daily w\nA-B = 0 3 * * * v\n 'A B'=u\n"
    found = {name: (cron, doubts) for name, cron, doubts in told_of(lines, daemon="cronie")}
    assert found.keys() == {"w", "x", "y", "z"}
    assert found["w"][0] == Cron("0 0 * * *")
    assert found["y"][0] == Cron("5 3 * * *")
    assert "the '-' before it keeps cronie from logging it" in found["y"][1]
    assert found["x"][0] is found["z"][0] is None
    assert "'~ 3 * * *' is no time that a contract can say" in found["x"][1]


def told_of(lines: bytes, **settings: str) -> list[tuple[str, object, tuple[str, ...]]]:
    """Return what is imported of a text that is not installed."""
    request = requested(**settings)
    assert isinstance(request.settings, CronSettings)
    found = foreign_jobs(other_jobs(lines.decode()), request.settings)
    return [(each.name, each.expression, each.doubts) for each in found]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("(PGPASSWORD=hunter2 /opt/b)", ""),
        (r"PASS=my\ hunter2 /opt/a", "/opt/a"),
        ("P=$(cat hunter2 x) /opt/a", ""),
        ('P="$(echo "a hunter2")" /opt/a', ""),
        ("P=${X:-a hunter2} /opt/a", ""),
        ("P=`echo hunter2` /opt/a", ""),
        ("'hunter2 x'", ""),
        ("P=\"a 'hunter2\" Q='b \" c' D=$HOME/x ./run.sh -p hunter2", "./run.sh"),
        ("cd /opt && P=hunter2 ./run", "cd"),
        ("/opt/a;P=hunter2 b", "/opt/a"),
        ("/opt/a(hunter2)", ""),
        ("user:hunter2@host x", ""),
    ],
)
def test_of_a_command_nothing_is_shown_that_may_be_secret(command: str, shown: str) -> None:
    [(_, _, doubts)] = told_of(f"0 3 * * * {command}\n".encode())
    assert doubts[0] == f"cron starts {shown or 'what is not shown here, as it may hold a secret'}"
    assert "hunter2" not in str(doubts)


def test_of_a_line_that_cron_does_not_take_nothing_is_shown() -> None:
    for line in ("export P=hunter2 a b c d", "hunter2", "export P hunter2"):
        assert "hunter2" not in str(told_of(f"{line}\n".encode()))
