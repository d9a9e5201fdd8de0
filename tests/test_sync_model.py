"""Any sequence of contract edits, edits by hand and interrupted applies converges: two deployments, one scheduler."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.planned import make_plan
from tests.test_sync_applying import Scheduler

from purista.plan import PAUSED, Desired, Observed, Owner, Plan
from purista.sync import SyncError, apply_plan

NAMES = st.sampled_from("abcd")
FIELD = st.sampled_from(["spec", "notes", PAUSED])
VALUE = st.integers(0, 3)
FIELDS = st.fixed_dictionaries({"spec": VALUE, "notes": VALUE, PAUSED: st.booleans()})
DEPLOYMENTS = st.sampled_from(["prod", "staging"])
FOREIGN = Observed("foreign", {"spec": 9, "notes": 9, PAUSED: False})


class Fleet(RuleBasedStateMachine):
    """A scheduler that two deployments share; names begin with the deployment's."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler()
        self.scheduler.objects[FOREIGN.name] = FOREIGN
        self.contracts: dict[str, dict[str, dict[str, Any]]] = {"prod": {}, "staging": {}}
        self.applied: dict[str, dict[str, Any]] = {}

    def plan(self, deployment: str, overrides: frozenset[str] = frozenset()) -> Plan:
        desired = [
            Desired(f"{deployment}.{name}", Owner(deployment, name, str(fields)), fields)
            for name, fields in self.contracts[deployment].items()
        ]
        there = self.scheduler.objects.values()
        return make_plan("fake", deployment, desired, there, overrides=overrides)

    @rule(deployment=DEPLOYMENTS, name=NAMES, fields=FIELDS)
    def declare(self, deployment: str, name: str, fields: dict[str, Any]) -> None:
        self.contracts[deployment][name] = fields

    @rule(deployment=DEPLOYMENTS, name=NAMES)
    def remove(self, deployment: str, name: str) -> None:
        self.contracts[deployment].pop(name, None)

    @rule(deployment=DEPLOYMENTS, name=NAMES, field=FIELD, value=VALUE)
    def edit_by_hand(self, deployment: str, name: str, field: str, value: int) -> None:
        key = f"{deployment}.{name}"
        there = self.scheduler.objects.get(key)
        if there is not None:
            changed = bool(value % 2) if field == PAUSED else value
            fields = {**there.fields, field: changed}
            self.scheduler.objects[key] = replace(there, fields=fields)

    @rule(deployment=DEPLOYMENTS, name=NAMES)
    def delete_by_hand(self, deployment: str, name: str) -> None:
        self.scheduler.objects.pop(f"{deployment}.{name}", None)
        self.applied.pop(f"{deployment}.{name}", None)

    @rule(
        deployment=DEPLOYMENTS,
        call=st.integers(1, 6),
        when=st.sampled_from(["before", "after"]),
        error=st.sampled_from([SyncError("throttled"), asyncio.CancelledError()]),
        at_once=st.integers(1, 3),
    )
    def apply_interrupted(
        self, deployment: str, call: int, when: str, error: BaseException, at_once: int
    ) -> None:
        self.scheduler.calls.clear()
        self.applied.clear()  # how far it came is not known
        self.scheduler.trouble = {call: (when, error)}
        try:
            asyncio.run(apply_plan(self.plan(deployment), self.scheduler, at_once=at_once))  # type: ignore[arg-type]
        except asyncio.CancelledError:
            pass
        finally:
            self.scheduler.trouble = {}

    @rule(deployment=DEPLOYMENTS)
    def apply(self, deployment: str) -> None:
        others = {
            name: each
            for name, each in self.scheduler.objects.items()
            if not name.startswith(f"{deployment}.")
        }
        before = dict(self.scheduler.objects)
        planned = self.plan(deployment)
        results = asyncio.run(apply_plan(planned, self.scheduler))  # type: ignore[arg-type]
        assert not any(each.error for each in results)
        after = self.plan(deployment)
        assert after.is_empty
        assert set(self.contracts[deployment]) == {
            name.partition(".")[2]
            for name in self.scheduler.objects
            if name.startswith(f"{deployment}.")
        }
        for name, fields in self.contracts[deployment].items():
            self.check(f"{deployment}.{name}", before, fields)
            self.applied[f"{deployment}.{name}"] = fields
        for name, each in others.items():
            assert self.scheduler.objects[name] is each

    def check(self, key: str, before: dict[str, Observed], fields: dict[str, Any]) -> None:
        """What a person changed stays, where the contract says what it said when it was applied last."""
        applied, now = self.applied.get(key), self.scheduler.objects[key].fields
        for field, value in fields.items():
            if applied is None or key not in before:
                continue
            by_hand = before[key].fields[field]
            is_kept = by_hand != applied[field] and value == applied[field]
            assert now[field] == (by_hand if is_kept else value)

    @rule(deployment=DEPLOYMENTS)
    def take_everything_back(self, deployment: str) -> None:
        overrides = frozenset(self.contracts[deployment])
        planned = self.plan(deployment, overrides)
        asyncio.run(apply_plan(planned, self.scheduler))  # type: ignore[arg-type]
        after = self.plan(deployment)
        assert (after.is_empty, after.kept) == (True, ())
        for name, fields in self.contracts[deployment].items():
            assert self.scheduler.objects[f"{deployment}.{name}"].fields == fields
            self.applied[f"{deployment}.{name}"] = fields

    @invariant()
    def foreign_is_left_alone(self) -> None:
        assert self.scheduler.objects[FOREIGN.name] is FOREIGN


Fleet.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestFleet = Fleet.TestCase
