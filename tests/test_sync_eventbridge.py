"""Plan, apply and drift against a strict EventBridge Scheduler on a port of this machine."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from botocore.loaders import create_loader
from tests.engines import eventbridge
from tests.engines.aws_calls import REGION
from tests.engines.aws_scheduler import Scheduler, When, aws_scheduler
from tests.live_suite import PAUSED, TOLD, PausingShop, PausingSuite, with_options
from tests.planned import DAILY, HOURLY, MOVED, Capture, in_folder, make_plan

from purista import Cron, Every, Once, Schedule
from purista.cli.app import run
from purista.cli.deploying import Asked, Wish, asked_for
from purista.native.awssettings import EventBridgeSettings
from purista.plan import Plan
from purista.sync import SyncError, apply_plan
from purista.sync.eventbridge import EventBridgeSchedules, open_live
from purista.sync.eventbridge_calls import ATTEMPTS, Calls
from purista.sync.eventbridge_fields import observed_of, request_of
from purista.sync.eventbridge_times import fire_times, foreign_schedule
from purista.sync.port import FireTimes, Foreign, Imports, Pauses, Triggers

ROLE = "arn:aws:iam::123456789012:role/purista-scheduler"
QUEUE = f"arn:aws:sqs:{REGION}:123456789012:purista-triggers"
BUS = f"arn:aws:events:{REGION}:123456789012:event-bus/triggers"
SETTINGS = f"""
[ingress]
url = "https://triggers.example.com"
recovery = "ingress"

[eventbridge]
role_arn = "{ROLE}"
target = {{ kind = "sqs", queue_arn = "{QUEUE}" }}
"""
NAME = "Shop.v1"
LINES = DAILY.replace("0 2 * * *", "30 4 13 * FRI").replace("daily", "nightly")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
WHENS: tuple[When, ...] = ("before", "after")


class Shop(PausingShop):
    """A shop with an account of its own."""

    def __init__(
        self, folder: Path, capsys: Capture, server: Scheduler, deployment: str = "default"
    ) -> None:
        super().__init__("eventbridge", folder, capsys, deployment)
        self.server = server
        self.client = server.client()

    def name(self, schedule: str) -> str:
        return f"{NAME}.{schedule}"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.server, "staging")

    def held(self) -> dict[str, Any]:
        """Return the schedules as they are stored, but for when they were."""
        dates = ("CreationDate", "LastModificationDate")
        return {
            name: {key: value for key, value in one.items() if key not in dates}
            for name, one in self.server.stored().items()
        }

    def take(self, schedule: str) -> None:
        self.client.create_schedule_group(Name="purista")
        self.theirs(self.name(schedule), "purista")

    def move(self, schedule: str) -> str:
        self.by_hand(schedule, ScheduleExpression="cron(0 7 * * ? *)")
        return "expression"

    def delete(self, schedule: str) -> None:
        self.client.delete_schedule(Name=self.name(schedule), GroupName="purista")

    def pause(self, schedule: str) -> None:
        self.by_hand(schedule, State="DISABLED")

    def resume(self, schedule: str) -> None:
        self.by_hand(schedule, State="ENABLED")

    def stored(self, schedule: str = "daily") -> dict[str, Any]:
        return self.server.stored()[f"{NAME}.{schedule}"]

    def by_hand(self, schedule: str = "daily", **changed: Any) -> None:
        """Change a schedule as the console does: read all of it, write all of it."""
        found = self.client.get_schedule(Name=f"{NAME}.{schedule}", GroupName="purista")
        for name in ("Arn", "CreationDate", "LastModificationDate", "ResponseMetadata"):
            del found[name]
        self.client.update_schedule(**{**found, **changed})

    def theirs(self, name: str, group: str = "default", **changed: Any) -> None:
        """Create a schedule that is none of ours."""
        target = {"Arn": QUEUE, "RoleArn": ROLE, "Input": "now"}
        asked = {"ScheduleExpression": "rate(5 minutes)", "FlexibleTimeWindow": {"Mode": "OFF"}}
        asked |= {"Target": target, "Name": name, "GroupName": group}
        self.client.create_schedule(**{**asked, **changed})

    def asked(self) -> Asked:
        sys.modules.pop("shop", None)
        asked = asked_for(Wish("eventbridge", ("shop:shop",)))
        assert asked is not None
        return asked

    def schedule(self, name: str) -> Schedule:
        """Return a schedule as the contract has it."""
        (found,) = [one.schedule for one in self.asked().placed if one.schedule.name == name]
        return found

    def applied(self, between: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Plan, let something happen, and apply; return the errors by name."""

        async def work() -> dict[str, str]:
            asked = self.asked()
            async with open_live(asked.request) as live:
                found = await planned(live, asked)
                await asyncio.to_thread(between)
                results = await apply_plan(found, live)
            return {each.change.name: each.error for each in results if each.error}

        return asyncio.run(work())

    async def foreign(self) -> list[Foreign]:
        async with open_live(self.asked().request) as live:
            return [each async for each in live.foreign()]


