"""systemd's timers mean what their contracts mean: asked of its own calendar, by ``systemd-analyze``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.dialects import timings
from tests.engines import sender, systemd
from tests.engines.sender import Shell

from purista.clockchange import Timing
from purista.compiling import Artifact, Compilation, compile_schedules, place
from purista.contract import Event, Schedule
from purista.cover import Line
from purista.expression import Cron, Every, Once
from purista.schedulers.systemd import SCHEDULER, SystemdSettings, calendar_text
from purista.settings import IngressSettings
from purista.slot import SlotGrid
from purista.testing import SchedulerSuite
from purista.testing.corpus import END, START, contracts

GOLDENS = Path(__file__).parent / "goldens/compile/systemd"
RECOVERING = IngressSettings(url="https://triggers.example.com", recovery="ingress")
LATE = timedelta(milliseconds=300)
"""How late a service is started: systemd may let a timer of ``AccuracySec=1s`` wait."""

SEASONS = (
    (datetime(2027, 3, 13, tzinfo=UTC), datetime(2027, 4, 6, tzinfo=UTC)),
    (datetime(2027, 9, 3, tzinfo=UTC), datetime(2027, 11, 8, tzinfo=UTC)),
)
"""When clocks change, on both halves of the earth: a line in a zone takes systemd long to look ahead."""


class TestSystemd(SchedulerSuite):
    scheduler = SCHEDULER
    asked: ClassVar[dict[tuple[str, datetime], list[datetime]]] = {}

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        """Return the times that the script sends; where it sends none, when it is started."""
        texts = {each.path: each.text for each in compilation.artifacts}
        timers = {name: calendar_of(texts[name]) for name in texts if name.endswith(".timer")}
        lines = {line for calendar in timers.values() for line in calendar}
        new = sorted(line for line in lines if (line, start) not in self.asked)
        for line, instants in systemd.fires_of_each(new, start=start, end=end).items():
            self.asked[line, start] = instants
        found: dict[str, set[datetime]] = {}
        for name, calendar in timers.items():
            service = texts[name.replace(".timer", ".service")]
            at = {instant for line in calendar for instant in self.asked[line, start]}
            found[environment_of(service)["PURISTA_SCHEDULE"]] = sent(service, at)
        return found


def calendar_of(timer: str) -> list[str]:
    return re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)


def environment_of(service: str) -> dict[str, str]:
    """Return the environment that systemd makes of a unit (systemd.syntax(7), systemd.unit(5))."""
    texts = re.findall(r'^Environment="(\w+)=(.*)"$', service, re.MULTILINE)
    return {name: value.replace("%%", "%") for name, value in texts}


def sent(service: str, starts: Iterable[datetime]) -> set[datetime]:
    """Return which times the script sends, by what the service tells it."""
    given = environment_of(service)
    said = given.get("PURISTA_TIME")
    if said == "unknown":
        return set(starts)
    if said is not None:
        return {datetime.fromisoformat(said) for _ in starts}
    grid = SlotGrid(int(given["PURISTA_PERIOD"]), int(given["PURISTA_PHASE"]))
    return {grid.slot(at + LATE) for at in starts}


def schedule(expression: Cron | Every | Once | str, zone: str = "UTC", **options: Any) -> Schedule:
    when = Cron(expression) if isinstance(expression, str) else expression
    target = Event("due", str, service_name="S", service_version="1")
    values = {"name": "x", "service_name": "S", "service_version": "1", "payload": "due"}
    return Schedule(**{**values, "target": target, "expression": when, "timezone": zone, **options})


def compiled(*schedules: Schedule, **changes: Any) -> dict[str, str]:
    compilation = TestSystemd().compiled(schedules, **changes)
    return {each.path: each.text for each in compilation.artifacts}


def units(one: Schedule, **changes: Any) -> tuple[str, str]:
    """Return the timer and the service of a schedule."""
    found = compiled(one, **changes)
    [timer] = [text for path, text in found.items() if path.endswith(".timer")]
    [service] = [text for path, text in found.items() if path.endswith(".service")]
    return timer, service


def codes(one: Schedule, **changes: Any) -> list[str]:
    return [each.code for each in place(SCHEDULER, [one], TestSystemd().request(**changes))[1]]


@settings(max_examples=3, deadline=None)
@given(st.lists(timings(), min_size=5, max_size=10), st.sampled_from(SEASONS))
def test_whatever_is_due_is_sent_then(
    given: list[Timing], season: tuple[datetime, datetime]
) -> None:
    many = [of(timing, number) for number, timing in enumerate(given)]
    compilation = TestSystemd().compiled(many)
    found = TestSystemd().fires(compilation, *season)
    for one in (each.schedule for each in compilation.placed):
        sent = {at for at in found.get(one.id, ()) if one.contains(at)}
        assert sent == set(one.between(*season))


def of(timing: Timing, number: int) -> Schedule:
    """Return a schedule that is due as a timing says."""
    words = {"dst_gap": timing.dst_gap, "dst_overlap": timing.dst_overlap}
    return schedule(timing.expression, timing.timezone, name=f"x{number}", **words)


def test_systemd_takes_every_unit_of_the_corpus_without_a_complaint(tmp_path: Path) -> None:
    program = tmp_path / "purista-trigger"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = SystemdSettings(program=str(program), bearer_file="/etc/purista/bearer")
    found = compiled(*contracts(), settings=units)
    named = {name: text for name, text in found.items() if "." in name}
    assert len(named) == 2 * len(contracts())
    assert systemd.verify(named) == []


def test_every_contract_of_the_corpus_has_its_timer() -> None:
    placed, found = place(SCHEDULER, contracts(), TestSystemd().request(ingress=RECOVERING))
    assert len(placed) == len(contracts())
    assert found == []


@pytest.mark.parametrize("season", SEASONS, ids=["spring", "autumn"])
@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Pacific/Chatham", "America/Santiago"])
@pytest.mark.parametrize("text", ["15 2 * * *", "0 0 * * *", "0,30 1,2,3 * * *", "45 23 * * *"])
def test_fixed_times_are_skipped_in_gaps_and_come_first_in_overlaps_in_every_zone(
    text: str, zone: str, season: tuple[datetime, datetime]
) -> None:
    line = calendar_text(Line(Cron(text), zone))
    due = list(schedule(text, zone).between(*season))
    assert systemd.fires([line], start=season[0], end=season[1]) == due


def test_a_line_of_any_time_is_silent_where_an_hour_comes_a_second_time() -> None:
    line = calendar_text(Line(Cron("*/30 * * * *"), "Europe/Berlin"))
    at = datetime(2027, 10, 31, 1, tzinfo=UTC)
    around = at - timedelta(days=2), at + timedelta(days=2)
    found = systemd.fires([line], start=around[0], end=around[1])
    due = set(schedule("*/30 * * * *", "Europe/Berlin").between(*around))
    assert sorted(due.difference(found)) == [at, at + timedelta(minutes=30)]


@pytest.mark.parametrize(
    ("cron", "text"),
    [
        (Cron("0 9 * * FRI#3"), "Fri *-*-15..21 09:00:00 UTC"),
        (Cron("0 9 * * THU#5"), "Thu *-*-29..31 09:00:00 UTC"),
        (Cron("0 9 * * FRI#L"), "Fri *-*~07/1 09:00:00 UTC"),
        (Cron("0 9 L * *"), "*-*~01 09:00:00 UTC"),
        (Cron("0 9 L-2 2 *"), "*-02~03 09:00:00 UTC"),
        (Cron("0 9 1-7 * MON", day_rule="and"), "Mon *-*-01,02,03,04,05,06,07 09:00:00 UTC"),
        (Cron("0 0 1-31 * FRI", day_rule="or"), "*-*-* 00:00:00 UTC"),
        (Cron("15,45 30 */6 * * 0", seconds=True), "Sun *-*-* 00,06,12,18:30:15,45 UTC"),
    ],
    ids=str,
)
def test_a_line_says_its_days_as_systemd_counts_them(cron: Cron, text: str) -> None:
    assert calendar_text(Line(cron, "UTC")) == text
    due = list(schedule(cron).between(START, END))
    assert systemd.fires([text], start=START, end=END) == due


def test_either_day_is_two_lines_that_fire_once_where_they_coincide() -> None:
    timer, _ = units(schedule("0 0 13 * FRI", "Europe/Berlin"))
    assert calendar_of(timer) == [
        "*-*-13 00:00:00 Europe/Berlin",
        "Fri *-*-* 00:00:00 Europe/Berlin",
    ]


def test_a_one_shot_fires_in_its_year_alone_and_says_its_time() -> None:
    at = datetime(2028, 2, 29, 12, 0, 0, 250_000, tzinfo=UTC)
    timer, service = units(schedule(Once(at), missed_run_policy="runOnce"))
    assert calendar_of(timer) == ["2028-02-29 12:00:00.250000 UTC"]
    assert "Persistent=true" in timer
    assert environment_of(service)["PURISTA_TIME"] == "2028-02-29T12:00:00.250000Z"


def test_what_was_missed_is_started_once_where_every_start_is_for_a_nominal_time() -> None:
    persistent = {
        what: "Persistent=true" in units(one)[0]
        for what, one in {
            "exact": schedule("0 4 * * *", missed_run_policy="runOnce"),
            "skipped": schedule("0 4 * * *"),
            "every": schedule("0 4 * * *", missed_run_policy="catchUp"),
            "more often": schedule(Every(timedelta(days=2)), missed_run_policy="runOnce"),
            "excluded": schedule(
                "0 4 * * *", missed_run_policy="runOnce", exclude=(date(2027, 12, 25),)
            ),
            "ending": schedule("0 4 * * *", missed_run_policy="runOnce", end_at=END),
        }.items()
    }
    assert persistent == {each: each == "exact" for each in persistent}


def test_what_systemd_cannot_bring_back_is_a_finding_unless_the_ingress_recovers() -> None:
    exact = schedule("0 4 * * *", missed_run_policy="runOnce")
    superset = schedule(Every(timedelta(days=2)), missed_run_policy="runOnce")
    every = schedule("0 4 * * *", missed_run_policy="catchUp")
    assert [codes(one) for one in (exact, superset, every)] == [
        [],
        ["missed-run-policy-runonce"],
        ["missed-run-policy-catchup"],
    ]
    assert [codes(one, ingress=RECOVERING) for one in (exact, superset, every)] == [[], [], []]


@pytest.mark.parametrize(
    ("one", "jitter", "tries", "longest"),
    [
        (schedule("0 4 * * *", jitter=timedelta(minutes=5)), 300, 510, 855),
        (schedule("*/5 * * * *", jitter=timedelta(minutes=30)), 299, 1, 299),
        (schedule("* * * * *"), 0, 15, 59),
        (schedule(Every(timedelta(seconds=10))), 0, 2, 9),
        (schedule(Every(timedelta(seconds=1))), 0, 1, 1),
    ],
    ids=["daily", "more jitter than time", "each minute", "each 10 seconds", "each second"],
)
def test_a_sender_waits_tries_and_ends_within_the_time_to_the_next_slot(
    one: Schedule, jitter: int, tries: int, longest: int
) -> None:
    _, service = units(one)
    given = environment_of(service)
    assert int(given.get("PURISTA_JITTER", 0)) == jitter
    assert int(given["PURISTA_TRY_SECONDS"]) == tries
    assert f"TimeoutStartSec={longest}\n" in service


def test_a_disabled_schedule_has_a_timer_that_nobody_can_enable() -> None:
    timer, _ = units(schedule("0 4 * * *", enabled=False))
    assert "[Install]" not in timer
    assert "[Install]\nWantedBy=timers.target\n" in units(schedule("0 4 * * *"))[0]


def test_a_description_stays_one_line_whatever_it_holds(tmp_path: Path) -> None:
    text = "100 % of\nExecStart=/bin/sh\ttwo  \u2028three \N{PARTY POPPER} \\"
    settings = SystemdSettings(program="/bin/true")
    found = compiled(schedule("0 4 * * *", description=text), settings=settings)
    assert (
        "Description=S.v1.x: 100 %% of ExecStart=/bin/sh two three \N{PARTY POPPER}\n"
        in (found["purista-s.v1.x.service"])
    )
    assert systemd.verify({name: each for name, each in found.items() if "." in name}) == []


def test_an_address_reaches_the_script_as_it_is() -> None:
    url = "https://triggers.example.com/a%20b/%n/$HOME/$(x)/'y'"
    _, service = units(schedule("0 4 * * *"), ingress=IngressSettings(url=url))
    assert environment_of(service)["PURISTA_URL"] == f"{url}/triggers"


def test_the_bearer_token_is_a_credential_and_the_user_can_be_named() -> None:
    settings = SystemdSettings(bearer_file="/etc/purista/bearer", user="purista")
    _, service = units(schedule("0 4 * * *"), settings=settings)
    assert "LoadCredential=bearer:/etc/purista/bearer\n" in service
    assert "User=purista\n" in service
    assert "DynamicUser" not in service


@pytest.mark.parametrize("path", ["relative", "/a b", "/x%n", "/x\nUser=root", "/" + "x" * 300])
def test_a_path_that_a_unit_file_would_read_otherwise_is_no_setting(path: str) -> None:
    with pytest.raises(ValidationError):
        SystemdSettings(program=path)


def test_settings_of_a_schedule_hold_for_its_service_alone() -> None:
    one = schedule("0 4 * * *", provider_hints={"systemd": {"user": "billing"}})
    found = compiled(one, schedule("0 5 * * *", name="y"))
    assert "User=billing\n" in found["purista-s.v1.x.service"]
    assert "DynamicUser=yes\n" in found["purista-s.v1.y.service"]


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_what_a_service_starts_sends_its_slot(shell: Shell) -> None:
    found = compiled(schedule("30 2 * * FRI#L", "Europe/Berlin"))
    given = environment_of(found["purista-s.v1.x.service"])
    at = datetime(2027, 1, 29, 1, 30, tzinfo=UTC)
    ran = sender.run(found["purista-trigger"], given, shell=shell, now=at + timedelta(seconds=1))
    [trigger] = ran.posted.triggers
    assert (ran.code, ran.out, ran.error, ran.slept) == (0, "", "", ())
    assert (trigger.schedule_id, trigger.nominal_time) == ("S.v1.x", at)
    assert trigger.source.startswith("systemd/purista-s.v1.x/")
    assert ran.posted.paths == ["/triggers"]


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize(("late", "slept"), [(0, (2,)), (1, (2,)), (5000, ())])
def test_a_service_that_may_bring_back_a_missed_slot_sends_no_time_and_not_too_soon(
    shell: Shell, late: int, slept: tuple[int, ...]
) -> None:
    found = compiled(schedule("0 4 * * *", missed_run_policy="runOnce"))
    given = environment_of(found["purista-s.v1.x.service"])
    now = datetime(2027, 1, 29, 4, tzinfo=UTC) + timedelta(seconds=late)
    ran = sender.run(found["purista-trigger"], given, shell=shell, now=now)
    [trigger] = ran.posted.triggers
    assert (trigger.nominal_time, trigger.manual, ran.slept) == (None, False, slept)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_token_is_read_from_systemds_credential(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bearer").write_text("s3cret\n")
    found = compiled(schedule("0 4 * * *"))
    given = environment_of(found["purista-s.v1.x.service"])
    given["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    ran = sender.run(found["purista-trigger"], given, shell=shell, now=START)
    assert ran.posted.tokens == ["Bearer s3cret"]


def test_the_example_compiles_to_the_golden_files(billing_example: ModuleType) -> None:
    made = list(billing_example.billing.schedules.values())
    request = TestSystemd().request(ingress=RECOVERING)
    artifacts = list(compile_schedules(SCHEDULER, made, request).artifacts)
    unhelped = replace(request, ingress=IngressSettings(url=RECOVERING.url))
    texts = [str(each) for each in place(SCHEDULER, made, unhelped)[1]]
    artifacts.append(Artifact("findings.txt", "".join(f"{text}\n" for text in texts)))
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDENS.mkdir(parents=True, exist_ok=True)
        for each in artifacts:
            (GOLDENS / each.path).write_text(each.text)
    held = {file.name: file.read_text() for file in sorted(GOLDENS.iterdir())}
    assert held == {each.path: each.text for each in artifacts}
