"""Capabilities, findings, and the dated examples that findings show."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.dialects import crons

from purista import Cron, Every, Expression, Once, Schedule, Service
from purista.exclusion import DateRange
from purista.ingress.timing import time_verdict
from purista.ledgers import Verdict
from purista.portability import (
    INGRESS_PAGE,
    OPTIONS,
    Capability,
    CapabilityTable,
    Finding,
    Support,
    by_ingress,
    by_none,
    code_of,
    example_of,
    ingress_cells,
    native,
    outage_text,
    used_options,
    utc_text,
)

SINCE = datetime(2027, 1, 1, tzinfo=UTC)
EVERY_CELL = {option: native("it does", "https://example.com") for option in OPTIONS}


def due(expression: Expression | None = None, **options: Any) -> Schedule:
    at = expression or Cron("0 2 * * *")
    build = Service("Shop").schedule("s", options.pop("about", ""))
    return build.emit_event("due", expression=at, **options)


def used(expression: Expression, **options: Any) -> set[str]:
    found = list(used_options(due(expression, **options)))
    assert found == [each for each in OPTIONS if each in found]
    return set(found)


def test_a_cell_says_who_honours_an_option_and_who_says_so():
    assert native("a", "b") == Capability(Support.NATIVE, "a", "b")
    assert by_ingress("a", "b") == Capability(Support.INGRESS, "a", "b")
    assert by_none("a", "b") == Capability(Support.NONE, "a", "b")


def test_a_table_has_every_option_in_order():
    table = CapabilityTable(dict(reversed(EVERY_CELL.items())))
    assert list(table) == list(OPTIONS)
    assert len(table) == len(OPTIONS)
    assert table["timezone"] == EVERY_CELL["timezone"]


def test_a_table_with_missing_or_unknown_cells_is_refused():
    wrong = {each: cell for each, cell in EVERY_CELL.items() if each != "jitter"} | {
        "jiter": native("a", "b")
    }
    with pytest.raises(ValueError, match=r"missing: \['jitter'\], or unknown: \['jiter'\]"):
        CapabilityTable(wrong)


def test_a_table_keeps_what_it_was_given():
    given_cells = dict(EVERY_CELL)
    table = CapabilityTable(given_cells)
    given_cells["jitter"] = by_none("changed", "later")
    assert table["jitter"].support is Support.NATIVE


def test_what_the_ingress_holds_alone_is_of_the_options_and_has_its_page():
    cells = ingress_cells()
    assert set(cells) < set(OPTIONS)
    assert {cell.support for cell in cells.values()} == {Support.INGRESS}
    assert {cell.source for cell in cells.values()} == {INGRESS_PAGE}


def test_codes_are_words_and_no_two_options_share_one():
    codes = [code_of(option) for option in OPTIONS]
    assert len(set(codes)) == len(OPTIONS)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_a_finding_reads_as_where_what_example_and_remedy():
    finding = Finding(
        code="jitter", schedule_id="Shop.v1.s", option="jitter", message="none", example=""
    )
    assert str(finding) == "schedule 'Shop.v1.s': jitter: none"
    whole = Finding(
        code="jitter",
        schedule_id="Shop.v1.s",
        option="jitter",
        message="none",
        example="at two",
        remedy="leave it",
    )
    assert str(whole) == "schedule 'Shop.v1.s': jitter: none (at two); leave it"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (Cron("0 2 * * *"), {"cron"}),
        (Cron("0 2 L * *"), {"cron", "cron with L"}),
        (Cron("0 2 L-2,15W * *"), {"cron", "cron with L", "cron with W"}),
        (Cron("0 2 LW * *"), {"cron", "cron with W"}),
        (Cron("0 2 * * FRI#2"), {"cron", "cron with #"}),
        (Cron("0 2 13 * FRI"), {"cron", "day rule or"}),
        (Cron("0 2 13 * FRI", day_rule="and"), {"cron", "day rule and"}),
        (Cron("30 0 2 * * *", seconds=True), {"cron", "cron with seconds"}),
        (Cron("0 0 2 * * *", seconds=True), {"cron"}),
        (Every(timedelta(hours=6)), {"every"}),
        (Once(SINCE), {"once"}),
    ],
)
def test_an_expression_uses_the_options_of_its_kind_and_words(
    expression: Expression, words: set[str]
):
    found = {each for each in used(expression) if each.startswith("expression=")}
    assert found == {f"expression={word}" for word in words}


def test_words_for_clock_changes_are_used_by_fixed_times_alone():
    words = {"dst_gap=next", "dst_overlap=both"}
    options = {"dst_gap": "next", "dst_overlap": "both"}
    assert used(Cron("0 2 * * *"), **options) >= words
    assert not used(Cron("*/5 * * * *"), **options) & words
    assert not used(Every(timedelta(hours=6)), **options) & words


def test_every_other_option_is_used_where_it_is_given():
    plain = used(Cron("0 2 * * *"), missed_run_policy="skip")
    assert "enabled=false" not in plain
    whole = used(
        Cron("0 2 * * *"),
        start_at=SINCE,
        end_at=SINCE + timedelta(days=9),
        exclude=[DateRange(date(2027, 1, 2), date(2027, 1, 3))],
        jitter=timedelta(minutes=1),
        enabled=False,
        missed_run_policy="catchUp",
        idempotency_key="payload",
        payload_schema=str,
        payload="1",
        completed_by="done",
        about="d",
        provider_hints={"cron": {}},
    )
    assert whole - plain == {
        "start_at",
        "end_at",
        "exclude",
        "jitter",
        "enabled=false",
        "missed_run_policy=catchUp",
        "catch_up_window",
        "max_catch_up",
        "idempotency_key",
        "payload",
        "completed_by",
        "description",
        "provider_hints",
    }


def test_times_are_written_as_utc():
    assert utc_text(SINCE) == "2027-01-01T00:00:00Z"
    assert outage_text(SINCE, SINCE + timedelta(hours=1)) == (
        "down from 2027-01-01T00:00:00Z to 2027-01-01T01:00:00Z"
    )


@pytest.mark.parametrize(
    ("option", "options", "text"),
    [
        ("timezone", {}, "2027-01-01T02:00:00Z is due"),
        (
            "jitter",
            {"jitter": timedelta(minutes=5)},
            "2027-01-01T02:00:00Z: by the contract fired at any time of the 0:05:00 after it",
        ),
        (
            "concurrency_policy=forbid",
            {"concurrency_policy": "forbid"},
            "the run of 2027-01-01T02:00:00Z is active when 2027-01-02T02:00:00Z is due: "
            "that one is skipped",
        ),
        (
            "concurrency_policy=replace",
            {"concurrency_policy": "replace", "end_at": SINCE + timedelta(hours=3)},
            "the run of 2027-01-01T02:00:00Z is active: it is cancelled",
        ),
        (
            "missed_run_policy=skip",
            {"missed_run_policy": "skip"},
            "down from 2027-01-01T01:59:00Z to 2027-01-01T03:10:00Z: "
            "by the contract the run of 2027-01-01T02:00:00Z does not run",
        ),
        (
            "catch_up_window",
            {"missed_run_policy": "catchUp", "catch_up_window": timedelta(minutes=20)},
            "down from 2027-01-01T01:59:00Z to 2027-01-01T03:10:00Z: by the contract the run of "
            "2027-01-01T02:00:00Z does not run, for it is longer ago than the catch-up window",
        ),
        (
            "timezone",
            {"end_at": SINCE},
            "nothing is due after 2027-01-01T00:00:00Z",
        ),
    ],
)
def test_an_example_has_a_date(option: str, options: dict[str, Any], text: str):
    assert example_of(option, due(**options), SINCE) == text


@settings(deadline=None)
@given(
    crons(),
    st.sampled_from(["skip", "runOnce", "catchUp"]),
    st.sampled_from([0, 1, 90]),
    st.sampled_from([1, 10, 90]),
    st.sampled_from([1, 100]),
)
@example(Cron("0 2 * * *"), "skip", 90, 10, 100)
def test_the_example_of_an_outage_is_what_the_ingress_decides(
    cron: Cron, policy: str, jitter: int, grace: int, most: int
):
    schedule = due(
        cron,
        missed_run_policy=policy,
        jitter=timedelta(minutes=jitter),
        misfire_grace=timedelta(minutes=grace),
        max_catch_up=most,
    )
    text = example_of(f"missed_run_policy={policy}", schedule, SINCE)
    down, up, at = map(datetime.fromisoformat, re.findall(r"\d{4}-\S+Z", text))
    verdict, _ = time_verdict(schedule, at, up)
    assert down < at < up
    assert (verdict is Verdict.ACCEPTED) == ("does not run" not in text)
