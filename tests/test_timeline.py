from datetime import date
from typing import Any
from xml.etree import ElementTree

import pytest

from purista import Cron, Schedule, Service
from purista.load import Days, load
from purista.timeline import MOST_ROWS, height_of, lines, peak_text, quarter_text, timeline

YEAR = Days("Europe/Berlin", date(2027, 1, 1), 365)
HOUR = 4 * 6.4
LEFT = 224.0


def schedule(name: str, text: str, zone: str = "Europe/Berlin", **options: Any) -> Schedule:
    service = Service("Shop")
    event = service.event("due", dict)
    return service.schedule(name).emit_event(
        event, expression=Cron(text), timezone=zone, payload={}, **options
    )


def drawn(*schedules: Schedule, days: Days = YEAR) -> ElementTree.Element:
    found = load(schedules, days)
    return ElementTree.fromstring(timeline(found, lines(found), width=1120))


def boxes(root: ElementTree.Element, word: str) -> list[ElementTree.Element]:
    return [box for box in root.iter("rect") if word in box.attrib["class"].split()]


def titles(found: list[ElementTree.Element]) -> list[str | None]:
    return [box.findtext("title") for box in found]


def x_of(box: ElementTree.Element) -> float:
    return float(box.attrib["x"])


def texts(root: ElementTree.Element) -> set[str | None]:
    return {text.text for text in root.iter("text")}


def test_a_pile_up_at_midnight_is_the_highest_bar():
    pile = [schedule(f"s{number}", "0 0 1 * *") for number in range(30)]
    root = drawn(*pile, schedule("often", "*/5 * * * *"))
    found = boxes(root, "bar")
    heights = [float(box.attrib["height"]) for box in found]
    assert max(heights) == heights[0] == 84
    assert sorted(heights)[-2] < 84 / 20
    assert x_of(found[0]) == LEFT + 0.5
    assert "31 at 00:00" in texts(root)


def test_a_bar_says_how_much_and_when():
    found = boxes(drawn(schedule("a", "0 9 1 * *"), schedule("b", "0 9 * * *")), "bar")
    assert titles(found) == [
        "09:00-09:15: 377 nominal times, at most 2 in one minute, Fri 2027-01-01 09:00"
    ]


@pytest.mark.parametrize(
    ("text", "hour"), [("0 0 * * *", 0), ("0 9 * * *", 9), ("30 23 * * *", 23.5)]
)
def test_a_box_is_where_its_time_is(text: str, hour: float):
    (box,) = boxes(drawn(schedule("s", text)), "cell")
    assert x_of(box) == pytest.approx(LEFT + hour * HOUR, abs=0.01)
    assert float(box.attrib["width"]) == 5.9


def test_neighbours_with_the_same_count_are_one_box():
    root = drawn(schedule("s", "*/15 8-17 * * *"))
    assert titles(boxes(root, "cell")) == ["08:00-18:00: 14,600 nominal times"]


def test_times_are_of_the_wall_clock_of_the_zone_of_the_picture():
    root = drawn(schedule("s", "0 6 * * *", "UTC"))
    assert titles(boxes(root, "cell")) == [
        "07:00-07:15: 148 nominal times",
        "08:00-08:15: 217 nominal times",
    ]


@pytest.mark.parametrize(
    ("text", "class_"),
    [
        ("0 9 1 * *", "s1"),
        ("0 9 * * SUN", "s2"),
        ("30 2 * * SUN", "s2"),  # one of 52 is skipped
        ("0 9 * * MON-FRI", "s2"),
        ("0 9 * * *", "s4"),
        ("30 2 * * *", "s4"),  # one of 365 is skipped
        ("0,10 9 * * *", "s5"),
    ],
)
def test_a_box_is_the_darker_the_more_often(text: str, class_: str):
    (box,) = boxes(drawn(schedule("s", text)), "cell")
    assert box.attrib["class"] == f"cell {class_}"


def test_each_schedule_has_a_row_with_its_label_and_its_count():
    root = drawn(schedule("b", "0 9 * * *"), schedule("a", "0 9 1 * *"))
    rows = [group for group in root.iter("g") if group.attrib.get("class") == "row"]
    assert [[text.text for text in row.iter("text")] for row in rows] == [
        ["Shop.v1.a", "12"],
        ["Shop.v1.b", "365"],
    ]
    assert rows[0].findtext("title") == (
        "Shop.v1.a: 0 9 1 * *, Europe/Berlin; event due; 12 nominal times"
    )


def test_a_long_label_is_shortened_in_its_middle():
    root = drawn(schedule("x" * 90 + "LastWord", "0 9 * * *"))
    label = next(text for text in texts(root) if text and "\N{HORIZONTAL ELLIPSIS}" in text)
    assert len(label) == 30
    assert label.startswith("Shop.v1.xx")
    assert label.endswith("LastWord")


