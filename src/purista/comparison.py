"""Comparison of contracts: what became of each schedule, and of its nominal times.

``difference`` says which fields of two manifests are not the same; here a new name is told from a
new schedule, and every change is followed to the instants that it moves. Pure: the horizon is given,
and so are the time zones of another database.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from purista import firetimes
from purista.difference import Difference, FieldChange, difference
from purista.jsonvalue import compact
from purista.manifest import Manifest
from purista.timetable import Timetable, timetable_of
from purista.turnover import Horizon, Turnover, turnover


@dataclass(frozen=True, slots=True)
class Added:
    """A schedule that only the new contract has; all its nominal times appear."""

    id: str
    entry: Mapping[str, Any]
    turnover: Turnover


@dataclass(frozen=True, slots=True)
class Removed:
    """A schedule that only the old contract had; all its nominal times disappear."""

    id: str
    entry: Mapping[str, Any]
    turnover: Turnover


@dataclass(frozen=True, slots=True)
class Renamed:
    """A schedule in which nothing but its name is another; its nominal times stay."""

    id: str
    old_id: str


@dataclass(frozen=True, slots=True)
class Changed:
    """A schedule that both contracts have, with what is another in it.

    ``changes_meaning`` is False where its fingerprint stays: words for people, hints, spelling.
    ``fields`` is empty where the time-zone database alone moves the times.
    """

    id: str
    fields: tuple[FieldChange, ...]
    changes_meaning: bool
    turnover: Turnover


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the schedules, each kind sorted by id; ``unchanged`` counts the others.

    ``unknown`` are the ids of those whose zone the other time-zone database does not have.
    """

    horizon: Horizon
    added: tuple[Added, ...] = ()
    removed: tuple[Removed, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    changed: tuple[Changed, ...] = ()
    unknown: tuple[str, ...] = ()
    unchanged: int = 0

    @property
    def moves_times(self) -> bool:
        """Whether a nominal time appears or disappears, or may, or a schedule comes or goes."""
        moved = any(each.turnover for each in self.changed)
        return moved or bool(self.added or self.removed or self.unknown)

    @property
    def disappear(self) -> int:
        """How many nominal times disappear."""
        return sum(each.turnover.disappear.count for each in self._with_times())

    @property
    def appear(self) -> int:
        """How many nominal times appear."""
        return sum(each.turnover.appear.count for each in self._with_times())

    def _with_times(self) -> tuple[Added | Removed | Changed, ...]:
        return (*self.added, *self.removed, *self.changed)


def compare(old: Manifest, new: Manifest, horizon: Horizon) -> Comparison:
    """Return what became of each schedule from ``old`` to ``new``.

    A schedule is renamed when everything but its name is equal. One that is not enabled has no
    nominal times here: nothing comes of them.
    """
    if old is new:
        return Comparison(horizon, unchanged=len(old.schedules))
    before, after = old.schedules, new.schedules
    found, walk = difference(old, new), _remembering(horizon)
    names = dict(_renamings(found, before, after))
    came = set(names.values())
    nothing = turnover(None, None, horizon)
    return Comparison(
        horizon,
        added=tuple(
            Added(each, after[each], walk(None, timetable_of(after[each])))
            for each in found.added
            if each not in came
        ),
        removed=tuple(
            Removed(each, before[each], walk(timetable_of(before[each]), None))
            for each in found.removed
            if each not in names
        ),
        renamed=tuple(Renamed(names[each], each) for each in sorted(names, key=names.__getitem__)),
        changed=tuple(
            Changed(
                change.id,
                change.fields,
                change.changes_meaning,
                walk(timetable_of(before[change.id]), timetable_of(after[change.id]))
                if change.changes_meaning
                else nothing,
            )
            for change in found.changed
        ),
        unchanged=len(after) - len(found.added) - len(found.changed),
    )


def zones_of(manifest: Manifest) -> frozenset[str]:
    """Return the names of the zones on whose clock a schedule's times depend."""
    entries = manifest.schedules.values()
    return frozenset(each["timezone"] for each in entries if _follows_clock(each))


def compare_zones(
    manifest: Manifest, zones: Mapping[str, ZoneInfo], horizon: Horizon
) -> Comparison:
    """Return what becomes of the nominal times when ``zones`` take the place of those here.

    Where the two clocks of a zone agree throughout the horizon none of its schedules is looked at, nor
    is one that follows no clock.
    """
    other = {name: zone for name, zone in zones.items() if not _same_clock(name, zone, horizon)}
    walk = _remembering(horizon)
    changed, unknown = [], []
    for schedule_id, entry in manifest.schedules.items():
        name = entry["timezone"]
        if not _follows_clock(entry):
            continue
        if name not in zones:
            unknown.append(schedule_id)
        elif name in other:
            old = timetable_of(entry)
            moved = walk(old, old and old.in_zone(other[name]))
            changed += [Changed(schedule_id, (), False, moved)] if moved else []
    unchanged = len(manifest.schedules) - len(changed) - len(unknown)
    return Comparison(horizon, changed=tuple(changed), unknown=tuple(unknown), unchanged=unchanged)


_Walk: TypeAlias = Callable[[Timetable | None, Timetable | None], Turnover]
_NAMES = frozenset({"id", "name", "fingerprint"})
_NEAR = timedelta(days=3)
"""Further than this from the horizon no clock change matters inside of it."""


def _remembering(horizon: Horizon) -> _Walk:
    """Return ``turnover`` within the horizon, which walks once for schedules of equal timetable."""

    @lru_cache(maxsize=4096)
    def walk(old: Timetable | None, new: Timetable | None) -> Turnover:
        return turnover(old, new, horizon)

    return walk


def _follows_clock(entry: Mapping[str, Any]) -> bool:
    is_clocked = entry["expression"]["kind"] == "cron" or bool(entry.get("exclusions"))
    return is_clocked and bool(entry["enabledByDefault"])


def _renamings(
    found: Difference, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield old and new id of what is equal but for its name; by their order where many are."""
    came: dict[bytes, list[str]] = defaultdict(list)
    for each in reversed(found.added):
        came[_nameless(after[each])].append(each)
    for each in found.removed:
        names = came.get(_nameless(before[each]))
        if names:
            yield each, names.pop()


def _nameless(entry: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in entry.items() if name not in _NAMES}
    return compact(kept, sort_keys=True)


def _same_clock(name: str, zone: ZoneInfo, horizon: Horizon) -> bool:
    start, end = horizon.start - _NEAR, horizon.end + _NEAR
    if start.astimezone(ZoneInfo(name)).utcoffset() != start.astimezone(zone).utcoffset():
        return False
    ours, theirs = (firetimes.transitions(each, start, end) for each in (name, zone))
    return list(ours) == list(theirs)
