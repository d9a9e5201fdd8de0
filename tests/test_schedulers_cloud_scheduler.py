"""Google Cloud Scheduler: what is compiled fires as the contract says, however its pages are read."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.cloud.scheduler_v1.types import Job, PauseJobRequest
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.engines import cloud_scheduler, google_calls, terraform

from purista.compiling import Compilation, Request, compile_schedules, default_horizon, place
from purista.contract import Event, Schedule
from purista.cover import Line
from purista.errors import PortabilityError
from purista.expression import Cron, Every, Once
from purista.native.cloudretry import line_gap, retry_of
from purista.portability import Finding
from purista.schedulers import scheduler_named
from purista.schedulers.cloud_scheduler import SCHEDULER, CloudSchedulerSettings, cron_text
from purista.settings import read_settings
from purista.slot import SlotGrid
from purista.testing.corpus import END, START, contracts
from purista.testing.scheduler_suite import SchedulerSuite
from purista.trigger import Trigger

GOLDENS = Path(__file__).parent / "goldens/compile/cloud-scheduler"
PARENT = "projects/shop-123456/locations/europe-west3"
ACCOUNT = "scheduler@shop-123456.iam.gserviceaccount.com"
INGRESS = {"url": "https://triggers.example.com", "recovery": "ingress"}
TARGETS: Mapping[str, Mapping[str, Any]] = {
    "http": {"kind": "http", "service_account_email": ACCOUNT},
    "pubsub": {"kind": "pubsub", "topic": "triggers"},
}
CHANGING = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")


def request(
    target: str | Mapping[str, Any] = "http", ingress: Mapping[str, Any] = INGRESS
) -> Request:
    given = TARGETS[target] if isinstance(target, str) else target
    table = {"project": "shop-123456", "location": "europe-west3", "target": given}
    found = read_settings(
        {"cloud-scheduler": table, "ingress": ingress},
        {"cloud-scheduler": SCHEDULER.settings},
    )
    horizon = default_horizon(START)
    return Request(found["cloud-scheduler"], found["ingress"], horizon)  # type: ignore[arg-type]


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


def jobs(compilation: Compilation) -> list[dict[str, Any]]:
    """The jobs, with the state that they have after all calls."""
    paused = {
        each["request"]["name"] for each in calls(compilation) if each["operation"] == "PauseJob"
    }
    made = [each["request"]["job"] for each in calls(compilation) if "job" in each["request"]]
    return [{**each, "state": "PAUSED"} if each["name"] in paused else each for each in made]


def only(*schedules: Schedule, asked: Request | None = None) -> dict[str, Any]:
    [found] = jobs(compiled(*schedules, asked=asked))
    return found


def attributes(job: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = (
        job["httpTarget"]["headers"] if "httpTarget" in job else job["pubsubTarget"]["attributes"]
    )
    return found


@lru_cache(maxsize=4096)
def _fired(
    text: str, zone: str, state: str, reading: cloud_scheduler.Reading
) -> frozenset[datetime]:
    job = {"schedule": text, "timeZone": zone, "state": state}
    return frozenset(cloud_scheduler.fires(job, start=START, end=END, reading=reading))


def fired(job: Mapping[str, Any], reading: cloud_scheduler.Reading) -> frozenset[datetime]:
    return _fired(job["schedule"], job["timeZone"], job.get("state", ""), reading)


class TestCloudScheduler(SchedulerSuite):
    scheduler = SCHEDULER

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        assert (start, end) == (START, END)
        found: dict[str, set[datetime]] = {}
        for job in jobs(compilation):
            at = fired(job, cloud_scheduler.Reading())
            found.setdefault(attributes(job)["ce-subject"], set()).update(at)
        return found


def test_it_is_in_the_registry():
    assert scheduler_named("cloud-scheduler") is SCHEDULER


@pytest.mark.parametrize("exact_native", [False, True])
def test_no_job_depends_on_what_the_pages_leave_open(exact_native: bool):
    compilation = compiled(*contracts(), asked=replace(request(), exact_native=exact_native))
    differing = []
    asked_of = 0
    for job in jobs(compilation):
        readings = cloud_scheduler.readings(job)
        asked_of += len(readings)
        if len({fired(job, reading) for reading in readings}) > 1:
            differing.append(job["name"])
    assert differing == []
    assert asked_of > 3 * len(jobs(compilation))


FIELDS = {
    "minute": st.one_of(st.just("*"), st.sampled_from(["0", "30", "*/7", "15,45", "5-50/9", "59"])),
    "hour": st.one_of(st.just("*"), st.sampled_from(["1", "2", "0-3", "*/5", "2,23", "22-2"])),
    "day": st.sampled_from(["*", "1", "*/2", "L", "15W", "1-31", "LW", "L-1", "1,L", "28-31"]),
    "month": st.sampled_from(["*", "3,10", "2", "11-2"]),
    "weekday": st.sampled_from(["*", "SUN", "MON-FRI", "FRI#2", "SUN#L", "0,3", "*/2"]),
}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    made = jobs(compilation)
    for reading in {reading for job in made for reading in cloud_scheduler.readings(job)}:
        found = frozenset[datetime]().union(*(fired(job, reading) for job in made))
        assert due <= found
        assert placed.sends_extra or found == due


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
    found = jobs(compilation)
    for reading in {reading for each in found for reading in cloud_scheduler.readings(each)}:
        at = frozenset[datetime]().union(*(fired(each, reading) for each in found))
        assert set(one.between(START, END)) <= at


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("0 9 * * SUN", "0 9 * * 0"),
        ("*/15 * * * *", "0,15,30,45 * * * *"),
        ("0 22-2 1-3,9 11-2 *", "0 0-2,22,23 1-3,9 1,2,11,12 *"),
        ("0 0 13 * FRI", "0 0 13 * 5"),
        ("5/20 8 * * 7", "5,25,45 8 * * 0"),
    ],
)
def test_a_line_is_written_in_described_forms(text: str, native: str):
    job = only(schedule(expression=Cron(text)))
    assert (job["schedule"], job["timeZone"]) == (native, "Etc/UTC")


def test_a_day_field_with_a_star_is_written_without_it_where_the_page_says_or():
    assert cron_text(Cron("0 0 1-31 * FRI", day_rule="or")) == "0 0 * * *"
    text = cron_text(Cron("0 0 */10 * FRI", day_rule="or"))
    assert text == "0 0 1,11,21,31 * 5"


def test_a_line_is_local_only_where_it_meets_no_clock_change():
    morning = only(schedule(expression=Cron("0 4 * * *"), timezone="Europe/Berlin"))
    assert morning["timeZone"] == "Europe/Berlin"
    night = only(schedule(expression=Cron("30 2 * * *"), timezone="Europe/Berlin"))
    assert (night["schedule"], night["timeZone"]) == ("30 0,1 * * *", "Etc/UTC")
    often = jobs(compiled(schedule(expression=Cron("0 * * * *"), timezone="Europe/Berlin")))
    assert {job["timeZone"] for job in often} == {"Etc/UTC"}


def test_a_one_shot_is_a_dated_line_of_every_year():
    at = datetime(2027, 3, 28, 1, 30, tzinfo=UTC)
    compilation = compiled(schedule(expression=Once(at)))
    assert jobs(compilation)[0]["schedule"] == "30 1 28 3 *"
    assert compilation.placed[0].sends_extra


@pytest.mark.parametrize("target", TARGETS)
def test_every_job_is_what_the_service_takes(target: str):
    made = jobs(compiled(*contracts(), asked=request(target)))
    wrong = [fault for job in made for fault in google_calls.problems(job) if "state" not in fault]
    assert wrong == []


@pytest.fixture
def tricky() -> list[Schedule]:
    return [
        schedule("templates", description="${var.x} %{ if } <b> \u00fc"),
        schedule("days", expression=Cron("0 0 13 * FRI"), timezone="Pacific/Auckland"),
        schedule("off", enabled=False, jitter=timedelta(minutes=5)),
        schedule("often", expression=Every(timedelta(minutes=1)), missed_run_policy="catchUp"),
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_terraform_takes_the_resources(target: str, tricky: list[Schedule]):
    [file] = [
        each
        for each in compiled(*tricky, asked=request(target)).artifacts
        if each.path == "main.tf.json"
    ]
    assert terraform.problems(file.text) == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_calls_can_be_made_and_read_back(target: str, tricky: list[Schedule]):
    made = calls(compiled(*tricky, asked=request(target)))
    with google_calls.serve() as server:
        for each in made:
            if each["operation"] == "CreateJob":
                job = each["request"]["job"]
                sent = google_calls.send(server, each["request"]["parent"], job)
                assert sent == {**job, "state": "ENABLED"} | _without_zeros(job)
        assert len(server.jobs) == sum(each["operation"] == "CreateJob" for each in made)


def _without_zeros(job: Mapping[str, Any]) -> dict[str, Any]:
    """The retry settings as protobuf's JSON has them: a zero is left out."""
    return {"retryConfig": {key: each for key, each in job["retryConfig"].items() if each}}


