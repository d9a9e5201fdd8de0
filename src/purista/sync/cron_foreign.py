"""Lines of a crontab that are none of ours, as contracts would say them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from purista.firetimes import zone_problems
from purista.schedulers.cron import CronSettings
from purista.sync.cron_command import shown_program
from purista.sync.cron_line import Job, read_time
from purista.sync.port import Foreign

_ZONE: Final = "CRON_TZ"


def foreign_jobs(
    jobs: Iterable[tuple[Job, Mapping[str, str]]], host: CronSettings
) -> Iterator[Foreign]:
    """Yield what contracts can say of lines and the settings above them, by name; each name is another."""
    found = [_foreign(job, settings, host) for job, settings in jobs]
    yield from _with_names(sorted(found, key=lambda each: each.name))


def _foreign(job: Job, settings: Mapping[str, str], host: CronSettings) -> Foreign:
    program = shown_program(job.command)
    foreign = Foreign(
        PurePosixPath(program).stem or "job",
        read_time(job.time.removeprefix("-")),
        host.host_timezone,
        doubts=tuple(_doubts(job, program, settings)),
    )
    zone = settings.get(_ZONE, "")
    if not zone:
        return foreign
    if host.daemon != "cronie":
        return _doubted(
            foreign,
            "its CRON_TZ means nothing to Debian's cron; say daemon = 'cronie' if it counts",
        )
    return _in_zone(foreign, zone.removeprefix(":"), host.host_timezone)


def _doubts(job: Job, program: str, settings: Mapping[str, str]) -> Iterator[str]:
    yield f"cron starts {program or 'what is not shown here, as it may hold a secret'}"
    cron = read_time(job.time.removeprefix("-"))
    if cron is None and _TIME.fullmatch(job.time):
        yield f"'{job.time}' is no time that a contract can say"
    elif cron is None:
        yield "it has no time that a contract can say"
    elif not cron.is_fixed_time:
        yield "where an hour comes twice it starts both times"
    if cron is not None and job.time.startswith("-"):
        yield "the '-' before it keeps cronie from logging it"
    rest = sorted(set(settings) - {_ZONE})
    if rest:
        yield f"settings hold for it: {', '.join(rest)}"


def _in_zone(foreign: Foreign, zone: str, host_timezone: str) -> Foreign:
    """Return it in the zone in which cronie reads it.

    cronie makes nothing up there that a gap leaves out, and starts twice what comes twice, unless the
    host's own clock is put back in that hour (experiment: cronie 1.7.2, tests/test_sync_cron.py).
    """
    if zone_problems(zone):
        return _doubted(
            replace(foreign, expression=None), "its CRON_TZ is no time zone that a contract can say"
        )
    overlap = "first" if zone == host_timezone else "both"
    found = replace(foreign, timezone=zone, dst_gap="skip", dst_overlap=overlap)
    if host_timezone in (zone, "UTC"):
        return found
    return _doubted(
        found, f"where the host's own clock ({host_timezone}) changes, cronie may leave it out"
    )


def _doubted(foreign: Foreign, doubt: str) -> Foreign:
    return replace(foreign, doubts=(*foreign.doubts, doubt))


def _with_names(found: Iterable[Foreign]) -> Iterator[Foreign]:
    """Yield them, each with a name that no other has."""
    taken: set[str] = set()
    for each in found:
        name, number = each.name, 1
        while name in taken:
            number += 1
            name = f"{each.name}-{number}"
        taken.add(name)
        yield replace(each, name=name)


_TIME: Final = re.compile(r"[\w*,/~#?@ -]+")
