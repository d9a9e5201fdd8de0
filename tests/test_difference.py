from datetime import timedelta
from typing import Any

from purista.difference import Difference, FieldChange, ScheduleChange, difference
from purista.expression import Cron, Every
from purista.manifest import Manifest, export_manifest
from purista.service import Service


def manifest(**schedules: dict[str, Any]) -> Manifest:
    service = Service("S")
    event = service.event("e", dict)
    for name, options in schedules.items():
        description = options.pop("description", "")
        service.schedule(name, description).emit_event(
            event, **{"expression": Cron("0 2 * * *"), **options}
        )
    return export_manifest(service)


def test_equal_manifests_do_not_differ():
    found = difference(manifest(a={}), manifest(a={}))
    assert not found
    assert found == Difference((), (), ())


def test_added_removed_and_changed_schedules_are_told_by_id():
    old = manifest(a={}, b={}, c={})
    new = manifest(b={"timezone": "Europe/Berlin"}, c={}, e={}, d={})
    found = difference(old, new)
    assert found
    assert found.added == ("S.v1.d", "S.v1.e")
    assert found.removed == ("S.v1.a",)
    change = FieldChange("timezone", "UTC", "Europe/Berlin")
    assert found.changed == (ScheduleChange("S.v1.b", (change,), changes_meaning=True),)


def test_fields_that_come_or_go_are_none_on_the_other_side():
    found = difference(manifest(a={"payload": {"x": 1}}), manifest(a={}))
    assert found.changed[0].fields == (FieldChange("payload", {"x": 1}, None),)


def test_words_for_people_and_spelling_change_no_meaning():
    found = difference(manifest(a={}), manifest(a={"description": "x"}))
    assert [each.field for each in found.changed[0].fields] == ["description"]
    assert not found.changed[0].changes_meaning
    found = difference(manifest(a={}), manifest(a={"expression": Cron("00 2 * * *")}))
    assert not found.changed[0].changes_meaning


def test_an_expression_of_another_kind_is_one_change():
    (change,) = difference(
        manifest(a={}), manifest(a={"expression": Every(timedelta(hours=1))})
    ).changed
    assert [each.field for each in change.fields] == ["expression"]
    assert change.changes_meaning


def test_true_is_not_one():
    found = difference(manifest(a={"payload": {"x": 1}}), manifest(a={"payload": {"x": True}}))
    assert [each.field for each in found.changed[0].fields] == ["payload"]
