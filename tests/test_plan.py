"""What a plan says, from three states."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.planned import make_plan

from purista.plan import (
    UNKNOWN,
    Action,
    Desired,
    Observed,
    Owner,
    brakes,
    digests,
    merged,
)

OURS = "prod"


def owner(name, deployment=OURS, version="1"):
    return Owner(deployment, f"id-{name}", version)


def desired(name, version="1", **fields):
    return Desired(name, owner(name, version=version), {"paused": False, **fields})


def observed(name, applied=None, by=OURS, version="1", **fields):
    there = {"paused": False, **fields}
    return Observed(
        name,
        there,
        None if by is None else owner(name, by, version),
        digests(there if applied is None else {"paused": False, **applied}),
    )


def plan(wanted, there, **options):
    return make_plan("temporal", OURS, wanted, there, **options)


def actions(found):
    return [(str(each.action), each.name) for each in found.changes]


def test_deletes_come_first_then_updates_then_creates():
    found = plan(
        [desired("new"), desired("changed", spec=2), desired("same", spec=1)],
        [observed("gone"), observed("changed", spec=1), observed("same", spec=1)],
    )
    assert actions(found) == [("delete", "gone"), ("update", "changed"), ("create", "new")]
    assert found.unchanged == 1


def test_what_is_not_ours_is_left_alone_and_a_taken_name_is_a_conflict():
    found = plan(
        [desired("a"), desired("b")],
        [observed("a", by=None), observed("b", by="other"), observed("c", by="other")],
    )
    assert actions(found) == []
    assert [each.place for each in found.conflicts] == ["schedule 'id-a'", "schedule 'id-b'"]
    assert "deployment 'other'" in str(found.conflicts[1])
    assert found.left_alone == 1


@pytest.mark.parametrize(
    ("applied", "live", "wanted", "changed", "kept"),
    [
        (1, 1, 1, [], []),
        (1, 1, 2, [(1, 2, False)], []),
        (1, 3, 1, [], [(3, 1)]),
        (1, 3, 2, [(3, 2, True)], []),
        (1, 2, 2, [(2, 2, True)], []),
        (None, 3, 1, [(3, 1, False)], []),
    ],
)
def test_three_states_of_a_field(applied, live, wanted, changed, kept):
    there = observed("a", applied={"spec": applied}, spec=live)
    if applied is None:
        there = Observed("a", there.fields, there.owner, None)
    found = plan([desired("a", spec=wanted)], [there])
    changes = [one for each in found.changes for one in each.fields]
    assert [(one.before, one.after, one.by_hand) for one in changes] == changed
    assert [(one.before, one.after) for each in found.kept for one in each.kept] == kept


def test_what_is_kept_stays_when_something_else_changes():
    there = observed("a", applied={"spec": 1}, spec=1)
    there = Observed("a", {**there.fields, "paused": True}, there.owner, there.applied)
    (change,) = plan([desired("a", spec=2)], [there]).changes
    assert [one.name for one in change.kept] == ["paused"]
    assert merged(change) == {"paused": True, "spec": 2}


@pytest.mark.parametrize("name", ["id-a", "id-a:paused"])
def test_an_override_takes_back_what_a_person_changed(name):
    there = observed("a")
    there = Observed("a", {"paused": True}, there.owner, there.applied)
    assert actions(plan([desired("a")], [there])) == []
    found = plan([desired("a")], [there], overrides=frozenset({name}))
    assert actions(found) == [("update", "a")]
    assert merged(found.changes[0]) == {"paused": False}


@pytest.mark.parametrize(
    ("name", "left"),
    [("id-a:paused", {}), ("id-a:note", {"paused": True})],
)
def test_why_it_was_paused_goes_with_the_pause(name, left):
    wanted = desired("a", note="")
    there = observed("a", note="")
    by_hand = {"paused": True, "note": "incident 42"}
    there = Observed("a", by_hand, there.owner, there.applied)
    (change,) = plan([wanted], [there], overrides=frozenset({name})).changes
    assert merged(change) == {"paused": False, "note": ""} | left


def test_another_version_with_the_same_fields_is_noted():
    found = plan([desired("a", version="2")], [observed("a")])
    assert [(one.name, one.before, one.after) for one in found.changes[0].fields] == [
        ("fingerprint", "1", "2")
    ]


def test_the_brakes():
    names = [f"s{number}" for number in range(10)]
    there = [observed(name, spec=1) for name in names]

    def changed(count):
        wanted = [
            desired(name, spec=2 if number < count else 1) for number, name in enumerate(names)
        ]
        return list(brakes(plan(wanted, there)))

    assert changed(3) == []
    assert changed(4) == ["4 of 10 objects (40%) are updated or deleted"]
    assert list(brakes(plan([], there[:1]))) == ["active schedules are deleted: id-s0"]
    asleep = Observed("s", {"paused": True}, owner("s"))
    assert list(brakes(plan([], [asleep]))) == []
    assert list(brakes(plan([desired(name) for name in names], []))) == []


def test_what_was_cut_off_is_completed_without_force():
    names = [f"s{number}" for number in range(10)]
    wanted = [desired(name, spec=1) for name in names]
    begun = [
        replace(observed(name, spec=1), applied={"spec": digests({"spec": 1})["spec"]})
        for name in names
    ]
    half = [replace(each, fields={"paused": True, "spec": 1}, is_unfinished=True) for each in begun]
    assert list(brakes(plan(wanted, half))) == []
    bare = [replace(each, applied=None) for each in half]
    assert list(brakes(plan(wanted, bare))) == []
    held = [replace(each, is_unfinished=False) for each in half]
    assert list(brakes(plan(wanted, held))) == ["10 of 10 objects (100%) are updated or deleted"]
    moved = [desired(name, spec=2) for name in names]
    assert list(brakes(plan(moved, half))) == ["10 of 10 objects (100%) are updated or deleted"]
    assert list(brakes(plan([], [replace(each, fields={"paused": True}) for each in half]))) == [
        "10 of 10 objects (100%) are updated or deleted"
    ]


def test_the_state_is_that_of_what_the_plan_is_about():
    wanted, there = [desired("a")], [observed("a")]
    state = plan(wanted, there).state
    assert plan(wanted, [*there, observed("b", by="other")]).state == state
    assert plan(wanted, [Observed("a", {"paused": True}, owner("a"))]).state != state
    assert plan(wanted, [*there, observed("b")]).state != state


def line(number, **fields):
    return Desired(f"x-{number}", Owner(OURS, "x", "2"), {"paused": False, "note": "", **fields})


def paused_line(number, *, by_contract=False):
    fields = {"paused": True, "note": "incident 42"}
    applied = digests({"paused": by_contract, "note": ""})
    return Observed(f"x-{number}", fields, Owner(OURS, "x", "1"), applied)


def test_a_new_line_of_a_schedule_that_a_person_paused_is_made_paused():
    found = plan([line(1), line(2)], [paused_line(1)])
    (created,) = [each for each in found.changes if each.action is Action.CREATE]
    assert merged(created) == {"paused": True, "note": "incident 42"}
    assert [(one.name, one.before, one.after) for one in created.kept] == [
        ("note", "incident 42", ""),
        ("paused", True, False),
    ]
    renamed = plan([line(3)], [paused_line(1)])
    assert [merged(each)["paused"] for each in renamed.changes if each.desired] == [True]


@pytest.mark.parametrize(
    ("wanted", "there", "overrides"),
    [
        ([line(1), line(2)], [paused_line(1)], {"x:paused"}),
        ([line(1), line(2)], [paused_line(1)], {"x"}),
        ([line(1), line(2)], [paused_line(1, by_contract=True)], ()),
        (
            [line(1), line(2), line(3)],
            [paused_line(1), Observed("x-3", {"paused": False, "note": ""}, Owner(OURS, "x", "1"))],
            (),
        ),
    ],
)
def test_a_new_line_fires_where_not_all_others_are_paused_by_a_person(wanted, there, overrides):
    found = plan(wanted, there, overrides=frozenset(overrides))
    (created,) = [each for each in found.changes if each.action is Action.CREATE]
    assert (merged(created)["paused"], created.kept) == (False, ())


def test_a_setting_that_followed_a_person_is_taken_back_by_the_setting():
    off, on = desired("a", spec=1, paused=True), desired("a", spec=1)
    by_hand = Observed("a", {"paused": True, "spec": 1}, owner("a"), digests(on.fields))
    (followed,) = plan([off], [by_hand]).changes
    assert [(one.name, one.before, one.after) for one in followed.fields] == [
        ("paused", True, True)
    ]
    applied = Observed("a", merged(followed), owner("a"), digests(off.fields))
    assert plan([off], [applied]).is_empty
    (back,) = plan([on], [applied]).changes
    assert merged(back)["paused"] is False


def test_where_it_is_lost_what_was_applied_all_that_differs_is_kept():
    lost = {"paused": UNKNOWN, "spec": UNKNOWN}
    there = Observed("a", {"paused": True, "spec": 1}, owner("a", version=""), lost)
    (change,) = plan([desired("a", spec=1)], [there]).changes
    assert [one.name for one in change.kept] == ["paused"]
    assert [one.name for one in change.fields] == ["fingerprint"]
    (change,) = plan([desired("a", spec=1)], [there], overrides=frozenset({"id-a"})).changes
    assert merged(change)["paused"] is False


def test_bytes_that_are_no_text_are_compared_and_told_apart():
    first, second = b"\xff".decode(errors="surrogateescape"), "\ud83d"
    there = observed("a", spec=first)
    assert plan([desired("a", spec=first)], [there]).is_empty
    (change,) = plan([desired("a", spec=second)], [there]).changes
    assert change.fields[0].by_hand is False


FIELDS = st.dictionaries(st.sampled_from(["spec", "notes", "paused"]), st.integers(0, 2))
WORLD = st.dictionaries(st.sampled_from("abcde"), FIELDS)


def applied(there, found, upto):
    """Apply the first changes of a plan to a world, as a scheduler does."""
    world = {each.name: each for each in there}
    for change in found.changes[:upto]:
        if change.action is Action.DELETE:
            del world[change.name]
        else:
            assert change.desired is not None
            world[change.name] = Observed(
                change.name,
                dict(merged(change)),
                change.desired.owner,
                digests(change.desired.fields),
            )
    return list(world.values())


@given(st.lists(st.tuples(WORLD, WORLD, st.integers(0, 10)), min_size=1, max_size=5))
def test_any_edits_by_code_and_by_hand_and_any_interruption_converge(steps):
    there = [Observed("foreign", {"spec": 9}, None)]
    for contract, hand, interrupted in steps:
        wanted = [Desired(name, owner(name), fields) for name, fields in contract.items()]
        there = applied(there, plan(wanted, there), interrupted)
        there = [
            Observed(
                each.name, {**each.fields, **hand.get(each.name, {})}, each.owner, each.applied
            )
            if each.owner is not None
            else each
            for each in there
        ]
        overrides = frozenset(each.owner.schedule_id for each in wanted)
        there = applied(there, plan(wanted, there, overrides=overrides), None)
        assert plan(wanted, there).is_empty
        assert plan(wanted, there).kept == ()
        ours = {each.name: each.fields for each in there if each.owner is not None}
        assert {
            name: {k: v for k, v in one.items() if v is not None} for name, one in ours.items()
        } == contract
    assert Observed("foreign", {"spec": 9}, None) in there
