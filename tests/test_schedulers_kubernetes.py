"""Kubernetes' CronJobs mean what their contracts mean: asked of robfig/cron, which its controller calls."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.dialects import timings
from tests.engines import robfig, sender
from tests.engines.robfig import RobfigCase
from tests.engines.sender import Shell

from purista.clockchange import Timing
from purista.compiling import Artifact, Compilation, compile_schedules, place
from purista.contract import Event, Schedule
from purista.expression import Cron, Every, Once
from purista.schedulers.kubernetes import LONGEST_NAME, SCHEDULER, KubernetesSettings
from purista.sender import SEND
from purista.settings import IngressSettings
from purista.spacing import is_even
from purista.testing import SchedulerSuite
from purista.testing.corpus import END, START, contracts

GOLDENS = Path(__file__).parent / "goldens/compile/kubernetes"
RECOVERING = IngressSettings(url="https://triggers.example.com", recovery="ingress")
MINUTE = timedelta(minutes=1)
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names"""

LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""

VERSIONS = ("1.27", "1.37")
"""The oldest that holds what we write, and the newest whose schema is at hand."""


class TestKubernetes(SchedulerSuite):
    scheduler = SCHEDULER
    asked: ClassVar[dict[tuple[str, str], list[datetime]]] = {}

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        """Return when the CronJobs that are not suspended fire, by schedule."""
        found: dict[str, set[datetime]] = {}
        wanted: dict[tuple[str, str], list[str]] = {}
        for one in cronjobs(compilation.artifacts):
            spec = one["spec"]
            if not spec["suspend"]:
                held = one["metadata"]["annotations"]["purista.dev/schedule"]
                wanted.setdefault((spec["schedule"], spec["timeZone"]), []).append(held)
        self.ask(wanted.keys() - self.asked.keys(), start, end)
        for line, ids in wanted.items():
            for held in ids:
                found.setdefault(held, set()).update(self.asked[line])
        return found

    def ask(self, lines: Iterable[tuple[str, str]], start: datetime, end: datetime) -> None:
        cases = [RobfigCase(" @ ".join(each), *each, start, end, 3_000_000) for each in lines]
        for case, answer in robfig.fires(cases).items():
            assert not isinstance(answer, str), answer
            expression, zone = case.split(" @ ")
            self.asked[expression, zone] = answer