def test_a_disabled_schedule_is_paused_once_it_is_there():
    made = calls(compiled(schedule("x"), schedule("y", enabled=False)))
    assert [each["operation"] for each in made] == ["CreateJob", "CreateJob", "PauseJob"]
    pause = made[2]["request"]
    parsed = PauseJobRequest.wrap(ParseDict(pause, PauseJobRequest.pb(PauseJobRequest())))
    assert parsed.name == made[1]["request"]["job"]["name"]
    assert google_calls.job(made[1]["request"]["job"]).state == Job.State.STATE_UNSPECIFIED


def test_both_files_say_the_same(tricky: list[Schedule]):
    compilation = compiled(*tricky)
    [file] = [each for each in compilation.artifacts if each.path == "main.tf.json"]
    resources = json.loads(file.text)["resource"]["google_cloud_scheduler_job"].values()
    made = {job["name"]: job for job in jobs(compilation)}
    assert len(resources) == len(made)
    for each in resources:
        job = made[f"projects/{each['project']}/locations/{each['region']}/jobs/{each['name']}"]
        assert each["schedule"] == job["schedule"]
        assert each["time_zone"] == job["timeZone"]
        assert each["paused"] == (job.get("state") == "PAUSED")
        assert each["attempt_deadline"] == job["attemptDeadline"]
        assert each["retry_config"]["retry_count"] == job["retryConfig"]["retryCount"]
        assert each["http_target"]["headers"] == job["httpTarget"]["headers"]
        assert each["http_target"]["oidc_token"]["audience"] == INGRESS["url"]
        plain = each["description"].replace("$${", "${").replace("%%{", "%{")
        assert plain == job["description"]


