import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista import TriggerError, compile_schedules, fingerprint, scheduler_named
from purista.compiling import default_horizon, request_for
from purista.ingress.http.barecall import bare_trigger
from purista.trigger import UNSET, Trigger, run_id_of

SLOT = datetime(2027, 3, 1, 12, tzinfo=UTC)
NOW = SLOT + timedelta(seconds=3)
ID = "Shop.v1.hourly"
TIME = "2027-03-01T12:00:00Z"
LATER = "2027-03-01T13:00:00Z"
STAMP = int(SLOT.timestamp()) // 60
KEYWORDS = {
    "aws.scheduler.scheduled-time": TIME,
    "aws.scheduler.schedule-arn": "arn:aws:scheduler:eu-central-1:123456789012:schedule/billing/hourly",
    "aws.scheduler.execution-id": "d32c5kddcf5bb8c3",
    "aws.scheduler.attempt-number": "1",
}
SCHEDULED_EVENT = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2027-03-01T12:00:06Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/hourly"],
    "detail": {},
}
"""https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html"""

NOTHING = object()


def call(
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    body: Any = NOTHING,
    schedule_id: str = ID,
) -> Trigger:
    text = b"" if body is NOTHING else json.dumps(body).encode()
    return bare_trigger(schedule_id, headers or {}, query or {}, text, NOW)


def test_a_call_that_says_nothing_has_no_time():
    trigger = call()
    assert (trigger.schedule_id, trigger.nominal_time, trigger.data) == (ID, None, UNSET)
    assert (trigger.source, trigger.manual, trigger.fingerprint) == ("http", False, None)


@pytest.mark.parametrize(
    "said",
    [
        {"query": {"time": TIME}},
        {"query": {"time": "2027-03-01T13:00:00+01:00"}},
        {"headers": {"ce-time": TIME}},
        {"headers": {"ce-time": "2027-03-01T12%3A00%3A00Z"}},
        {"headers": {"purista-nominal-time": TIME}},
        {"headers": {"x-cloudscheduler-scheduletime": "2027-03-01T05:00:00-07:00"}},
        {"query": {"job": f"shop-v1-hourly-{STAMP}"}},
        {"headers": {"purista-job": f"shop-v1-hourly-2-{STAMP}"}},
        {"body": KEYWORDS},
        {"body": SCHEDULED_EVENT},
        {"body": {**SCHEDULED_EVENT, "source": "aws.scheduler"}},
    ],
    ids=str,
)
def test_the_nominal_time_is_where_a_scheduler_puts_it(said: Any):
    trigger = call(**said)
    assert trigger.nominal_time == SLOT
    assert trigger.id == run_id_of(ID, SLOT)
    assert not trigger.manual


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ({"headers": {"ce-source": "cron/host"}}, "cron/host"),
        ({"headers": {"x-cloudscheduler-jobname": "hourly"}}, "cloud-scheduler/hourly"),
        ({"query": {"job": f"shop-v1-hourly-{STAMP}"}}, "kubernetes/shop-v1-hourly"),
        ({"query": {"job": "by-hand"}}, "kubernetes/by-hand"),
        ({"body": KEYWORDS}, KEYWORDS["aws.scheduler.schedule-arn"]),
        ({"body": SCHEDULED_EVENT}, "arn:aws:events:eu-central-1:123456789012:rule/hourly"),
        ({"headers": {"ce-source": "mine"}, "body": KEYWORDS}, "mine"),
    ],
    ids=str,
)
def test_the_source_names_the_scheduler(said: Any, source: str):
    assert call(**said).source == source


@pytest.mark.parametrize(
    ("said", "places"),
    [
        (
            {"query": {"time": TIME}, "headers": {"ce-time": LATER}},
            "query 'time' and header 'ce-time'",
        ),
        (
            {"headers": {"ce-time": TIME, "purista-nominal-time": LATER}},
            "header 'ce-time' and header 'purista-nominal-time'",
        ),
        (
            {"query": {"time": "2027-03-01T11:00:00Z", "job": f"x-{STAMP}"}},
            "query 'time' and query 'job'",
        ),
        (
            {
                "headers": {"x-cloudscheduler-scheduletime": "2027-03-01T11:00:00Z"},
                "body": KEYWORDS,
            },
            "body: 'aws.scheduler.scheduled-time' and header 'x-cloudscheduler-scheduletime'",
        ),
        (
            {"query": {"job": f"x-{STAMP}"}, "headers": {"purista-job": f"x-{STAMP + 60}"}},
            "query 'job' and header 'purista-job'",
        ),
    ],
    ids=str,
)
def test_two_times_are_a_contradiction_that_names_both_places(said: Any, places: str):
    with pytest.raises(TriggerError) as caught:
        call(**said)
    assert f"{places}: they name two times" in str(caught.value)


