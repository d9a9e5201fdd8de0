"""NATS: a scheduled message in a JetStream stream for each line (nats-server 2.14 or later).

A message that a schedule produces has the headers and the (empty) body of the schedule, and says neither
its slot nor an id. Its headers are those of a CloudEvents trigger without ``ce-time`` and ``ce-id``; a
consumer adds the two:

- the instant is the message's time in the stream, a few milliseconds after the slot;
- ``ce-puristaslots`` is ``<period>+<phase>``, in seconds: ``ce-time`` is the latest point
  ``phase + k * period`` seconds after the Unix epoch that is not after that instant;
- ``ce-id`` is ``<ce-subject>/<ce-time>``, the same whenever the message is delivered again.

A one-shot has both from the start, as it has one slot.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from shlex import quote
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote as percent_encoded

from pydantic import Field, model_validator

from purista import firetimes
from purista.cloudevent import SPECVERSION, TYPE
from purista.compiling import (
    MARKER,
    Artifact,
    Placed,
    Request,
    accepted_text,
    marker_text,
    timing_of,
)
from purista.contract import Schedule
from purista.cover import Cover, Fit, Line, Uncovered, cover
from purista.dialect import Dialect, Reading, begins_within_an_hour, clock_windows, touches_midnight
from purista.expression import Once
from purista.naming import NameRule
from purista.portability import (
    CapabilityTable,
    Finding,
    by_ingress,
    by_none,
    ingress_cells,
    missed_finding,
    native,
    utc_text,
)
from purista.settings import Settings
from purista.slotgrid import grid_of
from purista.turnover import Horizon

DIALECT: Final = Dialect(
    day_rule="or",
    seconds=True,
    dst_gap="skip",
    dst_overlap="both",
    wildcard="both",
    odd_changes=False,
)
"""A descendant of robfig/cron, with seconds. Where a zone's clock changes at midnight it loses times, so that
there its lines are in UTC."""

READING: Final = Reading(
    day_rule="or",
    refused=frozenset({"L", "L-n", "W", "LW", "#", "#L"}),
    dst_gap="skip",
    dst_overlap="both",
    wildcard="both",
)
"""What it makes of a text as it stands, with a second before it."""

PAGE: Final = "https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-51.md"
ENGINE: Final = "experiment: nats-server 2.15.1, tests/test_schedulers_nats.py"
FACTS: Final = "experiment: nats-server 2.15.1, tests/test_engines_nats.py"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("Nats-Schedule, in lists of numbers", FACTS),
        "expression=cron with L": by_ingress("days 28 to 31; the others are dropped", ENGINE),
        "expression=cron with W": by_ingress("the days around it; the others are dropped", ENGINE),
        "expression=cron with #": by_ingress("every such weekday; the others are dropped", ENGINE),
        "expression=cron with seconds": native("its first field is the second", FACTS),
        "expression=day rule or": native("both day fields in one line mean either", FACTS),
        "expression=day rule and": by_ingress("one day field; the others are dropped", ENGINE),
        "expression=every": by_ingress(
            "a line in UTC that fires at all of its times; @every would start anew with each publish",
            FACTS,
        ),
        "expression=once": native("@at, with its time in a header", ENGINE),
        "timezone": native(
            "Nats-Schedule-Time-Zone, or lines in UTC that cover its offsets", FACTS
        ),
        "dst_gap=skip": native("a time that does not exist is skipped", ENGINE),
        "dst_gap=next": by_ingress("a further line at the end of the gap", ENGINE),
        "dst_gap=shift": by_ingress("a further line at the shifted time", ENGINE),
        "dst_overlap=first": by_ingress("it fires both times; the second is dropped", ENGINE),
        "dst_overlap=last": by_ingress("it fires both times; the first is dropped", ENGINE),
        "dst_overlap=both": native("it fires both times", ENGINE),
        "start_at": by_ingress("triggers before it are dropped", PAGE),
        "end_at": by_ingress("triggers after it are dropped", PAGE),
        "exclude": by_ingress("triggers of excluded days are dropped", PAGE),
        "jitter": by_none("every trigger is sent at its slot, all of one slot together", PAGE),
        "enabled=false": native("no message is published, and what was is purged", FACTS),
        "concurrency_policy=allow": native("no run keeps a trigger from being sent", PAGE),
        "concurrency_policy=forbid": by_ingress(
            "a trigger is sent; the ingress knows the run", PAGE
        ),
        "concurrency_policy=replace": by_ingress(
            "a trigger is sent; the ingress cancels the run", PAGE
        ),
        "missed_run_policy=skip": by_ingress(
            "after a clean stop it sends one late trigger, which is dropped; after a crash none",
            FACTS,
        ),
        "missed_run_policy=runOnce": by_ingress(
            "a one-shot is sent late; of others the ingress recovers what was missed with the next "
            "trigger (recovery = 'ingress')",
            FACTS,
        ),
        "missed_run_policy=catchUp": by_ingress(
            "a one-shot is sent late; of others the ingress recovers what was missed with the next "
            "trigger (recovery = 'ingress')",
            FACTS,
        ),
        "catch_up_window": by_ingress("the ingress recovers within it", PAGE),
        "max_catch_up": by_ingress("the ingress recovers no more", PAGE),
        "description": native("a header", PAGE),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": by_ingress(
            "the message's time in the stream, on the grid of the slots in a header", ENGINE
        ),
    }
)

FIVE_YEARS: Final = timedelta(days=5 * 365)
"""A schedule that is not due within five years is refused (test_engines_nats.py)."""

LONGEST_DESCRIPTION: Final = 100_000
"""Bytes in a header: one argument of a command may have 128 KiB (execve(2)), a message 1 MiB (max_payload)."""


class NatsSettings(Settings):
    """The table ``[nats]``.

    Schedules are messages under ``subject_prefix``, triggers are sent to ``target``; both are subjects of
    ``stream``, which keeps a trigger until one consumer has acknowledged it.
    """

    stream: str = Field("PURISTA", pattern=r"^[A-Za-z0-9_-]{1,32}$", examples=["PURISTA"])
    subject_prefix: str = Field(
        "purista.schedules",
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        max_length=200,
        examples=["purista.schedules"],
    )
    target: str = Field(
        "purista.triggers",
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        max_length=200,
        examples=["purista.triggers"],
    )
    replicas: int = Field(1, ge=1, le=5)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if f"{self.target}.".startswith(f"{self.subject_prefix}."):
            raise ValueError("target lies under subject_prefix; write two that are apart")
        return self


class Nats:
    """The scheduler ``nats``."""

    name = "nats"
    title = "NATS"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = NatsSettings
    sample: Mapping[str, Any] = {"stream": "PURISTA"}
    most = None
    # The dots of an id stay, so that a permission or a purge can name a service; no token is empty.
    names = NameRule(longest=200, others=re.compile(r"[^A-Za-z0-9_.-]|\.(?=\.|\Z)"))

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, none for a one-shot, or why there are none."""
        if isinstance(schedule.expression, Once):
            return Cover((), Fit.EXACT)
        dialect = _dialect(schedule.timezone, request.horizon)
        return cover(
            timing_of(schedule), dialect, request.horizon, exact_native=request.exact_native
        )

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        if request.ingress.recovery != "ingress":
            yield from _recovery_findings(placed, request)
        yield from _limit_findings(placed, request)

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield for each stream its configuration, the messages to publish, and a script that does."""
        by_stream: dict[str, list[Placed]] = defaultdict(list)
        for each in placed:
            by_stream[_settings(each).stream].append(each)
        for stream, members in sorted(by_stream.items()):
            messages = [schedule_messages(each, request.horizon) for each in members]
            lines = (one for found in messages for one in found)
            config = json.dumps(stream_config(stream, members), indent=2) + "\n"
            yield Artifact(f"{stream}/stream.json", config)
            yield Artifact(f"{stream}/messages.jsonl", "".join(map(_json_line, lines)))
            yield Artifact(
                f"{stream}/publish.sh", _script(stream, members, messages), executable=True
            )


SCHEDULER: Final = Nats()


def _settings(placed: Placed) -> NatsSettings:
    assert isinstance(placed.settings, NatsSettings)
    return placed.settings


def _dialect(timezone: str, horizon: Horizon) -> Dialect:
    """Return the dialect in a zone: UTC alone where the clock changes at or over midnight, or within an hour."""
    windows = clock_windows(timezone, horizon.start, horizon.end)
    if touches_midnight(windows) or begins_within_an_hour(windows):
        return replace(DIALECT, zones=frozenset({"UTC"}))
    return DIALECT


def _recovery_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where nobody sends what was missed; a one-shot is sent late."""
    schedule = placed.schedule
    option = f"missed_run_policy={schedule.missed_run_policy}"
    if schedule.missed_run_policy == "skip" or isinstance(schedule.expression, Once):
        return
    yield missed_finding(
        schedule,
        request.horizon.start,
        "after a clean stop it sends one trigger for all that was missed, after a crash none",
        CAPABILITIES[option].source,
    )