def test_an_http_job_calls_the_schedules_address_and_names_no_time():
    compilation = compiled(schedule())
    [job] = jobs(compilation)
    target = job["httpTarget"]
    assert target["uri"] == f"{INGRESS['url']}/triggers/S.v1.x"
    assert target["oidcToken"] == {"serviceAccountEmail": ACCOUNT, "audience": INGRESS["url"]}
    assert not {"ce-time", "ce-id"} & set(target["headers"])
    told = {"ce-id": "made of the two", "ce-time": "2027-03-01T04:00:00Z"}
    trigger = Trigger.from_headers({**target["headers"], **told}, b"")
    assert trigger.schedule_id == "S.v1.x"
    assert trigger.fingerprint == compilation.placed[0].fingerprint
    assert trigger.source == f"cloud-scheduler/{PARENT}/jobs/S-v1-x"
    assert not trigger.has_data


def test_the_audience_can_be_another():
    target = {**TARGETS["http"], "audience": "triggers"}
    job = only(schedule(), asked=request(target=target))
    assert job["httpTarget"]["oidcToken"]["audience"] == "triggers"


def slots(job: Mapping[str, Any]) -> SlotGrid:
    period, _, phase = job["pubsubTarget"]["attributes"]["ce-puristaslots"].partition("+")
    return SlotGrid(int(period), int(phase))


