"""Plan, apply and drift against an API server for CronJobs, over the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from kubernetes.client import ApiException, BatchV1Api
from tests.engines import robfig
from tests.engines.kubernetes_api import NAMESPACE, Call, KubernetesServer, kubernetes_server
from tests.engines.kubernetes_objects import cron_mistake
from tests.engines.robfig import RobfigCase
from tests.engines.sender import run as run_script
from tests.live_suite import PAUSED, TOLD, PausingShop, PausingSuite, with_options
from tests.planned import DAILY, HOURLY, MOVED, Capture, in_folder
from tests.test_schedulers_kubernetes import environment_of, expanded, schedule

from purista.clockchange import Timing
from purista.compiling import Request, compile_schedules, default_horizon, place
from purista.contract import Schedule
from purista.errors import ExpressionError
from purista.expression import Cron, Every, Once
from purista.plan import Desired, Observed, Plan, Planner
from purista.schedulers.kubernetes import SCHEDULER, KubernetesSettings
from purista.settings import IngressSettings
from purista.sync import FireTimes, Foreign, Imports, Pauses, SyncError, Triggers, apply_plan
from purista.sync.kubernetes import KubernetesCronJobs, open_live
from purista.sync.kubernetes_api import KubernetesApi, Refusal, connected
from purista.sync.kubernetes_object import APPLIED, DEPLOYMENT, PLACES, written
from purista.sync.kubernetes_times import cron_of
from purista.testing.corpus import contracts

NAME = "shop-v1-daily"
SETTINGS = f"""
[kubernetes]
namespace = "{NAMESPACE}"
image = "curlimages/curl:8.17.0"

