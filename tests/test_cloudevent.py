import contextlib
import json
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.cloudevent import MAX_BYTES, TYPE
from purista.errors import TriggerError
from purista.trigger import Trigger

SLOT = datetime(2027, 3, 1, 1, tzinfo=UTC)
EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "cron",
    "type": TYPE,
    "subject": "billing.v1.close",
    "time": "2027-03-01T01:00:00Z",
}
HEADERS = {f"ce-{name}": value for name, value in EVENT.items()}
ABSENT = object()


def event(**changes):
    merged = EVENT | changes
    return {name: value for name, value in merged.items() if value is not ABSENT}


def read(**changes):
    return Trigger.from_cloudevent(event(**changes))


def refused(source, *arguments):
    with pytest.raises(TriggerError) as caught:
        source(*arguments)
    return str(caught.value)


def refusal(**changes):
    return refused(Trigger.from_cloudevent, event(**changes))


def headers(*dropped, **changes):
    changed = {f"ce-{name}": value for name, value in changes.items()}
    return {k: v for k, v in (HEADERS | changed).items() if k not in dropped}


# The JSON form


def test_an_event_is_read():
    assert read() == Trigger(
        schedule_id="billing.v1.close", nominal_time=SLOT, source="cron", id="1"
    )


def test_any_mapping_will_do():
    assert Trigger.from_cloudevent(MappingProxyType(EVENT)) == read()


def test_an_event_may_be_text_or_bytes():
    text = json.dumps(EVENT)
    assert Trigger.from_json(text) == Trigger.from_json(text.encode()) == read()


def test_unknown_extensions_are_ignored():
    assert read(traceparent="00-1-2-3", dataschema="https://x", anything={"a": 1}) == read()


def test_an_attribute_that_is_null_is_absent():
    null = dict.fromkeys(("puristafingerprint", "puristamanual", "datacontenttype", "data_base64"))
    assert read(**null) == read()
    assert read(time=None).nominal_time is None
    assert "attribute 'id': it is missing" in refusal(id=None)


def test_data_that_is_null_is_data():
    assert read(data=None).has_data
    assert read(data=None).data is None
    assert not read().has_data


@pytest.mark.parametrize(
    ("value", "manual"),
    [("true", True), (True, True), ("false", False), (False, False), (None, False)],
)
def test_the_manual_mark_is_a_boolean_or_its_text(value: object, manual: bool):
    assert read(puristamanual=value).manual is manual


@pytest.mark.parametrize("value", ["True", "yes", "", 1, 0, [], {}])
def test_any_other_manual_mark_is_refused(value: object):
    assert refusal(puristamanual=value) == (
        "trigger: attribute 'puristamanual': it is not 'true' or 'false'; send 'true'"
    )


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "subject"])
def test_a_missing_attribute_is_named_and_not_invented(name: str):
    assert refusal(**{name: ABSENT}).startswith(f"trigger: attribute '{name}': it is missing; ")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "subject"])
@pytest.mark.parametrize("value", ["", 1, True, [], {"a": 1}, "x" * 2000, "a\0b", "\udc00"])
def test_an_attribute_that_is_no_text_is_named(name: str, value: object):
    assert refusal(**{name: value}).startswith(f"trigger: attribute '{name}': it ")


def test_a_fingerprint_is_a_text():
    assert read(puristafingerprint="f1").fingerprint == "f1"
    assert refusal(puristafingerprint=1) == (
        "trigger: attribute 'puristafingerprint': it is a number; send text"
    )


def test_another_version_of_cloudevents_is_refused():
    assert refusal(specversion="0.3") == (
        "trigger: attribute 'specversion': '0.3' is not known; send '1.0'"
    )


def test_another_type_of_event_is_refused_on_one_short_line():
    text = refusal(type="com.example.é\u2028" + "x" * 500)
    assert text.startswith("trigger: attribute 'type': 'com.example.\\xe9\\u2028xxx")
    assert text.endswith(f"...' is not that of a trigger; send '{TYPE}'")
    assert len(text.splitlines()) == 1


def test_binary_data_is_refused():
    assert refusal(data_base64="c2VjcmV0") == (
        "trigger: attribute 'data_base64': binary data is not taken; send JSON as 'data'"
    )


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "text/json",
        "application/x+json",
        'application/json;charset="UTF-8"',
        "application/json; charset=us-ascii",
    ],
)
def test_json_is_taken_under_each_of_its_names(kind: str):
    assert read(datacontenttype=kind, data=1).data == 1


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "application/json; charset=latin-1", "json"]
)
def test_data_that_is_not_json_is_refused(kind: str):
    assert refusal(datacontenttype=kind, data="secret") == (
        f"trigger: attribute 'datacontenttype': '{kind}' is not JSON in UTF-8; "
        "send 'application/json'"
    )


