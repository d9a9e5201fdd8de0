import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from purista.contract import Command, Event, Queue, Schedule
from purista.errors import ManifestError
from purista.expression import Cron, Every, Once
from purista.manifest import Manifest
from purista.meaning import fingerprint

CYCLE = {
    "type": "object",
    "properties": {"cycleId": {"type": "string", "minLength": 1}, "tenantId": {"type": "string"}},
    "required": ["cycleId", "tenantId"],
    "additionalProperties": False,
}


def exported(**changes: Any) -> dict[str, Any]:
    """Return one schedule as ``exportScheduleManifest`` of ``@purista/core`` 3.x writes it."""
    entry = {
        "name": "monthlyBillingCycle",
        "description": "Monthly billing cycle trigger",
        "targetKind": "event",
        "targetServiceName": "Billing",
        "targetServiceVersion": "1",
        "targetName": "billing.monthlyCycleDue",
        "payloadSchema": CYCLE,
        "expression": {"kind": "cron", "value": "0 2 1 * *"},
        "timezone": "Europe/Berlin",
        "concurrencyPolicy": "forbid",
        "missedRunPolicy": "runOnce",
        "idempotencyKey": "payload.cycleId",
        "enabledByDefault": True,
    }
    return {name: value for name, value in (entry | changes).items() if value is not ...}


def load(*entries: dict[str, Any]) -> Manifest:
    document = {"title": "Billing schedules", "version": "1.0.0", "schedules": list(entries)}
    return Manifest.from_json(json.dumps(document))


def schedule(**changes: Any) -> Schedule:
    (service,) = load(exported(**changes)).services()
    (found,) = service.schedules.values()
    return found