def test_the_same_time_may_be_said_twice():
    said = {"ce-time": "2027-03-01T13:00:00+01:00", "x-cloudscheduler-scheduletime": TIME}
    assert call(headers=said, query={"time": TIME}).nominal_time == SLOT


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"query": {"time": "noon"}}, "query 'time'"),
        ({"query": {"time": ""}}, "query 'time'"),
        ({"query": {"time": "2027-03-01T12:00:00"}}, "query 'time'"),
        ({"headers": {"ce-time": "2027-13-01T12:00:00Z"}}, "header 'ce-time'"),
        ({"headers": {"purista-nominal-time": "1"}}, "header 'purista-nominal-time'"),
        ({"headers": {"x-cloudscheduler-scheduletime": "1"}}, "header 'x-cloudscheduler-schedul"),
        ({"body": {"aws.scheduler.scheduled-time": 1}}, "body: 'aws.scheduler.scheduled-time'"),
        ({"body": {**SCHEDULED_EVENT, "time": None}}, "body: 'time'"),
    ],
    ids=str,
)
def test_a_wrong_time_is_told_with_its_place(said: Any, place: str):
    with pytest.raises(TriggerError, match="trigger: ") as caught:
        call(**said)
    assert place in str(caught.value)


def test_a_keyword_that_aws_did_not_replace_is_no_time():
    body = {"aws.scheduler.scheduled-time": "<aws.scheduler.scheduled-time>"}
    with pytest.raises(TriggerError, match="which EventBridge Scheduler replaces"):
        call(body=body)


@pytest.mark.parametrize(
    "body",
    [
        {"cycle_id": "2027-03"},
        {"scheduled-time": TIME},
        {"time": TIME},
        {"detail-type": "Scheduled Event", "source": "mine"},
        {"detail-type": "Order", "source": "aws.events"},
        [],
        "text",
        0,
        None,
        {},
    ],
    ids=str,
)
def test_a_body_that_is_no_envelope_is_the_payload(body: Any):
    trigger = call(body=body)
    assert trigger.has_data
    assert trigger.data == body
    assert trigger.nominal_time is None


def test_an_envelope_can_hold_the_payload():
    assert call(body={**KEYWORDS, "data": {"a": 1}}).data == {"a": 1}
    assert not call(body=KEYWORDS).has_data


def test_an_envelope_holds_nothing_else():
    with pytest.raises(TriggerError, match="it has other keys beside") as caught:
        call(body={**KEYWORDS, "secret": 1})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": 1, "a": 2}', b"NaN", b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(body: bytes):
    with pytest.raises(TriggerError, match="body"):
        bare_trigger(ID, {}, {}, body, NOW)


@pytest.mark.parametrize(
    ("ahead", "is_forced"), [(timedelta(seconds=60), False), (timedelta(seconds=61), True)]
)
def test_a_job_that_is_run_by_force_does_not_use_up_its_next_slot(
    ahead: timedelta, is_forced: bool
):
    at = NOW + ahead
    headers = {"x-cloudscheduler-scheduletime": at.isoformat()}
    trigger = call(headers=headers)
    assert (trigger.manual, trigger.nominal_time) == (is_forced, None if is_forced else at)


def test_a_person_may_say_the_time_of_a_job_that_is_run_by_force():
    headers = {"x-cloudscheduler-scheduletime": LATER}
    trigger = call(headers=headers, query={"time": "2027-03-01T11:00:00Z"})
    assert (trigger.manual, trigger.nominal_time) == (True, SLOT - timedelta(hours=1))


@pytest.mark.parametrize(
    "job", ["by-hand", "hourly-20270301", "hourly", "hourly-0", "x-9999999999"]
)
def test_a_job_whose_name_ends_with_no_slot_was_made_by_a_person(job: str):
    trigger = call(query={"job": job})
    assert (trigger.manual, trigger.nominal_time) == (True, None)


