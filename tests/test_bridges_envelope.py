"""Messages on the wire: CloudEvents in binary mode."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.bridges import ErrorReply, Reply
from purista.bridges.envelope import (
    headers_of,
    message_of,
    reply_body,
    reply_headers,
    reply_of,
)
from purista.errors import BridgeError
from purista.ingress.consumer import message_trigger
from purista.message import Message, RunInfo
from purista.trigger import Trigger

RUN = RunInfo("run-1", "Billing.v1.monthly", datetime(2027, 3, 1, 1, 0, 0, 5, UTC), "UTC", True)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def again(message: Message, prefix: str = "ce-") -> Message:
    headers = headers_of(message, prefix=prefix)
    for value in headers.values():
        assert value.isascii(), value
        assert value == value.strip()
    return message_of(message.name, headers, message.body, fallback_id="none")


@pytest.mark.parametrize("prefix", ["ce-", "cloudEvents:"])
@given(
    name=texts,
    message_id=texts,
    run=st.sampled_from([None, RUN, RUN._replace(is_target=False, timezone="Europe/Zürich")]),
    headers=st.none() | st.dictionaries(texts, texts, max_size=4),
)
def test_a_message_comes_back_as_it_was(
    prefix: str, name: str, message_id: str, run: RunInfo | None, headers: dict[str, str] | None
) -> None:
    message = Message(name, b'{"a": 1.0}', message_id, run, headers)
    assert again(message, prefix) == message


def test_headers_show_the_event() -> None:
    headers = headers_of(Message("billing.due", b"{}", "4711", RUN, {"traceparent": "00-1"}))
    assert headers == {
        "ce-specversion": "1.0",
        "ce-type": "billing.due",
        "ce-source": "purista",
        "ce-id": "4711",
        "content-type": "application/json",
        "traceparent": "00-1",
        "ce-puristarun": "run-1",
        "ce-puristaschedule": "Billing.v1.monthly",
        "ce-puristanominal": "2027-03-01T01:00:00.000005+00:00",
        "ce-puristazone": "UTC",
        "ce-puristatarget": "true",
    }


@pytest.mark.parametrize("prefix", ["ce-", "CE-", "cloudEvents:", "cloudEvents_"])
def test_a_strangers_event_in_binary_mode_is_a_message(prefix: str) -> None:
    headers = {"specversion": "1.0", "type": "a.b", "source": "shop", "id": "7", "subject": "x%20y"}
    found = message_of(
        "a.b", {f"{prefix}{k}": v for k, v in headers.items()}, b"[1]", fallback_id="f"
    )
    assert found == Message("a.b", b"[1]", "7", None, {"ce-subject": "x y", "ce-source": "shop"})


def test_a_strangers_event_in_structured_mode_is_a_message() -> None:
    event = {"specversion": "1.0", "type": "a.b", "source": "shop", "id": "7", "data": {"ü": 1}}
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    found = message_of("a.b", headers, json.dumps(event).encode(), fallback_id="f")
    assert found == Message("a.b", '{"ü":1}'.encode(), "7", None, {"ce-source": "shop"})


def test_what_is_no_event_is_a_message_with_the_brokers_id() -> None:
    assert message_of("a.b", {}, b"{}", fallback_id="s:4") == Message("a.b", b"{}", "s:4")


def test_a_trigger_in_a_queue_can_be_read_and_sent_on() -> None:
    trigger = Trigger(
        schedule_id="Billing.v1.monthly",
        nominal_time=datetime(2027, 3, 1, tzinfo=UTC),
        source="nats",
        id="t-1",
    )
    event = trigger.to_cloudevent()
    binary = {f"ce-{key}": str(value) for key, value in event.items()}
    structured = {"content-type": "application/cloudevents+json"}
    for headers, body in ((binary, b""), (structured, json.dumps(event).encode())):
        message = message_of("purista.triggers", headers, body, fallback_id="f")
        assert message_trigger(message)[0] == trigger
        sent_on = again(message._replace(id="new"))
        assert sent_on.id == "new"
        assert message_trigger(sent_on)[0] == trigger


@pytest.mark.parametrize("nominal", ["", "2027-03-01T00:00:00", "soon"])
def test_a_run_that_is_none_is_refused(nominal: str) -> None:
    headers = headers_of(Message("a.b", b"{}", "1", RUN)) | {"ce-puristanominal": nominal}
    with pytest.raises(BridgeError, match="puristanominal"):
        message_of("a.b", headers, b"{}", fallback_id="f")


@pytest.mark.parametrize(
    "reply", [Reply(b"[1]"), Reply(error=ErrorReply("handled", "no_paper", "Zoë", {"left": [1]}))]
)
def test_a_reply_comes_back_as_it_was(reply: Reply) -> None:
    assert reply_of(reply_headers(reply), reply_body(reply)) == reply


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"code": 1}'])
def test_a_reply_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BridgeError, match="cannot be read"):
        reply_of({"purista-error": "handled"}, body)


CUT_EMOJI = r'{"pad":"\ud83d"}'


def structured(**more: object) -> bytes:
    event = {"specversion": "1.0", "type": "a.b", "source": "shop", "id": "7", **more}
    return json.dumps(event).encode()


def test_half_of_a_surrogate_pair_stays_an_escape() -> None:
    found = message_of("a.b", {}, structured(data={"pad": "\ud83d"}), fallback_id="f")
    assert found == Message("a.b", CUT_EMOJI.encode(), "7", None, {"ce-source": "shop"})


def test_binary_data_of_a_structured_event_is_the_body() -> None:
    found = message_of("a.b", {}, structured(data_base64="eyJuIjogMX0="), fallback_id="f")
    assert found.body == b'{"n": 1}'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"purista-headers": "xx"}, b"{}"),
        ({"purista-headers": "[1]"}, b"{}"),
        ({"purista-headers": "[]"}, b"{}"),
        ({"purista-headers": '{"a": 1}'}, b"{}"),
        ({"purista-headers": r'{"a": "\ud83d"}'}, b"{}"),
        ({}, structured(id="\ud83d")),
        ({}, structured(subject="\ud83d")),
        ({}, structured(data_base64="no")),
        ({}, structured(data_base64=7)),
        ({}, structured(data_base64="MQ==", data=1)),
    ],
)
def test_what_cannot_be_read_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BridgeError, match=r"^message 'a\.b': .+; send"):
        message_of("a.b", headers, body, fallback_id="f")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.floats(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [
        *("purista-headers", "purista-id", "content-type", "Content-Type", "ce-id", "ce-type"),
        *("ce-specversion", "ce-source", "ce-puristarun", "ce-puristanominal", "purista-unread"),
    ]
)
attributes = st.sampled_from(
    ["id", "source", "data", "data_base64", "subject", "puristarun", "puristanominal", "time"]
)
events = st.dictionaries(attributes | st.text(), values, max_size=5).map(
    lambda given: json.dumps({"specversion": "1.0", "type": "a.b", **given}).encode()
)


@given(
    headers=st.dictionaries(names | st.text(), st.text(st.characters()), max_size=5),
    body=st.binary() | events | values.map(lambda value: json.dumps(value).encode()),
)
def test_whatever_a_stranger_sends_is_a_message_that_can_be_sent_on_or_refused(
    headers: dict[str, str], body: bytes
) -> None:
    try:
        found = message_of("a.b", headers, body, fallback_id="f")
    except BridgeError:
        return
    assert again(found._replace(run=None)).body == found.body
    for value in headers_of(found).values():
        assert value.isascii()


def test_an_error_with_half_of_a_surrogate_pair_comes_back_as_it_was() -> None:
    reply = Reply(error=ErrorReply("handled", "odd", "\ud83d", {"left": "\ud83d"}))
    assert reply_of(reply_headers(reply), reply_body(reply)) == reply