def problems(**changes: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(exported(**changes))
    return [str(each) for each in caught.value.problems]


def test_the_billing_example_of_the_original_is_this_schedule():
    found = schedule()
    assert found.id == "Billing.v1.monthlyBillingCycle"
    assert isinstance(found.target, Event)
    assert found.target.name == "billing.monthlyCycleDue"
    assert found.expression == Cron("0 2 1 * *")
    assert found.timezone == "Europe/Berlin"
    assert (found.concurrency_policy, found.missed_run_policy) == ("forbid", "runOnce")
    assert found.idempotency_key == "payload.cycleId"
    assert found.next_after(datetime(2027, 3, 2, tzinfo=UTC)) == datetime(2027, 4, 1, tzinfo=UTC)


def test_title_and_version_of_its_authors_are_kept():
    manifest = load(exported())
    assert (manifest.title, manifest.version) == ("Billing schedules", "1.0.0")
    assert manifest.manifest_version == "1.0"


def test_what_is_not_said_has_the_originals_defaults():
    missing: dict[str, Any] = dict.fromkeys(
        (
            "description",
            "timezone",
            "concurrencyPolicy",
            "missedRunPolicy",
            "idempotencyKey",
            "enabledByDefault",
            "payloadSchema",
        ),
        ...,
    )
    found = schedule(**missing)
    assert found.timezone == "UTC"
    assert (found.concurrency_policy, found.missed_run_policy) == ("allow", "skip")
    assert found.enabled
    assert found.target.schema.json_schema() == {}


def test_every_other_option_is_read():
    found = schedule(
        missedRunPolicy="backfill",
        maxCatchUpCount=7,
        jitterWindowMs=1500,
        enabledByDefault=False,
        providerHints={"kubernetes": {"namespace": "x"}},
    )
    assert found.missed_run_policy == "catchUp"
    assert found.max_catch_up == 7
    assert found.jitter == timedelta(milliseconds=1500)
    assert not found.enabled
    assert found.provider_hints == {"kubernetes": {"namespace": "x"}}


@pytest.mark.parametrize(("kind", "type_"), [("queue", Queue), ("command", Command)])
def test_each_kind_of_target_is_read(kind: str, type_: type[Any]):
    assert isinstance(schedule(targetKind=kind).target, type_)


def test_a_zone_inside_the_expression_is_the_schedules():
    expression = {"kind": "cron", "value": "0 2 1 * *", "timezone": "America/New_York"}
    assert schedule(expression=expression, timezone=...).timezone == "America/New_York"
    assert schedule(expression=expression, timezone="America/New_York").timezone
    assert problems(expression=expression) == [
        "schedules[0].expression.timezone: 'America/New_York' is not the schedule's own timezone "
        "'Europe/Berlin'; name one zone"
    ]


def test_an_interval_is_read():
    found = schedule(expression={"kind": "interval", "everyMs": 300_000})
    assert found.expression == Every(timedelta(minutes=5))


@pytest.mark.parametrize(
    "run_at", ["2027-04-01T00:00:00.000Z", "2027-04-01T02:00:00+02:00", 1806537600000]
)
def test_a_one_shot_is_a_text_or_a_number_of_milliseconds(run_at: object):
    found = schedule(expression={"kind": "oneShot", "runAt": run_at})
    assert found.expression == Once(datetime(2027, 4, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        (
            {"kind": "oneShot", "runAt": {}},
            "expression.runAt: is empty: the original writes a Date object so",
        ),
        ({"kind": "oneShot", "runAt": "2027-04-01T00:00:00"}, "expression.runAt: "),
        ({"kind": "oneShot", "runAt": 10**20}, "expression.runAt: "),
        ({"kind": "oneShot", "runAt": True}, "expression.runAt: true is no instant"),
        ({"kind": "oneShot", "runAt": -1}, "expression.runAt: "),
        ({"kind": "cron", "value": "0 0 2 1 * *"}, "say seconds true if the first is for seconds"),
        (
            {"kind": "cron", "value": "0 2 ? * *"},
            "expression.value: cron '0 2 ? * *': day of month",
        ),
        ({"kind": "interval", "everyMs": 0}, "expression.everyMs: "),
        ({"kind": "interval", "everyMs": 0.5}, "expression.everyMs: 0.5 is no duration"),
        ("0 2 * * *", "schedules[0].expression: '0 2 * * *' is no object"),
    ],
)
def test_an_expression_without_one_meaning_is_refused_at_its_place(expression: Any, part: str):
    found = problems(expression=expression)
    assert len(found) == 1
    assert part in found[0]


@pytest.mark.parametrize("key", ["billing-cycle", "cycleId", "payload.unknown", "payload.tags"])
def test_a_key_that_is_no_path_is_kept_without_a_meaning(key: str):
    manifest = load(exported(idempotencyKey=key))
    ((found,),) = [list(service.schedules.values()) for service in manifest.services()]
    assert found.idempotency_key is None
    assert manifest.schedules[found.id]["originalIdempotencyKey"] == key
    note = next(each for each in manifest.notes if "idempotencyKey" in each.place)
    assert f"'{key}' is no path of the payload, so it is kept as" in str(note)


def test_options_without_a_counterpart_are_kept_and_noted():
    manifest = load(exported(parameterSchema={"type": "object"}, schedulerGroup="nightly"))
    (entry,) = manifest.schedules.values()
    assert entry["parameterSchema"] == {"type": "object"}
    assert entry["schedulerGroup"] == "nightly"
    places = [each.place for each in manifest.notes]
    assert "schedules[0].parameterSchema" in places
    assert "schedules[0].schedulerGroup" in places


def test_a_payload_that_the_trigger_has_to_bring_is_noted():
    (note,) = load(exported()).notes
    assert str(note) == (
        "schedules[0].payload: there is no template, and the payload schema demands fields; "
        "every trigger has to bring the payload as its data, or add a template"
    )


def test_it_becomes_a_manifest_of_this_form_that_means_the_same():
    first = load(exported(idempotencyKey="x", schedulerGroup="g", missedRunPolicy="backfill"))
    second = Manifest.from_json(first.to_json())
    assert second == first
    assert second.to_json() == first.to_json()
    (one,), (other,) = (
        [each for service in manifest.services() for each in service.schedules.values()]
        for manifest in (first, second)
    )
    assert fingerprint(one) == fingerprint(other)


def test_services_are_known_by_the_targets():
    manifest = load(
        exported(),
        exported(name="other", targetServiceName="Shop", targetServiceVersion="2"),
    )
    assert [service.id for service in manifest.services()] == ["Billing.v1", "Shop.v2"]


def test_all_mistakes_of_all_schedules_are_told_at_once():
    with pytest.raises(ManifestError) as caught:
        load(
            exported(targetKind="subscription"),
            exported(name="two", concurrencyPolicy="Forbid", timezone="Europe/Berln"),
            exported(name="three", targetServiceName=...),
            exported(name="four"),
            exported(name="four", payloadSchema={"properties": 5}, idempotencyKey="x"),
        )
    found = [str(each) for each in caught.value.problems]
    assert [each.split(":")[0] for each in found] == [
        "schedules[0].targetKind",
        "schedules[1].timezone",
        "schedules[1].concurrencyPolicy",
        "schedules[2].serviceName",
        "schedules[4].payloadSchema.properties",
    ]


@pytest.mark.parametrize("schedules", [5, None, [5], [[]], ["x"]])
def test_what_is_no_list_of_schedules_is_refused(schedules: object):
    with pytest.raises(ManifestError, match="schedules"):
        Manifest.from_json(json.dumps({"version": "1", "schedules": schedules}))


def test_a_key_that_is_no_text_is_refused():
    assert problems(idempotencyKey=5) == ["schedules[0].idempotencyKey: 5 is no text"]
