"""Applying a plan to a scheduler that fails, is cut off, or is changed meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from tests.planned import make_plan

from purista.plan import Desired, Observed, Owner, digests
from purista.sync import SyncError, apply_plan


class Scheduler:
    """Holds objects in memory; fails or is cut off at a call of its life, before or after the effect."""

    def __init__(self) -> None:
        self.objects: dict[str, Observed] = {}
        self.calls: list[tuple[str, str]] = []
        self.at_work = 0
        self.most = 0
        self.trouble: dict[int, tuple[str, BaseException]] = {}

    async def observed(self, deployment, names):
        return list(self.objects.values())

    async def create(self, desired, fields):
        async with self.step("create", desired.name):
            if desired.name in self.objects:
                raise SyncError(f"'{desired.name}' was made meanwhile; plan again")
            self.put(desired, fields)

    async def update(self, observed, desired, fields):
        async with self.step("update", desired.name):
            if self.objects.get(desired.name) != observed:
                raise SyncError(f"'{desired.name}' was changed meanwhile; plan again")
            self.put(desired, fields)

    async def delete(self, observed):
        async with self.step("delete", observed.name):
            self.objects.pop(observed.name, None)

    def put(self, desired, fields):
        self.objects[desired.name] = Observed(
            desired.name, dict(fields), desired.owner, digests(desired.fields)
        )

    def step(self, verb, name):
        return _Step(self, verb, name)


class _Step:
    def __init__(self, scheduler, verb, name):
        self.scheduler, self.verb, self.name = scheduler, verb, name

    async def __aenter__(self):
        one = self.scheduler
        one.calls.append((self.verb, self.name))
        one.at_work += 1
        one.most = max(one.most, one.at_work)
        self.when, self.error = one.trouble.pop(len(one.calls), ("", None))
        await asyncio.sleep(0)
        if self.when == "before":
            one.at_work -= 1
            raise self.error

    async def __aexit__(self, kind, error, traceback):
        self.scheduler.at_work -= 1
        if error is None and self.when == "after":
            raise self.error


def wanted(*names, spec=1):
    return [
        Desired(name, Owner("prod", name, str(spec)), {"spec": spec, "paused": False})
        for name in names
    ]


def plan(scheduler, desired):
    return make_plan("fake", "prod", desired, scheduler.objects.values())


OLD = [*wanted("gone", "gone-too"), *wanted("changed", "changed-too", "same")]
NEW = [*wanted("changed", "changed-too", spec=2), *wanted("same", "new", "newer")]


async def old():
    scheduler = Scheduler()
    await apply_plan(plan(scheduler, OLD), scheduler)
    scheduler.calls.clear()
    return scheduler


async def test_deletes_come_first_and_each_change_has_its_result():
    scheduler, told = await old(), []
    results = await apply_plan(plan(scheduler, NEW), scheduler, done=told.append)
    assert [verb for verb, _ in scheduler.calls] == ["delete"] * 2 + ["update"] * 2 + ["create"] * 2
    assert told == list(results)
    assert all(not each.error for each in results)
    assert plan(scheduler, NEW).is_empty


async def test_so_many_changes_are_made_at_a_time():
    scheduler = Scheduler()
    desired = wanted(*(f"s{number}" for number in range(50)))
    await apply_plan(plan(scheduler, desired), scheduler, at_once=4)
    assert scheduler.most == 4
    assert len(scheduler.objects) == 50


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(1, 7))
async def test_a_call_that_fails_is_told_and_keeps_no_other_from_being_made(call, when):
    scheduler = await old()
    scheduler.trouble = {call: (when, SyncError("throttled"))}
    results = await apply_plan(plan(scheduler, NEW), scheduler)
    assert [each.error for each in results if each.error] == ["throttled"]
    assert len(results) == 6
    await apply_plan(plan(scheduler, NEW), scheduler)
    assert plan(scheduler, NEW).is_empty


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(1, 7))
async def test_whoever_is_cut_off_at_any_call_ends_in_the_same_state_the_next_time(call, when):
    scheduler = await old()
    scheduler.trouble = {call: (when, asyncio.CancelledError())}
    work = asyncio.ensure_future(_caught(apply_plan(plan(scheduler, NEW), scheduler, at_once=1)))
    await work
    await apply_plan(plan(scheduler, NEW), scheduler)
    assert plan(scheduler, NEW).is_empty
    assert sorted(scheduler.objects) == ["changed", "changed-too", "new", "newer", "same"]


async def _caught(work):
    try:
        await work
    except asyncio.CancelledError:
        return


async def test_what_was_changed_between_plan_and_apply_is_not_overwritten():
    scheduler = await old()
    planned = plan(scheduler, NEW)
    there = scheduler.objects["changed"]
    paused = Observed(there.name, {**there.fields, "paused": True}, there.owner, there.applied)
    scheduler.objects["changed"] = paused
    scheduler.put(wanted("new")[0], {"spec": 9})
    results = await apply_plan(planned, scheduler)
    assert sorted(each.change.name for each in results if each.error) == ["changed", "new"]
    assert scheduler.objects["changed"] == paused
    assert scheduler.objects["new"].fields == {"spec": 9}
