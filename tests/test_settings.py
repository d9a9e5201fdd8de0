"""Deployment settings: every mistake at once, and nothing of a value in a message."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from purista.errors import SettingsError
from purista.settings import IngressSettings, Settings, read_settings, table_problems

SECRET = "hunter2"


class Key(Settings):
    name: str = Field(pattern="^[a-z]+$")
    key: str = Field(examples=["token"])


class Queue(Settings):
    kind: Literal["queue"]
    address: str = Field(examples=["triggers"])


class Topic(Settings):
    kind: Literal["topic"]
    topic: str


class Example(Settings):
    image: str = Field(min_length=1, examples=["curl:8"])
    replicas: int = Field(default=1, ge=1, examples=[3])
    bearer: Key | None = None
    target: Annotated[Queue | Topic, Field(discriminator="kind")] | None = None


def read(**tables: Any) -> dict[str, Settings]:
    return read_settings(tables, {"example": Example})


def problems(**tables: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(**tables)
    assert SECRET not in str(caught.value)
    return [str(each).removeprefix("purista.toml: ") for each in caught.value.problems]


def test_a_file_without_tables_has_the_settings_of_the_ingress():
    found = read_settings({}, {})
    assert found == {"ingress": IngressSettings()}
    assert IngressSettings().triggers_url == "http://127.0.0.1:8080/triggers"
    assert IngressSettings().recovery == "scheduler"


def test_tables_are_read_into_their_models_and_others_left_alone():
    found = read(example={"image": "a", "bearer": {"name": "b", "key": "c"}}, other={"x": 1})
    assert found["example"] == Example(image="a", bearer=Key(name="b", key="c"))
    assert set(found) == {"ingress", "example"}


def test_every_mistake_of_every_table_comes_at_once_with_its_place_and_remedy():
    assert problems(
        ingress={"recovery": SECRET, "ulr": SECRET},
        example={"replicas": SECRET, "bearer": {"name": SECRET, "kye": SECRET}},
    ) == [
        "ingress.recovery: Input should be 'scheduler' or 'ingress'",
        "ingress.ulr: no such setting; did you mean 'url'?",
        'example.image: it is missing; such as image = "curl:8"',
        "example.replicas: Input should be a valid integer, unable to parse string as an integer;"
        " such as replicas = 3",
        "example.bearer.name: String should match pattern '^[a-z]+$'",
        'example.bearer.key: it is missing; such as key = "token"',
        "example.bearer.kye: no such setting; did you mean 'key'?",
    ]


def test_a_mistake_in_one_of_several_kinds_of_a_table_is_told_like_any_other():
    assert problems(example={"image": "a", "target": {"kind": "queue", "adress": SECRET}}) == [
        'example.target.queue.address: it is missing; such as address = "triggers"',
        "example.target.queue.adress: no such setting; did you mean 'address'?",
    ]
    assert problems(example={"image": "a", "target": {"kind": SECRET}}) == [
        "example.target: 'kind' should be 'queue', 'topic'"
    ]


@pytest.mark.parametrize("value", [SECRET, 1, [SECRET], None])
def test_what_is_no_table_is_told(value: Any):
    assert problems(example=value) == ["example: it is no table; write [example]"]


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://triggers.example.com", "https://triggers.example.com"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://[2001:db8::1]:8443/in/", "https://[2001:db8::1]:8443/in"),
        ("https://example.com/a%20b", "https://example.com/a%20b"),
    ],
)
def test_an_address_is_kept_without_a_slash_at_its_end(url: str, kept: str):
    found = read(ingress={"url": url}, example={"image": "a"})["ingress"]
    assert isinstance(found, IngressSettings)
    assert found.url == kept
    assert found.triggers_url == f"{kept}/triggers"


NO_ADDRESS = "write an http or https address, such as https://triggers.example.com"
NOT_ALONE = "write the address alone: no user, password, query or fragment"
NOT_PLAIN = "write spaces, quotes and letters beyond ASCII as %20 and the like"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"https://user:{SECRET}@example.com", NOT_ALONE),
        (f"https://:{SECRET}@example.com", NOT_ALONE),
        (f"https://{SECRET}@example.com", NOT_ALONE),
        ("https://@example.com", NOT_ALONE),
        (f"https://example.com?token={SECRET}", NOT_ALONE),
        ("https://example.com/?", NOT_ALONE),
        (f"https://example.com#{SECRET}", NOT_ALONE),
        (f"ftp://{SECRET}.example.com", NO_ADDRESS),
        (f"{SECRET}", NO_ADDRESS),
        ("https://", NO_ADDRESS),
        (f"http://[{SECRET}", NO_ADDRESS),
        (f"http://example.com:{SECRET}", NO_ADDRESS),
        ("http://example.com:70000", NO_ADDRESS),
        (f"https://example.com/ {SECRET}", NOT_PLAIN),
        (f"https://example.com/\n{SECRET}", NOT_PLAIN),
        (f'https://example.com/"{SECRET}', NOT_PLAIN),
        (f"https://example.com/é{SECRET}", NOT_PLAIN),
    ],
)
def test_an_address_that_may_hold_a_secret_or_is_none_is_refused_unseen(url: str, message: str):
    assert problems(ingress={"url": url}, example={"image": "a"}) == [f"ingress.url: {message}"]


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        IngressSettings().url = "https://example.com"


def test_a_table_with_a_name_that_means_nothing_is_told_with_the_nearest():
    document: dict[str, Any] = {
        "ingres": {},
        "exampel": {},
        "ingress": {},
        "example": {},
        "zzz": {},
    }
    assert [str(each) for each in table_problems(document, {"example": Example})] == [
        "purista.toml: exampel: no such table; did you mean 'example'?",
        "purista.toml: ingres: no such table; did you mean 'ingress'?",
        "purista.toml: zzz: no such table; use one of: deployments, example, ingress",
    ]
