import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from purista.contract import Backoff, Event, Queue, Schedule
from purista.errors import ManifestError, MissingExtraError
from purista.exclusion import DateRange, HolidayCalendar
from purista.expression import Cron, Every, Once
from purista.manifest import Manifest, export_manifest, fingerprint, manifest_schema
from purista.payload import Schema
from purista.service import Service, check

GOLDENS = Path(__file__).parent / "goldens"


class MonthlyCycle(BaseModel):
    cycle_id: str


class Purge(BaseModel):
    older_than_days: int = 30


def billing() -> Service:
    """Return the contract of the design's example, without handlers."""
    service = Service("Billing", version="1", description="Invoices and billing cycles")
    due = service.event("billing.monthlyCycleDue", MonthlyCycle)
    reports = service.queue("monthlyReports", MonthlyCycle, max_attempts=5)
    purge = service.command("purgeDrafts", Purge, returns=int)
    service.schedule("monthlyBillingCycle", "Trigger monthly billing on the 1st").emit_event(
        due,
        expression=Cron("0 2 1 * *"),
        timezone="Europe/Berlin",
        concurrency_policy="forbid",
        missed_run_policy="runOnce",
        payload={"cycle_id": "{nominal_time:%Y-%m}"},
        idempotency_key="payload.cycle_id",
    )
    service.schedule("monthlyReports", "Render last month's reports").enqueue(
        reports,
        expression=Cron("0 4 1 * *"),
        timezone="Europe/Berlin",
        missed_run_policy="catchUp",
        catch_up_window=timedelta(days=3),
        payload={"cycle_id": "{previous_nominal_time:%Y-%m}"},
    )
    service.schedule("purgeDrafts", "Delete abandoned drafts").invoke_command(
        purge, expression=Every(timedelta(hours=6)), payload={"older_than_days": 30}
    )
    return service


def everything() -> list[Service]:
    """Return services in which each option has another value than its default."""
    shop = Service("Shop", version="2024-01", description="Ünïcode")
    jobs = shop.queue(
        "jobs",
        Purge,
        max_attempts=9,
        lease=timedelta(minutes=2),
        backoff=Backoff(timedelta(seconds=5), 3, timedelta(hours=1), 0),
    )
    due = shop.event("due", dict, external=True)
    options: dict[str, Any] = {
        "timezone": "America/New_York",
        "dst_gap": "next",
        "dst_overlap": "both",
        "start_at": datetime(2027, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        "end_at": datetime(2029, 1, 1, tzinfo=UTC),
        "exclude": [
            date(2027, 12, 24),
            DateRange(date(2028, 12, 24), date(2028, 12, 31)),
            HolidayCalendar("DE", date(2027, 1, 1), date(2027, 12, 31), (date(2027, 1, 1),)),
        ],
        "concurrency_policy": "replace",
        "missed_run_policy": "catchUp",
        "max_catch_up": 7,
        "catch_up_window": timedelta(days=2),
        "misfire_grace": timedelta(seconds=5),
        "jitter": timedelta(milliseconds=1500),
        "run_timeout": timedelta(minutes=5),
        "dedupe_window": timedelta(days=3),
        "enabled": False,
        "provider_hints": {"temporal": {"taskQueue": "x"}, "list": (1, 2)},
        "tags": ["money", "eu.west"],
    }
    shop.schedule("all", "Every option").enqueue(
        jobs,
        expression=Cron("30 0 2-4 13 * FRI", day_rule="and", seconds=True),
        payload={"older_than_days": "{nominal_time:%d}"},
        idempotency_key="payload.older_than_days",
        **options,
    )
    shop.schedule("watched").emit_event(
        due, expression=Every(timedelta(minutes=7), anchor=datetime(2027, 1, 1, 0, 1, tzinfo=UTC)),
        payload={"a": ("{run_id}", 1.5, None, True)}, completed_by="done",
    )  # fmt: skip
    shop.schedule("once").invoke_command(
        "elsewhere",
        payload_schema=Purge,
        target_service_name="Other",
        target_service_version="7",
        external=True,
        expression=Once(datetime(2027, 5, 1, 12, tzinfo=UTC)),
    )
    shop.schedule("either").emit_event(due, expression=Cron("@daily"))
    shop.schedule("or").emit_event(due, expression=Cron("0 0 13 * 5"))
    own = Event("own", MonthlyCycle)
    shop.add_schedule(
        Schedule(
            name="built",
            service_name="X",
            service_version="1",
            target=own,
            expression=Cron("@hourly"),
            payload={"cycle_id": "x"},
        )
    )
    return [shop, Service("Empty"), Service("Empty", version="2")]


@pytest.mark.parametrize(("name", "services"), [("billing", [billing]), ("everything", [])])
def test_the_manifest_is_the_golden_one(name: str, services: list[Any]):
    given = [each() for each in services] or everything()
    found = export_manifest(*given, title=f"Golden {name}", version="1.2.3", tzdata="2026a")
    golden = GOLDENS / f"manifest_{name}.json"
    assert found.to_json() == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("services", [[billing()], everything(), []])
def test_it_is_read_back_as_it_was(services: list[Service]):
    first = export_manifest(*services)
    again = Manifest.from_json(first.to_json())
    assert again == first
    assert hash(again) == hash(first)
    assert again.to_json() == first.to_json()
    assert again.notes == ()


@pytest.mark.parametrize("services", [[billing()], everything()])
def test_services_from_a_manifest_alone_mean_the_same(services: list[Service]):
    manifest = Manifest.from_json(export_manifest(*services).to_json())
    again = manifest.services()
    assert [each.id for each in again] == sorted(each.id for each in services)
    assert export_manifest(*again).to_json() == manifest.to_json()
    found = {s.id: fingerprint(s) for service in again for s in service.schedules.values()}
    assert found == {s.id: fingerprint(s) for each in services for s in each.schedules.values()}


def test_a_rebuilt_schedule_is_due_at_the_same_times():
    (service,) = Manifest.from_json(export_manifest(billing()).to_json()).services()
    start, end = datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 4, 2, tzinfo=UTC)
    found = service.schedules["monthlyBillingCycle"].between(start, end)
    assert [each.isoformat() for each in found] == [
        "2027-03-01T01:00:00+00:00",
        "2027-04-01T00:00:00+00:00",
    ]