def _limit_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    schedule, horizon = placed.schedule, request.horizon
    size = len(_header_text(schedule.description))
    if size > LONGEST_DESCRIPTION:
        at = schedule.next_after(horizon.start)
        yield Finding(
            code="limit-description",
            schedule_id=schedule.id,
            option="description",
            message=f"its description has {size} bytes; a header holds {LONGEST_DESCRIPTION}",
            example=f"{utc_text(at)} is due, and nothing fires then" if at else "",
            remedy="shorten it",
            source="https://docs.nats.io/running-a-nats-service/configuration",
            leaves_out=True,
        )
    for line in placed.cover.lines:
        for since in (horizon.start, horizon.end):
            at = firetimes.next_after(line.cron, line.timezone, since)
            if at is None or at - since > FIVE_YEARS:
                yield _five_years(schedule, since, at)
                return


def _five_years(schedule: Schedule, since: datetime, at: datetime | None) -> Finding:
    due = f"is due at {utc_text(at)} next" if at else "is not due any more"
    return Finding(
        code="limit-five-years",
        schedule_id=schedule.id,
        option="expression",
        message="it refuses a schedule that is not due within five years",
        example=f"published at {utc_text(since)}, it {due}",
        remedy="accepting it leaves the schedule out of what NATS holds",
        source=FACTS,
        leaves_out=True,
    )