MODELS = create_loader()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: MODELS)  # read but once
    monkeypatch.setattr("purista.sync.retrying.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("purista.sync.retrying.LONGEST_PAUSE", 0.002)
    with aws_scheduler() as server:
        for name, text in server.environment.items():
            monkeypatch.setenv(name, text)
        yield server


@pytest.fixture
def shop(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, server: Scheduler
) -> Iterator[Shop]:
    (tmp_path / "purista.toml").write_text(SETTINGS)
    with in_folder(tmp_path, monkeypatch):
        shop = Shop(tmp_path, capsys, server)
        yield shop
        shop.client.close()


class TestEventBridge(PausingSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"expression"},
        with_options('timezone="Asia/Tokyo"'): {"timezone"},
        PAUSED: {"paused"},
        with_options("jitter=timedelta(minutes=5)"): {"window", "retries"},
        with_options("misfire_grace=timedelta(hours=1)"): {"retries"},
        with_options('concurrency_policy="forbid"'): {"fingerprint"},
        TOLD: {"description"},
    }


def test_the_group_is_made_and_a_version_stands_in_trigger_and_description(shop: Shop) -> None:
    shop.write(DAILY)
    (change,) = shop.plan()["changes"]
    shop.apply()
    (tags,) = shop.client.list_tags_for_resource(
        ResourceArn=shop.client.get_schedule_group(Name="purista")["Arn"]
    )["Tags"]
    assert tags == {"Key": "managed-by", "Value": "purista"}
    version = change["fingerprint"]
    assert json.loads(shop.stored()["Target"]["Input"])["puristafingerprint"] == version
    assert version in shop.stored()["Description"]
    shop.delete("daily")
    shop.client.delete_schedule_group(Name="purista")
    shop.apply()
    assert shop.is_done()


def test_new_lines_of_a_schedule_that_is_paused_by_hand_are_paused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    assert shop.call("pause", "-s", "daily", "--reason", "incident 42")[0] == 0
    shop.write(LINES.replace("nightly", "daily"))
    shop.apply("--force")
    held = shop.held()
    assert len(held) > 1
    assert {one["State"] for one in held.values()} == {"DISABLED"}
    assert all(one["Description"].endswith("[paused: incident 42]") for one in held.values())
    assert shop.kept() == {"note": "incident 42", "paused": True}
    assert shop.call("resume", "-s", "daily")[0] == 0
    assert shop.is_done()


def test_settings_that_change_are_updates(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    (shop.folder / "purista.toml").write_text(SETTINGS.replace("purista-triggers", "others"))
    (change,) = shop.plan()["changes"]
    assert [one["name"] for one in change["fields"]] == ["target"]
    shop.apply()
    assert shop.stored()["Target"]["Arn"] == QUEUE.replace("purista-triggers", "others")
    assert shop.is_done()


def test_what_is_sent_is_what_a_compiled_file_says(shop: Shop) -> None:
    shop.write(DAILY, LINES)
    shop.apply()
    assert shop.call("apply")[0] == 0
    assert run(["compile", "eventbridge", "shop:shop", "--output", "made"]) == 0
    rows = json.loads((shop.folder / "made/requests.json").read_text())
    asked = [one["request"] for one in rows if one["operation"] == "CreateSchedule"]
    for one in asked:
        stored = shop.server.stored()[one["Name"]]
        del one["Description"]
        assert {name: stored[name] for name in one} == one


def test_a_schedule_has_an_object_for_each_of_its_lines(shop: Shop) -> None:
    shop.write(LINES)
    shop.apply()
    names = sorted(shop.server.stored())
    assert names[0] == f"{NAME}.nightly"
    assert len(names) > 1
    assert shop.is_done()


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"ScheduleExpression": "cron(5 5 * * ? *)"}, {"expression": "cron(5 5 * * ? *)"}),
        ({"ScheduleExpressionTimezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 7}}, {"window": 7}),
        (
            {"StartDate": datetime(2199, 1, 1, tzinfo=UTC)},
            {"start": "2199-01-01T00:00:00+00:00"},
        ),
        ({"EndDate": datetime(2199, 1, 1, tzinfo=UTC)}, {"end": "2199-01-01T00:00:00+00:00"}),
        ({"ActionAfterCompletion": "DELETE"}, {"after_completion": "DELETE"}),
        (
            {"Target": {"Arn": QUEUE, "RoleArn": ROLE, "Input": "now"}},
            {
                "input": "now",
                "retries": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185},
            },
        ),
        (
            {"KmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/abc-1"},
            {"kms_key": "arn:aws:kms:eu-central-1:123456789012:key/abc-1"},
        ),
    ],
)
def test_what_a_person_changed_is_kept_through_an_update(
    shop: Shop, changed: dict[str, Any], kept: dict[str, Any]
) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.by_hand(**changed)
    assert shop.kept() == kept
    shop.write(DAILY.replace('"daily"', '"daily", "Every night"'))
    shop.apply()
    assert shop.kept() == kept
    shop.apply("--override", f"{NAME}.daily")
    assert shop.is_done()