def test_rebuilt_services_need_no_handlers_and_share_their_messages():
    (service,) = Manifest.from_json(export_manifest(billing()).to_json()).services()
    check(service)
    assert service.schedules["monthlyReports"].target is service.queues["monthlyReports"]
    assert service.description == "Invoices and billing cycles"
    assert service.commands["purgeDrafts"].returns.json_schema() == {"type": "integer"}
    assert service.queues["monthlyReports"].max_attempts == 5
    assert "missed_run_policy" in service.schedules["purgeDrafts"].stated


def test_a_target_of_its_own_keeps_its_options():
    service = Service("S")
    service.queue("q", dict, max_attempts=3)
    schedule = service.schedule("a").enqueue(
        Queue("q", dict, max_attempts=8, service_name="S", service_version="1"),
        expression=Cron("@daily"),
    )
    (again,) = Manifest.from_json(export_manifest(service).to_json()).services()
    assert again.queues["q"].max_attempts == 3
    assert again.schedules["a"].target.max_attempts == 8  # type: ignore[union-attr]
    assert fingerprint(again.schedules["a"]) == fingerprint(schedule)


@pytest.mark.parametrize("services", [[billing()], everything(), []])
def test_every_exported_manifest_fits_the_json_schema(services: list[Service]):
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(export_manifest(*services, title="x", version="1").to_json())
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(document)) == []