class ScheduleMessage(NamedTuple):
    """A message to publish; ``before`` is when it is too late for it, as it would fire at once."""

    subject: str
    headers: dict[str, str]
    before: datetime | None = None


def schedule_messages(placed: Placed, horizon: Horizon) -> list[ScheduleMessage]:
    """Return the messages of a schedule: one for each line, none where it is disabled."""
    schedule = placed.schedule
    if not schedule.enabled:
        return []
    subject = _subject(placed)
    if isinstance(schedule.expression, Once):
        at = schedule.expression.at
        time = utc_text(at)
        headers = {"Nats-Schedule": f"@at {time}", **_headers(placed)}
        slot = {"ce-time": time, "ce-id": f"{schedule.id}/{time}"}
        return [ScheduleMessage(f"{subject}.1", headers | slot, at)]
    period, phase = grid_of(placed.cover.lines, horizon)
    slots = {"ce-puristaslots": f"{period}+{phase}"}
    return [
        ScheduleMessage(f"{subject}.{number}", _line_headers(line) | _headers(placed) | slots)
        for number, line in enumerate(placed.cover.lines, 1)
    ]


def _subject(placed: Placed) -> str:
    """Return where the messages of a schedule are; what follows is a number and no further token."""
    return f"{_settings(placed).subject_prefix}.{placed.name}"


def _line_headers(line: Line) -> dict[str, str]:
    headers = {"Nats-Schedule": cron_text(line)}
    return (
        headers if line.timezone == "UTC" else headers | {"Nats-Schedule-Time-Zone": line.timezone}
    )


def cron_text(line: Line) -> str:
    """Return a line as nats-server reads it: six fields, the first one of them seconds."""
    return line.cron.canonical if line.cron.seconds else f"0 {line.cron.canonical}"