def cronjobs(artifacts: Iterable[Artifact]) -> Iterator[dict[str, Any]]:
    for each in artifacts:
        yield from yaml.load_all(each.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def schedule(
    expression: Cron | Every | Once | str, timezone: str = "UTC", **options: Any
) -> Schedule:
    when = Cron(expression) if isinstance(expression, str) else expression
    target = Event("due", str, service_name="S", service_version="1")
    values = {"name": "x", "service_name": "S", "service_version": "1", "payload": "due"}
    given = {**values, "target": target, "expression": when, "timezone": timezone, **options}
    return Schedule(**given)


def compiled(*schedules: Schedule, **changes: Any) -> list[dict[str, Any]]:
    return list(cronjobs(TestKubernetes().compiled(schedules, **changes).artifacts))


def cronjob(one: Schedule, **changes: Any) -> dict[str, Any]:
    [found] = compiled(one, **changes)
    return found


def codes(one: Schedule, **changes: Any) -> list[str]:
    return [each.code for each in place(SCHEDULER, [one], TestKubernetes().request(**changes))[1]]


def container_of(one: dict[str, Any]) -> dict[str, Any]:
    [container] = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return what Kubernetes makes of an argument, or of a variable's value.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container: ``$(X)`` is
    a reference, which stays as it is where there is no X; ``$$`` is a ``$``.
    """

    def read(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", read, text)


def environment_of(one: dict[str, Any], job: str) -> dict[str, str]:
    """Return the environment of the container in the Pod of a Job."""
    found: dict[str, str] = {}
    for each in container_of(one)["env"]:
        path = "metadata.labels['batch.kubernetes.io/job-name']"
        if each.get("valueFrom") == {"fieldRef": {"fieldPath": path}}:
            found[each["name"]] = job
        elif "value" in each:
            found[each["name"]] = expanded(each["value"], found)
    return found


def job_of(one: dict[str, Any], slot: datetime) -> str:
    """Return the name that the controller gives a Job: with the slot, in minutes since 1970.

    getJobName and getTimeHashInMinutes of kubernetes/pkg/controller/cronjob/cronjob_controllerv2.go.
    """
    return f"{one['metadata']['name']}-{int(slot.timestamp()) // 60}"


def run(one: dict[str, Any], job: str, shell: Shell, now: datetime, **more: Any) -> sender.Ran:
    container = container_of(one)
    environment = {**environment_of(one, job), **more.pop("environment", {})}
    [script] = container["args"]
    assert container["command"] == ["sh", "-c"]
    return sender.run(expanded(script, environment), environment, shell=shell, now=now, **more)


@settings(max_examples=20, deadline=None)
@given(st.lists(timings(), min_size=10, max_size=60))
def test_whatever_is_due_is_sent_then(given: list[Timing]) -> None:
    many = [of(timing, number) for number, timing in enumerate(given)]
    compilation = TestKubernetes().compiled(many)
    end = START + timedelta(days=731)
    found = TestKubernetes().fires(compilation, START, end)
    for one in (each.schedule for each in compilation.placed):
        sent = {at for at in found.get(one.id, ()) if one.contains(at)}
        assert sent == set(one.between(START, end))


@pytest.mark.parametrize(
    ("zone", "day", "fires"),
    [
        ("Africa/Cairo", datetime(2027, 4, 30, tzinfo=UTC), False),
        ("Asia/Beirut", datetime(2027, 3, 28, tzinfo=UTC), False),
        ("America/Santiago", datetime(2027, 9, 5, tzinfo=UTC), True),
        ("America/Havana", datetime(2027, 3, 14, tzinfo=UTC), True),
    ],
)
def test_on_a_day_without_a_midnight_the_engine_is_silent_east_of_greenwich(
    zone: str, day: datetime, fires: bool
) -> None:
    weekly = schedule(f"0 12 * * {day.isoweekday() % 7}", zone)
    assert [at.date() for at in weekly.between(day, day + timedelta(days=1))] == [day.date()]
    two = timedelta(days=2)
    case = RobfigCase("x", str(weekly.expression), zone, day - two, day + two)
    assert bool(robfig.fires([case])["x"]) == fires
    assert {each["spec"]["timeZone"] for each in compiled(weekly)} == {zone if fires else "UTC"}
    daily = schedule("0 12 * * *", zone)
    assert {each["spec"]["timeZone"] for each in compiled(daily)} == {zone}


def test_an_hour_that_begins_again_in_its_midst_is_not_looked_at_to_its_end() -> None:
    one, at = schedule("*/15 2 * * *", "Pacific/Chatham"), datetime(2027, 4, 3, 14, tzinfo=UTC)
    day = timedelta(days=1)
    case = RobfigCase("x", str(one.expression), one.timezone, at - day, at + day)
    assert set(one.between(at - day, at + day)).difference(robfig.fires([case])["x"]) == {at}
    assert {each["spec"]["timeZone"] for each in compiled(one)} == {"UTC"}


def of(timing: Timing, number: int) -> Schedule:
    """Return a schedule that is due as a timing says."""
    words = {"dst_gap": timing.dst_gap, "dst_overlap": timing.dst_overlap}
    return schedule(timing.expression, timing.timezone, name=f"x{number}", **words)


def test_every_cronjob_of_the_corpus_is_one_by_kubernetes_own_schema() -> None:
    found = compiled(*contracts(), settings=settings_with(bearer={"name": "a.b", "key": "token"}))
    shapes = {repr(shape_of(one)): one for one in found}
    for one, version in product(shapes.values(), VERSIONS):
        kubernetes_validate.validate(one, version, strict=True)
    assert len(found) > len(contracts())


def test_the_schema_knows_no_other_fields_than_kubernetes() -> None:
    one = cronjob(schedule("0 4 * * *"))
    container_of(one)["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[0], strict=True)


def shape_of(value: Any) -> Any:
    """Return a document with the types of its values in place of texts and numbers."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    return [shape_of(item) for item in value] if isinstance(value, list) else type(value).__name__


def settings_with(**changes: Any) -> KubernetesSettings:
    return KubernetesSettings(**{**SCHEDULER.sample, **changes})


@pytest.mark.parametrize(
    "name",
    ["a" * 150, "x_", "x-", "x-2", "x.2", "x-12345", "X", "x", "a--b", "a.-b", "a_.b", "f" * 36],
)
def test_the_name_of_a_cronjob_and_of_each_of_its_jobs_is_a_dns_label(name: str) -> None:
    found = compiled(schedule(Cron("0 6 L * MON#1", day_rule="or"), name=name))
    assert found
    for one in found:
        assert len(one["metadata"]["name"]) <= LONGEST_NAME
        for each in (one["metadata"]["name"], job_of(one, END)):
            assert DNS_LABEL.match(each)
            assert LABEL_VALUE.match(each)
            assert len(each) <= 63


def test_a_further_line_of_a_schedule_never_has_the_name_of_another_schedule() -> None:
    either = Cron("0 6 L * MON#1", day_rule="or")
    names = ["x", "x-2", "x.2", "x-2x", "x_2", "x-", "x--2"]
    found = compiled(*(schedule(either, name=name) for name in names))
    assert len({one["metadata"]["name"] for one in found}) == len(found) > len(names)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        'quotes " \\ and #: - {x} %s $(date) $$',
        "lines\nand\ttabs\r\x00\x1b\x7f\x85\u2028\ufeff",
        "f\u00fcr \u65e5\u672c \N{PARTY POPPER}\U0010fffd",
        "no: 1e3",
    ],
    ids=["plain", "quotes", "controls", "unicode", "number"],
)
def test_a_description_comes_back_as_it_is(text: str) -> None:
    one = cronjob(schedule("0 4 * * *", description=text))
    assert one["metadata"]["annotations"]["purista.dev/description"] == text


