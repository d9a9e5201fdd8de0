from __future__ import annotations

import shutil
import struct
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from purista import zone
from purista.errors import ContractError
from purista.zone import (
    Offsets,
    Transition,
    offsets_of,
    transitions_between,
    zone_names,
    zone_of,
    zone_problems,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def changes(name: str, start: str, end: str) -> list[tuple[str, float]]:
    found = transitions_between(ZoneInfo(name), at(start), at(end))
    return [(f"{one.instant:%Y-%m-%d %H:%M:%S}", one.change / HOUR) for one in found]


@pytest.fixture
def databases() -> Iterator[None]:
    """Lets a test change where time zones come from."""
    yield
    zoneinfo.reset_tzpath()
    ZoneInfo.clear_cache()
    zone._packaged_names.cache_clear()


def test_a_name_becomes_its_zone() -> None:
    assert zone_of("Europe/Berlin") is ZoneInfo("Europe/Berlin")


def test_a_zone_is_taken_as_it_is() -> None:
    berlin = ZoneInfo.no_cache("Europe/Berlin")
    assert zone_of(berlin) is berlin


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        (" America/New York ", "did you mean 'America/New_York'?"),
        ("Singapur", "did you mean 'Singapore'?"),
        ("Kolkata", "did you mean 'Asia/Kolkata'?"),
        ("utc", "did you mean 'UTC'?"),
        ("CEST", "use an IANA name such as 'Europe/Berlin'"),
        ("+02:00", "use an IANA name such as 'Europe/Berlin'"),
        ("", "use an IANA name such as 'Europe/Berlin'"),
    ],
)
def test_a_wrong_name_is_refused_with_a_near_one(name: str, remedy: str) -> None:
    (problem,) = zone_problems(name)
    assert (problem.place, problem.remedy) == ("timezone", remedy)


@pytest.mark.parametrize(
    "name",
    [
        "localtime",
        "posixrules",
        "Factory",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "../etc/passwd",
        "/etc/localtime",
        "Europe/../Europe/Berlin",
        "Europe",
        "Europe/",
        "tzdata.zi",
        "zone.tab",
        "Europe/Berlin\0",
        "\ud800",
        "x" * 100_000,
    ],
)
def test_what_is_no_zone_everywhere_is_refused(name: str) -> None:
    (problem,) = zone_problems(name)
    assert problem.message.startswith("unknown time zone")
    assert len(problem.message) < 300
    with pytest.raises(ContractError, match="unknown time zone"):
        zone_of(name)


@pytest.mark.parametrize("name", [None, 1, b"UTC", ["UTC"], UTC])
def test_what_is_no_text_is_refused(name: object) -> None:
    (problem,) = zone_problems(name)
    assert "is no time zone" in problem.message


def test_every_name_in_the_databases_is_known() -> None:
    assert {"UTC", "Europe/Berlin", "America/Argentina/Ushuaia"} < zone_names()
    assert all(zone_problems(name) == [] for name in zone_names())


def test_the_tzdata_package_alone_is_enough(databases: None) -> None:
    zoneinfo.reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    assert changes("Europe/Berlin", "2027-03-01", "2027-04-01") == [("2027-03-28 01:00:00", 1)]
    assert zone_problems("Europe/Berlin") == []


