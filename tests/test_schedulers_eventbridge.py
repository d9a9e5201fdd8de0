"""EventBridge Scheduler: what is compiled fires as the contract says, however its pages are read."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.engines import aws_calls, eventbridge, terraform

from purista.compiling import (
    Artifact,
    Compilation,
    Request,
    compile_schedules,
    default_horizon,
    place,
)
from purista.contract import Event, Schedule
from purista.errors import PortabilityError
from purista.expression import Cron, Every, Once
from purista.native.awscron import LONGEST, cron_text
from purista.native.awssettings import EventBridgeSettings
from purista.portability import Finding
from purista.schedulers import scheduler_named
from purista.schedulers.eventbridge import SCHEDULER, SLOT
from purista.settings import read_settings
from purista.testing.corpus import END, START, contracts
from purista.testing.scheduler_suite import SchedulerSuite
from purista.trigger import Trigger

GOLDENS = Path(__file__).parent / "goldens/compile/eventbridge"
PLACE = "eu-central-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/purista-scheduler"
INGRESS = {"url": "https://triggers.example.com", "recovery": "ingress"}
BUS = {
    "kind": "api-destination",
    "event_bus_arn": f"arn:aws:events:{PLACE}:event-bus/triggers",
    "invoke_role_arn": "arn:aws:iam::123456789012:role/purista-ingress",
}
SECRET = {"arn": f"arn:aws:secretsmanager:{PLACE}:secret:ingress-AbCdEf"}
CONNECTION = f"arn:aws:events:{PLACE}:connection/ingress/0b0f5c1e-0000"
TARGETS: Mapping[str, Mapping[str, Any]] = {
    "lambda": {"kind": "lambda", "function_arn": f"arn:aws:lambda:{PLACE}:function:ingress"},
    "sqs": {"kind": "sqs", "queue_arn": f"arn:aws:sqs:{PLACE}:triggers"},
    "fifo": {"kind": "sqs", "queue_arn": f"arn:aws:sqs:{PLACE}:triggers.fifo"},
    "bearer": {**BUS, "bearer": SECRET},
    "connection": {**BUS, "connection_arn": CONNECTION},
}
CHANGING = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")


def request(target: str = "sqs", ingress: Mapping[str, Any] = INGRESS, **more: Any) -> Request:
    table = {"role_arn": ROLE, "group": "billing", "target": TARGETS[target], **more}
    found = read_settings(
        {"eventbridge": table, "ingress": ingress}, {"eventbridge": SCHEDULER.settings}
    )
    return Request(found["eventbridge"], found["ingress"], default_horizon(START))  # type: ignore[arg-type]


def compiled(*schedules: Schedule, asked: Request | None = None) -> Compilation:
    """What compiling gives with every finding accepted."""
    wanted = asked or request()
    _, found = place(SCHEDULER, schedules, wanted)
    accepted = frozenset(each.code for each in found)
    return compile_schedules(SCHEDULER, schedules, replace(wanted, accepted=accepted))


def findings(schedule: Schedule, asked: Request | None = None) -> dict[str, Finding]:
    _, found = place(SCHEDULER, [schedule], asked or request())
    return {each.code: each for each in found}


def schedule(name: str = "x", **options: Any) -> Schedule:
    target = Event("due", str, service_name="S", service_version="1")
    values: dict[str, Any] = {"expression": Cron("0 4 * * *"), "payload": "due", **options}
    return Schedule(name=name, service_name="S", service_version="1", target=target, **values)


def calls(compilation: Compilation) -> list[dict[str, Any]]:
    text = next(each.text for each in compilation.artifacts if each.path == "requests.json")
    found: list[dict[str, Any]] = json.loads(text)
    return found


def by_operation(compilation: Compilation) -> dict[str, dict[str, Any]]:
    """The last request of each operation."""
    return {each["operation"]: each["request"] for each in calls(compilation)}


def made(compilation: Compilation) -> list[dict[str, Any]]:
    """The CreateSchedule requests."""
    return [each["request"] for each in calls(compilation) if each["operation"] == "CreateSchedule"]


def only(*schedules: Schedule, asked: Request | None = None) -> dict[str, Any]:
    [found] = made(compiled(*schedules, asked=asked))
    return found


def subject(asked: Mapping[str, Any]) -> str:
    return str(json.loads(asked["Target"]["Input"])["subject"])


def resolved(asked: Any, answers: Mapping[str, Mapping[str, str]]) -> Any:
    """A request with its references replaced, as whoever sends it does."""
    text = re.sub(r"\{\{resolve:secretsmanager:[^}]*\}\}", "token", json.dumps(asked))
    text = re.sub(
        r"\{\{resolve:answer:(\w+):(\w+)\}\}", lambda found: answers[found[1]][found[2]], text
    )
    return json.loads(text)


@lru_cache(maxsize=4096)
def _fired(
    expression: str, zone: str, state: str, reading: eventbridge.Reading
) -> frozenset[datetime]:
    asked = {
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": zone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": state,
    }
    return frozenset(eventbridge.fires(asked, start=START, end=END, reading=reading))


def fired(asked: Mapping[str, Any], reading: eventbridge.Reading) -> frozenset[datetime]:
    """When a request fires. Nothing that the model reads may be in it besides these three."""
    assert not {"StartDate", "EndDate"} & set(asked)
    words = ("ScheduleExpression", "ScheduleExpressionTimezone", "State")
    return _fired(*(asked[word] for word in words), reading)


class TestEventBridge(SchedulerSuite):
    scheduler = SCHEDULER

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        assert (start, end) == (START, END)
        found: dict[str, set[datetime]] = {}
        for asked in made(compilation):
            found.setdefault(subject(asked), set()).update(fired(asked, eventbridge.Reading()))
        return found


def test_it_is_in_the_registry():
    assert scheduler_named("eventbridge") is SCHEDULER


@pytest.mark.parametrize("exact_native", [False, True])
def test_no_compiled_schedule_depends_on_what_the_pages_leave_open(exact_native: bool):
    compilation = compiled(*contracts(), asked=replace(request(), exact_native=exact_native))
    differing = []
    asked_of = 0
    for asked in made(compilation):
        found = {fired(asked, reading) for reading in eventbridge.readings(asked)}
        asked_of += len(eventbridge.readings(asked))
        if len(found) > 1:
            differing.append(asked["Name"])
    assert differing == []
    assert asked_of > len(made(compilation))


FIELDS = {
    "minute": st.one_of(st.just("*"), st.sampled_from(["0", "30", "*/7", "15,45", "5-50/9", "59"])),
    "hour": st.one_of(st.just("*"), st.sampled_from(["1", "2", "0-3", "*/5", "2,23", "22-2"])),
    "day": st.sampled_from(["*", "1", "31", "L", "15W", "1W", "30W", "LW", "L-1", "1,L", "28-31"]),
    "month": st.sampled_from(["*", "3,10", "2", "11-2"]),
    "weekday": st.sampled_from(["*", "SUN", "MON-FRI", "FRI#2", "SUN#L", "0,3", "SAT#5"]),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    texts=st.fixed_dictionaries(FIELDS),
    rule=st.sampled_from(["or", "and"]),
    zone=st.sampled_from((*CHANGING, "UTC", "Asia/Kolkata")),
    gap=st.sampled_from(["skip", "next", "shift"]),
    overlap=st.sampled_from(["first", "last", "both"]),
)
def test_any_expression_fires_at_least_when_it_is_due_by_every_reading(
    texts: dict[str, str], rule: Any, zone: str, gap: Any, overlap: Any
):
    try:
        cron = Cron(" ".join(texts.values()), day_rule=rule)
    except ValueError:
        return
    one = schedule(expression=cron, timezone=zone, dst_gap=gap, dst_overlap=overlap)
    compilation = compiled(one)
    due = set(one.between(START, END))
    [placed] = compilation.placed
    asked = made(compilation)
    assert all(len(each["ScheduleExpression"]) <= LONGEST for each in asked)
    for reading in {reading for each in asked for reading in eventbridge.readings(each)}:
        found = frozenset[datetime]().union(*(fired(each, reading) for each in asked))
        assert due <= found
        assert placed.sends_extra or found == due


@given(
    st.tuples(
        st.lists(st.integers(0, 59), min_size=1, unique=True),
        st.lists(st.integers(0, 23), min_size=1, unique=True),
        st.lists(st.integers(1, 31), min_size=1, unique=True),
        st.lists(st.integers(1, 12), min_size=1, unique=True),
    )
)
@example(tuple([n for n in range(*each) if n % 3] for each in ((60,), (24,), (1, 32), (1, 13))))
@example(tuple(list(range(*each, 2)) for each in ((0, 60), (0, 24), (1, 32), (1, 13))))
def test_no_expression_is_longer_than_the_limit(fields: tuple[list[int], ...]):
    text = " ".join(",".join(map(str, sorted(each))) for each in fields)
    try:
        cron = Cron(f"{text} *")
    except ValueError:
        return
    assert len(cron_text(cron)) <= LONGEST


@pytest.mark.parametrize("gap", ["skip", "next", "shift"])
@pytest.mark.parametrize("overlap", ["first", "last", "both"])
@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("America/New_York", "30 2 * * SUN"),
        ("America/New_York", "30 1 * * SUN"),
        ("Europe/Berlin", "30 2 * 3 SUN"),
        ("Europe/Berlin", "30 2 * 10 SUN"),
        ("Australia/Lord_Howe", "15 2 1-7 10 *"),
    ],
)
def test_a_time_that_a_clock_change_hides_or_repeats_is_covered_by_every_reading(
    zone: str, text: str, gap: Any, overlap: Any
):
    one = schedule(expression=Cron(text), timezone=zone, dst_gap=gap, dst_overlap=overlap)
    compilation = compiled(one)
    found = made(compilation)
    for reading in {reading for each in found for reading in eventbridge.readings(each)}:
        at = frozenset[datetime]().union(*(fired(each, reading) for each in found))
        assert set(one.between(START, END)) <= at


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("0 9 * * MON", "cron(0 9 ? * 2 *)"),
        ("*/15 * * * *", "cron(0,15,30,45 * * * ? *)"),
        ("0 9 * * SUN#L", "cron(0 9 ? * 1L *)"),
        ("0 9 * * SAT#5", "cron(0 9 ? * 7#5 *)"),
        ("0 17 L * *", "cron(0 17 L * ? *)"),
        ("0 9 15W * *", "cron(0 9 15W * ? *)"),
        ("0 22-2 1-3,9 11-2 *", "cron(0 0-2,22,23 1-3,9 1,2,11,12 ? *)"),
        ("0 0 1-31 * *", "cron(0 0 * * ? *)"),
        ("0 0 * * 0-6", "cron(0 0 * * ? *)"),
    ],
)
def test_a_line_in_utc_is_written_in_described_forms(text: str, native: str):
    assert only(schedule(expression=Cron(text)))["ScheduleExpression"] == native


def test_a_nearest_weekday_at_a_months_edge_is_covered_by_plain_days():
    found = only(schedule(expression=Cron("0 9 1W * *")))["ScheduleExpression"]
    assert found == "cron(0 9 1-3 * ? *)"


def test_a_one_shot_is_said_once_with_its_seconds_and_stays():
    at = datetime(2027, 3, 28, 1, 30, 15, tzinfo=UTC)
    found = only(schedule(expression=Once(at), timezone="Europe/Berlin"))
    assert found["ScheduleExpression"] == "at(2027-03-28T01:30:15)"
    assert found["ScheduleExpressionTimezone"] == "UTC"
    assert "ActionAfterCompletion" not in found


def test_a_one_shot_between_seconds_is_refused():
    at = datetime(2027, 3, 28, 1, 30, 15, 500, tzinfo=UTC)
    assert findings(schedule(expression=Once(at)))["one-shot"].leaves_out


def test_the_trigger_is_the_events_json_with_the_time_that_aws_puts_in():
    compilation = compiled(schedule())
    [asked] = made(compilation)
    text = asked["Target"]["Input"].replace(SLOT, "2027-03-22T18:59:43Z")
    trigger = Trigger.from_json(text)
    assert trigger.schedule_id == "S.v1.x"
    assert trigger.nominal_time == datetime(2027, 3, 22, 18, 59, 43, tzinfo=UTC)
    assert trigger.id == "S.v1.x/2027-03-22T18:59:43Z"
    assert trigger.source == "eventbridge/billing/S.v1.x"
    assert trigger.fingerprint == compilation.placed[0].fingerprint
    assert not trigger.has_data


@pytest.mark.parametrize("target", TARGETS)
def test_every_request_is_taken_by_the_model_of_the_service(target: str):
    answers = {
        each["key"]: {"ConnectionArn": CONNECTION, "ApiDestinationArn": f"arn:aws:events:{PLACE}"}
        for each in calls(compiled(*contracts(), asked=request(target)))
    }
    wrong = [
        fault
        for each in calls(compiled(*contracts(), asked=request(target)))
        for fault in aws_calls.problems(each["operation"], resolved(each["request"], answers))
    ]
    assert wrong == []


@pytest.mark.parametrize("target", TARGETS)
def test_cfn_lint_finds_nothing_in_the_template(target: str, tricky: list[Schedule]):
    artifacts = compiled(*tricky, asked=request(target, dead_letter_queue_arn=DEAD)).artifacts
    [template] = [each.text for each in artifacts if each.path == "template.json"]
    assert aws_calls.lint(template) == []


@pytest.mark.parametrize("target", TARGETS)
def test_terraform_takes_the_resources(target: str, tricky: list[Schedule]):
    artifacts = compiled(*tricky, asked=request(target, dead_letter_queue_arn=DEAD)).artifacts
    [text] = [each.text for each in artifacts if each.path == "main.tf.json"]
    assert terraform.problems(text) == []


DEAD = f"arn:aws:sqs:{PLACE}:lost"


@pytest.fixture
def tricky() -> list[Schedule]:
    return [
        schedule("templates", description="${var.x} %{ if } {{resolve:ssm:x}} <b> \u00fc"),
        schedule("days", expression=Cron("0 0 13 * FRI"), timezone="Europe/Berlin"),
        schedule("off", enabled=False, jitter=timedelta(minutes=5)),
        schedule("once", expression=Once(datetime(2027, 6, 1, 12, tzinfo=UTC))),
        schedule("often", expression=Every(timedelta(minutes=7)), missed_run_policy="catchUp"),
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_the_requests_can_be_sent_and_read_back(target: str, tricky: list[Schedule]):
    answers: dict[str, dict[str, str]] = {}
    with aws_calls.account() as account:
        account.clients["events"].create_event_bus(Name="triggers")
        if target == "connection":
            connection = {**aws_calls_connection(), "Name": "ingress"}
            answers["given"] = account.call("CreateConnection", connection)
        for each in calls(compiled(*tricky, asked=request(target))):
            asked = resolved(each["request"], answers)
            if target == "connection" and each["operation"] == "CreateApiDestination":
                asked["ConnectionArn"] = answers["given"]["ConnectionArn"]
            answers[each["key"]] = account.call(each["operation"], asked)
            if each["operation"] == "CreateSchedule":
                stored = account.read_back("CreateSchedule", asked)
                assert {name: stored[name] for name in asked} == asked


def aws_calls_connection() -> dict[str, Any]:
    key = {"ApiKeyName": "Authorization", "ApiKeyValue": "Bearer x"}
    return {"AuthorizationType": "API_KEY", "AuthParameters": {"ApiKeyAuthParameters": key}}


def test_the_three_files_say_the_same(tricky: list[Schedule]):
    compilation = compiled(*tricky, asked=request("fifo"))
    texts = {each.path: each.text for each in compilation.artifacts}
    resources = json.loads(texts["template.json"])["Resources"]
    arguments = json.loads(texts["main.tf.json"])["resource"]["aws_scheduler_schedule"]
    for each in calls(compilation):
        if each["operation"] != "CreateSchedule":
            continue
        asked, found = each["request"], resources[each["key"]]["Properties"]
        assert {**found, "GroupName": "billing"} == asked
        told = arguments[each["key"]]
        assert told["schedule_expression"] == asked["ScheduleExpression"]
        assert told["schedule_expression_timezone"] == asked["ScheduleExpressionTimezone"]
        assert told["state"] == asked["State"]
        assert told["target"]["input"] == asked["Target"]["Input"]
        plain = told["description"].replace("$${", "${").replace("%%{", "%{")
        assert plain == asked["Description"]


def test_no_description_has_a_dynamic_reference(tricky: list[Schedule]):
    artifacts = compiled(*tricky).artifacts
    assert [each.path for each in artifacts if "{{resolve:ssm" in each.text] == []


def test_an_api_destination_gets_the_event_in_structured_mode():
    found = by_operation(compiled(schedule(), asked=request("bearer")))
    [target] = found["PutTargets"]["Targets"]
    assert target["InputPath"] == "$.detail"
    detail = found["CreateSchedule"]["Target"]["Input"].replace(SLOT, "2027-03-22T04:00:00Z")
    headers = target["HttpParameters"]["HeaderParameters"]
    assert Trigger.from_headers(headers, detail.encode()).schedule_id == "S.v1.x"
    assert found["CreateApiDestination"]["InvocationEndpoint"] == f"{INGRESS['url']}/triggers"


def test_a_rule_takes_the_events_of_its_schedules_and_no_others():
    found = {
        each["operation"]: each["request"]
        for each in calls(compiled(schedule(), asked=request("bearer")))
    }
    parameters = found["CreateSchedule"]["Target"]["EventBridgeParameters"]
    pattern = json.loads(found["PutRule"]["EventPattern"])
    assert pattern == {
        "source": [parameters["Source"]],
        "detail-type": [parameters["DetailType"]],
    }
    assert found["PutRule"]["EventBusName"] == "triggers"
    other = request("bearer", group="other")
    elsewhere = {
        each["operation"]: each["request"] for each in calls(compiled(schedule(), asked=other))
    }
    assert elsewhere["PutRule"]["EventPattern"] != found["PutRule"]["EventPattern"]


def test_an_api_destination_needs_an_https_address():
    plain = request("bearer", ingress={"url": "http://localhost:8080"})
    found = findings(schedule(), plain)["limit-endpoint"]
    assert found.leaves_out
    assert "http://localhost:8080" in found.message
    long = request("bearer", ingress={"url": f"https://x.example/{'y' * 2100}"})
    assert "2048" in findings(schedule(), long)["limit-endpoint"].message
    assert findings(schedule(), request("bearer")) == {}


def test_a_secret_is_a_reference_in_every_file():
    artifacts = compiled(schedule(), asked=request("bearer")).artifacts
    texts = {each.path: each.text for each in artifacts}
    reference = f"{{{{resolve:secretsmanager:{SECRET['arn']}:SecretString:token}}}}"
    assert f'"Bearer {reference}"' in texts["template.json"]
    assert f'"Bearer {reference}"' in texts["requests.json"]
    [variable] = json.loads(texts["main.tf.json"])["variable"].items()
    assert variable[1]["sensitive"] is True
    assert f"Bearer ${{var.{variable[0]}}}" in texts["main.tf.json"]


def test_a_fifo_queue_gets_the_schedule_as_message_group():
    found = only(schedule(), asked=request("fifo"))["Target"]
    assert found["SqsParameters"] == {"MessageGroupId": "S.v1.x"}
    assert "SqsParameters" not in only(schedule())["Target"]


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"misfire_grace": timedelta(minutes=10)}, 600),
        ({"misfire_grace": timedelta(seconds=5)}, 60),
        ({"misfire_grace": timedelta(days=3)}, 86_400),
        ({"misfire_grace": timedelta(minutes=10), "jitter": timedelta(minutes=5)}, 900),
        ({"missed_run_policy": "runOnce"}, 86_400),
        ({"missed_run_policy": "catchUp"}, 86_400),
    ],
)
def test_a_trigger_is_tried_while_the_contract_would_let_it_run(
    options: dict[str, Any], seconds: int
):
    retry = only(schedule(**options))["Target"]["RetryPolicy"]
    assert retry == {"MaximumEventAgeInSeconds": seconds, "MaximumRetryAttempts": 185}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"missed_run_policy": "runOnce"}, "missed-run-policy-runonce"),
        ({"missed_run_policy": "catchUp"}, "missed-run-policy-catchup"),
        ({"misfire_grace": timedelta(days=3)}, "misfire-grace"),
    ],
)
def test_what_is_missed_for_more_than_a_day_is_a_finding_unless_the_ingress_recovers(
    options: dict[str, Any], code: str
):
    found = findings(schedule(**options), request(ingress={"url": INGRESS["url"]}))
    assert list(found) == [code]
    assert "86400" in found[code].message
    assert findings(schedule(**options)) == {}


@pytest.mark.parametrize(
    ("text", "jitter", "window", "is_found"),
    [
        ("0 4 * * *", timedelta(minutes=5), 5, False),
        ("0 4 * * *", timedelta(hours=24), 1440, False),
        ("0 4 1 * *", timedelta(hours=25), 1440, True),
        ("0 4 * * *", timedelta(seconds=150), 2, True),
        ("0 4 * * *", timedelta(seconds=30), 0, True),
        ("*/5 * * * *", timedelta(minutes=30), 5, False),
    ],
)
def test_jitter_is_a_window_of_whole_minutes_that_ends_by_the_next_time(
    text: str, jitter: timedelta, window: int, is_found: bool
):
    one = schedule(expression=Cron(text), jitter=jitter)
    asked = only(one)
    found = asked["FlexibleTimeWindow"].get("MaximumWindowInMinutes", 0)
    assert found == window
    assert ("jitter" in findings(one)) == is_found
    fire = datetime(2027, 1, 1, 4, tzinfo=UTC)
    if window:
        following = one.next_after(fire)
        assert following is not None
        assert eventbridge.window(asked, fire)[1] <= min(fire + jitter, following)


def test_a_disabled_schedule_is_made_and_does_not_fire():
    assert only(schedule(enabled=False))["State"] == "DISABLED"


def test_a_second_line_is_a_schedule_whose_name_no_other_schedule_has():
    double = {"expression": Cron("0 0 13 * FRI")}
    found = made(compiled(schedule("x", **double), schedule("x-2"), schedule("x-3", **double)))
    names = Counter(each["Name"] for each in found)
    assert names == dict.fromkeys(["S.v1.x", "S.v1.x--2", "S.v1.x-2", "S.v1.x-3", "S.v1.x-3-2"], 1)
    by_id = Counter(subject(each) for each in found)
    assert by_id == {"S.v1.x": 2, "S.v1.x-2": 1, "S.v1.x-3": 2}


def test_a_schedules_name_in_files_is_its_own_whatever_else_there_is():
    alone = {each["key"] for each in calls(compiled(schedule("x")))}
    among = {each["key"] for each in calls(compiled(schedule("x"), schedule("X"), schedule("x_")))}
    assert alone < among
    assert len(among) == 4


def test_a_long_description_is_cut_off_and_that_is_a_finding():
    one = schedule(description="y" * 600)
    found = findings(one)["limit-description"]
    assert "512" in found.message
    description = only(one)["Description"]
    assert len(description) == 512
    assert "accepted=limit-description" in description
    room = 512 - len("purista: S.v1.x 0123456789abcdef - ")
    fits = schedule(description="y" * room)
    assert findings(fits) == {}
    assert len(only(fits)["Description"]) == 512
    assert "limit-description" in findings(schedule(description="y" * (room + 1)))


def test_what_was_accepted_stands_in_every_file():
    asked = request(ingress={"url": INGRESS["url"]})
    artifacts = compiled(schedule(missed_run_policy="catchUp"), asked=asked).artifacts
    assert all("missed-run-policy-catchup" in each.text for each in artifacts)
    assert len(artifacts) == 3


def test_hints_give_one_schedule_another_target_and_group():
    target = {"kind": "lambda", "function_arn": TARGETS["lambda"]["function_arn"]}
    hinted = schedule("y", provider_hints={"eventbridge": {"target": target, "group": "slow"}})
    compilation = compiled(schedule("x"), hinted)
    plain, other = made(compilation)
    assert (plain["GroupName"], other["GroupName"]) == ("billing", "slow")
    assert other["Target"]["Arn"] == target["function_arn"]
    groups = [each["request"]["Name"] for each in calls(compilation)][:2]
    assert groups == ["billing", "slow"]


def test_what_is_shared_can_be_left_to_another_deployment():
    asked = request("bearer", create_shared=False)
    compilation = compiled(schedule(), asked=asked)
    assert [each["operation"] for each in calls(compilation)] == ["CreateSchedule"]
    [resource] = json.loads(compilation.artifacts[0].text)["Resources"].values()
    assert resource["Properties"]["GroupName"] == "billing"
    assert terraform.problems(compilation.artifacts[1].text) == []
    default = compiled(schedule(), asked=request(group="default"))
    assert [each["operation"] for each in calls(default)] == ["CreateSchedule"]


def test_more_than_a_template_holds_is_divided_so_that_a_new_one_moves_none():
    many = [schedule(f"n{number}") for number in range(700)]
    before = _templates(compiled(*many, asked=request("bearer")).artifacts)
    after = _templates(compiled(*many, schedule("new"), asked=request("bearer")).artifacts)
    assert list(before) == ["template-shared.json", "template-1-of-2.json", "template-2-of-2.json"]
    assert all(len(each) <= 500 for each in before.values())
    for path, resources in before.items():
        assert resources.items() <= after[path].items()
    assert sum(map(len, after.values())) == 700 + 1 + 5 - 1


def _templates(artifacts: Iterable[Artifact]) -> dict[str, dict[str, Any]]:
    return {
        each.path: json.loads(each.text)["Resources"]
        for each in artifacts
        if each.path.startswith("template")
    }


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"role_arn": "scheduler"}, "role_arn"),
        ({"group": "a b"}, "group"),
        ({"target": {"kind": "http"}}, "target"),
        ({"target": {"kind": "sqs", "queue_arn": "triggers"}}, "target.sqs.queue_arn"),
        ({"target": BUS}, "target.api-destination"),
        ({"dead_letter_queue_arn": f"arn:aws:sqs:{PLACE}:lost.fifo"}, "dead_letter_queue_arn"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], place: str):
    right = {"role_arn": ROLE, "target": TARGETS["sqs"]}
    EventBridgeSettings.model_validate(right)
    with pytest.raises(ValidationError) as refused:
        EventBridgeSettings.model_validate({**right, **change})
    assert place in [".".join(map(str, each["loc"])) for each in refused.value.errors()]


def test_findings_refuse():
    with pytest.raises(PortabilityError, match="missed-run-policy-catchup"):
        compile_schedules(
            SCHEDULER,
            [schedule(missed_run_policy="catchUp")],
            request(ingress={"url": INGRESS["url"]}),
        )


@pytest.mark.parametrize("target", ["sqs", "bearer"])
def test_the_billing_example_compiles_to_its_goldens(target: str, billing_example: ModuleType):
    schedules = list(billing_example.billing.schedules.values())
    files = {each.path: each.text for each in compiled(*schedules, asked=request(target)).artifacts}
    _, with_recovery = place(SCHEDULER, schedules, request(target))
    _, without = place(SCHEDULER, schedules, request(target, ingress={"url": INGRESS["url"]}))
    files["findings.txt"] = "".join(f"{each}\n" for each in with_recovery)
    files["findings-without-recovery.txt"] = "".join(f"{each}\n" for each in without)
    folder = GOLDENS / target
    if os.environ.get("UPDATE_GOLDENS"):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            (folder / path).write_text(text)
    assert {each.name: each.read_text() for each in folder.iterdir()} == files
