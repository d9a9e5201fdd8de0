"""systemd: a timer and a service for each schedule, with the script that the services start.

The host has to know the zones that the timers name: systemd refuses a timer with an unknown zone, and
Debian keeps old names such as ``US/Eastern`` in a package of its own, ``tzdata-legacy``. What a service
sends is a trigger; it ends when the ingress has answered, long before the next one is due.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, Final, NamedTuple

import pydantic

from purista.compiling import Artifact, Placed, Request, accepted_text, marker_text, timing_of
from purista.contract import Schedule
from purista.cover import Cover, Fit, Line, Uncovered, cover
from purista.cronfield import LAST, Field
from purista.dialect import Dialect, Reading
from purista.expression import Cron, Once
from purista.naming import NameRule
from purista.portability import (
    CapabilityTable,
    Finding,
    by_ingress,
    ingress_cells,
    missed_finding,
    native,
    utc_text,
)
from purista.sender import PROGRAM, TRIGGER, TRIGGER_NAME, jitter_of, trigger_settings
from purista.settings import Settings
from purista.slot import SlotGrid
from purista.slotgrid import grid_of
from purista.spacing import shortest_gap

DIALECT: Final = Dialect(
    day_rule="and",
    specials=frozenset({"L", "L-n", "#", "#L"}),
    seconds=True,
    dst_gap="skip",
    dst_overlap="first",
    wildcard="first",
    odd_changes=True,
    many_lines=True,
)
"""``OnCalendar=`` lines with a zone; where an hour comes twice, every line is silent the second time."""

READING: Final = Reading(
    day_rule="and",
    refused=frozenset({"L", "L-n", "W", "LW", "#", "#L"}),
    dst_gap="skip",
    dst_overlap="first",
    wildcard="first",
)
"""What becomes of a text whose fields are written over one by one as ``OnCalendar=``."""

TIMER: Final = "https://www.freedesktop.org/software/systemd/man/latest/systemd.timer.html"
TIME: Final = "https://www.freedesktop.org/software/systemd/man/latest/systemd.time.html"
SERVICE: Final = "https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html"
UNIT: Final = "https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html"
ENGINE: Final = "experiment: systemd-analyze calendar, tests/test_schedulers_systemd.py"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("OnCalendar=", ENGINE),
        "expression=cron with L": native("days from the month's end: *-*~01", ENGINE),
        "expression=cron with W": by_ingress("the weekdays around it; others are dropped", ENGINE),
        "expression=cron with #": native("a weekday among seven days: Fri *-*-15..21", ENGINE),
        "expression=cron with seconds": native("OnCalendar= has seconds", TIME),
        "expression=day rule or": native("two lines, which fire once where they coincide", ENGINE),
        "expression=day rule and": native("weekday and date in one line", ENGINE),
        "expression=every": by_ingress(
            "lines in UTC, which are exact where the interval divides a day", ENGINE
        ),
        "expression=once": native("a date with its year", ENGINE),
        "timezone": native("the zone stands in the line, or the line is in UTC", TIME),
        "dst_gap=skip": native("a time that does not exist is skipped", ENGINE),
        "dst_gap=next": by_ingress("a further line at the end of the gap", ENGINE),
        "dst_gap=shift": by_ingress("a further line at the shifted time", ENGINE),
        "dst_overlap=first": native("a time that comes twice elapses the first time", ENGINE),
        "dst_overlap=last": by_ingress("lines in UTC; the others are dropped", ENGINE),
        "dst_overlap=both": by_ingress("lines in UTC; the others are dropped", ENGINE),
        "start_at": by_ingress("triggers before it are dropped", TIMER),
        "end_at": by_ingress("triggers after it are dropped", TIMER),
        "exclude": by_ingress("triggers of excluded days are dropped", TIMER),
        "jitter": native("the script waits before it sends, as long for a slot each time", ENGINE),
        "enabled=false": native("a timer without [Install], which nobody can enable", UNIT),
        "concurrency_policy=allow": native("a service has ended before the next slot", SERVICE),
        "concurrency_policy=forbid": by_ingress("the ingress knows the run", SERVICE),
        "concurrency_policy=replace": by_ingress("the ingress cancels the run", SERVICE),
        "missed_run_policy=skip": native("Persistent=false", TIMER),
        "missed_run_policy=runOnce": by_ingress(
            "Persistent=true where the lines are exact; for others the ingress recovers with the next "
            "trigger (recovery = 'ingress')",
            TIMER,
        ),
        "missed_run_policy=catchUp": by_ingress(
            "the ingress recovers with the next trigger (recovery = 'ingress')", TIMER
        ),
        "catch_up_window": by_ingress("the ingress recovers within it", TIMER),
        "max_catch_up": by_ingress("the ingress recovers no more", TIMER),
        "description": native("Description=", UNIT),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": by_ingress(
            "the script takes the latest point of the grid on which all slots of the schedule lie; "
            "with Persistent=true the ingress takes the latest nominal time",
            ENGINE,
        ),
    }
)

LONGEST_NAME: Final = 255
"""Characters of a unit's name with its type (systemd.unit(5))."""