def test_the_system_database_alone_is_enough(
    databases: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Europe").mkdir()
    source = resources.files("tzdata.zoneinfo").joinpath("Europe", "Berlin")
    with resources.as_file(source) as path:
        shutil.copy(path, tmp_path / "Europe" / "Berlin")
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zone._packaged_names.cache_clear()
    zoneinfo.reset_tzpath(to=[str(tmp_path)])
    ZoneInfo.clear_cache()
    assert zone_names() == {"Europe/Berlin"}
    assert zone_of("Europe/Berlin").key == "Europe/Berlin"
    with pytest.raises(ContractError, match="unknown time zone 'Asia/Tokyo'"):
        zone_of("Asia/Tokyo")


def test_a_tzdata_package_without_a_list_of_names_does_no_harm(
    databases: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tzdata").mkdir()
    (tmp_path / "tzdata" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "tzdata", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    zone._packaged_names.cache_clear()
    assert zone._packaged_names() == frozenset()


def test_daylight_saving_gives_two_changes_a_year() -> None:
    assert changes("Europe/Berlin", "2027-01-01", "2028-01-01") == [
        ("2027-03-28 01:00:00", 1),
        ("2027-10-31 01:00:00", -1),
    ]


def test_changes_of_half_an_hour_and_of_a_day_are_found() -> None:
    assert changes("Australia/Lord_Howe", "2027-01-01", "2028-01-01") == [
        ("2027-04-03 15:00:00", -0.5),
        ("2027-10-02 15:30:00", 0.5),
    ]
    assert changes("Pacific/Apia", "2011-12-01", "2012-01-15") == [("2011-12-30 10:00:00", 24)]
    assert changes("Pacific/Kwajalein", "1993-08-01", "1993-09-01") == [("1993-08-21 12:00:00", 24)]


def test_a_change_that_is_not_at_a_full_minute_is_found_to_the_second() -> None:
    (change,) = transitions_between(ZoneInfo("Africa/Monrovia"), at("1970-01-01"), at("1980-01-01"))
    assert change == Transition(
        datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC), -timedelta(minutes=44, seconds=30), 0 * HOUR
    )


def test_a_change_at_new_year_is_found_once() -> None:
    assert changes("Pacific/Kiritimati", "1994-12-01", "1995-02-01") == [
        ("1994-12-31 10:00:00", 24)
    ]


def test_both_ends_are_inclusive() -> None:
    found = changes("Europe/Berlin", "2027-03-28T01:00:00", "2027-10-31T01:00:00")
    assert [change for _, change in found] == [1, -1]
    assert changes("Europe/Berlin", "2027-03-28T01:00:01", "2027-10-31T00:59:59") == []


def test_the_rule_for_all_later_years_is_followed_to_the_end() -> None:
    assert changes("Europe/Berlin", "2200-01-01", "2200-12-31") == [
        ("2200-03-30 01:00:00", 1),
        ("2200-10-26 01:00:00", -1),
    ]


def test_a_fixed_zone_has_one_span() -> None:
    (offsets, now) = (offsets_of(ZoneInfo("Asia/Tokyo")), at("2027-06-01"))
    assert offsets_of(ZoneInfo("UTC")).are_fixed
    assert not offsets.are_fixed  # it had daylight saving, before 1970
    assert offsets.span(now).offset == 9 * HOUR
    assert changes("UTC", "1970-01-01", "2200-12-31") == []


@pytest.mark.parametrize("name", ["Europe/Berlin", "Pacific/Kiritimati", "Asia/Gaza", "UTC"])
def test_spans_follow_each_other_and_are_cut_far_from_changes(name: str) -> None:
    offsets = Offsets(ZoneInfo(name))
    spans = [offsets.span(at("1970-01-01"))]
    while spans[-1].end < at("2100-01-01"):
        spans.append(offsets.span(spans[-1].end))
    for before, after in pairwise(spans):
        assert before.end == after.start
        assert before.change_out == after.change_in == after.offset - before.offset
    instants = [span.start for span in spans if span.change_in]
    cuts = [span.start for span in spans if not span.change_in]
    assert all(abs(cut - instant) > 2 * DAY for cut in cuts for instant in instants)


def test_every_change_that_the_database_lists_is_found() -> None:
    """The files say outright when offsets change; only what comes after is a rule."""
    for name in sorted(zone._packaged_names()):
        listed = [change for change in listed_changes(name) if change.instant >= at("1970-01-01")]
        if listed:
            last = listed[-1].instant
            assert list(transitions_between(_packaged(name), at("1970-01-01"), last)) == listed


def test_no_two_changes_are_as_close_as_the_probes() -> None:
    """``Offsets`` would miss a change that is taken back within five days."""
    for name in sorted(zone._packaged_names()):
        instants = [change.instant for change in listed_changes(name)]
        recent = [instant for instant in instants if instant >= at("1970-01-01")]
        assert all(after - before > 6 * DAY for before, after in pairwise(recent)), name


def listed_changes(name: str) -> list[Transition]:
    """Read the 64-bit part of a TZif file (RFC 9636), leaving out what changes no offset."""
    content = _resource(name).read_bytes()
    first = struct.unpack(">6l", content[20:44])
    start = 44 + first[3] * 5 + first[4] * 6 + first[5] + first[2] * 8 + first[1] + first[0]
    count, types = struct.unpack(">2l", content[start + 32 : start + 40])
    instants = struct.unpack(f">{count}q", content[start + 44 : start + 44 + 8 * count])
    kinds = content[start + 44 + 8 * count : start + 44 + 9 * count]
    table = start + 44 + 9 * count
    offsets = [
        timedelta(seconds=struct.unpack(">l", content[table + 6 * kind : table + 6 * kind + 4])[0])
        for kind in range(types)
    ]
    after = [offsets[kind] for kind in kinds]
    found = zip(instants, [offsets[0], *after], after, strict=False)
    epoch = at("1970-01-01")
    return [
        Transition(epoch + timedelta(seconds=instant), early, late)
        for instant, early, late in found
        if early != late and instant > -(2**40)
    ]


def _resource(name: str) -> Traversable:
    return resources.files("tzdata.zoneinfo").joinpath(*name.split("/"))


def _packaged(name: str) -> ZoneInfo:
    with _resource(name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
