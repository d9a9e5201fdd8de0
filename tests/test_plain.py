from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter, computed_field, field_serializer
from pydantic.dataclasses import dataclass as validated_dataclass
from typing_extensions import TypedDict

from purista.plain import plain


class Inner(BaseModel):
    id: str


class Flat(BaseModel):
    word: str
    number: int = 1
    real: float = 0.5
    maybe: str | None = None
    many: list[int] = []
    named: dict[str, bool] = {}
    inner: Inner = Inner(id="x")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Computed(BaseModel):
    a: int

    @computed_field
    def b(self) -> int:
        return 1


class Serialized(BaseModel):
    a: int

    @field_serializer("a")
    def write(self, value: int) -> str:
        return str(value)


class Root(RootModel[int]):
    pass


class Tree(BaseModel):
    inner: "Tree | None" = None


class Held(BaseModel):
    many: list[Inner]


class Fixed(BaseModel):
    word: Literal["a"]


@dataclass(slots=True)
class Slotted:
    a: int
    b: str = "x"


@dataclass
class Unslotted:
    a: int


@validated_dataclass
class Validated:
    a: datetime


class Typed(TypedDict):
    a: int


class TypedInner(TypedDict):
    inner: Inner


class Pair(BaseModel):
    pair: tuple[int, int]


def is_plain(annotation: Any, value: object) -> bool:
    return plain(TypeAdapter(annotation).core_schema)(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Flat, Flat(word="x", maybe="y", many=[1], named={"a": True})),
        (Flat, Flat(word="x")),
        (Slotted, Slotted(1)),
        (Unslotted, Unslotted(1)),
        (Validated, Validated(datetime(2027, 1, 1))),
        (int, 1),
        (float, 1.5),
        (list[str], ["a"]),
        (dict[str, list[int]], {"a": [1]}),
        (Typed, {"a": 1}),
        (int | None, None),
    ],
)
def test_a_value_that_holds_what_is_declared_is_plain(annotation: Any, value: object):
    assert is_plain(annotation, value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("word", 5),
        ("word", None),
        ("number", "5"),
        ("number", True),
        ("real", float("nan")),
        ("maybe", 5),
        ("many", [1, "x"]),
        ("many", (1,)),
        ("named", {"a": 1}),
        ("inner", Flat(word="x")),
        ("inner", None),
        ("inner", Inner.model_construct(id=5)),
    ],
)
def test_an_instance_with_another_thing_in_a_field_is_not_plain(field: str, value: object):
    changed: dict[str, Any] = {"word": "x", field: value}
    assert not is_plain(Flat, Flat.model_construct(**changed))


class Derived(Flat):
    more: int = 1


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Flat, Derived(word="x")),
        (Flat, Flat.model_construct()),
        (Slotted, object.__new__(Slotted)),
        (Open, Open(a=1)),
        (Computed, Computed(a=1)),
        (Serialized, Serialized(a=1)),
        (Root, Root(1)),
        (Tree, Tree()),
        (Held, Held(many=[])),
        (Fixed, Fixed(word="a")),
        (TypedInner, {"inner": Inner(id="x")}),
        (Pair, Pair(pair=(1, 2))),
        (object, 1),
        (list, [1]),
        (dict, {}),
        (int | str, 1),
        (tuple[int, ...], (1,)),
    ],
)
def test_what_is_not_understood_is_not_plain(annotation: Any, value: object):
    assert not is_plain(annotation, value)


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers() | st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.booleans() | st.integers(), max_size=2),
    st.builds(Inner, id=st.text(max_size=2)),
)


@given(st.fixed_dictionaries(dict.fromkeys(Flat.model_fields, anything)))
def test_what_is_plain_is_written_and_read_back_as_it_is(fields: dict[str, object]):
    adapter = TypeAdapter(Flat)
    value = Flat.model_construct(**fields)  # type: ignore[arg-type]
    if plain(adapter.core_schema)(value):
        body = adapter.serializer.to_json(value, warnings="error")
        assert adapter.validator.validate_json(body, strict=True) == value
