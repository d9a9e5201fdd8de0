"""A plan: what a scheduler is to hold against what it holds, and what is to be done about it.

Pure. Three states are compared: what was applied last, what is there, and what is wanted. What a person
changed in the scheduler stays as it is, unless the contract changed the same thing, or it is
overridden by name. Only objects with our marker, of this deployment, are ever changed or deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from purista.errors import Problem

PAUSED: Final = "paused"
"""The field that says that a schedule does not fire."""

NOTE: Final = "note"
"""The field that says why a person paused it."""

UNKNOWN: Final = ""
"""In place of a digest: a person changed an object so that it is lost what was applied; all is kept."""

PROBLEM: Final = "problem"
"""The field in which a scheduler says what is wrong with an object; None where nothing is."""

SHARE: Final = 0.3
LEAST: Final = 10
"""More than this share of at least so many objects is changed or deleted only when it is forced."""


class Action(StrEnum):
    """What is done to an object."""

    DELETE = "delete"
    UPDATE = "update"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Owner:
    """The marker of an object of ours: for which deployment and schedule, in which version."""

    deployment: str
    schedule_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Desired:
    """An object that a scheduler is to hold. ``fields`` are JSON values by their names."""

    name: str
    owner: Owner
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Observed:
    """An object that a scheduler holds.

    ``owner``: None for one without our marker. ``applied``: the digest of each field as it was applied
    last, or ``UNKNOWN``; None where nothing was. ``version``: what the scheduler itself tells states apart by.
    ``is_unfinished``: whether its last change was cut off.
    """

    name: str
    fields: Mapping[str, Any]
    owner: Owner | None = None
    applied: Mapping[str, str] | None = None
    version: str = ""
    is_unfinished: bool = False


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of an object, and how it changes. ``by_hand``: a person changed it meanwhile.

    Where ``before`` is ``after``, the contract has followed a person: nothing changes but whose it is.
    """

    name: str
    before: Any
    after: Any
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done to one object.

    ``kept`` are the fields that a person changed and that stay so: ``before`` is what is there, ``after``
    what the contract says. Of a new object these are what a person did to all others of its schedule.
    """

    action: Action
    name: str
    schedule_id: str
    fields: tuple[FieldChange, ...] = ()
    kept: tuple[FieldChange, ...] = ()
    desired: Desired | None = None
    observed: Observed | None = None

    @property
    def stops(self) -> bool:
        """Whether something that fires is taken away."""
        fires = self.observed is not None and self.observed.fields.get(PAUSED) is not True
        return self.action is Action.DELETE and fires

    @property
    def completes(self) -> bool:
        """Whether it does nothing but what an earlier change of the object was cut off before."""
        if self.observed is None or not self.observed.is_unfinished or self.desired is None:
            return False
        return not (self.observed.applied or {}).keys() & {each.name for each in self.fields}


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes, deletes first, and what is left as it is.

    ``kept`` are objects that differ in nothing but what a person changed. ``conflicts`` are names that
    something else has taken: nothing is applied as long as there is one. ``state`` identifies what was
    there.
    """

    scheduler: str
    deployment: str
    changes: tuple[Change, ...]
    kept: tuple[Change, ...] = ()
    unchanged: int = 0
    left_alone: int = 0
    conflicts: tuple[Problem, ...] = ()
    state: str = ""
    held: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes

    def count(self, action: Action) -> int:
        """Return how many objects something is done to."""
        return sum(each.action is action for each in self.changes)