def test_the_least_busy_of_many_schedules_share_the_last_row():
    ones = [schedule(f"s{number:04}", "0 9 * * *") for number in range(60)]
    busy = [schedule(f"z{number}", "0 * * * *") for number in range(3)]
    found = lines(load([*ones, *busy], YEAR))
    assert len(found) == MOST_ROWS
    assert found[-1].label == "24 less busy schedules"
    assert found[-1].title == "24 less busy schedules: 8,760 nominal times"
    assert [line.label for line in found[-4:-1]] == ["Shop.v1.z0", "Shop.v1.z1", "Shop.v1.z2"]
    assert sum(line.count for line in found) == 60 * 365 + 3 * 8760


def test_as_many_schedules_as_there_are_rows_share_none():
    ones = [schedule(f"s{number:04}", "0 9 * * *") for number in range(MOST_ROWS)]
    assert [line.label for line in lines(load(ones, YEAR))] == [one.id for one in ones]


def test_hours_that_the_clock_leaves_out_or_repeats_are_marked():
    (band,) = boxes(drawn(schedule("s", "0 9 * * *")), "band")[1:]
    assert band.findtext("title") == (
        "Sun 2027-03-28: the clock leaves out 02:00 to 03:00; "
        "Sun 2027-10-31: the clock repeats 02:00 to 03:00"
    )
    assert x_of(band) == pytest.approx(LEFT + 2 * HOUR)
    assert float(band.attrib["width"]) == pytest.approx(HOUR)


def test_a_zone_without_changes_has_no_such_mark():
    root = drawn(schedule("s", "0 9 * * *"), days=Days("UTC", date(2027, 1, 1), 365))
    assert boxes(root, "band") == []
    assert "clock change" not in texts(root)


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Pacific/Apia", date(2011, 12, 30), [(0, 24)]),  # a whole day
        ("Australia/Lord_Howe", date(2027, 10, 3), [(2, 2.5)]),
        ("Asia/Beirut", date(2027, 10, 30), [(23, 24)]),
        # 23:30 became 24:00.
        ("Asia/Pyongyang", date(2018, 5, 4), [(23.5, 24)]),
        # 03:00 became 02:30.
        ("America/Caracas", date(2007, 12, 9), [(2.5, 3)]),
        # 00:01 became 23:01 of the day before.
        ("America/St_Johns", date(2006, 10, 28), [(23 + 1 / 60, 24), (0, 1 / 60)]),
    ],
)
def test_marks_are_of_any_length_at_any_time(
    zone: str, first: date, hours: list[tuple[float, float]]
):
    found = boxes(drawn(days=Days(zone, first, 1)), "band")[1:]
    spans = [(x_of(box), x_of(box) + float(box.attrib["width"])) for box in found]
    expected = [(LEFT + start * HOUR, LEFT + end * HOUR) for start, end in hours]
    flat = [edge for span in sorted(spans) for edge in span]
    assert flat == pytest.approx([edge for span in sorted(expected) for edge in span], abs=0.02)


def test_weeks_show_when_in_the_year():
    root = drawn(schedule("quarterly", "0 9 1 */3 *"))
    assert len(boxes(root, "week")) == 4
    (whole,) = boxes(drawn(schedule("s", "0 9 * * MON")), "week")[:1]
    assert float(whole.attrib["width"]) > 170


def test_the_label_of_the_highest_bar_stays_inside():
    anchors = {}
    for text in ("0 0 * * *", "0 12 * * *", "45 23 * * *"):
        root = drawn(schedule("s", text))
        label = next(one for one in root.iter("text") if (one.text or "").startswith("1 at"))
        anchors[text] = label.attrib["text-anchor"]
    assert list(anchors.values()) == ["start", "middle", "end"]


def test_nothing_due_is_said():
    root = drawn(schedule("s", "0 9 * * *", enabled=False))
    assert "nothing is due" in texts(root)
    assert boxes(root, "bar") == []
    assert height_of([]) == 156


def test_a_schedule_that_is_never_due_has_an_empty_row():
    root = drawn(schedule("s", "0 9 29 2 *"))
    assert "Shop.v1.s" in texts(root)
    assert boxes(root, "cell") == boxes(root, "week") == []


def test_a_quarter_of_an_hour_is_told_in_words():
    found = load([schedule("s", "0 9 * * *")], YEAR)
    assert quarter_text(36) == "09:00-09:15"
    assert peak_text(found, 36).startswith("365 nominal times, at most 1 in one minute")
    assert peak_text(found, 37) == ""
