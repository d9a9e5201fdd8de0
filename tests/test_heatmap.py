from datetime import date, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from purista import Cron, Schedule, Service
from purista.heatmap import day_text, heatmap
from purista.load import Days, load

YEAR = Days("Europe/Berlin", date(2027, 1, 1), 365)


def schedule(name: str, text: str, **options: Any) -> Schedule:
    service = Service("Shop")
    event = service.event("due", dict)
    return service.schedule(name).emit_event(
        event, expression=Cron(text), timezone="Europe/Berlin", payload={}, **options
    )


def drawn(days: Days, *schedules: Schedule) -> ElementTree.Element:
    return ElementTree.fromstring(heatmap(load(schedules, days), width=1120))


def squares(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [box for box in root.iter("rect") if box.attrib["class"].startswith("day ")]


def texts(root: ElementTree.Element) -> list[str | None]:
    return [text.text for text in root.iter("text")]


def test_each_day_is_a_square_with_its_number():
    found = squares(drawn(YEAR, schedule("s", "0 9 * * MON-FRI"), schedule("t", "0 9 1 * *")))
    titles = [box.findtext("title") for box in found]
    assert len(titles) == 365
    assert titles[0] == "Fri 2027-01-01: 2 nominal times"
    assert titles[1] == "Sat 2027-01-02: 0 nominal times"
    assert titles[3] == "Mon 2027-01-04: 1 nominal time"


def test_weeks_are_columns_and_begin_on_monday():
    found = squares(drawn(YEAR, schedule("s", "0 9 * * *")))
    places = [(float(box.attrib["x"]), float(box.attrib["y"])) for box in found]
    friday, saturday, sunday, monday = places[:4]
    assert friday[0] == saturday[0] == sunday[0]
    assert monday[0] - sunday[0] == saturday[1] - friday[1]
    assert monday[1] == min(y for _, y in places)
    assert len(set(places)) == 365


def test_more_is_darker():
    found = squares(drawn(YEAR, schedule("s", "0 9 * * MON-FRI"), schedule("t", "0 9 1 * *")))
    assert [box.attrib["class"] for box in found[:4]] == ["day s5", "day s0", "day s0", "day s2"]


def test_days_on_which_the_clock_changes_are_marked_and_say_how():
    marked = [
        box.findtext("title")
        for box in squares(drawn(YEAR, schedule("s", "30 2 * * *")))
        if "change" in box.attrib["class"]
    ]
    assert marked == [
        "Sun 2027-03-28: 0 nominal times; Europe/Berlin: 02:00 becomes 03:00",
        "Sun 2027-10-31: 1 nominal time; Europe/Berlin: 03:00 becomes 02:00",
    ]


def test_the_legend_names_what_is_there():
    with_change = texts(drawn(YEAR, schedule("s", "0 9 * * *")))
    assert {"none", "1", "clock change"} <= set(with_change)
    january = Days("Europe/Berlin", date(2027, 1, 1), 31)
    assert "clock change" not in texts(drawn(january, schedule("s", "0 9 * * *")))


def test_months_are_named_over_the_column_of_their_first_day():
    months = [
        "Jan 2027",
        "Feb",
        "Mar",
        "Apr",
        "May",
        "Jun",
        "Jul",
        "Aug",
        "Sep",
        "Oct",
        "Nov",
        "Dec",
    ]
    assert [text for text in texts(drawn(YEAR)) if text in months] == months


@pytest.mark.parametrize("offset", range(0, 400, 7))
def test_names_of_months_do_not_touch(offset: int):
    days = Days("UTC", date(2026, 10, 20) + timedelta(days=offset), 371)
    group = drawn(days)
    row = [text for text in group.iter("text") if text.attrib["y"] == "48"]
    ends = [float(text.attrib["x"]) + 7 * len(text.text or "") for text in row]
    starts = [float(text.attrib["x"]) for text in row]
    assert all(start >= end for start, end in zip(starts[1:], ends[:-1], strict=True))


def test_the_longest_window_stays_within_the_width():
    days = Days("UTC", date(2027, 1, 3), 371)  # begins on a Sunday
    right = max(float(box.attrib["x"]) + float(box.attrib["width"]) for box in squares(drawn(days)))
    assert right <= 1120


def test_a_day_is_told_in_words():
    found = load([schedule("s", "0 9 * * *")], YEAR)
    assert day_text(found, 0) == "Fri 2027-01-01: 1 nominal time"
