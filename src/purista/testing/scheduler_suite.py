"""The conformance suite of schedulers: what compiling promises, one test for each promise."""
# ruff: noqa: D102 - the names of tests say what they test

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from purista.compiling import (
    Compilation,
    Request,
    Scheduler,
    compile_schedules,
    default_horizon,
    place,
    request_for,
)
from purista.contract import Event, Schedule
from purista.errors import PortabilityError
from purista.expression import Cron
from purista.portability import OPTIONS
from purista.testing.corpus import END, START, contracts, drawn

SECRET = "sample-of-a-payload-that-no-artifact-may-hold"  # noqa: S105 - it is none
DRAWN, SEED = 60, 2027
"""How many contracts are drawn besides those of the corpus, and from which seed."""

SOURCE = re.compile(r"https://|experiment: |docs/")


class SchedulerSuite:
    """Every scheduler passes this; a subclass whose name begins with ``Test`` says which, and asks it.

    ::

        class TestMyScheduler(SchedulerSuite):
            scheduler = SCHEDULER

            def fires(self, compilation, start, end):
                return {id: ask_the_engine(artifact, start, end) for id, artifact in ...}

    ``fires`` loads the artifacts into the real engine, or into an independent model of it, and returns
    for each schedule id the instants at which it would fire from ``start`` to ``end``. ``settings``
    are the tables of ``purista.toml``; the scheduler's sample if not given.
    """

    scheduler: Scheduler
    settings: Mapping[str, Any] = {}

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        """Return when the compiled schedules fire, by id, as the engine says."""
        raise NotImplementedError(f"{type(self).__name__}.fires asks the engine")

    def contracts(self) -> Iterable[Schedule]:
        """Return the schedules that are tried: those of the corpus, and some that are drawn."""
        return (*contracts(), *drawn(DRAWN, seed=SEED))

    def request(self, **changes: Any) -> Request:
        """Return a request with the sample settings."""
        document = {self.scheduler.name: self.scheduler.sample, **self.settings}
        return replace(request_for(self.scheduler, document, default_horizon(START)), **changes)

    def compiled(self, schedules: Iterable[Schedule], **changes: Any) -> Compilation:
        """Compile with every finding accepted."""
        given = tuple(schedules)
        request = self.request(**changes)
        _, found = place(self.scheduler, given, request)
        accepted = frozenset(each.code for each in found)
        return compile_schedules(self.scheduler, given, replace(request, accepted=accepted))

    def test_every_option_has_a_cell_with_its_source(self) -> None:
        table = self.scheduler.capabilities
        assert list(table) == list(OPTIONS)
        assert [one for one, cell in table.items() if not SOURCE.match(cell.source)] == []
        assert [one for one, cell in table.items() if not cell.how] == []

    def compiled_and_fired(self) -> tuple[Compilation, Mapping[str, set[datetime]]]:
        """Return the contracts compiled, and when they fire; the engine is asked once for all tests."""
        known = type(self).__dict__.get("_fired_once")
        if known is None:
            compilation = self.compiled(self.contracts())
            fired = self.fires(compilation, START, END)
            known = compilation, {one: set(times) for one, times in fired.items()}
            type(self)._fired_once = known  # type: ignore[attr-defined]
        return cast("tuple[Compilation, Mapping[str, set[datetime]]]", known)

    def test_behind_the_ingress_the_engine_means_what_the_contract_means(self) -> None:
        compilation, fired = self.compiled_and_fired()
        held = [each.schedule for each in compilation.placed if each.schedule.enabled]
        missed = {
            each.id: sorted(missing)[:3]
            for each in held
            if (missing := set(each.between(START, END)) - fired.get(each.id, set()))
        }
        assert missed == {}
        ids = {each.id for each in self.contracts()}
        assert ids - {each.schedule.id for each in compilation.placed} == set(compilation.left_out)

    def test_lines_that_are_called_exact_fire_at_nominal_times_alone(self) -> None:
        compilation, fired = self.compiled_and_fired()
        exact = [
            each.schedule
            for each in compilation.placed
            if not each.sends_extra and not (each.schedule.start_at or each.schedule.end_at)
        ]
        wrong = {
            each.id: sorted(extra)[:3]
            for each in exact
            if (extra := fired.get(each.id, set()) - set(each.between(START, END)))
        }
        assert wrong == {}

    def test_what_is_left_out_has_a_finding_with_a_dated_example(self) -> None:
        placed, found = place(self.scheduler, self.contracts(), self.request())
        held = {each.schedule.id for each in placed}
        explained = {each.schedule_id for each in found if each.leaves_out}
        assert {each.id for each in self.contracts()} - held == explained
        assert [
            each.code for each in found if not re.search(r"\d{4}-\d\d-\d\d", each.example)
        ] == []

    def test_exact_native_gives_exact_lines_or_a_refusal(self) -> None:
        placed, found = place(self.scheduler, self.contracts(), self.request(exact_native=True))
        assert [each.schedule.id for each in placed if each.cover.fit != "exact"] == []
        refused = {each.schedule_id for each in found if each.leaves_out}
        assert {each.id for each in self.contracts()} - {p.schedule.id for p in placed} == refused

    def test_compiling_twice_and_in_any_order_gives_the_same_bytes(self) -> None:
        ordered = list(self.contracts())
        first, second = self.compiled(ordered), self.compiled(reversed(ordered))
        assert first.artifacts == second.artifacts
        assert first.artifacts

    def test_findings_refuse_until_they_are_accepted_and_then_stand_in_the_artifact(self) -> None:
        policy = {"missed_run_policy": "catchUp", "concurrency_policy": "replace"}
        schedule = _schedule("odd", jitter=timedelta(minutes=5), **policy)
        _, found = place(self.scheduler, [schedule], self.request())
        codes = sorted({each.code for each in found})
        if codes:
            assert self._refused([schedule]) == codes
        compilation = self.compiled([schedule])
        text = "".join(each.text for each in compilation.artifacts)
        assert [code for code in codes if code not in text] == []

    def _refused(self, schedules: Iterable[Schedule]) -> list[str]:
        """Return the codes for which compiling is refused."""
        try:
            compile_schedules(self.scheduler, schedules, self.request())
        except PortabilityError as error:
            return sorted({each.code for each in error.findings})
        return []

    def test_every_artifact_says_whose_it_is_and_leads_back_to_its_schedule(self) -> None:
        compilation = self.compiled(self.contracts())
        text = "".join(each.text for each in compilation.artifacts)
        assert "purista" in text
        held = [each for each in compilation.placed if each.schedule.enabled]
        assert [each.schedule.id for each in held if each.schedule.id not in text] == []
        assert [each.schedule.id for each in held if each.fingerprint not in text] == []

    def test_names_are_the_schedulers_and_no_two_are_the_same(self) -> None:
        names = ["a" * 150, "A" * 150, "a" * 149 + "b", "x.y", "x-y", "x_y", "X.Y"]
        placed = self.compiled([_schedule(each[:180]) for each in names[:1]]).placed
        assert len(placed) == 1
        odd = [
            _schedule(each, service=f"S{number}" if len(each) > 9 else "S")
            for number, each in enumerate([each[:180] for each in names])
        ]
        found = [each.name for each in self.compiled(odd).placed]
        assert len(set(found)) == len(odd)
        rule = self.scheduler.names
        assert [
            name for name in found if len(name) > rule.longest or rule.others.search(name)
        ] == []

    def test_no_artifact_holds_a_payload(self) -> None:
        compilation = self.compiled([_schedule("x", payload=SECRET)])
        assert [each.path for each in compilation.artifacts if SECRET in each.text] == []

    def test_paths_of_artifacts_are_unique_and_stay_inside_the_folder(self) -> None:
        paths = [each.path for each in self.compiled(self.contracts()).artifacts]
        assert len({path.lower() for path in paths}) == len(paths)
        assert [path for path in paths if path.startswith(("/", ".")) or ".." in path] == []


def _schedule(name: str, service: str = "S", **options: Any) -> Schedule:
    values: dict[str, Any] = {
        "expression": Cron("0 4 * * *"),
        "payload": "due",
        "start_at": datetime(2027, 1, 1, tzinfo=UTC),
        **options,
    }
    target = Event("due", str, service_name=service, service_version="1")
    return Schedule(name=name, service_name=service, service_version="1", target=target, **values)