def test_a_description_can_be_changed_around_the_marker(shop: Shop) -> None:
    shop.write(DAILY.replace('"daily"', '"daily", "Every night"'))
    shop.apply()
    said = shop.stored()["Description"]
    shop.by_hand(Description=f"Ask Jo. {said}, said Jo")
    assert shop.kept() == {"description": "Ask Jo. Every night, said Jo"}
    shop.write(MOVED.replace('"daily"', '"daily", "Every night"'))
    shop.apply()
    assert shop.kept() == {"description": "Ask Jo. Every night, said Jo"}
    assert shop.stored()["Description"].startswith("purista: Shop.v1.daily ")


def test_a_pause_is_kept_where_a_person_took_the_digests_away(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    said = " ".join(shop.stored()["Description"].split()[:4])
    shop.by_hand(Description=said)
    assert shop.call("pause", "-s", "daily", "--reason", "x")[0] == 0
    assert shop.stored()["Description"] == f"{said} - [paused: x]"
    shop.apply()
    assert shop.kept() == {"note": "x", "paused": True}
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()


def test_a_version_that_a_person_took_from_the_trigger_is_kept_out(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    target = shop.stored()["Target"]
    event = json.loads(target["Input"])
    version = event.pop("puristafingerprint")
    shop.by_hand(Target={**target, "Input": json.dumps(event)})
    assert shop.kept() == {"input": {**event, "puristafingerprint": None}}
    shop.by_hand(Target={**target, "Input": json.dumps({**event, "puristafingerprint": "0"})})
    (change,) = shop.plan()["changes"]
    assert [one["name"] for one in change["fields"]] == ["fingerprint"]
    shop.apply()
    assert json.loads(shop.stored()["Target"]["Input"])["puristafingerprint"] == version
    assert shop.is_done()


def test_what_a_compiled_file_made_is_not_taken_over(shop: Shop) -> None:
    shop.client.create_schedule_group(Name="purista")
    shop.theirs(
        f"{NAME}.daily", "purista", Description=f"purista: {NAME}.daily 0123456789abcdef - x"
    )
    shop.write(DAILY)
    assert shop.call("plan")[0] == 1


def test_foreign_schedules_stay_as_they_are(shop: Shop) -> None:
    shop.client.create_schedule_group(Name="purista")
    shop.theirs("other", "purista", Description="not purista: really")
    before = shop.server.stored()["other"]
    shop.write(DAILY, HOURLY)
    shop.apply()
    shop.write(MOVED)
    shop.apply("--force")
    shop.write()
    shop.apply("--force")
    assert shop.server.stored() == {"other": before}


def test_pages_are_followed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("purista.sync.eventbridge.PAGE", 2)
    every = [HOURLY.replace("hourly", f"hourly{number}") for number in range(5)]
    shop.write(*every)
    shop.apply()
    shop.server.calls.clear()
    assert shop.plan()["unchanged"] == 5
    assert shop.server.calls.count("ListSchedules") == 3
    assert shop.server.calls.count("GetSchedule") == 5


def test_an_operator_pauses_all_lines_with_a_reason_and_resumes(shop: Shop) -> None:
    named = LINES.replace('"nightly"', f'"nightly", "{"Every night. " * 40}"')
    shop.write(named, DAILY)
    accepted = ("--accept", "limit-description")
    shop.apply(*accepted)
    before = shop.server.stored()
    code, _, err = shop.call("pause", "-s", "nightly", "--reason", "incident\n42")
    assert code == 0, err
    states = {name: one["State"] for name, one in shop.server.stored().items()}
    assert states.pop(f"{NAME}.daily") == "ENABLED"
    assert set(states.values()) == {"DISABLED"}
    found = shop.plan(*accepted)
    assert found["changes"] == []
    for one in found["kept"]:
        said = {each["name"]: each["before"] for each in one["kept"]}
        assert said == {"note": "incident 42", "paused": True}
    shop.apply(*accepted)
    assert shop.plan(*accepted)["kept"] == found["kept"]
    assert shop.call("resume", "-s", "nightly")[0] == 0
    after = shop.server.stored()
    for one in (*before.values(), *after.values()):
        del one["LastModificationDate"]
    assert after == before


def test_only_what_is_there_and_ours_is_paused(shop: Shop) -> None:
    shop.client.create_schedule_group(Name="purista")
    shop.theirs("theirs", "purista")
    before = shop.server.stored()

    async def told(name: str) -> str:
        async with open_live(shop.asked().request) as live:
            with pytest.raises(SyncError) as raised:
                await live.pause(name, reason="x")
        return str(raised.value)

    shop.write(DAILY)
    assert "apply the contracts first" in asyncio.run(told("missing"))
    assert "is not ours" in asyncio.run(told("theirs"))
    assert shop.server.stored() == before


ONCE = (
    'shop.schedule("once").emit_event('
    "due, expression=Once(datetime(YEAR, 1, 1, tzinfo=UTC)), **options)\n"
)


def test_a_one_shot_is_deleted_by_aws_and_is_not_desired_once_it_is_over(shop: Shop) -> None:
    shop.write(ONCE.replace("YEAR", "2199"))
    shop.apply()
    assert shop.stored("once")["ActionAfterCompletion"] == "DELETE"
    assert shop.is_done()
    shop.write(ONCE.replace("YEAR", "2020"))
    assert shop.actions("--accept", "never-due") == [("delete", f"{NAME}.once")]
    shop.by_hand("once", ScheduleExpression="at(2020-01-01T00:00:00)")
    assert shop.actions("--accept", "never-due") == []  # AWS is about to delete it
    shop.by_hand("once", State="DISABLED")
    shop.apply("--accept", "never-due")
    assert shop.server.stored() == {}


def test_a_start_that_is_over_does_not_keep_an_update_from_being_made(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    group = shop.server.stored
    soon = datetime.now(UTC) + timedelta(seconds=1)
    shop.by_hand(StartDate=soon)
    assert list(shop.kept()) == ["start"]
    fields = observed_of(shop.client.get_schedule(Name=f"{NAME}.daily", GroupName="purista")).fields
    late = {**fields, "start": "2020-01-01T00:00:00+00:00"}
    owner = observed_of(group()[f"{NAME}.daily"] | {"StartDate": None}).owner
    assert owner is not None
    assert "StartDate" not in request_of("x", "purista", owner, {}, late)
    interval = {**late, "expression": "rate(1 hour)"}
    assert "StartDate" in request_of("x", "purista", owner, {}, interval)


OLD = (DAILY, HOURLY, HOURLY.replace("hourly", "gone"))
NEW = (MOVED, HOURLY, HOURLY.replace("hourly", "new"))


def test_who_is_cut_off_at_any_call_ends_in_the_same_state_the_next_time(shop: Shop) -> None:
    shop.write(*OLD)
    shop.apply()
    put_back = shop.server.snapshot()
    shop.write(*NEW)
    shop.server.calls.clear()
    shop.apply("--force")
    assert len(shop.server.calls) == 10
    cut_off_everywhere(shop, 10, put_back)


def test_the_first_apply_can_be_cut_off_at_any_call(shop: Shop) -> None:
    put_back = shop.server.snapshot()
    shop.write(*NEW[1:])
    cut_off_everywhere(shop, 7, put_back)


def cut_off_everywhere(shop: Shop, count: int, put_back: Callable[[], None]) -> None:
    """Apply with a server that is gone from a call on, and then again with one that is there."""

    async def work() -> None:
        asked = shop.asked()
        assert isinstance(asked.request.settings, EventBridgeSettings)
        calls = Calls(shop.client, "AWS")
        for number, when in product(range(1, count + 1), WHENS):
            put_back()
            shop.server.die(number, when)
            live = EventBridgeSchedules(calls, calls, asked.request.settings)
            errors = await errors_of(live, asked)
            assert "does not answer" in errors[0], (number, when)
            shop.server.revive()
            live = EventBridgeSchedules(calls, calls, asked.request.settings)
            assert await errors_of(live, asked) == [], (number, when)
            there = await planned(live, asked)
            assert (there.is_empty, there.kept, there.conflicts) == (True, (), ()), (number, when)
            assert there.unchanged == len(asked.placed)

    asyncio.run(work())


async def planned(live: EventBridgeSchedules, asked: Asked) -> Plan:
    desired = live.desired(asked.placed, asked.request, asked.deployment)
    names = {each.name for each in desired}
    there = [each async for each in live.observed(asked.deployment, names)]
    return make_plan("eventbridge", asked.deployment, desired, there)


async def errors_of(live: EventBridgeSchedules, asked: Asked) -> list[str]:
    """Plan and apply; return what failed."""
    try:
        found = await planned(live, asked)
    except SyncError as error:
        return [str(error)]
    return [each.error for each in await apply_plan(found, live) if each.error]


@pytest.mark.parametrize("operation", ["CreateSchedule", "UpdateSchedule", "DeleteSchedule"])
def test_an_answer_that_is_lost_makes_nothing_twice(shop: Shop, operation: str) -> None:
    shop.write(*OLD)
    shop.apply()
    shop.write(*NEW)
    shop.server.calls.clear()
    shop.server.trouble(1, when="after", operation=operation)
    shop.apply("--force")
    assert shop.server.calls.count(operation) == 2
    assert shop.is_done()


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServerException", ""])
def test_what_fails_for_now_is_tried_again(shop: Shop, code: str) -> None:
    shop.write(DAILY, HOURLY)
    shop.server.trouble(7, code)
    shop.apply()
    assert shop.is_done()


def test_throttling_without_an_end_is_told_and_the_next_apply_completes(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.write(DAILY, HOURLY)
    shop.server.trouble(20, "ThrottlingException", operation="CreateSchedule")
    code, _, err = shop.call("apply")
    assert code == 75
    assert "0 changes made, 1 failed" in err
    assert "EventBridge Scheduler in eu-central-1: ThrottlingException: slow down" in err
    shop.server.revive()
    shop.apply()
    assert shop.is_done()


def test_what_a_person_changes_between_plan_and_apply_is_not_overwritten(shop: Shop) -> None:
    shop.write(*OLD)
    shop.apply()
    shop.write(*NEW)

    def change() -> None:
        shop.by_hand(State="DISABLED")
        shop.by_hand("gone", Description="mine now")
        shop.theirs(f"{NAME}.new", "purista")

    errors = shop.applied(between=change)
    assert errors == {
        f"{NAME}.daily": f"'{NAME}.daily' was changed or deleted meanwhile; plan again",
        f"{NAME}.gone": f"'{NAME}.gone' was changed or deleted meanwhile; plan again",
        f"{NAME}.new": f"'{NAME}.new' was made meanwhile; plan again",
    }
    assert shop.stored()["ScheduleExpression"] == "cron(0 2 * * ? *)"
    assert shop.stored("gone")["Description"] == "mine now"
    assert shop.stored("new")["Target"]["Input"] == "now"


def test_what_is_deleted_between_plan_and_apply_is_made_by_the_next(shop: Shop) -> None:
    shop.write(*OLD)
    shop.apply()
    shop.write(*NEW)

    def delete() -> None:
        for name in ("daily", "gone"):
            shop.client.delete_schedule(Name=f"{NAME}.{name}", GroupName="purista")

    assert list(shop.applied(between=delete)) == [f"{NAME}.daily"]
    shop.apply()
    assert shop.is_done()


def test_what_another_made_just_so_meanwhile_is_as_it_should_be(shop: Shop) -> None:
    shop.write(DAILY)
    assert shop.applied(between=shop.apply) == {}
    assert shop.is_done()


def test_without_create_shared_a_missing_group_is_told(shop: Shop) -> None:
    text = f"{SETTINGS}create_shared = false\n"
    (shop.folder / "purista.toml").write_text(text)
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert code == 75
    assert "group 'purista' of EventBridge Scheduler is not there" in err


def test_a_role_that_cannot_be_assumed_is_told_with_what_must_be_there(shop: Shop) -> None:
    shop.server.refused_roles.add(ROLE)
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert code == 75
    assert "must allow AWS EventBridge Scheduler to assume the role" in err
    assert f"role '{ROLE}' and target '{QUEUE}' must be there before" in err


def test_a_schedule_is_put_on_a_bus_only_where_a_rule_takes_it(shop: Shop) -> None:
    target = (
        f'{{ kind = "api-destination", event_bus_arn = "{BUS}", invoke_role_arn = "{ROLE}", '
        f'connection_arn = "arn:aws:events:{REGION}:123456789012:connection/c/1" }}'
    )
    sqs = SETTINGS.rpartition("target = ")[0]
    (shop.folder / "purista.toml").write_text(f"{sqs}target = {target}\n")
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert code == 75
    assert "of event bus 'triggers' is not there, so that triggers would reach nobody" in err
    assert shop.server.stored() == {}
    assert run(["compile", "eventbridge", "shop:shop", "--output", "made"]) == 0
    rows = json.loads((shop.folder / "made/requests.json").read_text())
    (rule,) = [one["request"] for one in rows if one["operation"] == "PutRule"]
    events = shop.server.client("events")
    events.create_event_bus(Name="triggers")
    events.put_rule(**rule)
    events.disable_rule(Name=rule["Name"], EventBusName="triggers")
    code, _, err = shop.call("apply")
    assert code == 75
    assert "is disabled, so that triggers would reach nobody; enable it with aws events" in err
    assert shop.server.stored() == {}
    events.enable_rule(Name=rule["Name"], EventBusName="triggers")
    events.close()
    shop.apply()
    assert shop.is_done()
    assert shop.stored()["Target"]["EventBridgeParameters"]["DetailType"]


def test_another_group_is_for_another_deployment(shop: Shop) -> None:
    hints = 'provider_hints={"eventbridge": {"group": "other"}}, **options'
    shop.write(DAILY.replace("**options", hints))
    code, _, err = shop.call("plan")
    assert code == 75
    assert "its group is 'other', the plan's 'purista'; give it a deployment of its own" in err


def test_a_service_that_is_away_is_told_by_the_exit_code(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SCHEDULER", "http://127.0.0.1:1")
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert "EventBridge Scheduler in eu-central-1 does not answer (EndpointConnectionError)" in err
    assert "AWS_ENDPOINT_URL_SCHEDULER" in err


class Portal(BaseHTTPRequestHandler):
    """Answers with a page, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Log in</html>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_what_is_no_eventbridge_scheduler_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(DAILY)
    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as portal:
        thread = threading.Thread(target=portal.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SCHEDULER", f"http://127.0.0.1:{portal.server_port}")
        code, _, err = shop.call("plan")
        portal.shutdown()
        thread.join()
    assert (code, "no EventBridge Scheduler; see AWS_ENDPOINT_URL_SCHEDULER" in err) == (75, True)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("AWS_DEFAULT_REGION", "no region is set; set AWS_DEFAULT_REGION"),
        ("AWS_ACCESS_KEY_ID", "Unable to locate credentials; credentials come from"),
    ],
)
def test_what_the_environment_lacks_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, missing: str, told: str
) -> None:
    monkeypatch.delenv(missing)
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert told in err
    assert "hunter2" not in err


def test_who_may_not_is_told_where_credentials_come_from(shop: Shop) -> None:
    shop.server.trouble(1, "AccessDeniedException")
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert "AccessDeniedException" in err
    assert "AWS_PROFILE" in err


def test_no_call_is_tried_by_botocore_itself(shop: Shop) -> None:
    shop.server.trouble(99, "ThrottlingException")
    shop.write(DAILY)
    assert shop.call("plan")[0] == 75
    assert len(shop.server.calls) == ATTEMPTS


def test_a_description_that_is_too_long_is_cut_off_for_good(shop: Shop) -> None:
    shop.write(DAILY.replace('"daily"', f'"daily", "{"x" * 400}"'))
    shop.apply()
    said = shop.stored()["Description"]
    assert 400 < len(said) <= 512
    assert said.endswith("x")
    assert shop.is_done()


ODD = (
    "- a list",
    "x [paused: y]",
    "[paused: y]",
    "purista: Shop.v1.other 0123456789abcdef default",
    "ends with - ",
    "{{resolve}} ß 時",
    "a" * 230 + "  " + "b" * 230,
)


def test_whatever_a_description_says_it_is_read_as_it_was_written(shop: Shop) -> None:
    shop.write(
        *(DAILY.replace('"daily"', f'"daily{number}", {text!r}') for number, text in enumerate(ODD))
    )
    shop.apply("--accept", "limit-description")
    found = shop.plan("--accept", "limit-description")
    assert (found["changes"], found["kept"], found["unchanged"]) == ([], [], len(ODD))
    assert all(len(one["Description"]) <= 512 for one in shop.server.stored().values())


NONSENSE: list[dict[str, Any]] = [
    {"GroupName": "missing"},
    {"Name": "no spaces"},
    {"Name": "x" * 65},
    {"Description": "x" * 513},
    {"ScheduleExpression": "cron(0 9 * * * *)"},
    {"ScheduleExpression": "cron(0 25 * * ? *)"},
    {"ScheduleExpression": "rate(0 minutes)"},
    {"ScheduleExpression": "rate(5 weeks)"},
    {"ScheduleExpression": "at(2027-02-30T10:00:00)"},
    {"ScheduleExpressionTimezone": "Mars/Olympus"},
    {"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}},
    {"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 1441}},
    {"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}},
    {"State": "PAUSED"},
    {"StartDate": datetime(2020, 1, 1, tzinfo=UTC)},
    {"StartDate": datetime(2199, 1, 2, tzinfo=UTC), "EndDate": datetime(2199, 1, 1, tzinfo=UTC)},
    {"Target": {"Arn": QUEUE, "RoleArn": "role"}},
    {"Target": {"Arn": BUS, "RoleArn": ROLE, "Input": "{}"}},
    {"Target": {"Arn": f"{QUEUE}.fifo", "RoleArn": ROLE}},
    {"Target": {"Arn": QUEUE, "RoleArn": ROLE, "Input": "<aws.scheduler.nonsense>"}},
    {
        "Target": {
            "Arn": f"arn:aws:lambda:{REGION}:123456789012:function:f",
            "RoleArn": ROLE,
            "Input": "no JSON",
        }
    },
    {"Target": {"Arn": QUEUE, "RoleArn": ROLE, "RetryPolicy": {"MaximumRetryAttempts": 186}}},
    {"Target": {"Arn": QUEUE, "RoleArn": ROLE, "RetryPolicy": {"MaximumEventAgeInSeconds": 59}}},
]


def test_the_server_refuses_what_aws_would(shop: Shop) -> None:
    shop.theirs("right")
    for each in NONSENSE:
        with pytest.raises((ClientError, ParamValidationError)):
            shop.theirs(**{"name": "wrong", **_named(each)})
    with pytest.raises(ClientError, match="ConflictException"):
        shop.theirs("right")
    assert list(shop.server.stored("default")) == ["right"]


def _named(asked: dict[str, Any]) -> dict[str, Any]:
    names = {"Name": "name", "GroupName": "group"}
    return {names.get(key, key): value for key, value in asked.items()}


CONTRACTS = {
    "daily": DAILY,
    "hourly": HOURLY,
    "nightly": LINES,
    "berlin": DAILY.replace('"0 2 * * *"), ', '"0 8 * * 1-5"), timezone="Europe/Berlin", ').replace(
        "daily", "berlin"
    ),
    "often": DAILY.replace("0 2 * * *", "*/20 5 L * *").replace("daily", "often"),
    "once": ONCE.replace("YEAR", "2027"),
}


def test_what_is_made_fires_at_the_times_of_the_contract(shop: Shop) -> None:
    shop.write(*CONTRACTS.values())
    shop.apply()
    start = datetime(2026, 12, 1, tzinfo=UTC)
    end = start + timedelta(days=366)
    for name in CONTRACTS:
        lines = {
            each: stored
            for each, stored in shop.server.stored().items()
            if each.startswith(f"{NAME}.{name}")
        }
        found: set[datetime] = set()
        for each in lines.values():
            told = fire_times(observed_of(each).fields, start, end)
            assert told is not None
            times = list(told)
            assert times == eventbridge.fires(each, start=start, end=end)
            found.update(times)
        assert found == set(shop.schedule(name).between(start, end)), name


def test_a_paused_one_never_fires_and_of_what_is_not_sure_nothing_is_told(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    start, end = NOW, NOW + timedelta(days=400)

    def told(**changed: Any) -> Any:
        fields = observed_of({**shop.stored(), **changed}).fields
        found = fire_times(fields, start, end)
        return None if found is None else list(found)

    assert told(State="DISABLED") == []
    bounded = {
        "ScheduleExpression": "cron(0 12 ? 1-3 MON-FRI 2027)",
        "ScheduleExpressionTimezone": "America/New_York",
        "EndDate": datetime(2027, 2, 3, tzinfo=UTC),
    }
    by_hand = {**shop.stored(), **bounded, "StartDate": None}
    del by_hand["StartDate"]
    assert told(**bounded) == eventbridge.fires(by_hand, start=start, end=end)
    assert told(ScheduleExpression="rate(90 minutes)") is None
    anchored = {"ScheduleExpression": "rate(90 minutes)", "StartDate": NOW + timedelta(minutes=1)}
    assert told(**anchored)[:2] == [NOW + timedelta(minutes=each) for each in (1, 91)]
    for expression in ("cron(30 2 * * ? *)", "cron(0 9 LW * ? *)", "cron(0 9 * * ? 2027,2029)"):
        zone = {"ScheduleExpressionTimezone": "Europe/Berlin"}
        assert told(ScheduleExpression=expression, **zone) is None
    assert told(ScheduleExpression="weekly") is None
    assert told(ScheduleExpressionTimezone="Mars/Olympus") is None


FOREIGN = [
    ("cron(0 9 ? * 2-6 *)", {}, Cron("0 9 * * 1-5"), ()),
    ("cron(0 9 ? * 7,1 *)", {}, Cron("0 9 * * 6,0"), ()),
    ("cron(0 9 ? * MON-FRI *)", {}, Cron("0 9 * * MON-FRI"), ()),
    ("cron(0/15 * ? * * *)", {}, Cron("0/15 * * * *"), ()),
    ("cron(0 9 ? * L *)", {}, Cron("0 9 * * 6"), ()),
    ("cron(0 9 ? * 6L *)", {}, Cron("0 9 * * FRI#L"), ()),
    ("cron(0 9 ? * 3#2 *)", {}, Cron("0 9 * * TUE#2"), ()),
    ("cron(0 9 L JAN-MAR ? *)", {}, Cron("0 9 L 1-3 *"), ()),
    ("cron(0 9 15W * ? *)", {}, Cron("0 9 15W * *"), ()),
    ("cron(0 9 1/10 * ? *)", {}, Cron("0 9 1/10 * *"), ()),
    ("at(2027-03-01T10:00:00)", {}, Once(datetime(2027, 3, 1, 10, tzinfo=UTC)), ()),
    ("at(2026-03-01T10:00:00)", {}, Once(datetime(2026, 3, 1, 10, tzinfo=UTC)), ("is over",)),
    (
        "rate(2 hours)",
        {"StartDate": NOW},
        Every(timedelta(hours=2), anchor=NOW),
        (),
    ),
    ("rate(1 day)", {}, Every(timedelta(days=1), anchor=NOW), ("from when it was created",)),
    ("cron(0 9 ? * 6-2 *)", {}, Cron("0 9 * * 5-1"), ("'6-2' means no page",)),
    ("cron(0 9 ? * 2/2 *)", {}, None, ("step of weekdays",)),
    ("cron(0 9 ? * ? *)", {}, None, ("both day fields",)),
    ("cron(0 9 31 2 ? *)", {}, None, ("no month of the month field",)),
    ("cron(0 9 * *)", {}, None, ("4 fields",)),
    ("every(day)", {}, None, ("is not understood",)),
    ("at(2027-99-01T10:00:00)", {}, None, ("no contract can say it",)),
    ("cron(0 9 * * ? 1066)", {}, None, ("its years '1066'",)),
]


@pytest.mark.parametrize(("expression", "changed", "meant", "doubts"), FOREIGN)
def test_the_schedules_of_others_are_read_as_aws_reads_them(
    expression: str, changed: dict[str, Any], meant: Any, doubts: tuple[str, ...]
) -> None:
    found = read(expression, **changed)
    assert found.expression == meant
    assert len(found.doubts) == 1 + len(doubts)
    for doubt, part in zip(found.doubts[1:], doubts, strict=True):
        assert part in doubt
    if isinstance(meant, Cron) and not doubts:
        start, end = NOW, NOW + timedelta(days=731)
        asked = {"ScheduleExpression": expression, "FlexibleTimeWindow": {"Mode": "OFF"}}
        fields = observed_of(asked | STORED).fields
        told = fire_times(fields | {"expression": expression}, start, end)
        assert told is not None
        assert list(told) == eventbridge.fires(asked, start=start, end=end)


def test_zones_bounds_windows_and_states_of_others_are_read() -> None:
    berlin = {"ScheduleExpressionTimezone": "Europe/Berlin"}
    found = read("cron(30 2 * * ? *)", **berlin)
    assert (found.timezone, found.dst_gap, found.dst_overlap) == ("Europe/Berlin", "skip", "first")
    assert "which pass of a repeated hour" in found.doubts[1]
    assert read("cron(30 4 * * ? *)", **berlin).doubts[1:] == ()
    found = read("cron(0 9 * * ? 2027-2028)", **berlin)
    assert found.start_at == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert found.end_at == datetime(2028, 12, 31, 22, 59, 59, tzinfo=UTC)
    assert "only" in read("cron(0 9 * * ? 2027,2029)").doubts[1]
    over = read("cron(0 9 * * ? 2025)")
    assert (over.expression, over.doubts[1:]) == (Cron("0 9 * * *"), ("its time is over",))
    never = read("cron(0 9 * * ? 2027)", StartDate=datetime(2030, 1, 1, tzinfo=UTC))
    assert (never.expression, never.start_at, never.end_at) == (None, None, None)
    assert never.doubts[1:] == ("it never fires: it ends before it begins",)
    assert read("cron(0 9 * * ? 2027/2)").start_at == datetime(2027, 1, 1, tzinfo=UTC)
    bounds = {"StartDate": NOW, "EndDate": NOW + timedelta(days=1)}
    found = read("cron(0 9 * * ? *)", **bounds)
    assert (found.start_at, found.end_at) == (NOW, NOW + timedelta(days=1))
    found = read("at(2026-10-25T02:30:00)", **berlin, **bounds)
    assert found.expression == Once(datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    assert (found.start_at, "comes twice" in found.doubts[1]) == (None, True)
    found = read("at(2027-03-28T02:30:00)", **berlin)
    assert (found.expression, "there is no" in found.doubts[1]) == (None, True)
    found = read(
        "cron(0 9 * * ? *)",
        State="DISABLED",
        Description="Ours",
        FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
        ActionAfterCompletion="DELETE",
    )
    assert (found.enabled, found.description) == (False, "Ours")
    assert found.jitter == timedelta(minutes=15)
    assert found.doubts == (f"it sends to {QUEUE}", "AWS deletes it after the last time")


def test_others_are_found_in_all_groups_and_ours_are_left_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purista.sync.eventbridge.PAGE", 2)
    shop.write(DAILY)
    shop.apply()
    shop.client.create_schedule_group(Name="apps")
    compiled = "purista: Shop.v1.x 0123456789abcdef - x"
    shop.theirs("z", "purista")
    shop.theirs("b")
    shop.theirs("a", "apps", ScheduleExpression="cron(0 9 ? * 2 *)")
    shop.theirs("made-by-a-file", "apps", Description=compiled)
    found = asyncio.run(shop.foreign())
    assert [each.name for each in found] == ["apps/a", "default/b", "z"]
    assert found[0].expression == Cron("0 9 * * 1")
    code, out, err = shop.run("import", "eventbridge")
    assert (code, 'Cron("0 9 * * 1")' in out) == (0, True), err


def test_it_pauses_tells_times_and_imports_and_triggers_nothing(shop: Shop) -> None:
    shop.write(DAILY)

    async def kinds() -> list[bool]:
        async with open_live(shop.asked().request) as live:
            return [isinstance(live, each) for each in (Pauses, FireTimes, Imports, Triggers)]

    assert asyncio.run(kinds()) == [True, True, True, False]


STORED = {
    "Name": "x",
    "GroupName": "default",
    "Target": {"Arn": QUEUE, "RoleArn": ROLE},
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "State": "ENABLED",
    "CreationDate": NOW,
}


def read(expression: str, **changed: Any) -> Foreign:
    return foreign_schedule("x", {**STORED, "ScheduleExpression": expression, **changed}, NOW)
