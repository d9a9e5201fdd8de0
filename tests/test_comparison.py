import io
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from purista.comparison import Added, Comparison, Removed, Renamed, compare, compare_zones, zones_of
from purista.expression import Cron, Every
from purista.manifest import Manifest, export_manifest
from purista.service import Service
from purista.turnover import Horizon

YEAR = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
DAILY = {"expression": Cron("0 2 * * *")}


def manifest(version: str = "1", **schedules: dict[str, Any]) -> Manifest:
    service = Service("S", version=version)
    event = service.event("e", dict)
    for name, options in schedules.items():
        given = {**DAILY, **options}
        service.schedule(name, given.pop("description", "")).emit_event(event, **given)
    return export_manifest(service)


def compared(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> Comparison:
    return compare(manifest(**old), manifest(**new), YEAR)


def zone(file: str, name: str) -> ZoneInfo:
    content = resources.files("tzdata").joinpath(f"zoneinfo/{file}").read_bytes()
    return ZoneInfo.from_file(io.BytesIO(content), key=name)


def test_nothing_changes_between_equal_manifests():
    found = compared({"a": {}, "b": {}}, {"a": {}, "b": {}})
    assert found == Comparison(YEAR, unchanged=2)
    assert not found.moves_times
    one = manifest(a={})
    assert compare(one, one, YEAR) == Comparison(YEAR, unchanged=1)


def test_a_schedule_that_comes_or_goes_moves_all_its_times():
    found = compared({"a": {}, "b": {}}, {"b": {}, "c": {"timezone": "Europe/Berlin"}})
    (added,), (removed,) = found.added, found.removed
    assert isinstance(added, Added)
    assert isinstance(removed, Removed)
    assert (added.id, added.entry["timezone"]) == ("S.v1.c", "Europe/Berlin")
    assert (removed.id, removed.turnover.disappear.count) == ("S.v1.a", 365)
    # 02:00 does not exist on 28 March.
    assert (found.disappear, found.appear, found.unchanged) == (365, 364, 1)
    assert found.moves_times


def test_a_schedule_that_comes_or_goes_counts_though_nothing_is_due():
    found = compared({}, {"a": {"enabled": False}})
    assert (found.appear, found.moves_times) == (0, True)
    assert compared({"a": {"enabled": False}}, {}).moves_times


def test_a_new_name_for_the_same_is_a_renaming_and_moves_nothing():
    found = compared({"a": {}, "z": {}}, {"b": {}, "z": {}})
    assert found == Comparison(YEAR, renamed=(Renamed("S.v1.b", "S.v1.a"),), unchanged=1)
    assert not found.moves_times


def test_a_new_name_and_anything_else_is_another_schedule():
    for more in ({"description": "x"}, {"timezone": "Etc/UTC"}, {"payload": {"x": 1}}):
        found = compared({"a": {}}, {"b": more})
        assert (len(found.added), len(found.removed), found.renamed) == (1, 1, ())
    other_version = compare(manifest("1", a={}), manifest("2", a={}), YEAR)
    assert not other_version.renamed


def test_of_many_alike_each_is_renamed_once_in_their_order():
    found = compared({"a": {}, "b": {}}, {"x": {}, "y": {}, "z": {}})
    assert found.renamed == (Renamed("S.v1.x", "S.v1.a"), Renamed("S.v1.y", "S.v1.b"))
    assert [each.id for each in found.added] == ["S.v1.z"]
    assert compared({"a": {}, "b": {}}, {"x": {}}).removed[0].id == "S.v1.b"


def test_names_that_are_swapped_are_two_changes():
    noon = {"expression": Cron("0 12 * * *")}
    found = compared({"a": {}, "b": noon}, {"a": noon, "b": {}})
    assert [each.id for each in found.changed] == ["S.v1.a", "S.v1.b"]
    assert (found.disappear, found.appear) == (730, 730)


def test_a_change_of_policy_moves_no_time():
    found = compared({"a": {}}, {"a": {"concurrency_policy": "forbid"}})
    (change,) = found.changed
    assert (change.changes_meaning, bool(change.turnover), found.moves_times) == (
        True,
        False,
        False,
    )


def test_words_and_spelling_change_no_meaning_and_move_no_time():
    found = compared({"a": {}}, {"a": {"description": "x", "expression": Cron("00 02 * * *")}})
    (change,) = found.changed
    assert [each.field for each in change.fields] == ["description", "expression"]
    assert not change.changes_meaning
    assert not found.moves_times


def test_disabling_takes_all_times_away_and_enabling_brings_them():
    off = {"enabled": False}
    assert compared({"a": {}}, {"a": off}).disappear == 365
    assert compared({"a": off}, {"a": {}}).appear == 365
    assert not compared({"a": off}, {"a": off | {"timezone": "Asia/Tokyo"}}).moves_times


def test_only_the_times_within_the_bounds_and_off_excluded_days_move():
    until = {"end_at": datetime(2027, 1, 10, 2, tzinfo=UTC)}
    assert compared({"a": {}}, {"a": until}).disappear == 355
    free = {"exclude": [date(2027, 12, 24), date(2027, 12, 25)]}
    assert compared({"a": {}}, {"a": free}).disappear == 2


def test_a_change_beyond_the_horizon_moves_nothing_in_it():
    later = {"end_at": datetime(2030, 1, 1, 2, tzinfo=UTC)}
    found = compared({"a": {}}, {"a": later})
    assert found.changed[0].changes_meaning
    assert not found.moves_times


def test_a_clock_that_stays_the_same_moves_nothing():
    same = {"Europe/Berlin": zone("Europe/Berlin", "Europe/Berlin")}
    found = compare_zones(manifest(a={"timezone": "Europe/Berlin"}), same, YEAR)
    assert found == Comparison(YEAR, unchanged=1)


def test_another_clock_moves_the_schedules_that_follow_it():
    contract = manifest(
        nightly={"timezone": "Africa/Casablanca"},
        elsewhere={"timezone": "Europe/Berlin"},
        interval={"expression": Every(timedelta(hours=1)), "timezone": "Africa/Casablanca"},
        wildcard={"expression": Cron("*/30 * * * *"), "timezone": "Africa/Casablanca"},
        off={"timezone": "Africa/Casablanca", "enabled": False},
    )
    zones = {"Africa/Casablanca": zone("Asia/Tokyo", "Africa/Casablanca")}
    zones |= {"Europe/Berlin": zone("Europe/Berlin", "Europe/Berlin")}
    found = compare_zones(contract, zones, YEAR)
    (change,) = found.changed
    assert (change.id, change.fields) == ("S.v1.nightly", ())
    assert next(change.turnover.appearing()).hour == 17
    assert (found.moves_times, found.unknown, found.unchanged) == (True, (), 4)


def test_a_clock_that_differs_for_a_part_of_the_year_moves_that_part():
    """Berlin and Algiers are both an hour ahead of UTC in winter; Algiers has no summer time."""
    zones = {"Europe/Berlin": zone("Africa/Algiers", "Europe/Berlin")}
    found = compare_zones(manifest(a={"timezone": "Europe/Berlin"}), zones, YEAR)
    (change,) = found.changed
    assert change.turnover.disappear.first[0] == datetime(2027, 3, 29, 0, tzinfo=UTC)
    assert change.turnover.disappear.last == datetime(2027, 10, 31, 0, tzinfo=UTC)
    winter = Horizon(YEAR.start, datetime(2027, 3, 1, tzinfo=UTC))
    assert not compare_zones(manifest(a={"timezone": "Europe/Berlin"}), zones, winter).changed


def test_excluded_days_follow_the_clock_of_an_interval_too():
    hourly = {"expression": Every(timedelta(hours=1)), "exclude": [date(2027, 5, 1)]}
    contract = manifest(a=hourly | {"timezone": "Europe/Berlin"})
    assert zones_of(contract) == {"Europe/Berlin"}
    found = compare_zones(contract, {"Europe/Berlin": zone("Asia/Tokyo", "Europe/Berlin")}, YEAR)
    assert (found.disappear, found.appear) == (7, 7)


def test_of_a_zone_that_the_other_database_lacks_nothing_is_known():
    contract = manifest(
        a={"timezone": "Europe/Berlin"}, b={"expression": Every(timedelta(hours=1))}
    )
    assert zones_of(contract) == {"Europe/Berlin"}
    found = compare_zones(contract, {}, YEAR)
    assert (found.unknown, found.unchanged, found.moves_times) == (("S.v1.a",), 1, True)


def test_schedules_of_equal_timetables_are_walked_once():
    berlin = {"timezone": "Europe/Berlin"}
    found = compared({"a": {}, "b": {}}, {"a": berlin, "b": berlin})
    assert found.changed[0].turnover is found.changed[1].turnover
