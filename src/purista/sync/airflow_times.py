"""When a DAG fires by itself, and the contracts that DAGs of others would have."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from purista.cover import Line
from purista.errors import ContractError, ExpressionError
from purista.expression import Cron
from purista.firetimes import zone_names
from purista.native.airflowcron import read_cron, timings_of
from purista.plan import PAUSED
from purista.sync.firing import merged_times
from purista.sync.port import Foreign
from purista.turnover import Horizon

YEAR: Final = timedelta(days=366)


def dag_times(
    fields: Mapping[str, Any], start: datetime, end: datetime
) -> Iterable[datetime] | None:
    """Return when a DAG with these parts fires from ``start`` to ``end``; None where they do not tell."""
    schedule = fields.get("schedule")
    if fields.get(PAUSED) or schedule is None:
        return ()
    try:
        start = max(start, _time(fields["start_date"]) or start)
        end = min(end, _time(fields["end_date"]) or end)
        lines = [Line(read_cron(each), schedule["timezone"]) for each in schedule["cron"]]
        timings = timings_of(lines, Horizon(start, end))
    except (KeyError, TypeError, ValueError, ContractError, ExpressionError):
        return None
    if timings is None:
        return None
    return merged_times(each.between(start, end) for each in timings)


def foreign_of(details: Mapping[str, Any], source: str, now: datetime) -> Foreign:
    """Return what a contract would say for a DAG; ``source`` is that of its file."""
    name, text = str(details["dag_id"]), str(details["timetable_summary"])
    found: dict[str, Any] = {
        "enabled": not details["is_paused"],
        "description": details["description"] or "",
        "end_at": _time(details["end_date"]),
    }
    begin = _time(details["start_date"])
    if begin is not None and begin > now:
        found["start_at"] = begin
    doubts = ["it runs tasks of its own, which no contract says"]
    if details["catchup"]:
        doubts.append("catchup=True sends missed slots; missed_run_policy says that")
    try:
        cron = read_cron(text)
    except ExpressionError:
        return Foreign(
            name, None, **found, doubts=(f"its timetable '{text}' is no cron line", *doubts)
        )
    if begin is not None and found["end_at"] is not None and found["end_at"] < begin:
        return Foreign(name, None, doubts=("it never fires: it ends before it begins", *doubts))
    zone, is_sure = _zone_of(cron, source, _time(details["next_dagrun_run_after"]), now)
    if zone is None:
        return Foreign(
            name, None, **found, doubts=("Airflow's API does not tell its time zone", *doubts)
        )
    if not is_sure:
        doubts.insert(0, f"its next run is the same in UTC; its file names {zone}")
    timings = timings_of([Line(cron, zone)], Horizon(now, now + 10 * YEAR))
    if timings is None:
        doubts.insert(0, "what it does where clocks change is not known")
    else:
        found |= {"dst_gap": timings[0].dst_gap, "dst_overlap": timings[0].dst_overlap}
    return Foreign(name, cron, zone, **found, doubts=tuple(doubts))


def _zone_of(
    cron: Cron, source: str, due: datetime | None, now: datetime
) -> tuple[str | None, bool]:
    """Return the zone that the next slot is in, and whether it is no other; None where several could be meant.

    The API tells the server's zone, whatever the timetable's is; so those that its file names are tried. UTC,
    which holds where none is said, is meant only if no other zone that is named fires just then.
    """
    named = _zones_named(source)
    fitting = [each for each in ("UTC", *named) if _fires_at(cron, each, due)]
    times = {zone: _times_of_a_year(cron, zone, now) for zone in fitting}
    if len(set(times.values())) <= 1:
        return next(iter(times), None), True
    said = [zone for zone in fitting if zone in named]
    is_one = len({times[zone] for zone in said}) == 1
    return (said[0] if is_one else None), False


def _zones_named(source: str) -> list[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return []
    texts = {str(each.value) for each in nodes if isinstance(each, ast.Constant)}
    return sorted(texts & set(zone_names()))


def _fires_at(cron: Cron, zone: str, due: datetime | None) -> bool:
    if due is None:
        return False
    timings = timings_of([Line(cron, zone)], Horizon(due, due))
    return timings is not None and due in timings[0].between(due, due)


def _times_of_a_year(cron: Cron, zone: str, now: datetime) -> tuple[datetime, ...]:
    line = [Line(cron, zone)]
    timings = timings_of(line, Horizon(now, now + YEAR)) or timings_of(line, Horizon(now, now))
    assert timings
    return tuple(timings[0].between(now, now + YEAR))


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
