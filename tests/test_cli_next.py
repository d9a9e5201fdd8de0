import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import icalendar
import pytest

from purista.cli.app import run
from purista.cli.output import out as console

APP = """
from datetime import timedelta
from purista import Cron, Every, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", dict)

shop.schedule("monthly", "bill").emit_event(
    due, expression=Cron("0 2 1 * *"), timezone="Europe/Berlin", payload={}
)
shop.schedule("hourly").emit_event(due, expression=Every(timedelta(hours=1)), payload={})
shop.schedule("off").emit_event(
    due, expression=Cron("0 3 * * *"), timezone="Asia/Tokyo", payload={}, enabled=False
)

clock = Service("Clock")
tick = clock.event("tick", dict)
for name, options in {
    "skip": {},
    "next": {"dst_gap": "next"},
    "both": {"dst_overlap": "both"},
}.items():
    clock.schedule(name).emit_event(
        tick, expression=Cron("30 2 * * *"), timezone="Europe/Berlin", payload={}, **options
    )

busy = Service("Busy")
second = busy.event("second", dict)
for number in range(3):
    busy.schedule(f"each{number}").emit_event(
        second, expression=Every(timedelta(seconds=1)), payload={}
    )
many = [Service(f"S{number}") for number in range(6)]
"""

Capture = pytest.CaptureFixture[str]
SINCE = ("--from", "2027-02-28T00:00:00Z")
SPRING = ("--from", "2027-03-27T22:00:00Z", "--until", "2027-03-28T22:00:00Z")
AUTUMN = ("--from", "2027-10-30T22:00:00Z", "--until", "2027-10-31T22:00:00Z")


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "next_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("next_app", None)


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["next", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows_of(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = call(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_row_says_the_local_time_and_utc_and_how_far_away(capsys: Capture):
    code, out, _ = call(capsys, "next_app:shop", "-s", "monthly", "-n", "2", *SINCE)
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        "local",
        "Mon 2027-03-01 02:00 +01:00",
        "Thu 2027-04-01 02:00 +02:00",
    ]
    assert "2027-03-01T01:00:00Z  in 1 d 1 h" in out
    assert "Shop.v1.monthly  Europe/Berlin" in out


def test_json_has_all_that_the_table_has(capsys: Capture):
    rows = rows_of(capsys, "next_app:shop", "-s", "monthly", "-n", "1", *SINCE)
    assert rows == [
        {
            "away": "in 1 d 1 h",
            "awayMs": 90_000_000,
            "clockChange": None,
            "id": "Shop.v1.monthly",
            "local": "Mon 2027-03-01 02:00 +01:00",
            "skipped": False,
            "timezone": "Europe/Berlin",
            "utc": "2027-03-01T01:00:00Z",
        }
    ]


def test_all_schedules_come_in_one_order(capsys: Capture):
    rows = rows_of(capsys, "next_app:shop", "--from", "2027-03-01T00:00:00Z", "-n", "4")
    assert [(row["utc"][11:16], row["id"]) for row in rows] == [
        ("00:00", "Shop.v1.hourly"),
        ("01:00", "Shop.v1.hourly"),
        ("01:00", "Shop.v1.monthly"),
        ("02:00", "Shop.v1.hourly"),
    ]


def test_without_an_end_there_are_ten_rows(capsys: Capture):
    assert len(rows_of(capsys, "next_app:shop")) == 10
    _, out, _ = call(capsys, "next_app:shop")
    assert len(out.splitlines()) == 11


def test_a_window_is_shown_whole_with_both_ends(capsys: Capture):
    hours = ("next_app:shop", "-s", "hourly", "--from", "2027-03-01T00:00:00Z")
    rows = rows_of(capsys, *hours, "--until", "2027-03-02T00:00:00Z")
    assert len(rows) == 25
    assert [rows[0]["utc"], rows[-1]["utc"]] == ["2027-03-01T00:00:00Z", "2027-03-02T00:00:00Z"]
    assert rows_of(capsys, *hours, "--days", "1") == rows


def test_a_count_cuts_a_window(capsys: Capture):
    assert len(rows_of(capsys, "next_app:shop", *SINCE, "--days", "9", "--count", "7")) == 7


def test_a_skipped_time_is_a_row_without_utc(capsys: Capture):
    rows = rows_of(capsys, "next_app:clock", "-s", "skip", *SPRING)
    assert [(row["local"], row["utc"], row["skipped"], row["clockChange"]) for row in rows] == [
        ("Sun 2027-03-28 02:30", None, True, "skipped by the clock change")
    ]
    assert rows[0]["away"] == "in 3 h"
    _, out, _ = call(capsys, "next_app:clock", "-s", "skip", *SPRING)
    assert "Sun 2027-03-28 02:30         -                     in 3 h" in out
    assert "skipped by the clock change" in out


def test_a_moved_time_says_from_where(capsys: Capture):
    rows = rows_of(capsys, "next_app:clock", "-s", "next", *SPRING)
    assert [(row["utc"], row["clockChange"]) for row in rows] == [
        ("2027-03-28T01:00:00Z", "moved from 02:30 by the clock change")
    ]


def test_a_doubled_time_says_which_of_two_it_is(capsys: Capture):
    rows = rows_of(capsys, "next_app:clock", "-s", "both", *AUTUMN)
    assert [(row["local"], row["clockChange"]) for row in rows] == [
        ("Sun 2027-10-31 02:30 +02:00", "first of two 02:30"),
        ("Sun 2027-10-31 02:30 +01:00", "second of two 02:30"),
    ]


def test_what_is_disabled_is_not_due(capsys: Capture):
    assert call(capsys, "next_app:shop", "-s", "off") == (0, "", "nothing is due any more\n")
    assert rows_of(capsys, "next_app:shop", "-s", "off") == []


def test_an_empty_window_says_so(capsys: Capture):
    code, out, err = call(capsys, "next_app:shop", "-s", "monthly", *SINCE, "--days", "1")
    assert (code, out, err) == (0, "", "nothing is due\n")


def test_a_terminal_sees_skipped_and_moved_rows_in_another_style(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "_color_system", None)
    _, out, _ = call(capsys, "next_app:clock", *SPRING)
    lines = out.splitlines()
    assert "skipped by the clock change" in lines[1]
    assert "moved from 02:30" in lines[3]


def test_the_calendar_has_an_event_for_each_nominal_time(capsys: Capture):
    arguments = ("next_app:shop", "-s", "monthly", "--from", "2027-01-15T00:00:00Z")
    code, out, err = call(capsys, *arguments, "--ics", "shop.ics")
    assert (code, out, err) == (0, "", "wrote shop.ics\n")
    parsed = icalendar.Calendar.from_ical(Path("shop.ics").read_bytes())
    assert [event.start.isoformat() for event in parsed.events] == [
        "2027-02-01T01:00:00+00:00",
        "2027-03-01T01:00:00+00:00",
        "2027-04-01T00:00:00+00:00",
    ]


def test_the_calendar_of_a_window_or_a_count_has_only_these(capsys: Capture):
    arguments = ("next_app:shop", "-s", "monthly", *SINCE, "--ics", "-")
    _, window, _ = call(capsys, *arguments, "--days", "365")
    _, count, _ = call(capsys, *arguments, "--count", "20")
    assert window.count("BEGIN:VEVENT") == 12
    assert count.count("BEGIN:VEVENT") == 20
    assert "\r\n" in count


def test_pictures_are_of_a_year_in_the_zone_that_the_schedules_share(capsys: Capture):
    code, out, err = call(
        capsys, "next_app:shop", "-s", "monthly", *SINCE, "--svg", "a.svg", "--html", "a.html"
    )
    assert (code, out, err) == (0, "", "wrote a.svg\nwrote a.html\n")
    described = description("a.svg")
    assert described.startswith("2027-02-28 to 2028-02-27, Europe/Berlin: 12 nominal times")
    assert Path("a.html").read_text().startswith("<!DOCTYPE html>")


def test_a_picture_is_of_the_whole_days_that_a_window_touches(capsys: Capture):
    window = ("--from", "2027-03-01T12:00:00Z", "--until", "2027-03-02T12:00:00Z")
    call(capsys, "next_app:shop", *window, "--svg", "a.svg", "--timezone", "UTC")
    assert description("a.svg").startswith("2027-03-01 to 2027-03-02, UTC: 49 nominal times")


def test_a_picture_of_several_zones_is_in_utc_or_in_the_zone_asked_for(capsys: Capture):
    call(capsys, "next_app:shop", *SINCE, "--days", "1", "--svg", "a.svg")
    assert description("a.svg").startswith("2027-02-28 to 2027-02-28, UTC: 24 nominal times")
    call(
        capsys, "next_app:shop", *SINCE, "--days", "1", "--svg", "a.svg", "--timezone", "Asia/Tokyo"
    )
    assert description("a.svg").startswith("2027-02-28 to 2027-03-01, Asia/Tokyo")


def description(path: str) -> str:
    root = ElementTree.parse(path).getroot()
    return root.findtext("{http://www.w3.org/2000/svg}desc", "")


def test_what_was_written_can_be_had_as_json(capsys: Capture):
    files = ("--ics", "a.ics", "--svg", "a.svg")
    code, out, err = call(capsys, "next_app:shop", *files, "--json")
    assert (code, json.loads(out), err) == (0, {"written": ["a.ics", "a.svg"]}, "")


def test_a_picture_of_many_services_names_four(capsys: Capture):
    call(capsys, "next_app:many", "--svg", "a.svg")
    title = ElementTree.parse("a.svg").getroot().findtext("{http://www.w3.org/2000/svg}title")
    assert title == "S0.v1, S1.v1, S2.v1, S3.v1, and 2 more services"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-s", "montly"], "did you mean 'monthly'?"),
        (["--from", "soon"], "'soon' is no instant"),
        (["--from", "2027-01-01"], "has no zone"),
        (["--from", "0001-01-01T00:00:00+10:00"], "out of bounds"),
        (["--from", "1969-12-31T23:59:59Z"], "--from is out of bounds; use the years 1970 to 2200"),
        (["--until", "2300-01-01T00:00:00Z"], "--until is out of bounds"),
        (["--until", "2020-01-01T00:00:00Z"], "is before now; give a later one"),
        ([*SINCE, "--until", "2027-02-27T00:00:00Z"], "is before --from; give a later one"),
        (["--until", "2027-02-27T00:00:00Z", "--days", "3"], "--until and --days both say the end"),
        (["-n", "0"], "--count"),
        (["--days", "0"], "--days"),
        (["--days", "100001"], "--days"),
        (["--days", "many"], "--days"),
        (["--svg", "a", "--html", "a"], "--svg and --html both write 'a'"),
        (["--ics", "-", "--svg", "-"], "--ics and --svg both write '-'"),
        (["--ics", "-", "--json"], "--json and a file on stdout ('-') do not go together"),
        (["--svg", "a", "--count", "3"], "--svg shows whole days; give --days or --until"),
        (["--timezone", "UTC"], "--timezone is a picture's zone; give --svg or --html too"),
        (["--ics", "a", "--timezone", "UTC"], "--timezone is a picture's zone"),
        (["--svg", "a", "--timezone", "Europe/Berln"], "did you mean 'Europe/Berlin'?"),
        (["--svg", "a", "--days", "372"], "--svg shows at most 371 days, not 37"),
        (["--ics", "no/such/folder.ics"], "cannot write 'no/such/folder.ics'"),
        (["--html", "."], "cannot write '.'"),
    ],
)
def test_wrong_input_ends_in_one_message_and_exit_code_2(
    capsys: Capture, arguments: list[str], part: str
):
    code, out, err = call(capsys, "next_app:shop", *arguments)
    assert code == 2
    assert part in err
    assert out == ""
    assert not any(Path(name).exists() for name in ("a", "a.svg", "a.ics"))


def test_the_last_days_that_are_known_do_not_overflow(capsys: Capture):
    window = ("--from", "2200-12-31T22:00:00Z", "--days", "100000")
    rows = rows_of(capsys, "next_app:shop", "-s", "hourly", *window)
    assert [row["utc"] for row in rows] == ["2200-12-31T22:00:00Z", "2200-12-31T23:00:00Z"]
    code, _, _ = call(capsys, "next_app:shop", "-s", "hourly", *window[:2], "--svg", "a.svg")
    assert code == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("more", [[], ["--json"], ["--ics", "-"]])
def test_a_reader_that_has_seen_enough_stops_an_endless_stream(
    tmp_path: Path, more: list[str], unbuffered: str
):
    command = [sys.executable, "-m", "purista", "next", "next_app:busy", "--days", "60000", *more]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


def test_the_help_has_an_example(capsys: Capture):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert "Example: purista next" in out
