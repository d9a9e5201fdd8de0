"""The shell commands that send a trigger with curl, for schedulers that start processes.

A CloudEvents 1.0 event in HTTP headers, without a body; the ingress renders the payload. The bearer
token goes to curl by standard input, so that no list of processes shows it.
"""

from __future__ import annotations

from datetime import timedelta
from textwrap import indent
from typing import Final
from zlib import crc32

from purista.contract import Schedule
from purista.slot import SlotGrid
from purista.spacing import shortest_gap
from purista.turnover import Horizon

SEND: Final = """\
set -- --request POST --header "ce-specversion: 1.0"
set -- "$@" --header "ce-type: dev.purista.schedule.trigger"
set -- "$@" --header "ce-source: $PURISTA_SOURCE" --header "ce-subject: $PURISTA_SCHEDULE"
set -- "$@" --header "ce-puristafingerprint: $PURISTA_FINGERPRINT"
if [ -n "$time" ]; then
  set -- "$@" --header "ce-time: $time" --header "ce-id: $PURISTA_SCHEDULE/$time"
else
  set -- "$@" --header "ce-id: $PURISTA_SCHEDULE/$(date -u +%Y-%m-%dT%H:%M:%SZ)/$$"
fi
[ -z "${manual:-}" ] || set -- "$@" --header "ce-puristamanual: true"
set -- "$@" --silent --show-error --fail-with-body --max-time 30
set -- "$@" --retry 9999 --retry-connrefused --retry-max-time "$PURISTA_TRY_SECONDS"
post() {
  if [ -n "${PURISTA_BEARER:-}" ]; then
    printf 'Authorization: Bearer %s\\n' "$PURISTA_BEARER" | curl "$@" --header @- "$PURISTA_URL"
  else
    curl "$@" "$PURISTA_URL"
  fi
}
post "$@" || {
  code=$?
  case $code in
    52 | 55 | 56) sleep 1 && post "$@" ;;
    *) (exit "$code") ;;
  esac
}
"""
"""Sends the trigger of ``$time``, or one without a time where that is empty.

Reads ``PURISTA_URL``, ``PURISTA_SOURCE``, ``PURISTA_SCHEDULE``, ``PURISTA_FINGERPRINT``,
``PURISTA_TRY_SECONDS`` and, where there is one, ``PURISTA_BEARER``. What a retry can mend (no
connection, 408, 429, 5xx) is tried again for so long, and once after an answer that breaks off (52,
55 and 56 in curl(1)); any other refusal fails at once, with curl's exit code 22.
"""


WAIT: Final = """\
if [ "${PURISTA_JITTER:-0}" -gt 0 ]; then
  share=$(((slot / 60 + PURISTA_OFFSET) * 2654435761 % 4294967296))
  wait=$((slot + share * PURISTA_JITTER / 4294967296 - $(date +%s)))
  [ "$wait" -le 0 ] || sleep "$wait"
fi
"""
"""Waits for less than ``PURISTA_JITTER`` seconds, if it is set, after ``$slot``, as long for a slot at each try.

The share of the jitter is a multiplicative hash of the slot's minute (Knuth, The Art of Computer
Programming, volume 3, section 6.4); ``PURISTA_OFFSET`` spreads schedules.
"""

TRIGGER: Final = f"""\
#!/bin/sh
# purista-trigger: sends the trigger of a schedule to the ingress. Made by purista; it holds no secret.
#
# What starts it tells it nothing of the slot. The slot is the latest of the times PURISTA_PHASE +
# k x PURISTA_PERIOD seconds since 1970, unless PURISTA_TIME is a time, or "unknown": then the ingress
# takes the latest nominal time; right after a slot it is asked two seconds later, so that a clock that
# is a little fast does no harm.
# PURISTA_BEARER_FILE, or systemd's credential "bearer", holds the bearer token, if one is needed.
# It ends with 0 when the ingress took the trigger, whatever it decided, and with 22 when it refused it.
set -eu
slot=$((($(date +%s) - PURISTA_PHASE) / PURISTA_PERIOD * PURISTA_PERIOD + PURISTA_PHASE))
time=${{PURISTA_TIME:-$(date -u -d "@$slot" +%Y-%m-%dT%H:%M:%SZ)}}
{WAIT}if [ "$time" = unknown ]; then
  time=
  [ $(($(date +%s) - slot)) -ge 2 ] || sleep 2
fi
bearer=${{PURISTA_BEARER_FILE:-${{CREDENTIALS_DIRECTORY:+$CREDENTIALS_DIRECTORY/bearer}}}}
[ -z "$bearer" ] || PURISTA_BEARER=$(cat "$bearer")
PURISTA_SOURCE=$PURISTA_SOURCE/$(uname -n)
send() {{
{indent(SEND, "  ")}}}
answer=$(send 2>&1) || {{
  code=$?
  printf '%s\\n' "$answer" >&2
  exit "$code"
}}
"""
"""The script ``purista-trigger``, for schedulers of a host that start a process and tell it nothing.

Reads what ``SEND`` and ``WAIT`` read, and what it says itself. It is silent when all went well.
"""

TRIGGER_NAME: Final = "purista-trigger"
"""The name of the file that holds ``TRIGGER``."""

PROGRAM: Final = r"^/[A-Za-z0-9._/+-]{1,200}$"
"""A pattern of the paths at which it can be installed: no shell and no unit file makes more of them."""


def trigger_settings(
    schedule: Schedule,
    fingerprint: str,
    grid: SlotGrid,
    jitter: timedelta,
    room: timedelta | None = None,
) -> dict[str, str]:
    """Return the environment of ``TRIGGER`` for a schedule, but for the address and the source.

    ``jitter`` is how long it may wait, ``room`` how long it may take after that; None: any time.
    """
    waiting = {
        "PURISTA_JITTER": str(int(jitter.total_seconds())),
        "PURISTA_OFFSET": str(wait_offset(schedule.id, jitter)),
    }
    return {
        "PURISTA_SCHEDULE": schedule.id,
        "PURISTA_FINGERPRINT": fingerprint,
        "PURISTA_PERIOD": str(grid.period),
        "PURISTA_PHASE": str(grid.phase),
        **(waiting if jitter else {}),
        "PURISTA_TRY_SECONDS": str(try_seconds(schedule, room)),
    }


def jitter_of(schedule: Schedule, horizon: Horizon) -> timedelta:
    """Return how long a sender may wait: as the schedule says, but never past its next nominal time."""
    if not schedule.jitter:
        return schedule.jitter
    gap = shortest_gap(schedule, horizon)
    return schedule.jitter if gap is None else min(schedule.jitter, gap - _SECOND)


def try_seconds(schedule: Schedule, room: timedelta | None = None) -> int:
    """Return how many seconds a sender tries: until its trigger is worth nothing, or within ``room``.

    The last try may take 30 seconds more.
    """
    useful = schedule.misfire_grace
    if schedule.missed_run_policy != "skip":
        useful = schedule.catch_up_window
    longest = int(min(useful, _LONGEST_TRY, room or _LONGEST_TRY).total_seconds())
    return max(longest - 90, min(30, longest // 4), 1)


def wait_offset(schedule_id: str, longest: timedelta) -> int:
    """Return a number of seconds below ``longest`` that spreads schedules; the same for the same id."""
    return crc32(schedule_id.encode()) % max(int(longest.total_seconds()), 1)


_LONGEST_TRY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
