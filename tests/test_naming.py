"""Names in schedulers: unique, stable, and no longer than they may be."""

from __future__ import annotations

import random
import re

from hypothesis import example, given
from hypothesis import strategies as st

from purista.naming import NameRule, names_of

KUBERNETES = NameRule(longest=52, others=re.compile(r"[^a-z0-9.-]"), lower=True, room=3)
SMALL = NameRule(longest=20, others=re.compile(r"[^a-z0-9-]"), lower=True)
EXACT = NameRule(longest=200, others=re.compile(r"[^A-Za-z0-9_.-]"))
RULES = st.sampled_from([KUBERNETES, SMALL, EXACT])

PARTS = st.text("aAbB_.-", min_size=1, max_size=6)
IDS = st.one_of(
    st.builds("S.v1.{}".format, PARTS),
    st.builds("{}.v1.x".format, PARTS),
    st.builds("S.v1.{}{}".format, st.just("x" * 180), PARTS),
)
TWINS = f"billing.v1.{'x' * 40}27162", f"billing.v1.{'x' * 40}31976"
"""Both have a SHA-256 that begins with 0be4c669, and they are alike up to where names are cut."""


@st.composite
def id_sets(draw: st.DrawFn) -> list[str]:
    """Ids, and among them ids that are names of others."""
    ids = draw(st.lists(IDS, min_size=1, max_size=8, unique=True))
    rule = draw(RULES)
    for _ in range(draw(st.integers(0, 3))):
        ids += [name for name in names_of(ids, rule).values() if name not in ids][:2]
    return ids


@given(id_sets(), RULES)
@example([*TWINS], KUBERNETES)
def test_names_are_unique_and_such_as_the_scheduler_takes(ids: list[str], rule: NameRule):
    names = names_of(ids, rule)
    assert set(names) == set(ids)
    assert len(set(names.values())) == len(ids)
    for name in names.values():
        assert 0 < len(name) <= rule.longest - rule.room
        assert not rule.others.search(name)
        assert not rule.lower or name == name.lower()


@given(id_sets(), RULES, st.randoms())
def test_the_order_of_the_ids_changes_nothing(ids: list[str], rule: NameRule, dice: random.Random):
    mixed = [*ids, *ids]
    dice.shuffle(mixed)
    assert names_of(mixed, rule) == names_of(ids, rule)
    assert list(names_of(mixed, rule)) == sorted(ids)


@given(id_sets(), RULES)
def test_an_unrelated_id_changes_no_name(ids: list[str], rule: NameRule):
    names = names_of(ids, rule)
    more = names_of([*ids, "Unrelated.v7.other"], rule)
    assert {each: more[each] for each in ids} == names


def test_an_id_that_can_be_a_name_is_one():
    ids = ["Billing.v1.monthly_cycle", "shop.v2.x-1"]
    assert names_of(ids, EXACT) == {each: each for each in ids}


def test_ids_that_differ_by_case_alone_are_told_apart_where_case_is_lost():
    names = names_of(["S.v1.Run", "S.v1.run"], SMALL)
    assert names == {"S.v1.Run": "s-v1-run-2dcf5061", "S.v1.run": "s-v1-run-ad1024f3"}
    assert names_of(["S.v1.Run", "S.v1.run"], EXACT)["S.v1.run"] == "S.v1.run"


def test_an_id_that_is_the_name_of_another_gets_a_suffix_itself():
    long = "s.v1." + "x" * 60
    (taken,) = names_of([long], KUBERNETES).values()
    names = names_of([long, taken], KUBERNETES)
    assert names[long] == taken
    assert names[taken].startswith(taken[:30])
    assert names[taken] != taken


def test_a_long_id_is_cut_and_leaves_room_for_what_is_put_behind_it():
    name = names_of(["s.v1." + "x" * 195], KUBERNETES)
    assert [len(each) for each in name.values()] == [KUBERNETES.longest - KUBERNETES.room]


def test_a_cut_leaves_no_mark_before_the_suffix():
    (name,) = names_of(["s.v1.abcde-._-.-._fghijklmnop"], SMALL).values()
    assert re.fullmatch(r"s-v1-abcde-[0-9a-f]{8}", name)


def test_ids_with_the_same_suffix_get_longer_ones():
    names = names_of(TWINS, KUBERNETES)
    assert {name.rpartition("-")[2][:8] for name in names.values()} == {"0be4c669"}
    assert len(set(names.values())) == 2
    assert names_of(TWINS[:1], KUBERNETES)[TWINS[0]].endswith("x-0be4c669")


def test_no_ids_have_no_names():
    assert names_of([], SMALL) == {}
