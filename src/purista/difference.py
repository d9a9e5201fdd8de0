"""What changed between two manifests, schedule by schedule and field by field.

Values only: how it is shown, and which nominal times it moves, is for others to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from purista.jsonvalue import compact
from purista.manifest import Manifest


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field with its JSON data before and after; None where it is not there."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """What changed in a schedule that both manifests have.

    ``changes_meaning`` is False where only words for people or another spelling changed.
    """

    id: str
    fields: tuple[FieldChange, ...]
    changes_meaning: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from one manifest to another; false when nothing did. All sorted by id."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ScheduleChange, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(old: Manifest, new: Manifest) -> Difference:
    """Return what changed from ``old`` to ``new`` in the schedules."""
    before, after = old.schedules, new.schedules
    changes = (
        _change(each, before[each], after[each])
        for each in sorted(before.keys() & after.keys())
        if not same(before[each], after[each])
    )
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(change for change in changes if change.fields),
    )


def _change(
    schedule_id: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> ScheduleChange:
    names = sorted((before.keys() | after.keys()) - {"fingerprint"})
    return ScheduleChange(
        schedule_id,
        tuple(
            FieldChange(name, before.get(name), after.get(name))
            for name in names
            if not same(before.get(name), after.get(name))
        ),
        before["fingerprint"] != after["fingerprint"],
    )


def same(old: Any, new: Any) -> bool:
    """Whether two are the same as JSON, in which true is not 1."""
    return compact(old, sort_keys=True) == compact(new, sort_keys=True)