class Planner:
    """Makes a plan of objects that come one by one; what is as it should be is only counted.

    ``overrides`` name what a person changed and the contract is to have back: ``SCHEDULE_ID``, or
    ``SCHEDULE_ID:FIELD``.
    """

    def __init__(
        self,
        scheduler: str,
        deployment: str,
        desired: Iterable[Desired],
        *,
        overrides: frozenset[str] = frozenset(),
    ) -> None:
        self._scheduler = scheduler
        self._deployment = deployment
        self._overrides = overrides
        self._wanted = {each.name: each for each in desired}
        self._overridable: dict[str, set[str]] = {
            each.partition(":")[0]: set() for each in overrides
        }
        for each in self._wanted.values():
            self._note_fields(each.owner, each.fields)
        self._seen: set[str] = set()
        self._deletes: list[Change] = []
        self._updates: list[Change] = []
        self._kept: list[Change] = []
        self._conflicts: list[tuple[str, Problem]] = []
        self._paused: dict[str, Observed] = {}
        self._not_paused: set[str] = set()
        self._unchanged = self._left_alone = self._held = self._state = 0

    def see(self, there: Observed) -> None:
        """Take an object into account; each comes once."""
        wanted = self._wanted.get(there.name)
        is_ours = there.owner is not None and there.owner.deployment == self._deployment
        if not is_ours and wanted is None:
            self._left_alone += 1
            return
        self._seen.add(there.name)
        self._state ^= _state(there)
        if not is_ours:
            assert wanted is not None
            self._conflicts.append((there.name, _conflict(self._scheduler, wanted, there)))
            return
        self._held += 1
        assert there.owner is not None
        self._note_fields(there.owner, there.fields)
        if _is_paused_by_hand(there):
            self._paused[there.owner.schedule_id] = there
        else:
            self._not_paused.add(there.owner.schedule_id)
        if wanted is None:
            self._deletes.append(_delete(there))
            return
        change = _compared(wanted, there, self._overrides)
        if change.fields:
            self._updates.append(change)
        elif change.kept:
            self._kept.append(change)
        else:
            self._unchanged += 1

    def plan(self) -> Plan:
        """Return what is to be done so that the scheduler holds what is desired."""
        creates = [
            self._create(wanted)
            for name, wanted in sorted(self._wanted.items())
            if name not in self._seen
        ]
        return Plan(
            self._scheduler,
            self._deployment,
            (*_by_name(self._deletes), *_by_name(self._updates), *creates),
            tuple(_by_name(self._kept)),
            unchanged=self._unchanged,
            left_alone=self._left_alone,
            conflicts=tuple(problem for _, problem in sorted(self._conflicts)),
            state=f"{self._state:016x}",
            held=self._held,
        )

    def idle_overrides(self) -> Iterator[tuple[str, set[str]]]:
        """Yield the overrides of fields that no object of their schedule has, and those that it has."""
        for each in sorted(self._overrides):
            schedule_id, _, field = each.partition(":")
            known = self._overridable[schedule_id]
            if field and field not in known:
                yield each, known

    def _note_fields(self, owner: Owner, fields: Mapping[str, Any]) -> None:
        if owner.schedule_id in self._overridable:
            self._overridable[owner.schedule_id].update(fields)

    def _create(self, wanted: Desired) -> Change:
        """Return the creation of an object, paused where a person paused all others of its schedule."""
        schedule_id = wanted.owner.schedule_id
        paused = self._paused.get(schedule_id)
        kept: tuple[FieldChange, ...] = ()
        if paused is not None and schedule_id not in self._not_paused:
            kept = tuple(self._as_paused(wanted, paused))
        return Change(Action.CREATE, wanted.name, schedule_id, kept=kept, desired=wanted)

    def _as_paused(self, wanted: Desired, paused: Observed) -> Iterator[FieldChange]:
        if wanted.fields[PAUSED] or _is_overridden(wanted, PAUSED, self._overrides):
            return
        for name in (NOTE, PAUSED):
            if name in wanted.fields and wanted.fields[name] != paused.fields[name]:
                yield FieldChange(name, paused.fields[name], wanted.fields[name], by_hand=True)