def test_a_description_that_annotations_cannot_hold_is_a_finding_with_the_number() -> None:
    long = schedule("0 4 * * *", description="x" * 262_144)
    [finding] = place(SCHEDULER, [long], TestKubernetes().request())[1]
    assert (finding.code, finding.leaves_out) == ("limit-annotations", True)
    assert "262144" in finding.message


@pytest.mark.parametrize(
    ("one", "deadline"),
    [
        (schedule("0 4 * * *"), 600),
        (schedule("0 4 * * *", misfire_grace=timedelta(seconds=3)), 10),
        (schedule("0 4 * * *", missed_run_policy="runOnce"), None),
        (schedule("0 4 * * *", missed_run_policy="catchUp"), 86_400),
    ],
    ids=["skip", "skip at once", "runOnce", "catchUp"],
)
def test_a_slot_is_started_late_as_long_as_the_policy_wants_it(
    one: Schedule, deadline: int | None
) -> None:
    assert cronjob(one)["spec"].get("startingDeadlineSeconds") == deadline


@pytest.mark.parametrize("policy", ["allow", "forbid", "replace"])
@pytest.mark.parametrize(
    ("text", "options", "is_said"),
    [
        ("0 4 * * *", {}, True),
        ("0 4 1 * *", {"missed_run_policy": "runOnce"}, True),
        ("*/5 * * * *", {}, False),
        ("0 4,16 * * *", {"missed_run_policy": "catchUp"}, False),
        ("0 4 L * *", {}, False),
    ],
    ids=["rare", "rare and long", "often", "tried for a day", "more triggers than runs"],
)
def test_an_overlap_is_kubernetes_own_where_no_job_can_still_be_there(
    policy: str, text: str, options: dict[str, Any], is_said: bool
) -> None:
    spec = cronjob(schedule(text, concurrency_policy=policy, **options))["spec"]
    assert spec["concurrencyPolicy"] == (policy.capitalize() if is_said else "Allow")


def test_a_disabled_schedule_is_suspended() -> None:
    suspended = [
        cronjob(schedule("0 4 * * *", enabled=enabled))["spec"]["suspend"]
        for enabled in (True, False)
    ]
    assert suspended == [False, True]


@pytest.mark.parametrize(
    ("text", "zone", "policy", "found"),
    [
        ("0 4 * * *", "UTC", "skip", []),
        ("0 4 * * *", "UTC", "runOnce", []),
        ("0 4 * * *", "UTC", "catchUp", ["missed-run-policy-catchup"]),
        ("0 4 * * *", "Europe/Berlin", "runOnce", ["missed-run-policy-runonce"]),
        ("30 6-16/4 * * 1-5", "UTC", "runOnce", ["missed-run-policy-runonce"]),
        ("0 9 L * *", "UTC", "runOnce", ["missed-run-policy-runonce"]),
    ],
)
def test_what_kubernetes_does_not_bring_back_is_a_finding_unless_the_ingress_does(
    text: str, zone: str, policy: str, found: list[str]
) -> None:
    one = schedule(text, zone, missed_run_policy=policy)
    assert codes(one) == found
    assert codes(one, ingress=RECOVERING) == []


