"""When timers elapse, and what those of others would be as contracts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from purista.clockchange import Timing
from purista.sync.port import Foreign
from purista.sync.systemd_calendar import read_calendar
from purista.sync.systemd_unit import settings_of, unit_fields


def listed(value: Any) -> list[str]:
    """Return the values of a setting that may be given often; an empty one takes back those before it."""
    found: list[str] = []
    for each in value if isinstance(value, list) else [value or ""]:
        found = [*found, each] if each else []
    return found


def timings_of(lines: Sequence[str]) -> list[Timing] | None:
    """Return when each line of ``OnCalendar=`` elapses, None unless all of them are plain."""
    zone = host_timezone()
    found = [read_calendar(each, zone) for each in lines]
    return None if None in found else [each for each in found if each is not None]


def host_timezone() -> str:
    """Return the zone of the host, as ``/etc/localtime`` names it (localtime(5)); UTC without one."""
    try:
        target = os.readlink("/etc/localtime")
    except OSError:
        return "UTC"
    _, found, name = target.partition("zoneinfo/")
    return name if found and name not in _UTC else "UTC"


def foreign_of(name: str, texts: Mapping[str, str], *, is_enabled: bool) -> Iterator[Foreign]:
    """Yield a timer as contracts, one for each of its lines."""
    timer = unit_fields("timer", texts["timer"])
    lines = listed(timer.get("timer.OnCalendar"))
    doubts = tuple(_doubts(timer, texts.get("service", "")))
    description = str(timer.get("timer.Unit.Description", ""))
    for number, line in enumerate(lines or [""], 1):
        timing = read_calendar(line, host_timezone()) if line else None
        lacks = () if timing else (f"'{line}' is no time that a contract can say",)
        if not line:
            lacks = ("it does not elapse by the calendar",)
        yield Foreign(
            name if number == 1 else f"{name}-{number}",
            None if timing is None else timing.expression,
            "UTC" if timing is None else timing.timezone,
            is_enabled,
            description,
            jitter=_seconds(timer.get("timer.RandomizedDelaySec")) or timedelta(0),
            dst_gap="skip",
            dst_overlap="first",
            doubts=(*doubts, *lacks),
        )


def _doubts(timer: Mapping[str, Any], service: str) -> Iterator[str]:
    command = next((value for _, key, value in settings_of(service) if key == "ExecStart"), "")
    started = timer.get("timer.Unit") or (command.split() or ["its service"])[0]
    yield f"systemd starts {started}"
    if str(timer.get("timer.Persistent", "")).lower() in ("1", "yes", "true", "on"):
        yield "Persistent=true: say missed_run_policy='runOnce'"
    others = [each for each in OTHER_WAYS if timer.get(f"timer.{each}")]
    delay = timer.get("timer.RandomizedDelaySec")
    if delay and _seconds(delay) is not None:
        others.remove("RandomizedDelaySec")
    if others:
        yield f"no contract says {', '.join(others)}"


def _seconds(text: Any) -> timedelta | None:
    """Return a plain time span: a number, of seconds or with one of the usual units."""
    number, unit = str(text or "").rstrip("abcdefghijklmnopqrstuvwxyz "), str(text or "")
    unit = unit.removeprefix(number).strip()
    if not number.isdigit() or unit not in _UNITS:
        return None
    return timedelta(seconds=int(number) * _UNITS[unit])


_UTC: Final = frozenset(
    {"Etc/UTC", "Etc/UCT", "UCT", "Etc/Universal", "Universal", "Etc/Zulu", "Zulu"}
)
_UNITS: Final = {
    "": 1,
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
OTHER_WAYS: Final = (
    "OnActiveSec",
    "OnBootSec",
    "OnStartupSec",
    "OnUnitActiveSec",
    "OnUnitInactiveSec",
    "OnClockChange",
    "OnTimezoneChange",
    "RandomizedDelaySec",
    "RandomizedOffsetSec",
)
"""Settings by which a timer elapses at other times than those of its calendar."""
