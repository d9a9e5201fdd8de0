"""cron: a file for ``/etc/cron.d``, for Debian's cron and cronie, with the script that its lines start.

Lines are read on the clock of the host, so that a host in UTC can hold every schedule. ``CRON_TZ`` is
not used: Debian's cron does not know it, and in cronie the host's own clock changes interfere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from purista import firetimes
from purista.compiling import Artifact, Placed, Request, accepted_text, marker_text, timing_of
from purista.contract import Schedule
from purista.cover import Cover, Line, Uncovered, cover
from purista.dialect import Dialect, Reading, clock_windows, windows_met
from purista.expression import Cron
from purista.naming import NameRule
from purista.portability import (
    CapabilityTable,
    Finding,
    by_ingress,
    by_none,
    example_of,
    ingress_cells,
    missed_finding,
    native,
    utc_text,
)
from purista.sender import PROGRAM, TRIGGER, TRIGGER_NAME, jitter_of, trigger_settings
from purista.settings import Settings
from purista.slot import SlotGrid
from purista.slotgrid import grid_of
from purista.turnover import Horizon

DIALECT: Final = Dialect(
    day_rule="or",
    zones=frozenset({"UTC"}),
    dst_gap="next",
    dst_overlap="first",
    wildcard="both",
    odd_changes=False,
)
"""Both daemons on a host in UTC, or in the zone of ``zones``; with changes by half an hour they err."""

READING: Final = Reading(
    day_rule="or",
    star_rule=True,
    refused=frozenset({"L", "L-n", "W", "LW"}),
    misread=frozenset({"#", "#L"}),
    dst_gap="next",
    dst_overlap="first",
    wildcard="both",
    zone="UTC",
)
"""What Debian's cron makes of a text as it stands, on a host in UTC; cronie refuses ``#``."""

MANUAL: Final = "https://manpages.debian.org/trixie/cron/crontab.5.en.html"
ENGINE: Final = "experiment: cron 3.0pl1-197 and cronie 1.7.2, tests/test_schedulers_cron.py"

_UTC_LINES: Final = "where its clock has this rule, else lines in UTC; the others are dropped"
_RECOVERED: Final = by_ingress(
    "cron forgets what it missed; the ingress recovers with the next trigger (recovery = 'ingress')",
    MANUAL,
)

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("a line, in lists of numbers", ENGINE),
        "expression=cron with L": by_ingress("days 28 to 31; the others are dropped", ENGINE),
        "expression=cron with W": by_ingress("the days around it; the others are dropped", ENGINE),
        "expression=cron with #": by_ingress("every such weekday; the others are dropped", ENGINE),
        "expression=cron with seconds": by_none("its lines name minutes", MANUAL),
        "expression=day rule or": native("both day fields in one line mean either", ENGINE),
        "expression=day rule and": by_ingress("one day field; the others are dropped", ENGINE),
        "expression=every": by_ingress("a line in UTC that fires at all of its times", ENGINE),
        "expression=once": by_ingress("a dated line; other years are dropped", ENGINE),
        "timezone": by_ingress(
            "lines in UTC that cover its offsets; native on a host in the same zone", ENGINE
        ),
        "dst_gap=skip": by_ingress("it fires at the end of the gap; that is dropped", ENGINE),
        "dst_gap=next": by_ingress(f"native {_UTC_LINES}", ENGINE),
        "dst_gap=shift": by_ingress("a further line at the shifted time", ENGINE),
        "dst_overlap=first": by_ingress(f"native {_UTC_LINES}", ENGINE),
        "dst_overlap=last": by_ingress("lines in UTC; the others are dropped", ENGINE),
        "dst_overlap=both": by_ingress("lines in UTC; the others are dropped", ENGINE),
        "start_at": by_ingress("triggers before it are dropped", MANUAL),
        "end_at": by_ingress("triggers after it are dropped", MANUAL),
        "exclude": by_ingress("triggers of excluded days are dropped", MANUAL),
        "jitter": native("the script waits before it sends, as long for a slot each time", ENGINE),
        "enabled=false": native("its lines are comments", MANUAL),
        "concurrency_policy=allow": native("cron starts a process whatever still runs", MANUAL),
        "concurrency_policy=forbid": by_ingress("the ingress knows the run", MANUAL),
        "concurrency_policy=replace": by_ingress("the ingress cancels the run", MANUAL),
        "missed_run_policy=skip": native("cron forgets what it missed", MANUAL),
        "missed_run_policy=runOnce": _RECOVERED,
        "missed_run_policy=catchUp": _RECOVERED,
        "catch_up_window": by_ingress("the ingress recovers within it", MANUAL),
        "max_catch_up": by_ingress("the ingress recovers no more", MANUAL),
        "description": native("a comment", MANUAL),
        "provider_hints": native("the user of the lines of this schedule", "docs/settings.md"),
        "nominal time": by_ingress(
            "the script takes the latest point of the grid on which all slots of the schedule lie",
            ENGINE,
        ),
    }
)

