import re
from datetime import date
from itertools import pairwise
from xml.etree import ElementTree

from purista import Cron, Schedule, Service
from purista.load import Days, Load, load
from purista.picture import WIDTH, picture, summary

YEAR = Days("Europe/Berlin", date(2027, 1, 1), 365)
SVG = "{http://www.w3.org/2000/svg}"


def schedules(count: int) -> list[Schedule]:
    service = Service("Shop")
    event = service.event("due", dict)
    return [
        service.schedule(f"s{number:04}").emit_event(
            event,
            expression=Cron(f"{number % 60} {number % 24} * * *"),
            timezone=("Europe/Berlin", "UTC", "America/New_York")[number % 3],
            payload={},
        )
        for number in range(count)
    ]


def parsed(found: Load, title: str = "Shop") -> ElementTree.Element:
    return ElementTree.fromstring(picture(found, title=title))


def test_the_picture_is_titled_and_described():
    root = parsed(load(schedules(3), YEAR), "Shop <1> & more")
    ids = [child.attrib["id"] for child in root[:2]]
    assert root.findtext(f"{SVG}title") == "Shop <1> & more"
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == ids
    assert root.findtext(f"{SVG}desc") == (
        "2027-01-01 to 2027-12-31, Europe/Berlin: 1,094 nominal times of 3 schedules; "
        "most in one minute: 1 at Fri 2027-01-01 00:00"
    )


def test_nothing_runs_and_nothing_comes_from_elsewhere():
    text = picture(load(schedules(30), YEAR), title="Shop")
    tags = {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(text).iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "g", "text", "path"}
    assert "url(" not in text
    assert "@import" not in text
    assert "href" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_same_load_gives_the_same_bytes():
    one = picture(load(schedules(9), YEAR), title="Shop")
    assert one == picture(load(reversed(schedules(9)), YEAR), title="Shop")


def test_every_class_has_its_colour_in_light_and_in_dark_mode():
    text = picture(load(schedules(9), YEAR), title="Shop")
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"var\((--[a-z0-9]+)\)", text))
    for name in names:
        assert f"{name}: #" in light
        assert f"{name}: #" in dark.split("}")[0]


def test_everything_lies_within_the_picture():
    root = parsed(load(schedules(60), YEAR))
    height = float(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {WIDTH} {height:g}"
    for group in root.findall(f"{SVG}g"):
        left, top = map(float, re.findall(r"[\d.]+", group.attrib["transform"]))
        for box in group.iter(f"{SVG}rect"):
            assert left + float(box.attrib["x"]) >= 0
            assert left + float(box.attrib["x"]) + float(box.attrib["width"]) <= WIDTH
            assert top + float(box.attrib["y"]) + float(box.attrib["height"]) <= height


def test_rows_do_not_touch():
    root = parsed(load(schedules(60), YEAR))
    rows = [group for group in root.iter(f"{SVG}g") if group.attrib.get("class") == "row"]
    tops = [float(row.find(f"{SVG}text").attrib["y"]) for row in rows]
    assert all(later - earlier == 20 for earlier, later in pairwise(tops))


def test_a_thousand_schedules_are_a_picture_of_sane_size():
    found = load(schedules(1000), YEAR)
    text = picture(found, title="Shop")
    assert len(text) < 400_000
    assert "961 less busy schedules" in text


def test_a_day_may_be_all_that_there_is():
    found = load(schedules(3), Days("UTC", date(2027, 3, 28), 1))
    root = parsed(found)
    days = [box for box in root.iter(f"{SVG}rect") if box.attrib["class"].startswith("day")]
    assert len(days) == 1


def test_nothing_due_is_a_picture_too():
    assert summary(load([], YEAR)) == (
        "2027-01-01 to 2027-12-31, Europe/Berlin: 0 nominal times of 0 schedules"
    )
    assert parsed(load([], YEAR)).tag == f"{SVG}svg"


def test_a_summary_speaks_of_one_thing_as_one():
    one = Days("UTC", date(2027, 1, 1), 1)
    assert "1 nominal time of 1 schedule;" in summary(load(schedules(1), one))