def _headers(placed: Placed) -> dict[str, str]:
    schedule, settings = placed.schedule, _settings(placed)
    keep = _keep_for(schedule)
    accepted, description = accepted_text(placed), _header_text(schedule.description)
    return {
        "Nats-Schedule-Target": settings.target,
        **({"Nats-Schedule-TTL": f"{keep // _SECOND}s"} if keep else {}),
        "Purista": marker_text(placed),
        **({"Purista-Accepted": accepted} if accepted else {}),
        **({"Purista-Description": description} if description else {}),
        "ce-specversion": SPECVERSION,
        "ce-type": TYPE,
        "ce-source": f"nats/{settings.stream}",
        "ce-subject": schedule.id,
        "ce-puristafingerprint": placed.fingerprint,
    }


def _keep_for(schedule: Schedule) -> timedelta | None:
    """Return how long a trigger waits for a consumer: as long as it can be more than late."""
    if schedule.missed_run_policy == "runOnce":
        return None
    useful = schedule.misfire_grace
    if schedule.missed_run_policy == "catchUp":
        useful = schedule.catch_up_window
    return max(useful, timedelta(days=1))


_SECOND: Final = timedelta(seconds=1)
_PLAIN: Final = "".join(chr(code) for code in range(32, 127) if chr(code) not in '%{}"')


def _header_text(text: str) -> str:
    """Return a text for a header, percent-encoded as those of CloudEvents are (HTTP binding, 3.1.3.2)."""
    return percent_encoded(text, safe=_PLAIN)


def _json_line(message: ScheduleMessage) -> str:
    found: dict[str, Any] = {"subject": message.subject, "headers": message.headers}
    if message.before:
        found["before"] = utc_text(message.before)
    return json.dumps(found) + "\n"


def stream_config(stream: str, members: Sequence[Placed]) -> dict[str, Any]:
    """Return the configuration of a stream, as JetStream's interface and the nats command take it."""
    found = [_settings(each) for each in members]
    subjects = {f"{each.subject_prefix}.>" for each in found} | {each.target for each in found}
    return {
        "name": stream,
        "description": "Schedules and triggers of purista",
        "subjects": sorted(subjects),
        # A trigger is gone once it is acknowledged; a schedule, which nobody consumes, stays.
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": max(each.replicas for each in found),
        # Any limit would take schedules away before it takes triggers.
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "discard": "old",
        "duplicate_window": 120_000_000_000,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_msg_schedules": True,
        "metadata": {"managed-by": MARKER},
    }


def _script(
    stream: str, members: Sequence[Placed], messages: Sequence[Sequence[ScheduleMessage]]
) -> str:
    parts = [_HEAD % {"stream": quote(stream)}]
    for each, found in zip(members, messages, strict=True):
        parts.append(f"\nreplace {quote(f'{_subject(each)}.*')}\n")
        parts += map(_publish, found)
    return "".join(parts)


def _publish(message: ScheduleMessage) -> str:
    """Return the command that publishes a message."""
    options = "".join(
        f" \\\n  --header {quote(f'{name}:{value}')}" for name, value in message.headers.items()
    )
    guard = f"! is_before {message.before:%Y%m%d%H%M%S} || " if message.before else ""
    return f"{guard}publish {quote(message.subject)}{options}\n"


_HEAD: Final = """\
#!/bin/sh
# Creates or updates the stream and publishes its schedules, with the nats command (natscli 0.2 or later).
# It connects as that command does: NATS_URL, NATS_CREDS, NATS_CONTEXT, ...
# A schedule is purged and published anew, so run it when nothing is due in the same second.
set -eu
cd "$(dirname "$0")"
stream=%(stream)s

publish() {
  subject=$1
  shift
  nats publish "$subject" "" --jetstream --quiet "$@"
}
replace() { nats stream purge "$stream" --subject "$1" --force >/dev/null; }
is_before() { [ "$(date -u +%%Y%%m%%d%%H%%M%%S)" -lt "$1" ]; }

if found=$(nats stream info "$stream" --json 2>/dev/null); then
  case "$(printf %%s "$found" | tr -d '[:space:]')" in
    *'"managed-by":"purista"'*) nats stream edit "$stream" --config stream.json --force >/dev/null ;;
    *)
      printf '%%s\\n' "stream $stream is none of purista's: left alone" >&2
      exit 1
      ;;
  esac
else
  nats stream add "$stream" --config stream.json >/dev/null
fi
"""