class SystemdSettings(Settings):
    """The table ``[systemd]``.

    ``program`` is where the script is installed, ``user`` who runs it: a user of its own that exists
    while it runs (``DynamicUser=``), if not given. ``bearer_file`` holds the bearer token that the
    ingress takes; systemd reads it as root and hands it over (``LoadCredential=``).
    """

    program: str = pydantic.Field(f"/usr/local/bin/{TRIGGER_NAME}", pattern=PROGRAM)
    user: str | None = pydantic.Field(
        None, pattern=r"^[a-z_][a-z0-9_-]{0,30}$", examples=["purista"]
    )
    bearer_file: str | None = pydantic.Field(None, pattern=PROGRAM)


class Systemd:
    """The scheduler ``systemd``."""

    name = "systemd"
    title = "systemd"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = SystemdSettings
    sample: Mapping[str, Any] = {}
    most = None
    names = NameRule(
        longest=LONGEST_NAME - len("stamp-purista-.service"),
        others=re.compile(r"[^a-z0-9._-]"),
        lower=True,
    )

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none; a one-shot needs none."""
        if isinstance(schedule.expression, Once):
            return Cover((), Fit.EXACT)
        return cover(
            timing_of(schedule), DIALECT, request.horizon, exact_native=request.exact_native
        )

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        schedule = placed.schedule
        policy = schedule.missed_run_policy
        if policy == "skip" or request.ingress.recovery == "ingress" or is_persistent(placed):
            return
        option = f"missed_run_policy={policy}"
        message = "it starts a service once for all that was missed, and not for each"
        if policy == "runOnce":
            message = "the latest that it missed may be one that the ingress drops"
        yield missed_finding(
            schedule,
            request.horizon.start,
            message,
            CAPABILITIES[option].source,
        )

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield a timer and a service for each schedule, and the script."""
        for each in placed:
            timer, service = unit_texts(each, request)
            yield Artifact(f"{unit_name(each)}.timer", timer)
            yield Artifact(f"{unit_name(each)}.service", service)
        yield Artifact(TRIGGER_NAME, TRIGGER, executable=True)


SCHEDULER: Final = Systemd()


def unit_name(placed: Placed) -> str:
    """Return the name of the units of a schedule, without their type."""
    return f"purista-{placed.name}"


def unit_texts(placed: Placed, request: Request) -> tuple[str, str]:
    """Return the texts of a timer and of its service."""
    starts = _starts(placed, request)
    return _timer(placed, starts), _service(placed, starts, request)


def is_persistent(placed: Placed) -> bool:
    """Whether systemd starts what it missed, once, so that the latest missed slot runs.

    Nothing tells the service for which slot it was started then, so that it sends no time. That is safe
    where each start is for a nominal time: with exact lines, and without an end after which they fire.
    """
    schedule = placed.schedule
    is_certain = not placed.sends_extra and schedule.end_at is None
    return schedule.missed_run_policy == "runOnce" and is_certain


def calendar_text(line: Line) -> str:
    """Return a line as systemd reads it (systemd.time(7)).

    >>> calendar_text(Line(Cron("30 2 1,15 * *"), "Europe/Berlin"))
    '*-*-01,15 02:30:00 Europe/Berlin'
    >>> calendar_text(Line(Cron("0 9 L * *"), "UTC")), calendar_text(Line(Cron("0 9 * 3 FRI#L"), "UTC"))
    ('*-*~01 09:00:00 UTC', 'Fri *-03~07/1 09:00:00 UTC')
    """
    cron = line.cron
    days, weekdays = _date_text(cron), _weekdays_text(cron)
    months = _list_text(cron.month)
    times = ":".join(_list_text(each) for each in (cron.hour, cron.minute, cron.second))
    return f"{weekdays}*-{months}{days} {times} {line.timezone}"


def _date_text(cron: Cron) -> str:
    """Return the days of the month: after ``-`` from its beginning, after ``~`` from its end."""
    days = cron.day_of_month
    if cron.day_of_week.nth:
        [(_, nth)] = cron.day_of_week.nth
        return "~07/1" if nth == LAST else f"-{7 * nth - 6:02}..{min(7 * nth, 31):02}"
    if days.from_end:
        return f"~{days.from_end[0] + 1:02}"
    return "-*" if days.is_all else f"-{','.join(f'{day:02}' for day in days.values)}"