def broken(path: str, value: object) -> dict[str, Any]:
    document = json.loads(export_manifest(billing(), tzdata="x").to_json())
    owner: Any = document
    *way, last = path.split(".")
    for part in way:
        owner = owner[int(part)] if part.isdecimal() else owner[part]
    if value is ...:
        del owner[last]
    else:
        owner[last] = value
    return document  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("manifestVersion", "2.0"),
        ("manifestVersion", ...),
        ("schedules", ...),
        ("schedules", {}),
        ("title", 5),
        ("services.0.name", "a.b"),
        ("services.0.version", ...),
        ("services.0.events.0.name", ...),
        ("services.0.queues.0.maxAttempts", 0),
        ("services.0.queues.0.backoff.jitter", 2),
        ("services.0.commands.0.timeoutMs", "1s"),
        ("schedules.0.name", "a b"),
        ("schedules.0.name", "a."),
        ("schedules.0.name", ...),
        ("schedules.0.targetKind", "subscription"),
        ("schedules.0.targetName", ...),
        ("schedules.0.expression", ...),
        ("schedules.0.expression", "0 2 * * *"),
        ("schedules.0.expression.kind", "cronn"),
        ("schedules.0.expression.value", ...),
        ("schedules.0.expression.value", 5),
        ("schedules.2.expression.everyMs", 500),
        ("schedules.2.expression.everyMs", 1000.5),
        ("schedules.0.startAt", "2027-01-01"),
        ("schedules.0.jitterWindowMs", 0.5),
        ("schedules.0.jitterWindowMs", -1),
        ("schedules.0.runTimeoutMs", 0),
        ("schedules.0.concurrencyPolicy", "Forbid"),
        ("schedules.0.missedRunPolicy", "backfill"),
        ("schedules.0.dstGap", "jump"),
        ("schedules.0.maxCatchUpCount", 0),
        ("schedules.0.enabledByDefault", "yes"),
        ("schedules.0.providerHints", []),
        ("schedules.0.payloadSchema", 5),
        ("schedules.1.targetOptions.leaseMs", 0),
        ("schedules.2.targetOptions.timeoutMs", 0),
    ],
)
def test_a_broken_manifest_fits_neither_the_json_schema_nor_the_reader(path: str, value: object):
    document = broken(path, value)
    assert not jsonschema.Draft202012Validator(manifest_schema()).is_valid(document)
    document = document if path != "manifestVersion" or value is not ... else broken(path, None)
    with pytest.raises(ManifestError):
        Manifest.from_json(json.dumps(document))


def test_the_json_schema_names_every_field_that_is_written():
    schema = manifest_schema()
    document = json.loads(export_manifest(*everything(), title="x", version="1").to_json())
    known = {
        name: set(part["properties"])
        for name, part in schema["$defs"].items()
        if "properties" in part
    }
    assert set(document) == set(schema["properties"])
    written = {name for entry in document["schedules"] for name in entry}
    assert written == known["schedule"]
    assert {name for entry in document["services"] for name in entry} == known["service"]


def test_title_version_and_database_are_said():
    manifest = export_manifest(title="T", version="3", tzdata="2026a")
    assert (manifest.title, manifest.version, manifest.tzdata) == ("T", "3", "2026a")
    empty = export_manifest()
    assert (empty.title, empty.version) == (None, None)
    assert empty.tzdata is not None
    assert empty.tzdata[:2] == "20"
    assert Manifest.from_json('{"manifestVersion": "1.0", "schedules": []}').tzdata is None


def test_the_order_of_declaration_does_not_matter():
    one, two = billing(), Service("A")
    assert export_manifest(one, two).to_json() == export_manifest(two, one).to_json()
    reordered = billing()
    reordered.schedules = dict(reversed(reordered.schedules.items()))
    reordered.events = dict(reversed(reordered.events.items()))
    assert export_manifest(reordered).to_json() == export_manifest(one).to_json()


def test_the_same_service_may_be_given_twice_and_two_of_one_name_not():
    one = billing()
    assert export_manifest(one, one) == export_manifest(one)
    with pytest.raises(ManifestError, match=r"service 'Billing\.v1': is given twice"):
        export_manifest(one, billing())


def test_a_changed_manifest_changes_no_service():
    service = billing()
    before = export_manifest(service).to_json()
    hints: Any = export_manifest(service).document["schedules"][0]["providerHints"]
    hints["x"] = 1
    assert export_manifest(service).to_json() == before


def test_what_is_finer_than_a_millisecond_is_refused_and_not_rounded():
    service = Service("S")
    event = service.event("e", dict)
    service.queue("q", dict, lease=timedelta(seconds=1, microseconds=1))
    fine = timedelta(seconds=1, microseconds=500)
    service.schedule("a").emit_event(event, expression=Every(fine), jitter=fine, misfire_grace=fine)
    with pytest.raises(ManifestError) as caught:
        export_manifest(service)
    assert [str(each) for each in caught.value.problems] == [
        "service 'S.v1': queue 'q': lease: 0:00:01.000001 is no whole number of milliseconds; round it",
        "schedule 'S.v1.a': expression: 0:00:01.000500 is no whole number of milliseconds; round it",
        "schedule 'S.v1.a': jitter: 0:00:01.000500 is no whole number of milliseconds; round it",
        "schedule 'S.v1.a': misfire_grace: 0:00:01.000500 is no whole number of milliseconds; round it",
    ]