def test_a_message_says_where_its_slots_lie():
    job = only(schedule(expression=Cron("30 9,17 * * *")), asked=request("pubsub"))
    assert slots(job) == SlotGrid(28800, 5400)
    assert job["pubsubTarget"]["topicName"] == "projects/shop-123456/topics/triggers"
    assert "attemptDeadline" not in job
    assert attributes(job)["ce-subject"] == "S.v1.x"


def test_a_grid_is_that_of_its_own_line():
    asked = replace(request("pubsub"), exact_native=True)
    found = jobs(compiled(schedule(expression=Every(timedelta(minutes=90))), asked=asked))
    assert [slots(job) for job in found] == [SlotGrid(10800, 0), SlotGrid(10800, 5400)]


def test_a_receiver_finds_every_slot_of_a_message_that_is_published_late():
    for job in jobs(compiled(*contracts(), asked=request("pubsub"))):
        grid = slots(job)
        late = [timedelta(0), timedelta(seconds=grid.period - 1)]
        retry = job["retryConfig"]
        if retry["retryCount"]:
            late.append(timedelta(seconds=int(retry["maxRetryDuration"][:-1])))
        for at in sorted(fired(job, cloud_scheduler.Reading()))[:50]:
            assert {grid.slot(at + each) for each in late} == {at}


@pytest.mark.parametrize("target", TARGETS)
def test_retries_end_before_the_next_time_of_the_job_by_either_reading(target: str):
    for job in jobs(compiled(*contracts(), asked=request(target))):
        found = sorted(fired(job, cloud_scheduler.Reading()))
        gap = min((b - a for a, b in pairwise(found)), default=timedelta(1))
        retry = job["retryConfig"]
        deadline = int(job.get("attemptDeadline", "0s")[:-1])
        assert timedelta(seconds=deadline) < gap
        if not retry["retryCount"]:
            continue
        pauses = int(retry["minBackoffDuration"][:-1]) * (2 ** retry["retryCount"] - 1)
        by_count = pauses + deadline * (retry["retryCount"] + 1)
        by_duration = int(retry["maxRetryDuration"][:-1]) + deadline
        assert timedelta(seconds=max(by_count, by_duration)) < gap


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"misfire_grace": timedelta(minutes=10)}, 600),
        ({"misfire_grace": timedelta(0)}, 0),
        ({"missed_run_policy": "catchUp", "catch_up_window": timedelta(hours=3)}, 10_800),
        ({"missed_run_policy": "runOnce"}, 86_400),
        ({"expression": Cron("* * * * *")}, 60),
    ],
)
def test_a_trigger_is_tried_while_it_is_worth_something(options: dict[str, Any], seconds: int):
    job = only(schedule(**options))
    retry = job["retryConfig"]
    tried = int(retry.get("maxRetryDuration", "0s")[:-1])
    deadline = int(job["attemptDeadline"][:-1])
    assert tried + deadline <= max(seconds, 15)
    assert (retry["retryCount"] > 0) == (seconds > 0)


@given(
    st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=30)),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9)),
)
def test_all_attempts_fit_into_the_room_that_there_is(room: timedelta, grace: timedelta):
    found = retry_of(schedule(misfire_grace=grace), room)
    assert 15 <= found.deadline <= 180
    assert 0 <= found.retries <= 5
    pauses = found.backoff * (2**found.retries - 1)
    assert timedelta(seconds=pauses + found.deadline * (found.retries + 1)) < max(
        room, timedelta(seconds=16)
    )


