"""One table of cases for every live scheduler: what plan, apply, drift and pause do, whichever it is.

A test file of a scheduler has a fixture ``shop`` with what is there, and a class that inherits a suite; what
is particular to the scheduler has tests beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tests.planned import DAILY, HOURLY, MOVED, Planned

from purista.plan import LEAST

TOLD = DAILY.replace('"daily"', '"daily", "Each night"')
NIGHTLY = DAILY.replace("daily", "nightly")
SEVERAL = [HOURLY.replace("hourly", f"hourly{number}") for number in range(LEAST + 2)]
"""Enough for the brakes: what an apply that was cut off has half made needs no --force."""


def with_options(text: str) -> str:
    """Return the daily schedule with more options."""
    return DAILY.replace("**options", f"{text}, **options")


PAUSED = with_options("enabled=False")


class LiveShop(Planned):
    """A shop, and what a person does with the scheduler's own tools."""

    @abstractmethod
    def name(self, schedule: str) -> str:
        """Return the name of a schedule's object."""

    @abstractmethod
    def other(self) -> Self:
        """Return the same shop in another deployment of the same scheduler."""

    @abstractmethod
    def held(self) -> Mapping[str, Any]:
        """Return all that the scheduler holds, by name: equal where nothing was done."""

    @abstractmethod
    def take(self, schedule: str) -> None:
        """Put there what is not ours, under the name of a schedule's object."""

    @abstractmethod
    def move(self, schedule: str) -> str:
        """Let a schedule's object fire at 7; return the name of the field that differs."""

    @abstractmethod
    def delete(self, schedule: str) -> None:
        """Delete a schedule's object."""


class PausingShop(LiveShop):
    """A shop whose scheduler can pause."""

    @abstractmethod
    def pause(self, schedule: str) -> None:
        """Pause a schedule's object."""

    @abstractmethod
    def resume(self, schedule: str) -> None:
        """Let a paused object fire."""


