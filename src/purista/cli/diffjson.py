"""A comparison as JSON, written as it is computed: with every instant, and none of them held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from purista.cli.diffwords import Report, zone_of_times
from purista.cli.output import utc_text
from purista.comparison import Added, Changed, Removed
from purista.turnover import Turnover


def json_chunks(report: Report) -> Iterator[str]:
    """Yield a report as JSON, piece by piece."""
    yield from _chunks(_document(report), "\n")
    yield "\n"


def _document(report: Report) -> dict[str, Any]:
    comparison = report.comparison
    return {
        "added": map(_came_or_went, comparison.added),
        "appear": comparison.appear,
        "changed": map(_changed, comparison.changed),
        "disappear": comparison.disappear,
        "from": utc_text(comparison.horizon.start),
        "movesTimes": comparison.moves_times,
        "new": {"name": report.sides[1], "tzdata": report.versions[1]},
        "old": {"name": report.sides[0], "tzdata": report.versions[0]},
        "remarks": report.remarks,
        "removed": map(_came_or_went, comparison.removed),
        "renamed": ({"id": each.id, "oldId": each.old_id} for each in comparison.renamed),
        "unchanged": comparison.unchanged,
        "unknown": comparison.unknown,
        "until": utc_text(comparison.horizon.end),
    }


def _came_or_went(schedule: Added | Removed) -> dict[str, Any]:
    return {"id": schedule.id, "schedule": schedule.entry, **_times(schedule.turnover)}


def _changed(changed: Changed) -> dict[str, Any]:
    fields = [{"field": each.field, "new": each.new, "old": each.old} for each in changed.fields]
    return {
        "changesMeaning": changed.changes_meaning,
        "fields": fields,
        "id": changed.id,
        **_times(changed.turnover),
    }


def _times(turnover: Turnover) -> dict[str, Any]:
    old, new = zone_of_times(turnover.old), zone_of_times(turnover.new)
    return {
        "appear": _instants(turnover.appear.count, turnover.appearing(), new),
        "disappear": _instants(turnover.disappear.count, turnover.disappearing(), old),
    }


def _instants(count: int, instants: Iterable[datetime], zone: ZoneInfo) -> dict[str, Any]:
    return {
        "count": count,
        "times": (_instant(each, zone) for each in instants) if count else [],
        "timezone": zone.key,
    }


def _instant(instant: datetime, zone: ZoneInfo) -> _Written:
    local = instant.astimezone(zone).isoformat()
    return _Written(f'{{"local": "{local}", "utc": "{utc_text(instant)}"}}')


class _Written(str):
    """JSON text as it is; there may be millions of instants."""

    __slots__ = ()


def _chunks(value: Any, line: str) -> Iterator[str]:
    """Yield JSON text, keys sorted; any other iterable is a list, taken one by one."""
    inner = f"{line}  "
    match value:
        case _Written():
            yield value
        case None | bool() | int() | float() | str():
            yield json.dumps(value, ensure_ascii=False)
        case dict():
            pairs = ((_key(key), value[key]) for key in sorted(value))
            yield from _enclosed("{", pairs, "}", line, inner)
        case _:
            yield from _enclosed("[", (("", each) for each in value), "]", line, inner)


def _enclosed(
    opening: str, items: Iterable[tuple[str, Any]], closing: str, line: str, inner: str
) -> Iterator[str]:
    yield opening
    is_empty = True
    for key, each in items:
        yield f"{inner}{key}" if is_empty else f",{inner}{key}"
        yield from _chunks(each, inner)
        is_empty = False
    yield closing if is_empty else f"{line}{closing}"


def _key(key: str) -> str:
    return f"{json.dumps(key, ensure_ascii=False)}: "
