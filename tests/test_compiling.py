"""Compiling: all findings, then a refusal; what is accepted stands in what is made."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import Field

from purista import Cron, Every, Expression, Once, Schedule, Service
from purista.compiling import (
    Artifact,
    Compilation,
    Placed,
    Request,
    accepted_text,
    compile_schedules,
    default_horizon,
    is_accepted,
    marker_text,
    place,
    place_one,
    timing_of,
)
from purista.cover import Cover, Uncovered, cover
from purista.dialect import Dialect, Reading
from purista.errors import ContractError, PortabilityError
from purista.exclusion import DateRange
from purista.naming import NameRule
from purista.portability import OPTIONS, CapabilityTable, Finding, Most, by_none, native
from purista.settings import IngressSettings, Settings

HORIZON = default_horizon(datetime(2027, 5, 4, tzinfo=UTC))
SECRET = "hunter2"
CELLS = {option: native("it does", "https://example.com") for option in OPTIONS} | {
    "missed_run_policy=catchUp": by_none("it forgets", "https://example.com/missed"),
    "jitter": by_none("it is punctual", "https://example.com/jitter"),
    "expression=once": by_none("it repeats for ever", "https://example.com/once"),
}


class BellSettings(Settings):
    tower: str = Field(default="north", pattern="^[a-z]+$")
    pulls: int = 1
    rope: str | None = None


class Bells:
    """A scheduler that rings: it has no zones, and no patience with long names."""

    name = "bells"
    title = "The Bells"
    capabilities = CapabilityTable(CELLS)
    dialect = Dialect(day_rule=None, dst_gap="skip", dst_overlap="both", wildcard="both")
    reading = Reading(day_rule=None)
    settings = BellSettings
    sample: Mapping[str, Any] = {}
    most = Most(20, "bells in a tower", "https://example.com/bells")
    names = NameRule(longest=24, others=re.compile(r"[^a-z0-9-]"), lower=True)

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        exact = request.exact_native
        return cover(timing_of(schedule), self.dialect, request.horizon, exact_native=exact)

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        if placed.schedule.description == "too loud":
            yield finding("limit-noise", placed.schedule, leaves_out=True)

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        for each in placed:
            assert isinstance(each.settings, BellSettings)
            texts = [marker_text(each), accepted_text(each), each.settings.tower]
            texts += [line.cron.canonical for line in each.cover.lines]
            yield Artifact(f"{each.name}.txt", "\n".join(texts))


BELLS = Bells()
REQUEST = Request(BellSettings(), IngressSettings(), HORIZON)


def finding(code: str, schedule: Schedule, **options: Any) -> Finding:
    values = {"option": "description", "message": "no", "example": "at noon", **options}
    return Finding(code=code, schedule_id=schedule.id, **values)


def due(name: str = "s", at: Expression | None = None, about: str = "", **options: Any) -> Schedule:
    build = Service("Shop").schedule(name, about)
    return build.emit_event("due", expression=at or Cron("0 2 * * *"), **options)


def compiled(schedules: Iterable[Schedule], *accepted: str, **changes: Any) -> Compilation:
    request = replace(REQUEST, accepted=frozenset(accepted), **changes)
    return compile_schedules(BELLS, schedules, request)


def refused(schedules: Iterable[Schedule], *accepted: str) -> list[str]:
    with pytest.raises(PortabilityError) as caught:
        compiled(schedules, *accepted)
    return [f"{each.code}@{each.schedule_id}" for each in caught.value.findings]


CATCH_UP = due("catchUp", missed_run_policy="catchUp")
JITTERY = due("jittery", missed_run_policy="catchUp", jitter=timedelta(minutes=1))


def test_what_a_scheduler_honours_compiles_to_artifacts_by_id():
    found = compiled([due("b"), due("a")])
    assert [each.path for each in found.artifacts] == ["shop-v1-a.txt", "shop-v1-b.txt"]
    assert [each.schedule.id for each in found.placed] == ["Shop.v1.a", "Shop.v1.b"]
    assert (found.scheduler, found.accepted, found.left_out) == ("bells", (), ())
    first = found.placed[0]
    assert found.artifacts[0].text.startswith(f"purista: Shop.v1.a {first.fingerprint}\n")
    assert re.fullmatch(r"[0-9a-f]{16,}", first.fingerprint)


def test_every_finding_of_every_schedule_refuses():
    assert refused([JITTERY, CATCH_UP, due()]) == [
        "missed-run-policy-catchup@Shop.v1.catchUp",
        "jitter@Shop.v1.jittery",
        "missed-run-policy-catchup@Shop.v1.jittery",
    ]


def test_a_code_is_accepted_for_all_schedules_or_for_one():
    assert refused([JITTERY, CATCH_UP], "missed-run-policy-catchup") == ["jitter@Shop.v1.jittery"]
    assert refused([JITTERY, CATCH_UP], "jitter", "missed-run-policy-catchup@Shop.v1.jittery") == [
        "missed-run-policy-catchup@Shop.v1.catchUp"
    ]
    assert is_accepted(finding("x", CATCH_UP), frozenset({"x@Shop.v1.catchUp"}))
    assert not is_accepted(finding("x", CATCH_UP), frozenset({"x@Shop.v1.other", "y"}))


def test_what_is_accepted_stands_in_the_artifact_of_its_schedule():
    found = compiled([JITTERY, CATCH_UP, due()], "jitter", "missed-run-policy-catchup")
    texts = [each.text.splitlines()[1] for each in found.artifacts]
    assert texts == ["missed-run-policy-catchup", "jitter,missed-run-policy-catchup", ""]
    assert len(found.accepted) == 3


def test_a_refusal_names_every_finding_with_its_example():
    with pytest.raises(PortabilityError) as caught:
        compiled([JITTERY])
    assert str(caught.value) == (
        "bells: 2 findings:\n"
        "  - schedule 'Shop.v1.jittery': jitter: it is punctual "
        "(2027-01-01T02:00:00Z: by the contract fired at any time of the 0:01:00 after it)\n"
        "  - schedule 'Shop.v1.jittery': missed-run-policy-catchup: it forgets "
        "(down from 2027-01-01T01:59:00Z to 2027-01-01T03:11:00Z: "
        "by the contract the run of 2027-01-01T02:00:00Z runs then)"
    )
    with pytest.raises(PortabilityError, match=r"^bells: 1 finding:"):
        compiled([CATCH_UP])


def test_a_refusal_survives_pickling():
    with pytest.raises(PortabilityError) as caught:
        compiled([JITTERY])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.scheduler) == (str(caught.value), "bells")
    assert again.findings == caught.value.findings


def test_schedules_with_one_id_are_refused():
    with pytest.raises(ContractError, match=r"'Shop\.v1\.s': is given twice; give each"):
        compiled([due(), due("t"), due(), due()])
    with pytest.raises(ContractError) as caught:
        compiled([due(), due("t"), due(), due("t"), due()])
    assert len(caught.value.problems) == 2


def test_a_schedule_without_lines_is_left_out_when_that_is_accepted():
    odd = due("odd", Every(timedelta(seconds=90)))
    assert refused([odd, due()]) == ["interval@Shop.v1.odd"]
    found = compiled([odd, due()], "interval")
    assert found.left_out == ("Shop.v1.odd",)
    assert [each.schedule.name for each in found.placed] == ["s"]
    (reason,) = found.accepted
    assert reason.leaves_out
    assert reason.example == "2027-01-01T00:01:30Z is due, and no line fires then"
    assert reason.remedy == "accepting it leaves the schedule out of what The Bells holds"


def test_a_schedule_without_lines_that_is_never_due_says_so():
    past = due("odd", Every(timedelta(seconds=90)), end_at=datetime(2020, 1, 1, tzinfo=UTC))
    _, (found,) = place(BELLS, [past], REQUEST)
    assert found.example == "nothing is due after 2027-01-01T00:00:00Z"


def test_an_expression_that_the_table_refuses_is_left_out_with_one_finding():
    once = due("once", Once(datetime(2027, 7, 1, tzinfo=UTC)))
    assert refused([once]) == ["expression-once@Shop.v1.once"]
    assert compiled([once], "expression-once").left_out == ("Shop.v1.once",)
    late = due("late", Once(datetime(2027, 7, 1, 0, 0, 1, tzinfo=UTC)))
    assert refused([late]) == ["expression-once@Shop.v1.late"]


def test_a_schedulers_own_finding_may_leave_a_schedule_out():
    loud = due("loud", about="too loud")
    assert refused([loud]) == ["limit-noise@Shop.v1.loud"]
    found = compiled([loud], "limit-noise")
    assert (found.left_out, found.artifacts) == (("Shop.v1.loud",), ())


def test_hints_for_the_scheduler_take_the_place_of_settings():
    hints = {"bells": {"tower": "south"}, "kubernetes": {"namespace": "x"}}
    settings = BellSettings(tower="west", pulls=3)
    found = compiled([due(provider_hints=hints), due("t")], settings=settings)
    assert [each.settings for each in found.placed] == [
        BellSettings(tower="south", pulls=3),
        settings,
    ]


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"towre": "x"}, "bells.towre: no such setting; did you mean 'tower'?"),
        ({"tower": "NORTH"}, "bells.tower: String should match pattern '^[a-z]+$'"),
        ({"pulls": SECRET, "rope": 1}, "unable to parse string as an integer; bells.rope: "),
        (SECRET, "bells: it is no table"),
    ],
)
def test_wrong_hints_are_a_finding_that_leaves_the_schedule_out(hints: Any, message: str):
    schedule = due(provider_hints={"bells": hints})
    placed, (found,) = place_one(BELLS, schedule, REQUEST)
    assert placed is None
    assert (found.code, found.leaves_out) == ("provider-hints", True)
    assert found.message.startswith("no settings of The Bells: bells")
    assert message in found.message
    assert SECRET not in str(found)
    assert found.example == "2027-01-01T02:00:00Z is due"
    assert compiled([schedule], "provider-hints").left_out == ("Shop.v1.s",)


def test_exact_native_is_asked_of_the_lines():
    berlin = due(at=Cron("30 2 * * *"), timezone="Europe/Berlin")
    assert len(compiled([berlin]).placed) == 1
    with pytest.raises(PortabilityError, match="exact-native: no native lines are exact"):
        compiled([berlin], exact_native=True)


def test_triggers_are_sent_in_vain_where_lines_or_excluded_days_do_so():
    berlin = due("berlin", Cron("30 2 * * *"), timezone="Europe/Berlin")
    holiday = due("holiday", exclude=[DateRange(date(2027, 12, 24), date(2027, 12, 26))])
    placed = compiled([due("exact"), berlin, holiday]).placed
    sending = {each.schedule.name for each in placed if each.sends_extra}
    assert sending == {"berlin", "holiday"}


def test_names_are_given_among_what_is_placed():
    long = "x" * 30
    found = compiled([due(long), due("Run"), due("run")])
    names = [each.name for each in found.placed]
    assert len(set(names)) == 3
    assert all(len(name) <= 24 for name in names)


def test_compiling_is_deterministic_whatever_the_order():
    schedules = [due(f"s{number}", Cron(f"{number} 2 * * *")) for number in range(9)]
    schedules += [JITTERY, CATCH_UP]
    codes = "jitter", "missed-run-policy-catchup"
    assert compiled(schedules, *codes) == compiled(reversed(schedules), *codes)
    assert compiled(iter(schedules), *codes) == compiled(schedules, *codes)


def test_nothing_compiles_to_nothing():
    assert compiled([]) == Compilation("bells", (), ())


def test_the_default_horizon_is_ten_years_from_new_year():
    assert HORIZON.start == datetime(2027, 1, 1, tzinfo=UTC)
    assert HORIZON.end == datetime(2036, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert default_horizon(datetime(2027, 12, 31, tzinfo=UTC)) == HORIZON


def test_a_timing_is_the_schedule_without_bounds():
    schedule = due(timezone="Europe/Berlin", dst_gap="next", end_at=HORIZON.start)
    timing = timing_of(schedule)
    assert (timing.timezone, timing.dst_gap, timing.dst_overlap) == (
        "Europe/Berlin",
        "next",
        "first",
    )
    assert timing.end_at is None


def test_more_objects_than_a_scheduler_holds_are_one_finding_for_all_schedules():
    schedules = [due(f"s{number:02}") for number in range(21)]
    assert place(BELLS, schedules[:20], REQUEST)[1] == []
    _, [found] = place(BELLS, schedules, REQUEST)
    assert found.message == "21 objects are needed; it holds 20 bells in a tower"
    assert found.example.startswith("'Shop.v1.s20' is due at 2027-01-")
    assert str(found).startswith("all schedules: limit-number: ")


def test_what_is_accepted_for_all_schedules_stands_with_each():
    schedules = [due(f"s{number:02}") for number in range(21)]
    made = compiled(schedules, "limit-number")
    assert {accepted_text(each) for each in made.placed} == {"limit-number"}
    assert made.left_out == ()