EVEN = ("0 4 * * *", "*/15 * * * *", "0 */6 * * *", "0 4 * * 3", "30 * * * *")
UNEVEN = ("30 6-16/4 * * 1-5", "0 8,9,20 * * *", "0 0 28-31 * *", "0 9 * * 1-5", "*/7 * * * *")


@pytest.mark.parametrize("text", EVEN)
def test_of_evenly_spaced_slots_the_controller_always_finds_the_latest_missed_one(
    text: str,
) -> None:
    one = schedule(text)
    assert is_even(one, TestKubernetes().request().horizon)
    assert set(recovered(one)) == {"latest"}


@pytest.mark.parametrize("text", UNEVEN)
def test_of_uneven_slots_the_controller_finds_the_latest_missed_one_or_none(text: str) -> None:
    one = schedule(text)
    assert not is_even(one, TestKubernetes().request().horizon)
    assert set(recovered(one)) == {"latest", "none"}


def recovered(one: Schedule) -> Iterator[str]:
    """Yield what the controller finds after outages of up to twenty days, drawn with a fixed seed."""
    draw = random.Random(4)
    slots = list(one.between(START, START + timedelta(days=120)))
    for _ in range(400):
        last = draw.choice(slots[: len(slots) // 2])
        now = last + timedelta(seconds=draw.randrange(20 * 86_400))
        found, due = most_recent(slots, last, now), [at for at in slots if last < at <= now]
        if due:
            assert found in (None, due[-1])
            yield "latest" if found else "none"


def most_recent(slots: list[datetime], last: datetime, now: datetime) -> datetime | None:
    """Return the slot that the controller starts after an outage, by what its comments say.

    mostRecentScheduleTime of kubernetes/pkg/controller/cronjob/utils.go: of the slots t1 and t2 after the
    last one, the distance is taken for that of all; so many of them as have passed, less two, lead to the
    time from which on it looks for slots.
    """
    t1, t2 = [at for at in slots if at > last][:2]
    if now < t2:
        return t1 if now >= t1 else None
    missed = (now - t1) // (t2 - t1) + 1
    since = t1 + (missed - 2) * (t2 - t1)
    return max((at for at in slots if since < at <= now), default=None)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize("late", [0, 4000], ids=["in time", "late"])
def test_a_job_sends_the_slot_of_its_name(shell: Shell, late: int) -> None:
    one = cronjob(schedule("30 2 * * *", "Europe/Berlin"))
    at = datetime(2027, 3, 29, 0, 30, tzinfo=UTC)
    ran = run(one, job_of(one, at), shell, at + timedelta(seconds=late))
    [trigger] = ran.posted.triggers
    assert (ran.code, ran.error, ran.slept) == (0, "", ())
    assert (trigger.schedule_id, trigger.nominal_time, trigger.manual) == ("S.v1.x", at, False)
    assert trigger.id == "S.v1.x/2027-03-29T00:30:00Z"
    assert trigger.source == "kubernetes/billing/s-v1-x"
    assert trigger.fingerprint == one["metadata"]["annotations"]["purista.dev/fingerprint"]
    assert ran.posted.paths == ["/triggers"]


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize(
    "job", ["again", "again-20270101", "again-1", "again-08", "x-99999999999999999999", "29000000"]
)
def test_a_job_that_a_person_made_is_manual(shell: Shell, job: str) -> None:
    one = cronjob(schedule("30 2 * * *", jitter=timedelta(minutes=5)))
    found = [run(one, job, shell, START).posted.triggers[0] for _ in range(2)]
    manual = job != "29000000"
    assert [each.manual for each in found] == [manual, manual]
    assert [each.nominal_time is None for each in found] == [manual, manual]
    assert (found[0].id == found[1].id) == (not manual)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_a_job_waits_within_the_jitter_as_long_at_each_try(shell: Shell) -> None:
    one = cronjob(schedule("30 2 * * *", jitter=timedelta(minutes=5)))
    at = datetime(2027, 3, 29, 2, 30, tzinfo=UTC)
    waits = []
    for late in (0, 7, 400):
        ran = run(one, job_of(one, at), shell, at + timedelta(seconds=late))
        waits.append(late + sum(ran.slept))
    assert waits[0] == waits[1]
    assert 7 < waits[0] < 300
    assert waits[2] == 400


def test_a_jitter_never_reaches_the_next_nominal_time_and_a_job_has_the_time_to_wait() -> None:
    one = cronjob(schedule("*/5 * * * *", jitter=timedelta(hours=1)))
    assert environment_of(one, "x")["PURISTA_JITTER"] == "299"
    tries = int(environment_of(one, "x")["PURISTA_TRY_SECONDS"])
    assert one["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 299 + tries + 30


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize(
    ("answers", "code", "sent"), [((202,), 0, 1), ((400,), 22, 1), ((503, 202), 0, 2)]
)
def test_a_job_ends_as_the_ingress_answers(
    shell: Shell, answers: tuple[int, ...], code: int, sent: int
) -> None:
    one = cronjob(schedule("30 2 * * *"))
    at = datetime(2027, 3, 29, 2, 30, tzinfo=UTC)
    ran = run(one, job_of(one, at), shell, at, answers=answers)
    assert (ran.code, len(ran.posted.triggers)) == (code, sent)
    assert len(set(map(repr, ran.posted.triggers))) == 1


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_token_of_a_secret_is_the_bearer_token(shell: Shell) -> None:
    one = cronjob(schedule("30 2 * * *"), settings=settings_with(bearer={"name": "a", "key": "b"}))
    [reference] = [each for each in container_of(one)["env"] if each["name"] == "PURISTA_BEARER"]
    assert reference["valueFrom"] == {"secretKeyRef": {"name": "a", "key": "b"}}
    ran = run(one, job_of(one, START), shell, START, environment={"PURISTA_BEARER": "s3cret"})
    assert ran.posted.tokens == ["Bearer s3cret"]


def test_the_script_reaches_the_shell_as_it_is_and_so_does_the_address() -> None:
    url = "https://example.com/$(PURISTA_SOURCE)/$$x"
    one = cronjob(schedule("30 2 * * *"), ingress=IngressSettings(url=url))
    given = environment_of(one, "job")
    assert given["PURISTA_URL"] == f"{url}/triggers"
    assert expanded(container_of(one)["args"][0], given).endswith(SEND)
    assert re.findall(r"\$\(([A-Z_]+)\)", container_of(one)["args"][0]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"namespace": "Billing"},
        {"namespace": "-a"},
        {"image": "a b"},
        {"service_account": "a..b"},
        {"bearer": {"name": "A", "key": "b"}},
        {"bearer": {"name": "a", "key": "b/c"}},
        {"bearer": "the token itself"},
    ],
    ids=str,
)
def test_a_setting_that_the_api_server_would_refuse_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_with(**wrong)


def test_settings_of_a_schedule_hold_for_its_cronjobs_alone() -> None:
    hints = {"kubernetes": {"service_account": "payer", "namespace": "payments"}}
    given = [schedule("0 4 * * *", provider_hints=hints), schedule("0 4 * * *", name="y")]
    found = [
        (
            one["metadata"]["namespace"],
            one["spec"]["jobTemplate"]["spec"]["template"]["spec"].get("serviceAccountName"),
        )
        for one in compiled(*given)
    ]
    assert found == [("payments", "payer"), ("billing", None)]


def test_an_excluded_day_is_the_ingresss_and_so_is_recovery_then() -> None:
    one = schedule("0 4 * * *", exclude=(date(2027, 12, 25),), missed_run_policy="runOnce")
    assert codes(one) == ["missed-run-policy-runonce"]


def test_the_example_compiles_to_the_golden_files(billing_example: ModuleType) -> None:
    made = list(billing_example.billing.schedules.values())
    request = TestKubernetes().request(ingress=RECOVERING)
    artifacts = list(compile_schedules(SCHEDULER, made, request).artifacts)
    unhelped = replace(request, ingress=IngressSettings(url=RECOVERING.url))
    texts = [str(each) for each in place(SCHEDULER, made, unhelped)[1]]
    artifacts.append(Artifact("findings.txt", "".join(f"{text}\n" for text in texts)))
    if os.environ.get("UPDATE_GOLDENS"):
        GOLDENS.mkdir(parents=True, exist_ok=True)
        for each in artifacts:
            (GOLDENS / each.path).write_text(each.text)
    held = {file.name: file.read_text() for file in sorted(GOLDENS.iterdir())}
    assert held == {each.path: each.text for each in artifacts}