def _weekdays_text(cron: Cron) -> str:
    weekdays = cron.day_of_week
    found = [nth[0] for nth in weekdays.nth] or weekdays.values
    if cron.deciding_days in {"none", "month"}:
        return ""
    return ",".join(_WEEKDAYS[each] for each in found) + " "


def _list_text(field: Field) -> str:
    return "*" if field.is_all else ",".join(f"{value:02}" for value in field.values)


class _Starts(NamedTuple):
    """When a service is started, and what it may take of the time until the next start."""

    calendar: tuple[str, ...]
    grid: SlotGrid
    jitter: timedelta
    gap: timedelta | None


def _starts(placed: Placed, request: Request) -> _Starts:
    schedule = placed.schedule
    if isinstance(schedule.expression, Once):
        at = schedule.expression.at.astimezone(UTC)
        text = at.replace(tzinfo=None).isoformat(" ")
        grid = SlotGrid(_DAY, int(at.timestamp()) % _DAY)
        return _Starts((f"{text} UTC",), grid, schedule.jitter, None)
    grid = grid_of(placed.cover.lines, request.horizon)
    jitter, period = jitter_of(schedule, request.horizon), timedelta(seconds=grid.period)
    gap = period if placed.sends_extra else shortest_gap(schedule, request.horizon)
    jitter = min(jitter, period) if is_persistent(placed) else jitter
    return _Starts(tuple(map(calendar_text, placed.cover.lines)), grid, jitter, gap)


def _timer(placed: Placed, starts: _Starts) -> str:
    calendar = "".join(f"OnCalendar={each}\n" for each in starts.calendar)
    return _TIMER % {
        "head": _head(placed),
        "calendar": calendar,
        "accuracy": "1s" if starts.grid.period >= _MINUTE else "1ms",
        "persistent": "true" if is_persistent(placed) else "false",
        "install": "\n[Install]\nWantedBy=timers.target\n" if placed.schedule.enabled else "",
    }


def _service(placed: Placed, starts: _Starts, request: Request) -> str:
    settings = placed.settings
    assert isinstance(settings, SystemdSettings)
    room = starts.gap and starts.gap - starts.jitter
    given = trigger_settings(placed.schedule, placed.fingerprint, starts.grid, starts.jitter, room)
    given |= _time_setting(placed)
    given["PURISTA_SOURCE"] = f"systemd/{unit_name(placed)}"
    given["PURISTA_URL"] = request.ingress.triggers_url
    longest = int(starts.jitter.total_seconds()) + int(given["PURISTA_TRY_SECONDS"]) + 45
    if starts.gap is not None:
        longest = max(min(longest, int(starts.gap.total_seconds()) - 1), 1)
    file = settings.bearer_file
    return _SERVICE % {
        "head": _head(placed),
        "user": f"User={settings.user}" if settings.user else "DynamicUser=yes",
        "bearer": f"LoadCredential=bearer:{file}\n" if file else "",
        "environment": "".join(map(_environment, sorted(given.items()))),
        "program": settings.program,
        "longest": longest,
    }


def _time_setting(placed: Placed) -> dict[str, str]:
    """Return what the script is told of the nominal time, if it is not to be the grid's."""
    expression = placed.schedule.expression
    if isinstance(expression, Once):
        return {"PURISTA_TIME": utc_text(expression.at.astimezone(UTC))}
    return {"PURISTA_TIME": "unknown"} if is_persistent(placed) else {}


def _head(placed: Placed) -> str:
    """Return the ownership marker, and the beginning of the section ``[Unit]``."""
    lines = [f"# {marker_text(placed)}"]
    if placed.accepted:
        lines.append(f"# accepted: {accepted_text(placed)}")
    schedule = placed.schedule
    text = f"{schedule.id}: {schedule.description}" if schedule.description else schedule.id
    return "\n".join([*lines, "[Unit]", f"Description={_one_line(text)}"])


def _one_line(text: str) -> str:
    """Return a text as the value of a setting: one line, in which ``%`` is no specifier."""
    plain = "".join(each if each.isprintable() else " " for each in " ".join(text.split()))
    return plain.rstrip("\\ ").replace("%", "%%")


def _environment(setting: tuple[str, str]) -> str:
    """Return a line for the environment. No value has a quote or a backslash (systemd.syntax(7))."""
    name, value = setting
    return f'Environment="{name}={value.replace("%", "%%")}"\n'


_DAY: Final = 86_400
_MINUTE: Final = 60
_WEEKDAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_TIMER: Final = """\
%(head)s

[Timer]
%(calendar)s\
AccuracySec=%(accuracy)s
Persistent=%(persistent)s
%(install)s"""
_SERVICE: Final = """\
%(head)s
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
%(user)s
%(bearer)s\
%(environment)s\
ExecStart=%(program)s
TimeoutStartSec=%(longest)d
CapabilityBoundingSet=
LockPersonality=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
"""