def test_a_content_type_is_a_text():
    assert "attribute 'datacontenttype': it is a number" in refusal(datacontenttype=1, data=1)


def test_a_content_type_without_data_does_not_matter():
    assert read(datacontenttype="text/plain") == read()


def test_everything_that_is_wrong_is_said_at_once():
    text = refused(Trigger.from_cloudevent, {"time": "now", "data_base64": "x"})
    places = [line.split(": ")[1] for line in text.splitlines()]
    names = ["specversion", "type", "data_base64", "id", "source", "subject", "time"]
    assert places == [f"attribute '{name}'" for name in names]


@pytest.mark.parametrize(
    ("value", "kind"),
    [([], "a list"), (None, "null"), ("x", "text"), (1, "a number"), (True, "a boolean")],
)
def test_what_is_no_object_is_refused(value: object, kind: str):
    text = f"trigger: event: it is {kind}, not an object; send one CloudEvents 1.0 event"
    assert refused(Trigger.from_cloudevent, value).startswith(text)
    assert refused(Trigger.from_json, json.dumps(value)).startswith(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"secret",
        b'{"id": "secret"',
        b'{"data": NaN}',
        b'{"id": "1", "id": "2"}',
        b"\xff\xfe",
        "{}".encode("utf-16"),
        b"[" * 100_000,
        b'{"data": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_is_refused_without_being_told(text: bytes):
    message = refused(Trigger.from_json, text)
    assert message.startswith("trigger: event: it is not JSON: ")
    assert "secret" not in message
    assert len(message) < 200


def test_data_that_only_python_reads_is_refused():
    text = json.dumps(event(data=0)).replace('"data": 0', '"data": 1e999')
    assert "attribute 'data': infinity is no JSON number" in refused(Trigger.from_json, text)


def test_an_event_that_is_too_large_is_refused():
    text = json.dumps(event(data="x" * MAX_BYTES))
    assert refused(Trigger.from_json, text) == (
        f"trigger: event: it is larger than {MAX_BYTES} bytes; "
        "send a reference in place of the data"
    )


# Times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-01T01:00:00Z", SLOT),
        ("2027-03-01t01:00:00z", SLOT),
        ("2027-03-01 01:00:00Z", SLOT),
        ("2027-03-01T02:00:00+01:00", SLOT),
        ("2027-02-28T20:00:00-05:00", SLOT),
        ("2027-03-01T06:30:00+05:30", SLOT),
        ("2027-03-01T01:00:00-00:00", SLOT),
        ("2027-03-02T00:59:00+23:59", SLOT),
        ("2027-03-01T01:00:00.0Z", SLOT),
        ("2027-03-01T01:00:00.5Z", SLOT + timedelta(milliseconds=500)),
        ("2027-03-01T01:00:00.000000000Z", SLOT),
        ("2027-03-01T01:00:00.123456789Z", SLOT + timedelta(microseconds=123456)),
        ("2027-03-01T01:00:00.999999999999999999999Z", SLOT + timedelta(microseconds=999999)),
        ("2028-02-29T00:00:00Z", datetime(2028, 2, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_rfc_3339_says(text: str, expected: datetime):
    assert read(time=text).nominal_time == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2027-03-01",
        "2027-03-01T01:00Z",
        "2027-03-01T01:00:00,5Z",
        "2027-03-01T01:00:00.Z",
        "2027-03-01T24:00:00Z",
        "2027-03-01T01:60:00Z",
        "2027-03-01T01:00:61Z",
        "2027-02-29T01:00:00Z",
        "2027-13-01T01:00:00Z",
        "0000-01-01T00:00:00Z",
        "20270301T010000Z",
        "2027-3-1T01:00:00Z",
        "2027-03-01T01:00:00+0100",
        "2027-03-01T01:00:00+24:00",
        "2027-03-01T01:00:00+01:60",
        "2027-03-01T01:00:00 Z",
        " 2027-03-01T01:00:00Z",
        "2027-03-01T01:00:00Z\n",
        "+2027-03-01T01:00:00Z",
        "\uff12\uff10\uff12\uff17-03-01T01:00:00Z",
        "2027-W09-1T01:00:00Z",
        "x" * 2000,
    ],
)
def test_what_is_no_time_is_refused(text: str):
    message = refusal(time=text)
    assert message.startswith("trigger: attribute 'time': '")
    assert message.endswith(" is no time; send RFC 3339, such as 2027-03-01T01:00:00Z")
    assert len(message) < 200


@pytest.mark.parametrize("text", ["2027-03-01T01:00:00", "2027-03-01T01:00:00.5"])
def test_a_time_without_an_offset_is_refused(text: str):
    assert "attribute 'time': it has no offset from UTC; end it with Z" in refusal(time=text)


def test_a_leap_second_is_refused():
    assert "it is a leap second" in refusal(time="2016-12-31T23:59:60Z")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
def test_a_time_outside_of_the_calendar_is_refused(text: str):
    assert "it is out of range" in refusal(time=text)


@pytest.mark.parametrize("value", [1772326800, True, ["2027-03-01T01:00:00Z"], {}])
def test_a_time_is_a_text(value: object):
    assert refusal(time=value).endswith("send RFC 3339 text")


# HTTP headers


def test_an_event_in_headers_is_read():
    assert Trigger.from_headers(HEADERS, b"") == read()


def test_header_names_have_any_case_and_other_headers_are_ignored():
    pairs = [
        ("Host", "x"),
        ("Host", "y"),
        *((name.title(), text) for name, text in HEADERS.items()),
    ]
    assert Trigger.from_headers(pairs, b"") == read()


def test_the_body_is_the_data():
    sent = headers() | {"Content-Type": "application/json; charset=utf-8"}
    assert Trigger.from_headers(sent, b'{"a": 1}').data == {"a": 1}
    assert Trigger.from_headers(HEADERS, b"null") == read(data=None)
    assert not Trigger.from_headers(sent, b"").has_data


def test_extensions_come_in_headers():
    made = Trigger.from_headers(headers(puristamanual="true", puristafingerprint="f1"), b"")
    assert (made.manual, made.fingerprint) == (True, "f1")


@pytest.mark.parametrize(
    ("sent", "source"),
    [
        ("a%20b", "a b"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("100%", "100%"),
        ("%2541", "%41"),
        ('"quoted \\"text\\" here"', 'quoted "text" here'),
        ("  spaces\t", "spaces"),
        ("direct é", "direct é"),
    ],
)
def test_a_header_is_decoded_once(sent: str, source: str):
    assert Trigger.from_headers(headers(source=sent), b"").source == source


@pytest.mark.parametrize("sent", ["%ff", "a%C3", "\udcff"])
def test_a_header_that_is_not_utf_8_is_refused(sent: str):
    assert refused(Trigger.from_headers, headers(source=sent), b"") == (
        "trigger: header 'ce-source': it is not UTF-8; percent-encode UTF-8"
    )


def test_a_control_character_cannot_come_in_by_percent_encoding():
    text = refused(Trigger.from_headers, headers(subject="a%0Ab"), b"")
    assert "attribute 'subject': it has control characters" in text


def test_a_header_that_is_there_twice_is_refused():
    pairs = [*HEADERS.items(), ("CE-Subject", "another")]
    assert refused(Trigger.from_headers, pairs, b"") == (
        "trigger: header 'ce-subject': it is there twice; send one"
    )


def test_a_missing_header_is_named():
    assert refused(Trigger.from_headers, headers("ce-id"), b"").startswith(
        "trigger: attribute 'id': it is missing; "
    )


def test_data_does_not_come_in_headers():
    sent = headers(data="{}", datacontenttype="text/plain")
    assert Trigger.from_headers(sent, b"") == read()
    assert "data_base64" in refused(Trigger.from_headers, headers(data_base64="eA=="), b"")


def test_a_body_that_is_not_json_is_refused_without_being_told():
    assert refused(Trigger.from_headers, HEADERS, b"{secret}").startswith(
        "trigger: body: it is not JSON: "
    )
    sent = headers() | {"content-type": "text/plain"}
    text = refused(Trigger.from_headers, sent, b"secret")
    assert text.startswith("trigger: attribute 'datacontenttype': 'text/plain' is not JSON")


def test_a_whole_event_may_be_the_body():
    sent = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}
    assert Trigger.from_headers(sent, json.dumps(EVENT).encode()) == read()
    assert refused(Trigger.from_headers, sent, b"[]").startswith("trigger: event: it is a list")


@pytest.mark.parametrize("kind", ["application/cloudevents-batch+json", "application/cloudevents"])
def test_other_forms_of_events_are_refused(kind: str):
    assert refused(Trigger.from_headers, {"Content-Type": kind}, b"[]") == (
        f"trigger: header 'content-type': '{kind}' is not taken; "
        "send one event as 'application/cloudevents+json'"
    )


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"]), min_size=1)


@given(subject=texts, source=texts, identity=texts)
def test_percent_encoded_headers_give_the_same_trigger_as_json(
    subject: str, source: str, identity: str
):
    changes = {"subject": subject, "source": source, "id": identity}
    encoded = {name: quote(value, safe="") for name, value in changes.items()}
    assert Trigger.from_headers(headers(**encoded), b"") == read(**changes)


@given(
    st.dictionaries(st.sampled_from([*EVENT, "data", "puristamanual", "x"]), st.from_type(object))
)
def test_whatever_comes_is_read_or_refused(found: dict):
    with contextlib.suppress(TriggerError):
        Trigger.from_cloudevent(found)


@given(st.binary())
def test_whatever_bytes_come_are_refused(found: bytes):
    assert refused(Trigger.from_json, found).startswith("trigger: ")