@pytest.mark.parametrize(
    ("said", "manual"),
    [
        ({"query": {"manual": "true"}}, True),
        ({"query": {"manual": "false"}}, False),
        ({"headers": {"ce-puristamanual": "true"}}, True),
        ({"headers": {"ce-puristamanual": "true"}, "query": {"manual": "true"}}, True),
    ],
    ids=str,
)
def test_a_person_says_so(said: Any, manual: bool):
    assert call(**said).manual is manual


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"query": {"manual": "yes"}}, "query 'manual': it is not 'true' or 'false'"),
        ({"headers": {"ce-puristamanual": "1"}}, "header 'ce-puristamanual': it is not 'true'"),
        (
            {"headers": {"ce-puristamanual": "true"}, "query": {"manual": "false"}},
            "query 'manual' and header 'ce-puristamanual': they contradict each other",
        ),
        ({"headers": {"ce-subject": "Shop.v1.other"}}, "they name two schedules"),
        ({"headers": {"ce-type": "another"}}, "attribute 'type'"),
        ({"headers": {"ce-specversion": "0.3"}}, "attribute 'specversion'"),
        ({"headers": {"ce-source": ""}}, "attribute 'source'"),
        ({"schedule_id": ""}, "attribute 'subject'"),
        ({"schedule_id": "a\x00b"}, "attribute 'subject'"),
    ],
    ids=str,
)
def test_what_contradicts_or_means_nothing_is_refused(said: Any, message: str):
    with pytest.raises(TriggerError) as caught:
        call(**said)
    assert message in str(caught.value)


def test_an_id_that_is_sent_is_kept():
    assert call(headers={"ce-id": "mine"}).id == "mine"


def test_the_id_is_the_same_for_the_same_slot_however_it_is_said():
    ids = {
        call(query={"time": TIME}).id,
        call(headers={"x-cloudscheduler-scheduletime": TIME}).id,
        call(query={"job": f"x-{STAMP}"}).id,
        call(body=KEYWORDS).id,
    }
    assert ids == {run_id_of(ID, SLOT)}


def test_what_is_compiled_for_cloud_scheduler_becomes_the_same_trigger(billing_example: Any):
    billing = billing_example.billing
    scheduler = scheduler_named("cloud-scheduler")
    settings = {
        "ingress": {"url": "https://ingress.example", "recovery": "ingress"},
        "cloud-scheduler": scheduler.sample,
    }
    request = request_for(scheduler, settings, default_horizon(NOW))
    made = compile_schedules(scheduler, billing.schedules.values(), request)
    requests = json.loads(next(a.text for a in made.artifacts if a.path == "requests.json"))
    target = requests[0]["request"]["job"]["httpTarget"]
    headers = {name.lower(): text for name, text in target["headers"].items()}
    schedule_id = target["uri"].rpartition("/")[2]
    trigger = bare_trigger(
        schedule_id, {**headers, "x-cloudscheduler-scheduletime": TIME}, {}, b"", NOW
    )
    schedule = billing.schedules[schedule_id.rpartition(".")[2]]
    assert (trigger.schedule_id, trigger.nominal_time) == (schedule.id, SLOT)
    assert trigger.fingerprint == fingerprint(schedule)
    assert trigger.source.startswith("cloud-scheduler/projects/")


TEXTS = st.text(max_size=20)
NAMES = st.sampled_from(
    [
        "ce-time",
        "ce-id",
        "ce-source",
        "ce-subject",
        "ce-puristamanual",
        "purista-nominal-time",
        "purista-job",
        "x-cloudscheduler-scheduletime",
        "x-cloudscheduler-jobname",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(NAMES, TEXTS),
    st.dictionaries(st.sampled_from(["time", "job", "manual"]), TEXTS),
    JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30),
    TEXTS,
)
def test_whatever_is_sent_is_a_trigger_or_a_trigger_error(
    headers: dict[str, str], query: dict[str, str], body: bytes, schedule_id: str
):
    with contextlib.suppress(TriggerError):
        trigger = bare_trigger(schedule_id, headers, query, body, NOW)
        assert trigger.schedule_id == schedule_id