def brakes(plan: Plan) -> Iterator[str]:
    """Yield why a plan is applied only when it is forced."""
    touched = sum(each.observed is not None and not each.completes for each in plan.changes)
    if plan.held >= LEAST and touched > SHARE * plan.held:
        share = touched / plan.held
        yield f"{touched} of {plan.held} objects ({share:.0%}) are updated or deleted"
    stopped = [each.schedule_id for each in plan.changes if each.stops]
    if stopped:
        more = f" and {len(stopped) - 3} more" if len(stopped) > 3 else ""
        yield f"active schedules are deleted: {', '.join(stopped[:3])}{more}"


def digests(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of each field, to be kept with an object that was applied.

    >>> digests({"paused": False})
    {'paused': 'fcbcf165'}
    """
    return {name: _digest(value) for name, value in fields.items()}


def merged(change: Change) -> Mapping[str, Any]:
    """Return the fields that an object has once a change is applied: the contract's, and what is kept."""
    assert change.desired is not None
    return {**change.desired.fields, **{each.name: each.before for each in change.kept}}


def _conflict(scheduler: str, desired: Desired, taken: Observed) -> Problem:
    by = "something that is not ours"
    if taken.owner is not None:
        by = f"deployment '{taken.owner.deployment}', for schedule '{taken.owner.schedule_id}'"
    return Problem(
        f"schedule '{desired.owner.schedule_id}'",
        f"its name '{desired.name}' in {scheduler} is taken by {by}",
        "rename the schedule, use another namespace, or remove what is there",
    )


def _delete(observed: Observed) -> Change:
    assert observed.owner is not None
    return Change(Action.DELETE, observed.name, observed.owner.schedule_id, observed=observed)


def _compared(desired: Desired, observed: Observed, overrides: frozenset[str]) -> Change:
    schedule_id = desired.owner.schedule_id
    changed: list[FieldChange] = []
    kept: list[FieldChange] = []
    names = sorted(desired.fields.keys() | observed.fields.keys())
    for name in names:
        before, after = observed.fields.get(name), desired.fields.get(name)
        base = None if observed.applied is None else observed.applied.get(name)
        by_hand = base is not None and base != _digest(before)
        if before == after:
            if by_hand and base != UNKNOWN:
                changed.append(FieldChange(name, before, after, by_hand=True))
            continue
        is_contracts = base not in (UNKNOWN, _digest(after))
        if by_hand and not is_contracts and not _is_overridden(desired, name, overrides):
            kept.append(FieldChange(name, before, after, by_hand=True))
        else:
            changed.append(FieldChange(name, before, after, by_hand=by_hand))
    if observed.owner != desired.owner and not changed:
        assert observed.owner is not None
        version = observed.owner.fingerprint, desired.owner.fingerprint
        changed.append(FieldChange("fingerprint", *version))
    return Change(
        Action.UPDATE,
        desired.name,
        schedule_id,
        tuple(changed),
        tuple(kept),
        desired,
        observed,
    )


def _is_paused_by_hand(there: Observed) -> bool:
    was_active = there.applied is not None and there.applied.get(PAUSED) == _digest(False)
    return was_active and there.fields.get(PAUSED) is True


def _is_overridden(desired: Desired, field: str, overrides: frozenset[str]) -> bool:
    """Whether a field is to be as the contract says; why it was paused goes with the pause."""
    schedule_id = desired.owner.schedule_id
    named = {schedule_id, f"{schedule_id}:{field}"}
    if field == NOTE:
        named.add(f"{schedule_id}:{PAUSED}")
    return not overrides.isdisjoint(named)


def _state(observed: Observed) -> int:
    """Return what identifies the state of an object."""
    owner = None if observed.owner is None else observed.owner.deployment
    said = _canonical([observed.name, dict(observed.fields), owner])
    return int(hashlib.sha256(said).hexdigest()[:16], 16)


def _by_name(changes: list[Change]) -> list[Change]:
    return sorted(changes, key=lambda each: each.name)


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()[:8]


def _canonical(value: Any) -> bytes:
    """Return a value as JSON; a text may hold lone surrogates, as of bytes in files that are no text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")
