from datetime import UTC, datetime, timedelta
from typing import Any

import icalendar
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista import Cron, Every, Schedule, Service
from purista.agenda import agenda
from purista.icalendar import calendar, folded

START = datetime(2027, 3, 27, tzinfo=UTC)
NASTY = "a,b;c\\d\nnew\r\nline\rand\ttab \u2028 \x85 \x07 \ud800 é 漢字 \N{FAMILY} \\n"


def schedule(**options: Any) -> Schedule:
    service = Service("Shop", version="2")
    event = service.event("shop.due", dict)
    usual = {"expression": Cron("30 2 * * *"), "timezone": "Europe/Berlin", "payload": {}}
    description = options.pop("description", "")
    return service.schedule("nightly", description).emit_event(event, **{**usual, **options})


def text_of(*schedules: Schedule, days: int = 3, name: str = "") -> str:
    rows = agenda(schedules, START, START + timedelta(days=days))
    return "".join(calendar(rows, name=name))


def parsed(text: str) -> list[icalendar.Event]:
    found = icalendar.Calendar.from_ical(text.encode())
    assert not any(component.errors for component in found.walk())
    return list(found.events)


def test_each_nominal_time_is_an_event_in_utc():
    events = parsed(text_of(schedule()))
    assert [event.start for event in events] == [
        datetime(2027, 3, 27, 1, 30, tzinfo=UTC),
        datetime(2027, 3, 29, 0, 30, tzinfo=UTC),
    ]


def test_an_event_tells_what_a_person_wants_to_know():
    (event, *_) = parsed(text_of(schedule(description="Close the books")))
    assert event["SUMMARY"] == "nightly (Shop.v2)"
    assert event["DESCRIPTION"].splitlines() == [
        "schedule: Shop.v2.nightly",
        "target: event shop.due",
        "expression: 30 2 * * *",
        "zone: Europe/Berlin",
        "description: Close the books",
    ]
    assert list(event["CATEGORIES"].cats) == ["Shop.v2", "event"]
    assert event["TRANSP"] == "TRANSPARENT"


def test_a_moved_event_says_from_where():
    events = parsed(text_of(schedule(dst_gap="next")))
    assert "clock change: moved from 02:30 by the clock change" in events[1]["DESCRIPTION"]
    assert "clock change" not in events[0]["DESCRIPTION"]


def test_the_identity_of_an_event_depends_on_schedule_and_nominal_time_alone():
    one, other = parsed(text_of(schedule())), parsed(text_of(schedule(description="new"), days=1))
    assert one[0]["UID"] == other[0]["UID"] == "Shop.v2.nightly-20270327T013000Z@purista"
    assert len({event["UID"] for event in one}) == len(one)


def test_the_same_agenda_gives_the_same_bytes():
    assert text_of(schedule()) == text_of(schedule())
    assert "DTSTAMP:20270327T013000Z" in text_of(schedule())


def test_texts_come_back_as_they_were():
    events = parsed(text_of(schedule(description=NASTY)))
    told = events[0]["DESCRIPTION"].partition("description: ")[2]
    assert told == ("a,b;c\\d\nnew\nline\nand\ttab \n \n \ufffd \ufffd é 漢字 \N{FAMILY} \\n")


def test_the_calendar_has_a_name():
    assert "\r\nX-WR-CALNAME:Shop\\; v2\r\n" in text_of(schedule(), name="Shop; v2")
    assert "X-WR-CALNAME" not in text_of(schedule())


def test_lines_end_with_cr_lf_and_are_no_longer_than_they_may_be():
    text = text_of(schedule(description=NASTY * 9))
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert not any("\r" in line or "\n" in line for line in lines)
    assert max(len(line.encode()) for line in lines) == 75


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")))
def test_folding_loses_nothing_and_cuts_no_character(line: str):
    parts = folded(line).encode().split(b"\r\n")
    assert parts.pop() == b""
    assert all(len(part) <= 75 for part in parts)
    assert all(part.startswith(b" ") for part in parts[1:])
    assert parts[0].decode() + "".join(part.decode()[1:] for part in parts[1:]) == line


@pytest.mark.parametrize(("length", "lines"), [(0, 1), (75, 1), (76, 2), (149, 2), (150, 3)])
def test_a_line_is_folded_where_it_must_be(length: int, lines: int):
    assert folded("x" * length).count("\r\n") == lines


def test_an_instant_between_seconds_begins_in_its_second():
    anchor = START + timedelta(microseconds=5)
    every = Every(timedelta(seconds=90), anchor)
    events = parsed(text_of(schedule(expression=every, timezone="UTC"), days=1))
    assert events[0].start == START
    assert len({event["UID"] for event in events}) == 960


def test_nothing_due_is_an_empty_calendar():
    text = text_of(schedule(enabled=False))
    assert text.startswith("BEGIN:VCALENDAR\r\n")
    assert text.endswith("END:VCALENDAR\r\n")
    assert parsed(text) == []


def test_chunks_come_one_by_one():
    endless = agenda([schedule()], START, datetime(2200, 1, 1, tzinfo=UTC))
    chunks = calendar(endless)
    assert [next(chunks)[:15] for _ in range(3)][2] == "BEGIN:VEVENT\r\nU"