@pytest.mark.parametrize(
    ("text", "zone", "gap"),
    [
        ("0 4 * * *", "UTC", timedelta(days=1)),
        ("*/7 * * * *", "UTC", timedelta(minutes=4)),
        ("0 0,23 * * *", "UTC", timedelta(hours=1)),
        ("0 4 * * *", "Europe/Berlin", timedelta(hours=23)),
        ("0 1,4 * * *", "Australia/Lord_Howe", timedelta(hours=2, minutes=30)),
        ("* 9 * * *", "Europe/Berlin", timedelta(minutes=1)),
    ],
)
def test_a_gap_of_a_line_is_never_longer_than_its_shortest(text: str, zone: str, gap: timedelta):
    assert line_gap(Line(Cron(text), zone), default_horizon(START)) == gap


@pytest.mark.parametrize("policy", ["runOnce", "catchUp"])
def test_what_is_missed_is_a_finding_unless_the_ingress_recovers(policy: str):
    one = schedule(missed_run_policy=policy)
    found = findings(one, request(ingress={"url": INGRESS["url"]}))
    assert list(found) == [f"missed-run-policy-{policy.lower()}"]
    assert "5 times, for 86219 seconds" in found[f"missed-run-policy-{policy.lower()}"].message
    assert findings(one) == {}


def test_jitter_is_a_finding():
    found = findings(schedule(jitter=timedelta(minutes=5)))
    assert list(found) == ["jitter"]
    assert "2027-01-01T04:00:00Z" in found["jitter"].example


def test_an_address_that_is_too_long_is_a_finding():
    long = {"url": f"https://x.example/{'y' * 2100}"}
    found = findings(schedule(), request(ingress=long))["limit-uri"]
    assert found.leaves_out
    assert "2083" in found.message
    assert findings(schedule(), request("pubsub", ingress=long)) == {}


def test_a_long_description_is_cut_off_and_that_is_a_finding():
    one = schedule(description="y" * 600, jitter=timedelta(minutes=1))
    assert "500" in findings(one)["limit-description"].message
    description = only(one)["description"]
    assert len(description) == 500
    assert "accepted=jitter,limit-description" in description
    room = 500 - len("purista: S.v1.x 0123456789abcdef - ")
    assert findings(schedule(description="y" * room)) == {}
    assert "limit-description" in findings(schedule(description="y" * (room + 1)))


def test_a_second_line_is_a_job_whose_name_no_other_job_has():
    and_last = {"expression": Cron("0 9 1,L * *")}
    made = jobs(compiled(schedule("x", **and_last), schedule("x-2"), schedule("x.2")))
    names = Counter(each["name"].rpartition("/")[2] for each in made)
    assert set(names.values()) == {1}
    by_id = Counter(attributes(each)["ce-subject"] for each in made)
    assert by_id["S.v1.x-2"] == by_id["S.v1.x.2"] == 1


def test_more_jobs_than_the_usual_quota_are_a_finding_with_the_number():
    many = [schedule(f"n{number}") for number in range(1001)]
    _, [found] = place(SCHEDULER, many, request())
    assert (found.code, found.schedule_id) == ("limit-number", "")
    assert found.message.startswith("1,001 objects are needed; it holds 1,000 jobs of a project")
    assert found.example == "'S.v1.n999' is due at 2027-01-01T04:00:00Z, and has no object"
    assert place(SCHEDULER, many[:1000], request())[1] == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"project": "Shop"}, "project"),
        ({"location": "europe"}, "location"),
        ({"target": {"kind": "http"}}, "target.http.service_account_email"),
        ({"target": {"kind": "pubsub", "topic": "a/b"}}, "target.pubsub.topic"),
        ({"target": {"kind": "lambda"}}, "target"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], place: str):
    right = {"project": "shop-123456", "location": "europe-west3", "target": TARGETS["http"]}
    CloudSchedulerSettings.model_validate(right)
    with pytest.raises(ValidationError) as refused:
        CloudSchedulerSettings.model_validate({**right, **change})
    assert place in [".".join(map(str, each["loc"])) for each in refused.value.errors()]


def test_findings_refuse():
    with pytest.raises(PortabilityError, match="jitter"):
        compile_schedules(SCHEDULER, [schedule(jitter=timedelta(minutes=5))], request())


@pytest.mark.parametrize("target", TARGETS)
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