def loaded(**changes: Any) -> Manifest:
    document = json.loads(export_manifest(billing()).to_json())
    for name, value in changes.items():
        document["schedules"][0][name] = value
    return Manifest.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"payload": {"cycle": "x"}}, "payload.cycle: is not a field of the payload schema"),
        ({"payload": {"cycle_id": "{nominal}"}}, "unknown placeholder '{nominal}'"),
        ({"idempotencyKey": "payload.cycle"}, "idempotency_key: 'payload.cycle'"),
        ({"endAt": "1971-01-01T00:00:00Z", "startAt": "1972-01-01T00:00:00Z"}, "end_at"),
        ({"completedBy": "billing.monthlyCycleDue"}, "completed_by"),
        ({"payloadSchema": {"type": "strin"}}, "is no JSON Schema"),
    ],
)
def test_what_only_the_whole_schedule_shows_is_refused_when_it_is_rebuilt(
    changes: dict[str, Any], part: str
):
    with pytest.raises(ManifestError) as caught:
        loaded(**changes).services()
    assert str(caught.value).startswith("schedule 'Billing.v1.monthlyBillingCycle'")
    assert str(caught.value).count("schedule 'Billing") == 1
    assert part in str(caught.value)


def test_a_message_whose_schema_is_none_is_refused_when_it_is_rebuilt():
    document = json.loads(export_manifest(billing()).to_json())
    document["services"][0]["commands"][0]["returnsSchema"] = {"type": "strin"}
    with pytest.raises(
        ManifestError, match=r"service 'Billing\.v1': command 'purgeDrafts': returns"
    ):
        Manifest.from_json(json.dumps(document)).services()


def test_a_manifest_is_read_without_the_extra_and_rebuilt_with_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    manifest = Manifest.from_json(export_manifest(billing()).to_json())
    with pytest.raises(MissingExtraError, match=r"purista\[jsonschema\]"):
        manifest.services()


def test_a_service_may_be_known_by_its_schedules_only():
    document = json.loads(export_manifest(billing()).to_json())
    document["services"] = []
    (service,) = Manifest.from_json(json.dumps(document)).services()
    assert service.id == "Billing.v1"
    assert len(service.schedules) == 3


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_manifest import billing, everything
from purista.manifest import export_manifest
sys.stdout.reconfigure(encoding="utf-8")
print(export_manifest(billing(), *everything(), tzdata="x").to_json(), end="")
"""


def test_the_bytes_are_the_same_in_every_process():
    program = PROGRAM.format(folder=str(Path(__file__).parent))
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in ((0, "UTC"), (1, "Asia/Tokyo"), (2, "America/New_York"))
    }
    assert found == {export_manifest(billing(), *everything(), tzdata="x").to_json().encode()}


def test_entries_are_found_by_id():
    manifest = export_manifest(billing())
    assert list(manifest.schedules) == [
        "Billing.v1.monthlyBillingCycle",
        "Billing.v1.monthlyReports",
        "Billing.v1.purgeDrafts",
    ]
    assert manifest.schedules["Billing.v1.purgeDrafts"]["targetName"] == "purgeDrafts"


words = st.sampled_from
schedules = st.fixed_dictionaries(
    {
        "expression": st.one_of(
            st.builds(lambda m, h: Cron(f"{m} {h} * * *"), st.integers(0, 59), st.integers(0, 23)),
            st.builds(lambda s: Every(timedelta(seconds=s)), st.integers(1, 10**6)),
            st.builds(
                Once,
                st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)),
            ),
        ),
        "timezone": words(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
        "concurrency_policy": words(["allow", "forbid", "replace"]),
        "missed_run_policy": words(["skip", "runOnce", "catchUp"]),
        "max_catch_up": st.integers(1, 10**9),
        "jitter": st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms)),
        "payload": st.none()
        | st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers()),
        "enabled": st.booleans(),
    }
)


@given(schedules)
def test_any_schedule_survives_the_manifest(options: dict[str, Any]):
    service = Service("S")
    event = Event("e", Schema.from_json_schema({}))
    schedule = service.schedule("a").emit_event(event, **options)
    manifest = Manifest.from_json(export_manifest(service).to_json())
    assert manifest == export_manifest(service)
    again = manifest.services()[0].schedules["a"]
    assert fingerprint(again) == fingerprint(schedule)
    for name in options:
        assert getattr(again, name) == getattr(schedule, name)
