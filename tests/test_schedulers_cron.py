"""cron's lines mean what their contracts mean: asked of Debian's cron and of cronie, under a virtual clock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.dialects import ZONES, timings
from tests.engines import crond, sender
from tests.engines.crond import Daemon
from tests.engines.sender import Shell

from purista.clockchange import Timing
from purista.compiling import Artifact, Compilation, compile_schedules, place
from purista.contract import Event, Schedule
from purista.expression import Cron, Every, Once
from purista.schedulers.cron import LONGEST_COMMAND, MOST_LINES, SCHEDULER, CronSettings
from purista.settings import IngressSettings
from purista.slot import SlotGrid
from purista.testing import SchedulerSuite
from purista.testing.corpus import END, START, contracts

GOLDENS = Path(__file__).parent / "goldens/compile/cron"
RECOVERING = IngressSettings(url="https://triggers.example.com", recovery="ingress")
BERLIN = CronSettings(user="purista", host_timezone="Europe/Berlin")
DAEMONS: tuple[Daemon, ...] = ("debian", "cronie")
MINUTE = timedelta(minutes=1)
LATE = timedelta(seconds=2)
"""How late a job is started, at the most that is usual."""


class TestCron(SchedulerSuite):
    scheduler = SCHEDULER
    daemon: Daemon = "debian"
    asked: ClassVar[dict[tuple[str, ...], dict[str, set[datetime]]]] = {}

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        """Return the times that the script sends, by what its lines tell it."""
        text = "".join(lines_of(each.text) for each in files(compilation))
        key = (text, self.daemon)
        if key not in self.asked:
            self.asked[key] = slots(text, self.daemon, start=start, end=end)
        return self.asked[key]


class TestCronie(TestCron):
    daemon = "cronie"


def files(compilation: Compilation) -> list[Artifact]:
    return [each for each in compilation.artifacts if each.path.startswith("cron.d/")]


def lines_of(text: str) -> str:
    """Return what a daemon reads of a file, but for comments."""
    return "".join(f"{line}\n" for line in text.splitlines() if line and line[0] != "#")


def slots(
    text: str,
    daemon: Daemon,
    *,
    start: datetime,
    end: datetime,
    timezone: str = "UTC",
    **options: Any,
) -> dict[str, set[datetime]]:
    """Return for each schedule the times that the script sends."""
    found: dict[str, set[datetime]] = {}
    started = crond.fires(text, timezone=timezone, start=start, end=end, daemon=daemon, **options)
    for command, instants in started.items():
        given = environment_of(command)
        grid = SlotGrid(int(given["PURISTA_PERIOD"]), int(given["PURISTA_PHASE"]))
        sent = found.setdefault(given["PURISTA_SCHEDULE"], set())
        sent |= {grid.slot(at + LATE) for at in set(instants)}
    return found


def environment_of(command: str) -> dict[str, str]:
    return dict(re.findall(r"(PURISTA_\w+)=(\S*)", command))


def schedule(
    expression: Cron | Every | Once | str, timezone: str = "UTC", **options: Any
) -> Schedule:
    when = Cron(expression) if isinstance(expression, str) else expression
    target = Event("due", str, service_name="S", service_version="1")
    values = {"name": "x", "service_name": "S", "service_version": "1", "payload": "due"}
    given = {**values, "target": target, "expression": when, "timezone": timezone, **options}
    return Schedule(**given)


def compiled(*schedules: Schedule, **changes: Any) -> Compilation:
    return TestCron().compiled(schedules, **changes)


def crontab(*schedules: Schedule, **changes: Any) -> str:
    [file] = files(compiled(*schedules, **changes))
    return file.text


def times(text: str) -> list[str]:
    """Return the time fields of the lines of a file."""
    return [" ".join(line.split()[:5]) for line in lines_of(text).splitlines() if " " in line]


def codes(one: Schedule, **changes: Any) -> list[str]:
    return [each.code for each in place(SCHEDULER, [one], TestCron().request(**changes))[1]]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_on_a_host_in_berlin_what_is_due_in_berlin_is_sent_when_it_is_due(daemon: Daemon) -> None:
    given = [each for each in contracts() if each.timezone == "Europe/Berlin" and each.enabled]
    compilation = compiled(*given, settings=BERLIN)
    text = "".join(lines_of(each.text) for each in files(compilation))
    found = slots(text, daemon, start=START, end=END, timezone="Europe/Berlin")
    held = [each.schedule for each in compilation.placed]
    assert len(held) >= 25
    wrong = [
        one.id
        for one in held
        if {at for at in found.get(one.id, ()) if one.contains(at)} != {*one.between(START, END)}
    ]
    assert wrong == []


@pytest.mark.parametrize("host", ["UTC", "Europe/Berlin"])
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_whatever_is_due_is_sent_then(host: str, data: st.DataObject) -> None:
    zones = ZONES if host == "UTC" else [host]
    found = data.draw(st.lists(timings(zones), min_size=10, max_size=60))
    many = [of(timing, number) for number, timing in enumerate(found)]
    compilation = compiled(*many, settings=CronSettings(user="p", host_timezone=host))
    text = "".join(lines_of(each.text) for each in files(compilation))
    sent = slots(text, "debian", start=START, end=END, timezone=host)
    for one in (each.schedule for each in compilation.placed):
        due = set(one.between(START, END))
        assert {at for at in sent.get(one.id, ()) if one.contains(at)} == due


def of(timing: Timing, number: int) -> Schedule:
    """Return a schedule that is due as a timing says."""
    words = {"dst_gap": timing.dst_gap, "dst_overlap": timing.dst_overlap}
    return schedule(timing.expression, timing.timezone, name=f"x{number}", **words)


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize("gap", ["skip", "next", "shift"])
@pytest.mark.parametrize("overlap", ["first", "last", "both"])
def test_on_a_host_in_berlin_each_word_for_its_clock_changes_holds_or_is_refused(
    daemon: Daemon, gap: str, overlap: str
) -> None:
    words = {"dst_gap": gap, "dst_overlap": overlap}
    texts = ("30 2 * * *", "0,30 2,3 * * *", "0 3 L * *", "45 2 * 3,10 SUN")
    given = [
        schedule(text, "Europe/Berlin", name=f"x{number}", **words)
        for number, text in enumerate(texts)
    ]
    compilation = compiled(*given, settings=BERLIN)
    text = "".join(lines_of(each.text) for each in files(compilation))
    found = slots(text, daemon, start=START, end=END, timezone="Europe/Berlin")
    for one in (each.schedule for each in compilation.placed):
        due = set(one.between(START, END))
        assert {at for at in found[one.id] if one.contains(at)} == due
    refused = overlap != "first"
    assert bool(compilation.left_out) == refused


def test_on_a_host_in_berlin_other_zones_are_findings_and_a_zone_like_utc_is_utc() -> None:
    tokyo, utc = schedule("0 4 * * *", "Asia/Tokyo"), schedule("0 4 * * *")
    assert codes(tokyo, settings=BERLIN) == codes(utc, settings=BERLIN) == ["host-zone"]
    [finding] = place(SCHEDULER, [tokyo], TestCron().request(settings=BERLIN))[1]
    assert "host_timezone = 'UTC'" in finding.message
    for zone in ("Etc/UTC", "Africa/Abidjan"):
        assert codes(tokyo, settings=CronSettings(user="p", host_timezone=zone)) == []


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_file_in_cron_d_is_read_with_its_column_for_the_user(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = crontab(schedule("30 4 * * *"), settings=CronSettings(user="root"))
    furnish = crond._furnish

    def into_cron_d(work: Path, _: str, *, written: datetime) -> None:
        furnish(work, "", written=written)
        file = work / "etc" / "cron.d" / "purista"
        file.write_text(text)
        file.chmod(0o644)
        for each in (file, file.parent):
            os.utime(each, (written.timestamp(), written.timestamp()))

    monkeypatch.setattr(crond, "_furnish", into_cron_d)
    found = crond.fires(
        text, timezone="UTC", start=START, end=START + timedelta(days=2), daemon=daemon
    )
    [(command, instants)] = found.items()
    assert command.startswith("PURISTA_SCHEDULE=S.v1.x ")
    assert [f"{at:%d %H:%M}" for at in instants] == ["01 04:30", "02 04:30"]


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize(("at", "by"), [(1.5, 2), (4.5, -2), (1.5, 6)], ids=["on", "back", "far"])
def test_a_clock_that_is_set_starts_nothing_under_a_wrong_time(
    daemon: Daemon, at: float, by: float
) -> None:
    given = [schedule("30 2 * * *", name="fixed"), schedule("*/30 * * * *", name="often")]
    found = slots(
        lines_of(crontab(*given)),
        daemon,
        start=START,
        end=START + timedelta(hours=9),
        clock_jumps={START + timedelta(hours=at): timedelta(hours=by)},
    )
    for one in given:
        assert all(one.contains(slot) for slot in found.get(one.id, ()))
    assert (START.replace(hour=2, minute=30) in found.get("S.v1.fixed", ())) == (by < 3)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_longest_command_is_taken(daemon: Daemon) -> None:
    name, path = "x" * 190, "/" + "p" * 200
    settings = CronSettings(user="u" * 32, program=path, bearer_file=path)
    one = schedule("0 4 * * *", name=name, jitter=timedelta(hours=20))
    text = lines_of(crontab(one, settings=settings))
    command = text.splitlines()[-1].split(maxsplit=6)[-1]
    assert len(command) < LONGEST_COMMAND - 200
    end = START + timedelta(days=1)
    assert len(crond.fires(text, timezone="UTC", start=START, end=end, daemon=daemon)) == 1


def test_debians_cron_takes_no_longer_command_than_the_limit() -> None:
    day = {"timezone": "UTC", "start": START, "end": START + timedelta(days=1)}
    assert crond.fires(f"0 4 * * * {'x' * LONGEST_COMMAND}\n", **day)
    with pytest.raises(crond.CrontabRefused, match="command too long"):
        crond.fires(f"0 4 * * * {'x' * (LONGEST_COMMAND + 1)}\n", **day)


def test_either_day_is_one_line_in_which_no_field_begins_with_a_star() -> None:
    odd = schedule(Cron("0 0 */2 * FRI", day_rule="or"))
    either = schedule("0 0 13 * FRI", name="y")
    odds = ",".join(map(str, range(1, 32, 2)))
    assert times(crontab(odd, either)) == [f"0 0 {odds} * 5", "0 0 13 * 5"]


def test_no_line_of_the_corpus_restricts_both_days_with_a_star_or_an_and() -> None:
    for line in times(crontab(*contracts())):
        *_, day, _, weekday = line.split()
        assert day == "*" or weekday == "*" or not (day + weekday).count("*")


def test_a_schedule_of_another_zone_has_lines_in_utc_for_each_of_its_offsets() -> None:
    assert times(crontab(schedule("30 2 * * *", "Europe/Berlin"))) == ["30 0,1 * * *"]


def test_on_a_host_in_the_same_zone_a_line_that_is_moved_is_a_slot_of_its_own() -> None:
    one = schedule("30 2 * * *", "Europe/Berlin", dst_gap="next")
    text = crontab(one, settings=BERLIN)
    assert times(text) == ["30 2 * * *"]
    assert "PURISTA_PERIOD=1800 PURISTA_PHASE=0" in text


def test_cron_brings_nothing_back_so_that_it_is_a_finding_unless_the_ingress_does() -> None:
    for policy in ("runOnce", "catchUp"):
        one = schedule("0 4 * * *", missed_run_policy=policy)
        assert codes(one) == [f"missed-run-policy-{policy.lower()}"]
        assert codes(one, ingress=RECOVERING) == []
    assert codes(schedule("0 4 * * *")) == []


def test_what_is_due_after_2038_is_a_finding_on_debians_cron_alone() -> None:
    request = TestCron().request()
    later = replace(request.horizon, end=datetime(2040, 1, 1, tzinfo=UTC))
    daily = schedule("0 12 * * *")
    over = schedule("0 12 * * *", end_at=datetime(2030, 1, 1, tzinfo=UTC))
    cronie = CronSettings(user="p", daemon="cronie")
    assert codes(daily) == codes(over, horizon=later) == []
    assert codes(daily, horizon=later) == ["limit-2038"]
    assert codes(daily, horizon=later, settings=cronie) == []


def test_in_2038_debians_cron_loses_the_time_of_day_and_cronie_keeps_it() -> None:
    day = datetime(2038, 1, 20, tzinfo=UTC)
    found = {
        daemon: crond.fires(
            "0 12 * * * x\n",
            timezone="UTC",
            start=day - timedelta(days=2),
            end=day + timedelta(days=1),
            daemon=daemon,
        )["x"]
        for daemon in DAEMONS
    }
    assert [f"{at:%H:%M}" for at in found["debian"]] == ["12:00", "18:29", "18:29"]
    assert [f"{at:%H:%M}" for at in found["cronie"]] == ["12:00", "12:00", "12:00"]


def test_seconds_are_left_out_with_a_finding() -> None:
    assert codes(schedule(Cron("30 15 4 * * *", seconds=True))) == ["expression-cron-with-seconds"]
    assert codes(schedule(Every(timedelta(seconds=90)))) == ["interval"]


def test_many_lines_go_to_several_files_whose_names_the_daemons_take() -> None:
    many = [schedule(f"{n % 60} 4 * * *", name=f"x{n}") for n in range(800)]
    found = files(compiled(*many))
    assert [each.path for each in found] == [
        "cron.d/purista",
        "cron.d/purista-2",
        "cron.d/purista-3",
    ]
    assert all(each.text.count("\n") <= MOST_LINES for each in found)
    assert sum(len(times(each.text)) for each in found) == 800


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_ignores_a_file_with_too_many_lines(daemon: Daemon) -> None:
    assert started_of(9_000, daemon) == 9_000
    assert started_of(12_000, daemon) == 0


def started_of(count: int, daemon: Daemon) -> int:
    """Return how many lines of so many are started. cronie says nothing where it ignores a file."""
    text = "".join(f"0 4 * * * x{number}\n" for number in range(count))
    end = START + timedelta(hours=5)
    try:
        return len(crond.fires(text, timezone="UTC", start=START, end=end, daemon=daemon))
    except crond.CrontabRefused:
        return 0


def test_a_disabled_schedule_is_a_comment() -> None:
    text = crontab(schedule("0 4 * * *", enabled=False))
    assert "\n# disabled: 0 4 * * * purista PURISTA_SCHEDULE=S.v1.x" in text
    assert times(text) == []


def test_a_description_cannot_leave_its_comment() -> None:
    text = "one\n* * * * * root rm\r\x0btwo\u2028three \N{PARTY POPPER} 100%"
    found = crontab(schedule("0 4 * * *", description=text))
    assert "# one * * * * * root rm two three \N{PARTY POPPER} 100%\n" in found
    assert times(found) == ["0 4 * * *"]


def test_an_address_that_is_too_long_for_a_line_is_a_finding_with_the_number() -> None:
    address = IngressSettings(url=f"https://example.com/{'x' * 1000}")
    [finding] = place(SCHEDULER, [schedule("0 4 * * *")], TestCron().request(ingress=address))[1]
    assert (finding.code, finding.leaves_out) == ("limit-address", True)
    assert "998" in finding.message


def test_the_user_is_a_setting_of_a_schedule_and_the_hosts_zone_is_none() -> None:
    one = schedule("0 4 * * *", provider_hints={"cron": {"user": "billing"}})
    assert "0 4 * * * billing PURISTA_SCHEDULE=S.v1.x " in crontab(one)
    zone = schedule("0 4 * * *", provider_hints={"cron": {"host_timezone": "Asia/Tokyo"}})
    assert codes(zone) == ["provider-hints"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": "a b"},
        {"program": "/a b"},
        {"program": "/x%y"},
        {"bearer_file": "x"},
        {"file": "purista.cron"},
        {"host_timezone": "Mars/Olympus"},
    ],
    ids=str,
)
def test_a_setting_that_cron_would_read_otherwise_is_none(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CronSettings(**{"user": "purista", **wrong})


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize(
    ("zone", "settings", "started", "sent"),
    [
        ("UTC", None, "2027-03-01T02:30:01", "2027-03-01T02:30:00"),
        ("UTC", None, "2027-03-01T09:15:00", "2027-03-01T02:30:00"),
        ("Europe/Berlin", None, "2027-03-28T01:31:00", "2027-03-28T01:30:00"),
        ("Europe/Berlin", BERLIN, "2027-03-28T01:00:02", "2027-03-28T01:00:00"),
    ],
    ids=["in time", "late", "by a line in UTC", "moved to the end of the gap"],
)
def test_what_a_line_starts_sends_its_slot(
    shell: Shell, zone: str, settings: CronSettings | None, started: str, sent: str
) -> None:
    one = schedule("30 2 * * *", zone, dst_gap="next")
    ran = started_line(shell, one, started, **({"settings": settings} if settings else {}))
    [trigger] = ran.posted.triggers
    assert (ran.code, ran.out, ran.error, ran.slept) == (0, "", "", ())
    assert trigger.nominal_time == instant(sent)
    assert (trigger.schedule_id, trigger.manual, trigger.has_data) == ("S.v1.x", False, False)
    assert trigger.id == f"S.v1.x/{sent}Z"
    assert trigger.fingerprint
    assert trigger.source.startswith("cron/")


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_end_says_what_the_ingress_answered_and_all_else_is_silent(shell: Shell) -> None:
    one, at = schedule("30 2 * * *"), "2027-03-01T02:30:00"
    refused = started_line(shell, one, at, answers=(400,))
    retried = started_line(shell, one, at, answers=(503, 202))
    assert (refused.code, refused.out, len(refused.posted.triggers)) == (22, "", 1)
    assert '"decided"' in refused.error
    assert (retried.code, retried.out, retried.error) == (0, "", "")
    assert len(set(map(repr, retried.posted.triggers))) == 1
    assert len(retried.posted.triggers) == 2


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_a_script_waits_within_the_jitter_as_long_for_a_slot_each_time(shell: Shell) -> None:
    one = schedule("30 2 * * *", jitter=timedelta(minutes=5))
    waits = [
        sum(started_line(shell, one, f"2027-03-{day:02}T02:30:0{late}").slept) + late
        for day in (1, 2, 3)
        for late in (0, 2)
    ]
    assert waits[::2] == waits[1::2]
    assert len(set(waits)) == 3
    assert all(0 < wait < 300 for wait in waits)


def test_waits_are_spread_over_the_jitter() -> None:
    text = compiled(schedule("30 2 * * *", jitter=timedelta(minutes=5))).artifacts[-1].text
    [expression] = re.findall(r"share=\$\(\((.*)\)\)", text)
    days = [(20_000 + day) * 1440 + 150 for day in range(300)]
    shares = [(minute + 17) * 2654435761 % 4294967296 for minute in days]
    counts = [sum(share * 10 // 4294967296 == tenth for share in shares) for tenth in range(10)]
    assert expression == "(slot / 60 + PURISTA_OFFSET) * 2654435761 % 4294967296"
    assert min(counts) >= 20


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_bearer_token_is_read_from_its_file(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "bearer"
    file.write_text("s3cret\n")
    settings = CronSettings(user="purista", bearer_file=str(file))
    ran = started_line(shell, schedule("30 2 * * *"), "2027-03-01T02:30:00", settings=settings)
    assert ran.posted.tokens == ["Bearer s3cret"]


def started_line(
    shell: Shell, one: Schedule, at: str, answers: tuple[int, ...] = (202,), **changes: Any
) -> sender.Ran:
    """Run the script with the environment that a file's settings and its line give it."""
    compilation = compiled(one, **changes)
    [file] = files(compilation)
    given = environment_of(lines_of(file.text).replace("\n", " "))
    [script] = [each for each in compilation.artifacts if each.executable]
    return sender.run(script.text, given, shell=shell, now=instant(at), answers=answers)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_example_compiles_to_the_golden_files(billing_example: ModuleType) -> None:
    made = list(billing_example.billing.schedules.values())
    request = TestCron().request(ingress=RECOVERING)
    artifacts = list(compile_schedules(SCHEDULER, made, request).artifacts)
    unhelped = replace(request, ingress=IngressSettings(url=RECOVERING.url))
    texts = [str(each) for each in place(SCHEDULER, made, unhelped)[1]]
    artifacts.append(Artifact("findings.txt", "".join(f"{text}\n" for text in texts)))
    if os.environ.get("UPDATE_GOLDENS"):
        for each in artifacts:
            (GOLDENS / each.path).parent.mkdir(parents=True, exist_ok=True)
            (GOLDENS / each.path).write_text(each.text)
    held = {
        str(file.relative_to(GOLDENS)): file.read_text()
        for file in sorted(GOLDENS.rglob("*"))
        if file.is_file()
    }
    assert held == {each.path: each.text for each in artifacts}