[ingress]
url = "https://triggers.example.com"
"""
MANY = [HOURLY.replace("hourly", f"hourly{number}") for number in range(25)]
REQUEST = Request(
    KubernetesSettings(**SCHEDULER.sample),
    IngressSettings(url="https://triggers.example.com", recovery="ingress"),
    default_horizon(datetime(2027, 1, 1, tzinfo=UTC)),
)
YEAR = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
Document = dict[str, Any]


class Shop(PausingShop):
    """A shop with a server of its own."""

    def __init__(
        self,
        folder: Path,
        capsys: Capture,
        server: KubernetesServer,
        deployment: str = "default",
    ) -> None:
        super().__init__("kubernetes", folder, capsys, deployment)
        self.server = server

    def name(self, schedule: str) -> str:
        prefix = "" if self.deployment == "default" else f"{self.deployment}-"
        return f"{prefix}shop-v1-{schedule}"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.server, "staging")

    def held(self) -> dict[str, Any]:
        """Return what persons and purista say of each CronJob; that one was resumed is no difference."""
        return {name: said(self.server.get(name)) for name in self.server.names()}

    def take(self, schedule: str) -> None:
        self.server.make(theirs(self.name(schedule)))

    def move(self, schedule: str) -> str:
        self.server.edit(self.name(schedule), spec_set(schedule="0 7 * * *"))
        return "schedule"

    def delete(self, schedule: str) -> None:
        self.server.remove(self.name(schedule))

    def pause(self, schedule: str) -> None:
        self.server.edit(self.name(schedule), spec_set(suspend=True))

    def resume(self, schedule: str) -> None:
        self.server.edit(self.name(schedule), spec_set(suspend=False))

    def call_via(self, schedule: str) -> tuple[int, str, str]:
        """Let a schedule fire now."""
        return self.run("trigger", "shop:shop", "--via", "kubernetes", "-s", schedule)

    def changes(self) -> list[Call]:
        return [each for each in self.server.calls if each.is_change]


def said(document: Document) -> Document:
    """Return a document without what the server alone says; the order of variables says nothing."""
    metadata = {
        name: value
        for name, value in document["metadata"].items()
        if name in ("name", "labels", "annotations", "finalizers", "deletionTimestamp")
    }
    if not document["spec"]["suspend"] and "annotations" in metadata:
        metadata["annotations"].pop("purista.dev/last-action", None)
    if "env" in trigger_of(document):
        sorted_env(document)
    return {"metadata": metadata, "spec": document["spec"]}


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("purista.sync.retrying.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("purista.sync.retrying.LONGEST_PAUSE", 0.002)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    with kubernetes_server() as found:
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig(tmp_path)))
        yield found


@pytest.fixture
def shop(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, server: KubernetesServer
) -> Iterator[Shop]:
    (tmp_path / "purista.toml").write_text(SETTINGS)
    with in_folder(tmp_path, monkeypatch):
        yield Shop(tmp_path, capsys, server)


def desired_of(*schedules: Schedule, deployment: str = "default") -> list[Desired]:
    placed = compile_schedules(SCHEDULER, schedules, REQUEST).placed
    return list(unconnected().desired(placed, REQUEST, deployment))


def unconnected() -> KubernetesCronJobs:
    api: Any = None
    return KubernetesCronJobs(api, NAMESPACE, REQUEST.horizon)


def with_live(work: Callable[[KubernetesCronJobs], Awaitable[Any]]) -> Any:
    """Do some work with an open scheduler."""

    async def do() -> Any:
        async with open_live(REQUEST) as live:
            return await work(live)

    return asyncio.run(do())


def observed(*names: str, deployment: str = "default") -> list[Observed]:
    async def work(live: KubernetesCronJobs) -> list[Observed]:
        return [each async for each in live.observed(deployment, names)]

    found: list[Observed] = with_live(work)
    return found


async def plan_of(live: KubernetesCronJobs, wanted: Sequence[Desired], *overrides: str) -> Plan:
    planner = Planner("kubernetes", "default", wanted, overrides=frozenset(overrides))
    async for each in live.observed("default", {one.name for one in wanted}):
        planner.see(each)
    return planner.plan()


def planned(wanted: Sequence[Desired], *overrides: str) -> Plan:
    found: Plan = with_live(lambda live: plan_of(live, wanted, *overrides))
    return found


def errors_of_applying(wanted: Sequence[Desired], *overrides: str) -> list[str]:
    """Plan and apply as the command line does; return what went wrong."""

    async def work(live: KubernetesCronJobs) -> list[str]:
        results = await apply_plan(await plan_of(live, wanted, *overrides), live)
        return [each.error for each in results if each.error]

    try:
        found: list[str] = with_live(work)
    except SyncError as error:
        return [str(error)]
    return found


def apply(wanted: Sequence[Desired], *overrides: str) -> None:
    assert errors_of_applying(wanted, *overrides) == []


def kept_of(plan: Plan) -> dict[str, Any]:
    assert plan.is_empty
    return {one.name: one.before for each in plan.kept for one in each.kept}


def is_settled(wanted: Sequence[Desired]) -> bool:
    plan = planned(wanted)
    return plan.is_empty and not plan.kept and plan.unchanged == len(wanted)


def create(one: Desired) -> None:
    with_live(lambda live: live.create(one, one.fields))


def delete(there: Observed, _: Desired) -> None:
    with_live(lambda live: live.delete(there))


def update(there: Observed, one: Desired) -> None:
    with_live(lambda live: live.update(there, one, one.fields))


def pod_of(document: Document) -> Document:
    found: Document = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def trigger_of(document: Document) -> Document:
    found: Document = pod_of(document)["containers"][0]
    return found


def spec_set(**values: Any) -> Callable[[Document], None]:
    return lambda document: document["spec"].update(values)


def variable_set(name: str, **values: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        variables = trigger_of(document)["env"]
        variables[:] = [each for each in variables if each["name"] != name]
        if values:
            variables.append({"name": name, **values})

    return change


def theirs(name: str = "theirs", text: str = "0 5 * * *", **more: Any) -> Document:
    containers = [{"name": "x", "image": "example.com/report:1"}]
    job = {"template": {"spec": {"restartPolicy": "OnFailure", "containers": containers}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": text, "jobTemplate": {"spec": job}, **more},
    }


def with_hint(text: str) -> str:
    """Return the daily schedule with settings of its own."""
    return with_options(f"provider_hints={{'kubernetes': {{{text}}}}}")


class TestKubernetes(PausingSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"schedule"},
        TOLD: {"description"},
        PAUSED: {"paused"},
        with_options('timezone="Europe/Berlin"'): {"timezone"},
        with_options("jitter=timedelta(seconds=30)"): {"activeDeadlineSeconds", "environment"},
        with_options('concurrency_policy="forbid"'): {"concurrencyPolicy"},
        with_options("misfire_grace=timedelta(hours=2)"): {
            "activeDeadlineSeconds",
            "environment",
            "startingDeadlineSeconds",
        },
        with_options("run_timeout=timedelta(hours=3)"): {"fingerprint"},
        DAILY.replace("**options", '**{**options, "missed_run_policy": "runOnce"}'): {
            "activeDeadlineSeconds",
            "environment",
            "startingDeadlineSeconds",
        },
        with_hint("'service_account': 'a'"): {"serviceAccountName"},
        with_hint("'image': 'curl:9'"): {"image"},
        with_hint("'bearer': {'name': 'a', 'key': 'b'}"): {"environment"},
    }


# What is written


def test_it_can_do_all_that_a_live_scheduler_may() -> None:
    for port in (Pauses, Triggers, FireTimes, Imports):
        assert isinstance(unconnected(), port)


def test_what_is_written_is_the_artifact_with_the_deployment_beside_it() -> None:
    made = [replace(each, missed_run_policy="skip") for each in contracts()]
    accepted = {found.code for found in place(SCHEDULER, made, REQUEST)[1]}
    request = replace(REQUEST, accepted=frozenset(accepted))
    compilation = compile_schedules(SCHEDULER, made, request)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    artifacts = [
        document
        for each in compilation.artifacts
        for document in yaml.load_all(each.text, Loader=loader)
    ]
    for artifact, one in zip(
        artifacts, unconnected().desired(compilation.placed, request, "prod"), strict=True
    ):
        found = written(one, one.fields, NAMESPACE)
        assert found["metadata"]["labels"].pop(DEPLOYMENT) == "prod"
        assert set(json.loads(found["metadata"]["annotations"].pop(APPLIED))) == {*one.fields} - {
            "problem"
        }
        assert sorted_env(found) == sorted_env(artifact)


def sorted_env(document: Document) -> Document:
    trigger_of(document)["env"].sort(key=lambda each: each["name"])
    return document


def test_a_field_that_is_not_said_is_none_so_that_one_that_a_person_adds_is_seen() -> None:
    [one] = desired_of(schedule("0 4 * * *", missed_run_policy="runOnce"))
    assert one.fields["startingDeadlineSeconds"] is None
    assert set(one.fields) == {*PLACES, "environment", "problem"}


# Plan, apply, drift


def test_whose_a_cronjob_is_stands_in_its_labels(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    labels = shop.server.get(NAME)["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/managed-by": "purista", DEPLOYMENT: "default"}


def test_an_expression_and_a_description_change_by_themselves(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    for text, field in (
        (MOVED, "schedule"),
        (MOVED.replace('y"', 'y", "Each night"'), "description"),
    ):
        shop.write(text)
        [change] = shop.plan()["changes"]
        assert [one["name"] for one in change["fields"]] == [field]
        shop.apply()
        assert shop.call("drift")[0] == 0
    shop.write(MOVED)
    shop.apply()
    assert "purista.dev/description" not in shop.server.get(NAME)["metadata"]["annotations"]


def test_the_version_that_the_container_tells_is_that_of_the_contract(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.write(MOVED)
    shop.apply()
    document = shop.server.get(NAME)
    told = document["metadata"]["annotations"]["purista.dev/fingerprint"]
    assert environment_of(document, "x")["PURISTA_FINGERPRINT"] == told
    shop.server.edit(NAME, variable_set("PURISTA_FINGERPRINT", value="x"))
    assert shop.kept()["environment"]["PURISTA_FINGERPRINT"] == "x"
    shop.apply("--override", "Shop.v1.daily")
    assert environment_of(shop.server.get(NAME), "x")["PURISTA_FINGERPRINT"] == told


EDITS: dict[str, tuple[Callable[[Document], Any], str]] = {
    "suspend": (spec_set(suspend=True), "paused"),
    "schedule": (spec_set(schedule="0 7 * * *"), "schedule"),
    "zone": (spec_set(timeZone="Asia/Tokyo"), "timezone"),
    "no zone": (lambda document: document["spec"].pop("timeZone"), "timezone"),
    "policy": (spec_set(concurrencyPolicy="Replace"), "concurrencyPolicy"),
    "deadline": (spec_set(startingDeadlineSeconds=77), "startingDeadlineSeconds"),
    "no deadline": (
        lambda document: document["spec"].pop("startingDeadlineSeconds"),
        "startingDeadlineSeconds",
    ),
    "history": (spec_set(failedJobsHistoryLimit=9), "failedJobsHistoryLimit"),
    "image": (lambda document: trigger_of(document).update(image="curl:1"), "image"),
    "limit": (
        lambda document: trigger_of(document)["resources"]["limits"].update(cpu="1"),
        "resources",
    ),
    "variable": (variable_set("EXTRA", value="1"), "environment"),
    "other variable": (variable_set("PURISTA_URL", value="https://x.example.com"), "environment"),
    "no variable": (variable_set("PURISTA_JITTER"), "environment"),
    "reference": (
        variable_set("PURISTA_URL", valueFrom={"secretKeyRef": {"name": "a", "key": "b"}}),
        "environment",
    ),
    "account": (
        lambda document: pod_of(document).update(serviceAccountName="x"),
        "serviceAccountName",
    ),
    "description": (
        lambda document: document["metadata"]["annotations"].update(
            {"purista.dev/description": "by hand"}
        ),
        "description",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_person_changed_is_kept_through_updates_until_it_is_taken_back(
    server: KubernetesServer, edit: str
) -> None:
    change, field = EDITS[edit]
    one = schedule("0 2 * * *")
    wanted = desired_of(one)
    apply(wanted)
    before = sorted_env(server.get("s-v1-x"))
    server.edit("s-v1-x", change)
    kept = kept_of(planned(wanted))
    assert set(kept) == {field}
    other = {"concurrency_policy": "forbid"} if field == "paused" else {"enabled": False}
    for update in (desired_of(replace(one, **other)), wanted):
        apply(update)
        assert kept_of(planned(update)) == kept
    apply(wanted, f"S.v1.x:{field}")
    assert is_settled(wanted)
    after = sorted_env(server.get("s-v1-x"))
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


def test_a_service_account_that_the_settings_leave_out_goes(shop: Shop) -> None:
    settings = shop.folder / "purista.toml"
    shop.write(DAILY)
    settings.write_text(SETTINGS.replace("[ingress]", 'service_account = "old"\n[ingress]'))
    shop.apply()
    assert pod_of(shop.server.get(NAME))["serviceAccount"] == "old"
    settings.write_text(SETTINGS.replace("[ingress]", 'service_account = "new"\n[ingress]'))
    shop.apply()
    assert (pod_of(shop.server.get(NAME))["serviceAccount"], shop.is_done()) == ("new", True)
    settings.write_text(SETTINGS)
    shop.apply()
    assert shop.is_done()
    assert {"serviceAccount", "serviceAccountName"}.isdisjoint(pod_of(shop.server.get(NAME)))


def test_a_deadline_that_a_person_adds_where_the_contract_has_none_is_seen(shop: Shop) -> None:
    shop.write(DAILY.replace("**options", "**{**options, 'missed_run_policy': 'runOnce'}"))
    shop.apply()
    shop.server.edit(NAME, spec_set(startingDeadlineSeconds=5))
    assert shop.kept() == {"startingDeadlineSeconds": 5}
    shop.apply("--override", "Shop.v1.daily")
    assert "startingDeadlineSeconds" not in shop.server.get(NAME)["spec"]


def test_what_stands_beside_our_fields_is_no_difference_and_stays(shop: Shop) -> None:
    def change(document: Document) -> None:
        document["metadata"]["labels"]["team"] = "money"
        document["metadata"]["annotations"]["note"] = "x"
        document["metadata"]["finalizers"] = ["example.com/hold"]
        pod_of(document)["nodeSelector"] = {"disk": "ssd"}
        pod_of(document)["containers"].append({"name": "sidecar", "image": "side:1"})
        pod_of(document)["dnsPolicy"] = "Default"

    shop.write(DAILY)
    shop.apply()
    shop.server.edit(NAME, change)
    assert shop.call("drift")[0] == 0
    shop.write(MOVED)
    shop.apply()
    shop.server.edit(NAME, variable_set("EXTRA", value="1"))
    shop.apply("--override", "Shop.v1.daily")
    assert {each.method for each in shop.changes()} == {"POST", "PATCH", "PUT"}
    found = shop.server.get(NAME)
    assert found["metadata"]["labels"]["team"] == "money"
    assert found["metadata"]["annotations"]["note"] == "x"
    assert found["metadata"]["finalizers"] == ["example.com/hold"]
    assert pod_of(found)["nodeSelector"] == {"disk": "ssd"}
    assert [each["name"] for each in pod_of(found)["containers"]] == ["trigger", "sidecar"]
    assert shop.call("drift")[0] == 0


def test_an_update_is_an_apply_that_takes_only_what_it_changes_from_other_managers(
    shop: Shop,
) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.edit(NAME, spec_set(suspend=True, schedule="0 7 * * *"))
    assert held_by(shop.server.get(NAME), "kubectl-edit") == {"f:suspend", "f:schedule"}
    shop.write(MOVED)
    shop.apply()
    found = shop.server.get(NAME)
    assert (found["spec"]["suspend"], found["spec"]["schedule"]) == (True, "0 3 * * *")
    assert held_by(found, "kubectl-edit") == {"f:suspend"}
    [call] = [each for each in shop.changes() if each.method == "PATCH"]
    assert call.query == {"fieldManager": "purista", "force": "true"}
    assert {"uid", "resourceVersion"} <= call.body["metadata"].keys()


def held_by(document: Document, manager: str) -> set[str]:
    return {
        name
        for each in document["metadata"]["managedFields"]
        if each["manager"] == manager
        for name in each["fieldsV1"].get("f:spec", {})
    }


def test_what_kubectl_applied_of_an_artifact_is_ours_once_it_has_the_label(shop: Shop) -> None:
    shop.write(DAILY)
    [one] = desired_of(schedule("0 2 * * *"))
    document = written(one, one.fields, NAMESPACE)
    document["metadata"]["name"] = NAME
    document["metadata"]["annotations"]["purista.dev/schedule"] = "Shop.v1.daily"
    del document["metadata"]["labels"][DEPLOYMENT], document["metadata"]["annotations"][APPLIED]
    shop.server.make(document)
    assert shop.call("plan")[0] == 1
    shop.server.edit(NAME, lambda held: held["metadata"]["labels"].update({DEPLOYMENT: "default"}))
    assert shop.actions() == [("update", NAME)]
    shop.apply()
    assert shop.call("drift")[0] == 0


def test_what_is_not_ours_stays_as_it_is(shop: Shop) -> None:
    shop.server.make(theirs())
    before = shop.server.get("theirs")
    for text in (DAILY, MOVED):
        shop.write(text)
        shop.apply()
    shop.write()
    shop.apply("--force")
    assert shop.server.names() == ["theirs"]
    assert shop.server.get("theirs") == before


def test_a_cronjob_that_the_server_refuses_is_told_and_the_others_are_made(shop: Shop) -> None:
    wrong = 'provider_hints={"kubernetes": {"service_account": "payer"}}, '
    shop.write(DAILY.replace("**options", f"{wrong}**options"), HOURLY)
    shop.server.trouble(
        "error", times=99, only=lambda call: call.is_change and "daily" in str(call.body)
    )
    code, _, err = shop.call("apply")
    assert (code, "1 change made, 1 failed" in err) == (75, True)
    assert shop.server.names() == ["shop-v1-hourly"]
    shop.server.at_peace()
    shop.apply()
    assert shop.actions() == []


def test_a_value_that_a_person_put_there_is_told_by_its_digest_and_stays(shop: Shop) -> None:
    def change(document: Document) -> None:
        for name in ("API_TOKEN", "PURISTA_BEARER", "PURISTA_API_KEY"):
            variable_set(name, value="hunter2")(document)
        variable_set("KEY", valueFrom={"secretKeyRef": {"name": "a", "key": "b"}})(document)

    shop.write(DAILY)
    shop.apply()
    shop.server.edit(NAME, change)
    for options in ([], ["--json"], ["--markdown", "-"], ["--out", "plan.json"]):
        _, out, err = shop.call("plan", *options)
        assert "hunter2" not in out + err
    assert "hunter2" not in (shop.folder / "plan.json").read_text()
    kept = shop.kept()["environment"]
    assert (kept["API_TOKEN"], kept["KEY"]) == (
        "(hidden: f52fbd32)",
        {"secretKeyRef": {"name": "a", "key": "b"}},
    )
    for text in (MOVED, with_hint("'service_account': 'a'"), MOVED):
        shop.write(text)
        shop.apply()
        assert shop.kept()["environment"] == kept
        there = environment_of(shop.server.get(NAME), "x")
        assert (there["API_TOKEN"], there["PURISTA_BEARER"]) == ("hunter2", "hunter2")
    shop.server.edit(NAME, variable_set("API_TOKEN", value="other"))
    assert shop.kept()["environment"] != kept
    shop.apply("--override", "Shop.v1.daily")
    assert "API_TOKEN" not in environment_of(shop.server.get(NAME), "x")
    assert shop.is_done()


# What is being deleted


def held_back(document: Document) -> None:
    document["metadata"]["finalizers"] = ["example.com/hold"]


def let_go(document: Document) -> None:
    document["metadata"]["finalizers"] = []


def test_what_is_being_deleted_is_told_and_made_anew_once_it_is_gone(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.edit(NAME, held_back)
    assert shop.is_done()
    shop.delete("daily")
    held = shop.held()
    for text in (DAILY, MOVED):
        shop.write(text)
        assert shop.call("drift")[0] == 1
        (change,) = shop.plan()["changes"]
        assert change["fires"]["disappear"] == []
        (problem,) = [one for one in change["fields"] if one["name"] == "problem"]
        assert (problem["before"], problem["after"]) == ("it is being deleted", None)
        code, _, err = shop.call("apply")
        assert code == 75
        assert f"'{NAME}' is being deleted; apply again once it is gone" in " ".join(err.split())
    assert shop.held() == held
    shop.server.edit(NAME, let_go)
    assert shop.actions() == [("create", NAME)]
    shop.apply()
    assert shop.is_done()


def test_what_is_being_deleted_is_neither_paused_nor_resumed_nor_triggered(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.edit(NAME, held_back)
    shop.delete("daily")
    held = shop.held()
    for code, _, err in (
        shop.call("pause", "-s", "daily", "--reason", "x"),
        shop.call("resume", "-s", "daily"),
        shop.call_via("daily"),
    ):
        assert (code, "is being deleted" in " ".join(err.split())) == (75, True)
    assert shop.held() == held
    assert shop.server.names("jobs") == []


@pytest.mark.parametrize("kind", ["", "drop after"])
def test_what_a_finalizer_holds_back_is_deleted_once(server: KubernetesServer, kind: Any) -> None:
    [one] = desired_of(schedule("0 4 * * *"))
    create(one)
    server.edit(one.name, held_back)
    for _ in range(2):
        [there] = observed()
        if kind:
            server.trouble(kind, only=lambda call: call.method == "DELETE")
        delete(there, one)
        assert server.names() == [one.name]
    server.edit(one.name, let_go)
    assert server.names() == []


# What a webhook makes of it


def raised(document: Document) -> None:
    """Change a CronJob as GKE Autopilot does: requests have a least, and are the limits."""
    if document["kind"] == "CronJob":
        resources = trigger_of(document).setdefault("resources", {})
        requests = {**resources.get("requests", {}), "ephemeral-storage": "1Gi"}
        requests |= {"cpu": "50m", "memory": "52Mi"}
        resources |= {"requests": requests, "limits": dict(requests)}
        trigger_of(document)["securityContext"]["capabilities"]["drop"] = ["NET_RAW"]


def test_what_a_webhook_makes_of_our_values_is_no_change_by_hand(shop: Shop) -> None:
    shop.server.webhook = raised
    shop.write(DAILY)
    for text in (DAILY, MOVED, with_hint("'service_account': 'a'"), DAILY):
        shop.write(text)
        shop.apply()
        assert shop.is_done()
        assert trigger_of(shop.server.get(NAME))["resources"]["requests"]["cpu"] == "50m"
    assert shop.call("drift")[0] == 0
    shop.server.edit(
        NAME, lambda document: trigger_of(document)["resources"].update(claims=[{"name": "x"}])
    )
    assert shop.kept().keys() == {"resources"}
    shop.write(MOVED)
    shop.apply()
    assert shop.kept().keys() == {"resources"}
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()
    shop.server.webhook = lambda document: None
    shop.write(DAILY)
    shop.apply()
    assert shop.is_done()


@pytest.mark.parametrize("kind", ["drop before", "drop after", "error"])
def test_an_answer_that_is_lost_is_no_change_by_hand_where_a_webhook_changes_values(
    server: KubernetesServer, kind: Any
) -> None:
    server.webhook = raised
    fail_once_at_every_call(server, kind)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (spec_set(suspend=True), "paused"),
        (spec_set(schedule="0 7 * * *"), "schedule"),
        (variable_set("PURISTA_URL", value="https://x.example.com"), "environment"),
    ],
)
def test_a_webhook_that_changes_when_or_what_is_sent_is_seen(
    shop: Shop, change: Callable[[Document], None], field: str
) -> None:
    shop.server.webhook = change
    shop.write(DAILY)
    shop.apply()
    assert shop.kept().keys() == {field}
    assert shop.call("drift")[0] == 1


def test_where_a_webhook_runs_in_no_dry_run_what_it_makes_is_seen(shop: Shop) -> None:
    shop.server.webhook, shop.server.webhook_runs_dry = raised, False
    shop.write(DAILY)
    shop.apply()
    assert shop.kept().keys() == {"resources", "securityContext"}


# Quotas


def is_for_jobs(call: Call) -> bool:
    return call.path.endswith("/jobs")


def is_creation(call: Call) -> bool:
    return call.method == "POST"


def test_what_a_quota_that_changed_refused_is_asked_for_again(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    shop.server.trouble("quota changed", times=5, only=is_creation)
    shop.apply()
    assert shop.is_done()
    shop.server.trouble("quota changed", times=7, only=is_for_jobs)
    code, _, err = shop.call_via("daily")
    assert (code, len(shop.server.names("jobs"))) == (0, 1), err


def test_a_quota_that_changes_on_and_on_is_told(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.server.trouble("quota changed", times=999, only=is_creation)
    shop.write(DAILY, HOURLY)
    for code, _, err in (shop.call_via("daily"), shop.call("apply")):
        text = " ".join(err.split())
        assert (code, "cannot be fulfilled on resourcequotas" in text) == (75, True)
        assert "made meanwhile" not in text
    assert (shop.server.names("jobs"), shop.server.names()) == ([], [NAME])


def test_a_quota_that_is_exceeded_is_no_missing_right(shop: Shop) -> None:
    shop.write(DAILY)
    shop.server.trouble("quota exceeded", times=99, only=is_creation)
    code, _, err = shop.call("apply")
    text = " ".join(err.split())
    assert (code, "exceeded quota: billing" in text, "it needs" in text) == (75, True, False)


def test_a_creation_whose_answer_was_lost_is_found_where_the_quota_is_full_by_then(
    server: KubernetesServer,
) -> None:
    [one] = desired_of(schedule("0 4 * * *"))
    server.trouble("drop after", only=is_creation_for_real)
    server.trouble("quota exceeded", only=is_creation_for_real)
    create(one)
    assert is_settled([one])


def is_creation_for_real(call: Call) -> bool:
    return is_creation(call) and call.is_change


@pytest.mark.parametrize(
    "after", [("drop after", 1), ("error", 99), ("drop before", 99)], ids=lambda after: after[0]
)
def test_a_trigger_of_which_it_is_not_known_whether_it_fired_says_so(
    shop: Shop, after: tuple[Any, int]
) -> None:
    shop.write(DAILY)
    shop.apply()
    kind, times = after
    shop.server.trouble(kind, times=times, only=is_for_jobs)
    shop.server.trouble("quota exceeded", only=is_for_jobs)
    code, _, err = shop.call_via("daily")
    text = " ".join(err.split())
    assert code == 75
    assert f"it may have been made nevertheless; see kubectl -n billing get job {NAME}-x" in text


# Interruptions


def half_way(server: KubernetesServer) -> list[Desired]:
    """Let there be something to create, to update in both ways, and to delete."""
    for name in server.names():
        server.remove(name)
    old = [schedule("0 2 * * *", name=name) for name in ("a", "b", "gone")]
    apply(desired_of(*old))
    server.edit("s-v1-b", variable_set("EXTRA", value="1"))
    either = Cron("0 6 L * MON#1", day_rule="or")
    return desired_of(schedule("0 3 * * *", name="a"), old[1], schedule(either, name="c"))


def fail_once_at_every_call(server: KubernetesServer, kind: Any) -> None:
    """Apply over and over, each time with trouble at another call; each apply completes."""
    for at in range(1, 40):
        wanted = half_way(server)
        before = len(server.calls)
        server.trouble(kind, at=at)
        apply(wanted, "S.v1.b")
        made = len(server.calls) - before
        server.at_peace()
        assert is_settled(wanted)
        if at > made:
            break
    assert 8 < made < at


@pytest.mark.parametrize("kind", ["drop before", "drop after", "error", "throttle"])
def test_a_call_that_fails_once_is_made_again(server: KubernetesServer, kind: Any) -> None:
    fail_once_at_every_call(server, kind)


@pytest.mark.parametrize("kind", ["drop before", "drop after"])
def test_an_apply_that_ends_at_any_call_is_completed_by_the_next(
    server: KubernetesServer, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    failures = 0
    for at in range(1, 40):
        wanted = half_way(server)
        with monkeypatch.context() as patch:
            patch.setattr("purista.sync.kubernetes_api.ATTEMPTS", 1)
            server.trouble(kind, at=at, times=99)
            errors = errors_of_applying(wanted, "S.v1.b")
        server.at_peace()
        failures += bool(errors)
        apply(wanted, "S.v1.b")
        assert is_settled(wanted)
        if not errors:
            break
    assert errors == []
    assert failures == at - 1 > 7


def test_throttling_that_does_not_end_is_told_and_a_rerun_completes(shop: Shop) -> None:
    shop.write(DAILY, HOURLY)
    shop.server.trouble("throttle", times=999, only=lambda call: call.is_change)
    code, _, err = shop.call("apply")
    assert code == 75
    assert "too many requests" in err
    assert shop.server.names() == []
    shop.server.at_peace()
    shop.apply()
    assert shop.actions() == []


def test_a_call_waits_as_long_as_the_server_asks_for(
    server: KubernetesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("purista.sync.retrying.LONGEST_PAUSE", 5.0)
    monkeypatch.setattr("purista.sync.kubernetes_api.asyncio.sleep", sleep)
    server.trouble("throttle", times=2)
    assert observed() == []
    assert waits == [1.0, 1.0]
    server.trouble("error", times=7)
    assert observed() == []
    assert 0 < waits[2] < waits[-1] < 1


# The versions of objects


def test_the_status_that_the_controller_writes_is_no_change(server: KubernetesServer) -> None:
    [one], [other] = desired_of(schedule("0 4 * * *")), desired_of(schedule("0 5 * * *"))
    create(one)
    [there] = observed()
    server.fire(one.name)
    update(there, other)
    assert server.get(one.name)["spec"]["schedule"] == "0 5 * * *"
    assert "lastScheduleTime" in server.get(one.name)["status"]
    [there] = observed()
    server.fire(one.name)
    with_live(lambda live: live.delete(there))
    assert server.names() == []
    options = server.calls[-1].body
    assert options["propagationPolicy"] == "Background"
    assert set(options["preconditions"]) == {"uid", "resourceVersion"}


def test_a_hidden_value_is_written_as_it_is_in_the_version_that_is_changed(
    server: KubernetesServer,
) -> None:
    [one], [other] = desired_of(schedule("0 4 * * *")), desired_of(schedule("0 5 * * *"))
    create(one)
    server.edit(one.name, variable_set("API_TOKEN", value="hunter2"))
    [there] = observed()
    kept = {**other.fields, "environment": there.fields["environment"]}
    server.fire(one.name)
    with_live(lambda live: live.update(there, other, kept))
    assert server.get(one.name)["spec"]["schedule"] == "0 5 * * *"
    assert environment_of(server.get(one.name), "x")["API_TOKEN"] == "hunter2"
    [there] = observed()
    server.edit(one.name, variable_set("API_TOKEN", value="hunter3"))
    with pytest.raises(SyncError, match="was changed or deleted meanwhile"):
        with_live(lambda live: live.update(there, one, kept))
    assert environment_of(server.get(one.name), "x")["API_TOKEN"] == "hunter3"


def test_a_conflict_that_does_not_end_is_told_as_the_server_tells_it(
    server: KubernetesServer,
) -> None:
    [one], [other] = desired_of(schedule("0 4 * * *")), desired_of(schedule("0 5 * * *"))
    create(one)
    [there] = observed()
    server.trouble("quota changed", times=99, only=lambda call: call.method == "PATCH")
    with pytest.raises(SyncError, match="cannot be fulfilled on resourcequotas"):
        update(there, other)


def made_anew(server: KubernetesServer, name: str) -> None:
    server.remove(name)
    server.make(theirs(name))


MEANWHILE: dict[str, Callable[[KubernetesServer, str], None]] = {
    "edited": lambda server, name: server.edit(name, spec_set(suspend=True)),
    "lost its marker": lambda server, name: server.edit(
        name, lambda document: document["metadata"].pop("labels")
    ),
    "another deployment's": lambda server, name: server.edit(
        name, lambda document: document["metadata"]["labels"].update({DEPLOYMENT: "other"})
    ),
    "made anew": made_anew,
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("way", ["apply", "put", "delete"])
def test_what_changed_since_it_was_observed_is_left_alone(
    server: KubernetesServer, meanwhile: str, way: str
) -> None:
    [one], [other] = desired_of(schedule("0 4 * * *")), desired_of(schedule("0 5 * * *"))
    if way == "put":
        one, other = other, replace(other, fields={**other.fields, "startingDeadlineSeconds": None})
    create(one)
    [there] = observed()
    MEANWHILE[meanwhile](server, one.name)
    before = server.get(one.name)
    change = delete if way == "delete" else update
    with pytest.raises(SyncError, match="was changed or deleted meanwhile; plan again"):
        change(there, other)
    assert server.get(one.name) == before


def test_what_is_gone_is_not_made_by_an_update_and_deleted_in_vain(
    server: KubernetesServer,
) -> None:
    [one] = desired_of(schedule("0 4 * * *"))
    create(one)
    [there] = observed()
    server.remove(one.name)
    with pytest.raises(SyncError, match="plan again"):
        update(there, one)
    with_live(lambda live: live.delete(there))
    assert server.names() == []


def test_a_create_never_takes_what_appeared_meanwhile(server: KubernetesServer) -> None:
    [one] = desired_of(schedule("0 4 * * *"))
    server.make(theirs(one.name))
    before = server.get(one.name)
    with pytest.raises(SyncError, match="was made meanwhile; plan again"):
        create(one)
    assert server.get(one.name) == before


# Lists


def test_lists_are_read_in_pages_and_begun_anew_when_the_server_forgot_them(shop: Shop) -> None:
    shop.write(*MANY)
    shop.apply()
    shop.server.make(theirs())
    shop.server.most = 4
    shop.server.expires = 3
    found = [each.name for each in observed()]
    assert found == sorted(found)
    assert len(set(found)) == len(found) == len(MANY)
    assert shop.server.expires == 0
    assert len(observed("theirs")) == len(MANY) + 1
    shop.server.expires = 99
    code, _, err = shop.call("plan")
    assert (code, "forgets lists before they are read" in err) == (75, True)


def test_of_many_names_the_namespace_is_listed_once(shop: Shop) -> None:
    shop.write(*MANY)
    shop.server.make(theirs("shop-v1-hourly3"))
    shop.call("plan")
    assert [each.path.rpartition("/")[2] for each in shop.server.calls[1:]] == ["cronjobs"] * 2
    found = observed(*(f"shop-v1-hourly{number}" for number in range(25)))
    assert [(each.name, each.owner) for each in found] == [("shop-v1-hourly3", None)]


# What an operator does


@pytest.mark.parametrize("kind", ["drop before", "drop after"])
def test_a_schedule_with_several_lines_is_paused_as_a_whole(
    server: KubernetesServer, kind: Any
) -> None:
    either = Cron("0 6 L * MON#1", day_rule="or")
    wanted = desired_of(schedule(either, name="lines"), schedule("0 2 * * *"))
    apply(wanted)
    names = [each for each in server.names() if "lines" in each]
    assert len(names) > 1
    for at in range(1, 6):
        server.trouble(kind, at=at)
        with_live(lambda live: live.pause(names[0], reason="x"))
        server.at_peace()
        assert {server.get(name)["spec"]["suspend"] for name in names} == {True}
        with_live(lambda live: live.resume(names[0], reason="x"))
        assert is_settled(wanted)


LINES = DAILY.replace('"0 2 * * *"', '"0 6 L * MON#1", day_rule="or"')


def test_a_line_that_is_added_to_a_paused_schedule_is_paused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.call("pause", "-s", "daily", "--reason", "incident 42")
    shop.write(LINES)
    shop.apply()
    names = shop.server.names()
    assert len(names) > 1
    assert {shop.server.get(name)["spec"]["suspend"] for name in names} == {True}
    assert shop.kept()["paused"] is True
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.is_done()


def test_what_is_none_of_ours_is_neither_paused_nor_triggered(server: KubernetesServer) -> None:
    server.make(theirs())
    before = server.get("theirs")
    for name in ("theirs", "nothing"):
        with pytest.raises(SyncError, match="is not there, or none of ours"):
            with_live(lambda live, name=name: live.pause(name, reason="x"))
        with pytest.raises(SyncError, match="is not there, or none of ours"):
            with_live(lambda live, name=name: live.trigger(name))
    assert server.get("theirs") == before
    assert server.names("jobs") == []


@pytest.mark.parametrize("kind", ["", "drop before", "drop after"])
def test_a_trigger_makes_the_job_that_kubectl_would_make(
    server: KubernetesServer, kind: Any
) -> None:
    [one] = desired_of(schedule("0 4 * * *", name="a" * 150))
    create(one)
    if kind:
        server.trouble(kind, only=lambda call: call.path.endswith("/jobs"))
    with_live(lambda live: live.trigger(one.name))
    [name] = server.names("jobs")
    job, cronjob = server.get(name, "jobs"), server.get(one.name)
    assert len(name) <= 63
    assert job["metadata"]["annotations"] == {"cronjob.kubernetes.io/instantiate": "manual"}
    assert job["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "purista"}
    assert job["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "name": one.name,
            "uid": cronjob["metadata"]["uid"],
            "controller": True,
        }
    ]
    assert job["spec"]["template"] == cronjob["spec"]["jobTemplate"]["spec"]["template"]


def test_the_ingress_sees_that_the_run_is_manual(server: KubernetesServer) -> None:
    [one] = desired_of(schedule("0 4 * * *"))
    create(one)
    with_live(lambda live: live.trigger(one.name))
    [name] = server.names("jobs")
    environment = {**environment_of(server.get(one.name), name), "JOB_NAME": name}
    script = expanded(trigger_of(server.get(one.name))["args"][0], environment)
    now = datetime(2027, 1, 1, tzinfo=UTC)
    ran = run_script(script, environment, shell="dash", now=now)
    assert (ran.code, ran.error) == (0, "")
    [trigger] = ran.posted.triggers
    assert (trigger.schedule_id, trigger.manual, trigger.nominal_time) == ("S.v1.x", True, None)


# When it fires


@pytest.mark.parametrize(
    "one",
    [
        schedule("0 4 * * *"),
        schedule("*/15 * * * *", "Europe/Berlin"),
        schedule("30 2 * * *", "Europe/Berlin", dst_gap="skip", dst_overlap="both"),
        schedule("0 9 * * 1-5", "America/New_York"),
        schedule(Cron("0 9 13 * 5", day_rule="or")),
        schedule(Every(timedelta(hours=6))),
        schedule(Once(datetime(2027, 3, 4, 5, 6, tzinfo=UTC))),
        schedule("0 12 * * 5", "Africa/Cairo"),
    ],
    ids=lambda one: f"{one.expression} {one.timezone}",
)
def test_an_object_fires_when_its_contract_is_due(one: Schedule) -> None:
    found: set[datetime] = set()
    objects = desired_of(one)
    for each in objects:
        times = unconnected().fire_times(each.fields, *YEAR)
        assert times is not None
        found |= set(times)
    due = set(one.between(*YEAR))
    assert due <= found
    assert due == {at for at in found if one.contains(at)}
    if "Cairo" not in one.timezone:
        assert due == found


def test_a_suspended_one_never_fires_and_what_is_not_known_is_told() -> None:
    [one] = desired_of(schedule("0 4 * * *"))

    def times(**changes: Any) -> Any:
        return unconnected().fire_times({**one.fields, **changes}, *YEAR)

    assert list(times(paused=True)) == []
    assert next(iter(times(schedule="@monthly"))) == YEAR[0]
    for changes in (
        {"schedule": "@every 5m"},
        {"schedule": "nonsense"},
        {"schedule": "0 0 30 2 *"},
        {"schedule": None},
        {"timezone": None},
        {"timezone": "Mars/Olympus"},
        {"schedule": "0 12 * * 5", "timezone": "Africa/Cairo"},
    ):
        assert times(**changes) is None, changes


READ = (
    "@yearly",
    "@weekly",
    "@daily",
    "@hourly",
    "*/20 9-17 ? JAN-MAR mon",
    "5/15 0 1 1 *",
    "0 0 */1 * 1",
    "0 0 1,* * 1",
    "0 0 */2 * 1",
    "0 0 1-31 * 1",
    "0 0 13 * */2",
    "0 0 13 * 0-6",
    "0 0 ?/2 feb *",
    "0,,5 0 * * *",
    "0 0 *-5 * Fri",
    "+5 0 * * *",
)
REFUSED = (
    "* * * *",
    "0 0 * * 7",
    "0 0 * * 5-1",
    "60 0 * * *",
    "@Daily",
    "@reboot",
    "0 0 L * *",
    "0 0 * january *",
    "*/0 * * * *",
    "1/2/3 * * * *",
    "0 0 1-2-3 * *",
    "-5 0 * * *",
    "",
)
NEVER = ("0 0 30 2 *", ", * * * *")


def test_a_text_means_what_robfig_cron_makes_of_it() -> None:
    texts = (*READ, *REFUSED, *NEVER)
    answers = robfig.fires(
        [RobfigCase(str(at), text, "UTC", *YEAR) for at, text in enumerate(texts)],
        case_limit=timedelta(seconds=30),
    )
    for at, text in enumerate(texts):
        if text in REFUSED:
            assert isinstance(answers[str(at)], str), text
        else:
            assert answers[str(at)] == (times_of(text) if text in READ else []), text
        assert bool(cron_mistake(text)) == (text in REFUSED), text


def times_of(text: str) -> list[datetime]:
    return list(Timing(cron_of(text), "UTC").between(*YEAR))


@pytest.mark.parametrize("text", [*REFUSED, *NEVER])
def test_a_text_that_never_fires_or_is_none_means_nothing(text: str) -> None:
    with pytest.raises(ExpressionError):
        cron_of(text)


# What is none of ours


def foreign() -> dict[str, Foreign]:
    async def work(live: KubernetesCronJobs) -> list[Foreign]:
        return [each async for each in live.foreign()]

    return {each.name: each for each in with_live(work)}


def test_cronjobs_of_others_are_read_as_contracts(server: KubernetesServer) -> None:
    [one] = desired_of(schedule("0 4 * * *"))
    create(one)
    server.make(theirs("a", "0 9 */2 * 1", timeZone="Europe/Berlin", suspend=True))
    server.make(theirs("b", "@daily", concurrencyPolicy="Forbid", startingDeadlineSeconds=60))
    server.make(theirs("c", "0 12 * * 5", timeZone="Africa/Cairo"))
    found = foreign()
    assert list(found) == ["a", "b", "c"]
    a, b, c = found.values()
    assert isinstance(a.expression, Cron)
    assert (a.expression.day_rule, a.timezone, a.enabled) == ("or", "Europe/Berlin", False)
    assert (a.dst_gap, a.dst_overlap) == ("skip", "both")
    assert a.doubts == (
        "it runs 'example.com/report:1'; say what the contract triggers in its place",
        "it starts the latest missed slot, however late: missed_run_policy='runOnce'",
    )
    assert (b.expression, b.timezone, b.enabled) == (Cron("0 0 * * *"), "UTC", True)
    assert b.doubts[1:] == (
        "its concurrencyPolicy is Forbid: concurrency_policy='forbid'",
        "it starts a slot up to 60 s late: misfire_grace",
        "it has no time zone: that of kube-controller-manager, taken to be UTC",
    )
    assert c.doubts[-1] == "its engine errs where the clock changes in Africa/Cairo"


def test_an_interval_counts_from_its_last_slot(server: KubernetesServer) -> None:
    server.make(theirs("a", "@every 1h30m0.5s"))
    for _ in range(2):
        document = server.get("a")
        since = (
            document["status"].get("lastScheduleTime") or document["metadata"]["creationTimestamp"]
        )
        [one] = foreign().values()
        anchor = datetime.fromisoformat(since)
        assert one.expression == Every(timedelta(minutes=90), anchor)
        assert one.doubts[-1] == "its interval counts from when it fired last, or was made"
        server.fire("a")


def test_what_no_contract_can_say_is_a_doubt(server: KubernetesServer) -> None:
    server.make(theirs("never", "0 0 30 2 *", timeZone="UTC"))
    server.make(theirs("long", f"@every {'9' * 30}h"))
    server.make(theirs("old", "0 9 * * *"))
    held = server.records["cronjobs", NAMESPACE, "old"].document
    held["spec"]["schedule"] = "CRON_TZ=Asia/Tokyo  0 9 * * *"
    held["metadata"]["ownerReferences"] = [{"kind": "Release", "name": "shop"}]
    held["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    found = foreign()
    assert found["never"].expression is None
    assert found["never"].doubts[-1].startswith("no contract can say '0 0 30 2 *': ")
    assert found["long"].expression is None
    assert (found["old"].expression, found["old"].timezone) == (Cron("0 9 * * *"), "Asia/Tokyo")
    assert "Release 'shop' made it, and may make it again" in found["old"].doubts
    assert "it is being deleted, and does not fire any more" in found["old"].doubts


# Connections


def test_a_server_that_is_away_is_told_at_once(shop: Shop) -> None:
    config = shop.folder / "kubeconfig"
    config.write_text(config.read_text().replace(shop.server.url, "http://127.0.0.1:1"))
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert "Kubernetes at http://127.0.0.1:1 does not answer; see KUBECONFIG" in " ".join(
        err.split()
    )


def test_a_server_without_trusted_tls_is_told_at_once(shop: Shop) -> None:
    config = shop.folder / "kubeconfig"
    config.write_text(config.read_text().replace("http://", "https://"))
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert "has no TLS that is trusted" in " ".join(err.split())
    assert shop.server.calls == []


def test_credentials_that_are_not_taken_are_told_and_not_shown(shop: Shop) -> None:
    config = shop.folder / "kubeconfig"
    config.write_text(config.read_text().replace(shop.server.token, "hunter2"))
    shop.write(DAILY)
    code, out, err = shop.call("plan")
    assert code == 75
    assert "the credentials are not taken; renew them for kubectl" in " ".join(err.split())
    assert "hunter2" not in out + err
    assert len(shop.server.calls) == 2


def test_a_right_that_is_missing_is_told_with_what_is_needed(shop: Shop) -> None:
    shop.server.forbidden = {"create"}
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    text = " ".join(err.split())
    assert code == 75
    assert 'cannot create resource "cronjobs"' in text
    assert "it needs get, list, create, patch, update and delete of cronjobs" in text


@pytest.mark.parametrize("answer", [200, 302, 403, 404])
def test_what_is_no_kubernetes_api_is_told(shop: Shop, answer: int) -> None:
    shop.server.page_code = answer
    shop.write(DAILY)
    for at in range(1, 20):
        shop.server.trouble("page", at=at, only=lambda call: True)
        code, _, err = shop.call("apply")
        shop.server.at_peace()
        if code == 0:
            break
        text = " ".join(err.split())
        assert code == 75
        assert "is no Kubernetes API; see KUBECONFIG" in text
    assert at > 4
    assert shop.is_done()


@pytest.mark.parametrize("text", [b"[]", b'"x"', b'{"status": "ok"}', b"null", b""])
def test_json_that_is_none_of_kubernetes_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    monkeypatch.setattr("tests.engines.kubernetes_api.PAGE", text)
    shop.server.trouble("page", times=99, only=lambda call: True)
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert (code, "is no Kubernetes API; see KUBECONFIG" in " ".join(err.split())) == (75, True)


def test_no_cluster_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(DAILY)
    monkeypatch.setenv("HOME", str(shop.folder))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for value in ("", str(shop.folder / "none")):
        monkeypatch.setenv("KUBECONFIG", value)
        code, _, err = shop.call("plan")
        assert code == 75
        assert "no Kubernetes cluster is known" in err
        assert "set KUBECONFIG as for kubectl" in " ".join(err.split())


@pytest.mark.parametrize("text", ["a: [hunter2", "hunter2", "[hunter2]", "clusters: hunter2"])
def test_a_kubeconfig_that_is_none_is_told_and_not_shown(shop: Shop, text: str) -> None:
    (shop.folder / "kubeconfig").write_text(text)
    shop.write(DAILY)
    code, out, err = shop.call("plan")
    assert code == 75
    assert "KUBECONFIG" in err
    assert "hunter2" not in out + err


def test_a_namespace_that_is_not_there_is_told(shop: Shop) -> None:
    shop.server.namespaces.clear()
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert code == 75
    assert 'namespaces "billing" not found; create the namespace first' in " ".join(err.split())


def test_a_schedule_in_another_namespace_needs_a_deployment_of_its_own(shop: Shop) -> None:
    hint = 'provider_hints={"kubernetes": {"namespace": "payments"}}, '
    shop.write(DAILY.replace("**options", f"{hint}**options"))
    code, _, err = shop.call("plan")
    assert code == 75
    assert "its namespace is 'payments', the plan's 'billing'" in " ".join(err.split())


# The server of these tests


def with_client(work: Callable[[BatchV1Api], Any]) -> Any:
    """Do some work with the typed client, as other programs do."""
    with connected() as client:
        return work(BatchV1Api(client))


def refused_by_server(work: Callable[[BatchV1Api], Any]) -> Document:
    with pytest.raises(ApiException) as caught:
        with_client(work)
    status: Document = json.loads(caught.value.body or "")
    assert (status["kind"], status["code"]) == ("Status", caught.value.status)
    return status


def named(document: Document, **metadata: Any) -> Document:
    return {**document, "metadata": {**document["metadata"], **metadata}}


@pytest.mark.parametrize(
    ("document", "code", "text"),
    [
        (theirs(text="0 0 * * 7"), 422, "spec.schedule: Invalid value"),
        (theirs(text="TZ=UTC 0 0 * * *"), 422, "cannot use TZ or CRON_TZ in schedule"),
        (theirs(timeZone="Mars/Olympus"), 422, "unknown time zone Mars/Olympus"),
        (theirs(timeZone="local"), 422, "must be an explicit time zone"),
        (theirs(concurrencyPolicy="forbid"), 422, 'supported values: "Allow"'),
        (theirs(startingDeadlineSeconds=-1), 422, "must be greater than or equal to 0"),
        (theirs("Theirs"), 422, "a lowercase RFC 1123 subdomain"),
        (theirs("x" * 53), 422, "must be no more than 52 characters"),
        (named(theirs(), labels={"a": "x" * 64}), 422, "a valid label must be"),
        (named(theirs(), labels={"a": "Shop/v1"}), 422, "a valid label must be"),
        (named(theirs(), annotations={"a": "x" * 262_144}), 422, "Too long"),
        (theirs(suspended=True), 400, "strict decoding error"),
        (theirs(suspend="yes"), 400, "strict decoding error"),
        (named(theirs(), resourceVersion="1"), 400, "should not be set on objects to be created"),
        (theirs("taken"), 409, 'cronjobs.batch "taken" already exists'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_server_refuses_what_a_real_one_refuses(
    server: KubernetesServer, document: Document, code: int, text: str
) -> None:
    server.make(theirs("taken"))
    with connected() as client:
        api = KubernetesApi(client, NAMESPACE)
        with pytest.raises(Refusal) as caught:
            asyncio.run(api.create("cronjobs", document))
    assert (caught.value.code, server.names()) == (code, ["taken"])
    assert text in str(caught.value)


def test_the_server_answers_a_typed_client_and_writes_defaults(server: KubernetesServer) -> None:
    server.make(theirs())
    found = with_client(lambda api: api.read_namespaced_cron_job("theirs", NAMESPACE))
    assert (found.spec.suspend, found.spec.concurrency_policy) == (False, "Allow")
    pod = found.spec.job_template.spec.template.spec
    assert (pod.dns_policy, pod.scheduler_name) == ("ClusterFirst", "default-scheduler")
    assert pod.containers[0].image_pull_policy == "IfNotPresent"
    listed = with_client(lambda api: api.list_namespaced_cron_job(NAMESPACE, limit=1))
    assert [each.metadata.name for each in listed.items] == ["theirs"]
    missing = refused_by_server(lambda api: api.read_namespaced_cron_job("none", NAMESPACE))
    assert (missing["reason"], missing["message"]) == (
        "NotFound",
        'cronjobs.batch "none" not found',
    )


def test_an_apply_that_is_not_forced_names_who_manages_what(server: KubernetesServer) -> None:
    server.make(theirs())
    config = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "theirs"},
        "spec": {"suspend": True},
    }

    def apply(config: Document, force: bool | None) -> Callable[[BatchV1Api], Any]:
        return lambda api: api.patch_namespaced_cron_job(
            "theirs",
            NAMESPACE,
            config,
            field_manager="other",
            force=force,
            _content_type="application/apply-patch+yaml",
        )

    status = refused_by_server(apply(config, None))
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl-create" using batch/v1: .spec.suspend'
    )
    with_client(apply(config, True))
    assert server.get("theirs")["spec"]["suspend"] is True
    assert held_by(server.get("theirs"), "other") == {"f:suspend"}
    before = server.get("theirs")
    with_client(apply(config, None))
    assert server.get("theirs") == before
    with_client(apply({**config, "spec": {}}, None))
    assert server.get("theirs")["spec"]["suspend"] is False
    for wrong in ({"uid": "x"}, {"resourceVersion": "1"}):
        assert refused_by_server(apply(named(config, **wrong), True))["code"] == 409
    server.remove("theirs")
    gone = refused_by_server(apply(named(config, uid="x"), True))
    assert "no existing object was found" in gone["message"]
