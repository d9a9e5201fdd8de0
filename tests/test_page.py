from datetime import date
from typing import Any
from xml.etree import ElementTree

from purista import Cron, Schedule, Service
from purista.load import Days, Load, load
from purista.page import MOST_LISTED, page
from purista.picture import picture

YEAR = Days("Europe/Berlin", date(2027, 1, 1), 365)
SVG = "{http://www.w3.org/2000/svg}"


def schedule(name: str, text: str, zone: str = "Europe/Berlin", **options: Any) -> Schedule:
    service = Service("Shop")
    event = service.event("due", dict)
    return service.schedule(name).emit_event(
        event, expression=Cron(text), timezone=zone, payload={}, **options
    )


def parsed(found: Load, title: str = "Shop") -> ElementTree.Element:
    """The page is HTML and well-formed XML at once."""
    doctype, _, text = page(found, title=title).partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return ElementTree.fromstring(text)


def tables(root: ElementTree.Element) -> list[list[list[str]]]:
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in root.iter("table")
    ]


def test_the_page_holds_the_picture():
    found = load([schedule("s", "0 9 * * *")], YEAR)
    drawn = picture(found, title="Shop").partition("\n")[2].strip()
    assert drawn in page(found, title="Shop")


def test_the_tables_say_what_the_picture_shows():
    found = load([schedule("a", "0 9 1 * *"), schedule("b", "0 9 * * *")], YEAR)
    busiest, listed, hours, days = tables(parsed(found))
    assert busiest == [
        ["local time", "nominal times", "schedules"],
        ["Fri 2027-01-01 09:00", "2", "Shop.v1.a, Shop.v1.b"],
    ]
    assert listed[1] == [
        "Shop.v1.a",
        "0 9 1 * *",
        "At 09:00 on day 1 of every month, Europe/Berlin",
        "event due",
        "12",
    ]
    assert hours[0] == ["hour", "nominal times", "most in one minute", "which minute"]
    assert hours[9] == ["08:00-09:00", "0", "0", " "]
    assert hours[10] == ["09:00-10:00", "377", "2", "Fri 2027-01-01 09:00"]
    assert len(hours) == 25
    assert days[1] == ["Fri 2027-01-01", "2", " "]
    assert days[87] == ["Sun 2027-03-28", "1", "Europe/Berlin: 02:00 becomes 03:00"]
    assert len(days) == 366


def test_minutes_with_one_nominal_time_are_no_pile_up():
    root = parsed(load([schedule("s", "0 9 * * *")], YEAR))
    assert root.findtext(".//p") == "No two nominal times fall on the same minute."


def test_of_a_pile_up_five_schedules_are_named():
    ones = [schedule(f"s{number}", "0 0 * * *") for number in range(9)]
    busiest = tables(parsed(load(ones, YEAR)))[0]
    names = ", ".join(f"Shop.v1.s{number}" for number in range(5))
    assert busiest[1][2] == f"{names}, and 4 more"


def test_of_very_many_schedules_the_busiest_are_listed():
    few = [schedule(f"s{number:04}", "0 0 1 1 *") for number in range(MOST_LISTED + 5)]
    root = parsed(load([*few, schedule("z", "0 9 * * *")], YEAR))
    listed = tables(root)[1]
    assert len(listed) == MOST_LISTED + 1
    assert listed[-1][0] == "Shop.v1.z"
    assert "6 less busy schedules are left out." in {each.text for each in root.iter("caption")}


def test_a_thousand_schedules_are_a_page_of_sane_size():
    ones = [
        schedule(f"s{number:04}", f"{number % 60} {number % 24} * * *") for number in range(1000)
    ]
    assert len(page(load(ones, YEAR), title="Shop")) < 1_000_000


def test_nothing_runs_and_nothing_comes_from_elsewhere():
    found = load([schedule("s", "0 9 * * *")], YEAR)
    root = parsed(found)
    policy = [meta.attrib["content"] for meta in root.iter("meta") if "http-equiv" in meta.attrib]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    tags = {element.tag for element in root.iter()}
    assert not tags & {"script", "link", "img", "iframe", "a", "object"}


def test_texts_are_escaped():
    found = load([schedule("s", "0 9 * * *")], YEAR)
    text = page(found, title="<script>alert(1)</script>")
    assert "<script" not in text
    assert parsed(found, "<b> & co").findtext("head/title") == "<b> & co"


def test_the_page_can_be_read_aloud():
    root = parsed(load([schedule("s", "0 9 * * *")], YEAR))
    assert root.attrib["lang"] == "en"
    assert root.findtext("body/h1") == "Shop"
    for table in root.iter("table"):
        assert {cell.attrib["scope"] for cell in table.iter("th")} == {"col", "row"}
    assert [heading.text for heading in root.iter("summary")] == ["Hours", "Days"]
    assert [heading.text for heading in root.iter("h2")] == ["Busiest minutes", "Schedules"]


def test_the_same_load_gives_the_same_bytes():
    found = load([schedule("s", "0 9 * * *")], YEAR)
    assert page(found, title="Shop") == page(found, title="Shop")