class LiveSchedulerSuite:
    """The cases that hold everywhere.

    ``parts``: what can be written instead of ``DAILY``, and the fields of the object that change with it.
    ``accepted``: options for findings of these contracts. ``taken``: what is said of a name that something
    else has.
    """

    parts: ClassVar[Mapping[str, set[str]]]
    accepted: ClassVar[tuple[str, ...]] = ()
    taken: ClassVar = "is taken by something that is not ours"

    def test_what_is_missing_is_created_and_then_nothing_is_to_do(self, shop: LiveShop) -> None:
        shop.write(DAILY, HOURLY)
        before = shop.held()
        names = [shop.name("daily"), shop.name("hourly")]
        assert shop.actions() == [("create", name) for name in names]
        assert shop.call("drift")[0] == 1
        assert shop.held() == before
        shop.apply()
        held = shop.held()
        assert held.keys() - before.keys() >= set(names)
        assert (shop.kept(), shop.is_done()) == ({}, True)
        assert shop.plan()["unchanged"] == 2
        assert shop.call("drift")[0] == 0
        code, _, err = shop.call("apply")
        assert (code, "0 changes made, 0 failed" in err) == (0, True)
        assert shop.held() == held

    def test_each_part_of_a_contract_can_change_and_change_back(self, shop: LiveShop) -> None:
        shop.write(DAILY)
        shop.apply()
        held = shop.held()
        for text, fields in self.parts.items():
            shop.write(text)
            changes = shop.plan(*self.accepted)["changes"]
            assert (text, len(changes)) == (text, 1)
            (change,) = changes
            assert change["action"] == "update"
            assert (text, {one["name"] for one in change["fields"]}) == (text, fields)
            shop.apply(*self.accepted)
            assert shop.is_done(*self.accepted), text
            shop.write(DAILY)
            shop.apply()
            assert shop.held() == held, text

    def test_a_schedule_whose_code_is_gone_is_deleted_only_when_that_is_forced(
        self, shop: LiveShop
    ) -> None:
        shop.write(DAILY, HOURLY)
        shop.apply()
        shop.write(HOURLY)
        held = shop.held()
        assert shop.actions() == [("delete", shop.name("daily"))]
        code, _, err = shop.call("apply")
        assert (code, "active schedules are deleted: Shop.v1.daily; give --force" in err) == (
            1,
            True,
        )
        assert shop.held() == held
        shop.apply("--force")
        assert shop.name("daily") not in shop.held()
        assert (shop.kept(), shop.is_done()) == ({}, True)

    def test_a_renamed_schedule_is_deleted_and_created(self, shop: LiveShop) -> None:
        shop.write(DAILY)
        shop.apply()
        shop.write(NIGHTLY)
        assert shop.actions() == [("delete", shop.name("daily")), ("create", shop.name("nightly"))]
        assert shop.call("apply")[0] == 1
        shop.apply("--force")
        assert (shop.kept(), shop.is_done()) == ({}, True)
        assert shop.name("daily") not in shop.held()

    def test_what_a_person_changed_is_kept_until_it_is_taken_back(self, shop: LiveShop) -> None:
        shop.write(DAILY)
        shop.apply()
        field = shop.move("daily")
        moved = shop.kept()[field]
        (kept,) = shop.plan()["kept"]
        if kept["fires"] is not None:
            assert {at[11:] for at in kept["fires"]["disappear"]} == {"02:00:00Z"}
            assert {at[11:] for at in kept["fires"]["appear"]} == {"07:00:00Z"}
        assert shop.call("drift")[0] == 1
        shop.write(TOLD)
        shop.apply()
        assert shop.kept()[field] == moved
        override = f"Shop.v1.daily:{field}"
        assert shop.actions("--override", override) == [("update", shop.name("daily"))]
        shop.apply("--override", override)
        assert (shop.kept(), shop.is_done()) == ({}, True)

    def test_a_contract_that_changes_what_a_person_changed_wins(self, shop: LiveShop) -> None:
        shop.write(DAILY)
        shop.apply()
        field = shop.move("daily")
        shop.write(MOVED)
        (change,) = shop.plan()["changes"]
        assert [one["byHand"] for one in change["fields"] if one["name"] == field] == [True]
        shop.apply()
        assert (shop.kept(), shop.is_done()) == ({}, True)

    def test_what_was_deleted_by_hand_is_created_again(self, shop: LiveShop) -> None:
        shop.write(DAILY, HOURLY)
        shop.apply()
        held = shop.held()
        shop.delete("daily")
        assert shop.actions() == [("create", shop.name("daily"))]
        shop.apply()
        assert (shop.kept(), shop.is_done()) == ({}, True)
        assert shop.held() == held

    def test_two_deployments_do_not_touch_each_other(self, shop: LiveShop) -> None:
        other = shop.other()
        shop.write(DAILY)
        shop.apply()
        held = shop.held()
        other.apply()
        assert (shop.kept(), shop.is_done()) == ({}, True)
        assert other.is_done()
        shop.write(HOURLY)
        other.apply("--force")
        assert other.is_done()
        shop.write()
        other.apply("--force")
        assert shop.held() == held

    def test_a_name_that_something_else_has_is_an_error_and_nothing_is_applied(
        self, shop: LiveShop
    ) -> None:
        shop.take("daily")
        held = shop.held()
        shop.write(DAILY, HOURLY)
        code, out, _ = shop.call("plan")
        assert code == 1
        assert self.taken in " ".join(out.split())
        assert shop.call("apply", "--force")[0] == 1
        assert shop.held() == held
        for schedules in ([HOURLY], []):
            shop.write(*schedules)
            shop.apply("--force")
            assert shop.held()[shop.name("daily")] == held[shop.name("daily")]
        assert shop.held() == held

    def test_a_kept_plan_is_applied_only_while_it_is_the_plan(self, shop: LiveShop) -> None:
        shop.write(DAILY)
        assert shop.call("plan", "--out", "plan.json")[0] == 0
        assert shop.run("apply", "plan.json")[0] == 0
        assert (shop.kept(), shop.is_done()) == ({}, True)
        code, _, err = shop.run("apply", "plan.json")
        assert (code, "it is not the plan any more" in err) == (2, True)
        shop.write(TOLD)
        shop.call("plan", "--out", "plan.json")
        shop.move("daily")
        held = shop.held()
        assert shop.run("apply", "plan.json")[0] == 2
        assert shop.held() == held

    def test_two_who_apply_at_once_end_in_the_same_state(self, shop: LiveShop) -> None:
        shop.write(*SEVERAL)
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        both = [
            subprocess.Popen(self._applying(shop), cwd=shop.folder, text=True, **quiet)
            for _ in range(2)
        ]
        said = [each.communicate(timeout=120)[1] for each in both]
        assert {each.returncode for each in both} <= {0, 75}, said
        shop.apply()
        assert (shop.kept(), shop.is_done()) == ({}, True)
        assert shop.plan()["unchanged"] == len(SEVERAL)

    def test_an_apply_that_was_killed_is_completed_by_the_next(self, shop: LiveShop) -> None:
        shop.write(*SEVERAL)
        with subprocess.Popen(
            self._applying(shop), cwd=shop.folder, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stderr is not None
            child.stderr.readline()
            child.kill()
        shop.apply()
        assert (shop.kept(), shop.is_done()) == ({}, True)
        assert shop.plan()["unchanged"] == len(SEVERAL)

    def _applying(self, shop: LiveShop) -> list[str]:
        named = [shop.scheduler, "shop:shop", "--deployment", shop.deployment]
        return [sys.executable, "-m", "purista", "apply", *named]


class PausingSuite(LiveSchedulerSuite):
    """The cases of a scheduler that can pause."""

    def test_a_pause_by_hand_is_shown_and_kept_until_it_is_taken_back(
        self, shop: PausingShop
    ) -> None:
        shop.write(DAILY)
        shop.apply()
        shop.pause("daily")
        assert shop.kept()["paused"] is True
        assert shop.call("drift")[0] == 1
        shop.write(MOVED)
        shop.apply()
        assert shop.kept()["paused"] is True
        shop.apply("--override", "Shop.v1.daily:paused")
        assert not {"paused", "note"} & shop.kept().keys()
        shop.apply("--override", "Shop.v1.daily")
        assert (shop.kept(), shop.is_done()) == ({}, True)

    def test_a_pause_by_contract_is_lifted_by_a_person_until_the_contract_lifts_it(
        self, shop: PausingShop
    ) -> None:
        shop.write(PAUSED)
        shop.apply()
        assert (shop.kept(), shop.is_done()) == ({}, True)
        shop.resume("daily")
        assert shop.kept()["paused"] is False
        shop.write(DAILY)
        shop.apply()
        assert "paused" not in shop.kept()

    def test_a_pause_that_the_settings_followed_is_lifted_by_them(self, shop: PausingShop) -> None:
        shop.write(DAILY)
        shop.deploy()
        shop.apply()
        shop.pause("daily")
        assert shop.kept()["paused"] is True
        shop.deploy('disabled = ["*.daily"]')
        shop.apply()
        assert "paused" not in shop.kept()
        shop.deploy()
        (change,) = shop.plan()["changes"]
        assert "paused" in {one["name"] for one in change["fields"]}
        shop.apply()
        assert "paused" not in shop.kept()

    def test_an_operator_pauses_with_a_reason_and_resumes(self, shop: PausingShop) -> None:
        shop.write(DAILY, HOURLY)
        shop.apply()
        held = shop.held()
        code, _, err = shop.call("pause", "-s", "daily", "--reason", "incident 42")
        assert code == 0, err
        kept = shop.kept()
        assert kept["paused"] is True
        assert "incident 42" in json.dumps(shop.held())
        shop.write(MOVED, HOURLY)
        shop.apply("--force")
        assert shop.kept() == kept
        assert shop.call("resume", "-s", "Shop.v1.daily")[0] == 0
        shop.write(DAILY, HOURLY)
        shop.apply("--force", "--override", "Shop.v1.daily")
        assert shop.held() == held
        code, _, err = shop.call("pause", "-s", "dayly", "--reason", "x")
        assert (code, "did you mean 'daily'?" in err) == (2, True)
