from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.svg import box, counted, element, escaped, number, words


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_well_formed_and_comes_back(text: str):
    root = ElementTree.fromstring(element("text", text=text, title=text))
    kept = "".join("\ufffd" if is_forbidden(sign) else sign for sign in text)
    # XML itself makes one kind of line end of all (section 2.11), and spaces of those in attributes.
    assert (root.text or "") == kept.replace("\r\n", "\n").replace("\r", "\n")
    assert len(root.attrib["title"]) == len(kept.replace("\r\n", "\n"))


def is_forbidden(sign: str) -> bool:
    code = ord(sign)
    control = code < 0x20 and sign not in "\t\n\r"
    return control or 0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF)


def test_markup_in_a_text_stays_text():
    assert escaped('<script>"&"</script>') == "&lt;script&gt;&quot;&amp;&quot;&lt;/script&gt;"


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), (3.14159, "3.14"), (0.5, "0.5"), (100, "100")]
)
def test_a_length_is_written_short(value: float, text: str):
    assert element("g", x=value) == f'<g x="{text}"/>'


def test_an_attribute_without_a_value_is_left_out():
    assert words(1, 2, "a", "small") == '<text x="1" y="2" class="small">a</text>'
    assert words(1, 2, "a", "small", "end").startswith(
        '<text x="1" y="2" class="small" text-anchor'
    )


def test_a_box_may_have_a_title_and_round_corners():
    assert box(0, 0, 2, 1, "day") == '<rect x="0" y="0" width="2" height="1" class="day"/>'
    round_box = (
        '<rect x="0" y="0" width="2" height="1" class="day" rx="3"><title>&lt;</title></rect>'
    )
    assert box(0, 0, 2, 1, "day", "<", radius=3) == round_box


def test_numbers_are_for_people():
    assert number(1234567) == "1,234,567"
    assert counted(1, "schedule") == "1 schedule"
    assert counted(0, "schedule") == "0 schedules"