LONGEST_COMMAND: Final = 998
"""Debian's cron refuses the whole file for a longer command. All that stands in one here is bounded,
so that none comes near it."""

LONGEST_SETTING: Final = 998
"""cronie and Debian's cron read a setting into 1000 characters (MAX_ENVSTR) with its end."""

MOST_LINES: Final = 1000
"""Lines of a file; more go to a further one. Both daemons ignore a file with more than 10,000."""

YEAR_2038: Final = datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)
"""From here on Debian's cron 3.0pl1 starts jobs at other times."""


class CronSettings(Settings):
    """The table ``[cron]``.

    ``user`` is who runs the script, ``program`` where it is installed, ``file`` the name of the file in
    ``/etc/cron.d``. ``host_timezone`` is the zone of the host's clock; ``bearer_file`` holds the
    bearer token that the ingress takes, and ``user`` may read it. ``daemon`` is the least able daemon
    that will read the file.
    """

    user: str = Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$", examples=["purista"])
    program: str = Field(f"/usr/local/bin/{TRIGGER_NAME}", pattern=PROGRAM)
    bearer_file: str | None = Field(None, pattern=PROGRAM)
    file: str = Field("purista", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    host_timezone: str = "UTC"
    daemon: Literal["debian", "cronie"] = "debian"

    @field_validator("host_timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        for problem in firetimes.zone_problems(name):
            raise ValueError(problem.message)
        return name


class CronScheduler:
    """The scheduler ``cron``."""

    name = "cron"
    title = "cron"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = CronSettings
    sample: Mapping[str, Any] = {"user": "purista"}
    most = None
    names = NameRule(longest=200, others=re.compile(r"[^A-Za-z0-9_.-]"))

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none."""
        unfit = sorted(set(schedule.provider_hints.get(self.name, {})) - {"user", "program"})
        if unfit:
            return Uncovered("provider-hints", f"all lines of a file share {', '.join(unfit)}")
        dialect = dialect_of(_settings_of(request).host_timezone, request.horizon)
        found = cover(
            timing_of(schedule), dialect, request.horizon, exact_native=request.exact_native
        )
        if isinstance(found, Uncovered) and found.code == "host-zone":
            remedy = "a host whose clock is in UTC (host_timezone = 'UTC') can hold every zone"
            return replace(found, message=f"{found.message}; {remedy}")
        return found

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        for differences in (_recovery_findings, _findings_of_2038, _limit_findings):
            yield from differences(placed, request)

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield files for ``/etc/cron.d`` with the lines of all schedules, and the script."""
        settings = _settings_of(request)
        head = _HEAD % {
            "zone": settings.host_timezone,
            "url": _url_text(request),
            "bearer": f"PURISTA_BEARER_FILE={settings.bearer_file}\n" * bool(settings.bearer_file),
        }
        blocks = [_block(each, request) for each in placed]
        bodies = _files(blocks, MOST_LINES - head.count("\n"))
        for number, body in enumerate(bodies, 1):
            name = settings.file if number == 1 else f"{settings.file}-{number}"
            yield Artifact(f"cron.d/{name}", head + body)
        yield Artifact(TRIGGER_NAME, TRIGGER, executable=True)


SCHEDULER: Final = CronScheduler()


@lru_cache(maxsize=64)
def dialect_of(host_timezone: str, horizon: Horizon) -> Dialect:
    """Return what lines can say on a host whose clock is in a zone."""
    zones = {host_timezone}
    offset = firetimes.offset_at(host_timezone, horizon.start)
    if not offset and not clock_windows(host_timezone, horizon.start, horizon.end):
        zones.add("UTC")
    return replace(DIALECT, zones=frozenset(zones))


def slots_of(lines: Sequence[Line], horizon: Horizon) -> SlotGrid:
    """Return the grid of all slots at which the daemon starts what stands in some lines."""
    return grid_of((*lines, *_moved(lines, horizon)), horizon)


def _moved(lines: Sequence[Line], horizon: Horizon) -> Iterator[Line]:
    """Yield a line for the end of each gap in which a line has a time: the daemon makes it up there."""
    for line in lines:
        windows = clock_windows(line.timezone, horizon.start, horizon.end)
        if not windows or not line.cron.is_fixed_time:
            continue
        for window in windows_met(line.cron, windows):
            if window.transition.change > timedelta(0):
                at = window.transition.instant
                yield Line(Cron(f"{at.minute} {at.hour} * * *"), "UTC")


def _recovery_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where nobody brings back what was missed."""
    schedule = placed.schedule
    if schedule.missed_run_policy != "skip" and request.ingress.recovery != "ingress":
        option = f"missed_run_policy={schedule.missed_run_policy}"
        yield missed_finding(
            schedule,
            request.horizon.start,
            "cron forgets what it missed",
            CAPABILITIES[option].source,
        )


def _findings_of_2038(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where a schedule is due when Debian's cron has lost the time of day."""
    schedule, settings = placed.schedule, _settings_of(placed)
    at = schedule.next_after(YEAR_2038 - timedelta(seconds=1))
    if settings.daemon == "debian" and at is not None and at <= request.horizon.end:
        yield Finding(
            code="limit-2038",
            schedule_id=schedule.id,
            option="expression",
            message=f"Debian's cron starts jobs at wrong times from {utc_text(YEAR_2038)} on",
            example=f"{utc_text(at)} is due, and what is due at 12:00 starts at 18:29",
            remedy="use cronie, and say daemon = 'cronie' in purista.toml",
            source=ENGINE,
        )


def _limit_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where a line of the file would be too long."""
    schedule, size = placed.schedule, len(_url_text(request))
    if size > LONGEST_SETTING:
        yield Finding(
            code="limit-address",
            schedule_id=schedule.id,
            option="target",
            message=f"the ingress's address takes {size} characters; a line holds {LONGEST_SETTING}",
            example=f"{example_of('target', schedule, request.horizon.start)}, and nothing is sent",
            remedy="give the ingress a shorter address",
            source=MANUAL,
            leaves_out=True,
        )


def _settings_of(of: Placed | Request) -> CronSettings:
    settings = of.settings
    assert isinstance(settings, CronSettings)
    return settings


def _files(blocks: Sequence[str], most: int) -> Iterator[str]:
    """Yield blocks together, as many as have at most so many lines."""
    held: list[str] = []
    left = most
    for block in blocks:
        lines = block.count("\n")
        if held and lines > left:
            yield "".join(held)
            held, left = [], most
        held.append(block)
        left -= lines
    yield "".join(held)


def _block(placed: Placed, request: Request) -> str:
    """Return the lines of one schedule, with the comments above them."""
    schedule = placed.schedule
    comments = ["", f"# {marker_text(placed)}"]
    if placed.accepted:
        comments.append(f"# accepted: {accepted_text(placed)}")
    if schedule.description:
        comments.append(f"# {one_line(schedule.description)}")
    command = _command(placed, request)
    off = "" if schedule.enabled else "# disabled: "
    lines = [f"{off}{cron_text(line)} {command}" for line in placed.cover.lines]
    return "\n".join([*comments, *lines, ""])


def cron_text(line: Line) -> str:
    """Return the time fields of a line; its day fields, where both restrict, mean either."""
    return line.cron.canonical


def _command(placed: Placed, request: Request) -> str:
    """Return the user and the command of a schedule's lines. Nothing in it means anything to cron."""
    settings = _settings_of(placed)
    words = [f"{name}={value}" for name, value in script_settings(placed, request).items()]
    return " ".join([settings.user, *words, settings.program])


def script_settings(placed: Placed, request: Request) -> dict[str, str]:
    """Return what the script is told of a schedule, but for what all lines of a file share."""
    schedule = placed.schedule
    jitter = jitter_of(schedule, request.horizon)
    grid = slots_of(placed.cover.lines, request.horizon)
    return trigger_settings(schedule, placed.fingerprint, grid, jitter)


def _url_text(request: Request) -> str:
    return f"PURISTA_URL={request.ingress.triggers_url}"


def one_line(text: str) -> str:
    """Return a text that is a comment to its end."""
    return "".join(each if each.isprintable() else " " for each in " ".join(text.split()))


_HEAD: Final = """\
# Made by purista for /etc/cron.d, on a host whose clock is in %(zone)s. Do not edit: compile again.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
%(url)s
PURISTA_SOURCE=cron
%(bearer)s"""
