import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from purista.errors import ContractError, MissingExtraError, PayloadError
from purista.schema import Schema

SECRET = "s3cr3t"


class Inner(BaseModel):
    id: str


class Cycle(BaseModel):
    cycle_id: str
    count: int = Field(default=3, alias="howMany")
    share: float | None = None
    inner: Inner | None = None
    tags: list[str] = []


@dataclass(slots=True)
class Plain:
    a: int
    b: str = "x"


@dataclass
class Open:
    a: int


class Typed(TypedDict):
    a: int


class Colour(Enum):
    RED = "red"


ROUND_TRIPS: list[tuple[Any, Any]] = [
    (Cycle, Cycle(cycle_id="2027-03", howMany=4, share=0.5, inner=Inner(id="ü"))),
    (Cycle, Cycle(cycle_id="2027-03")),
    (Plain, Plain(1, "y")),
    (Open, Open(1)),
    (Typed, {"a": 1}),
    (dict[str, list[int]], {"a": [1, 2]}),
    (int, 5),
    (float, 0.1),
    (str, ""),
    (bool, True),
    (None, None),
    (type(None), None),
    (int | None, None),
    (Literal["a", 1], "a"),
    (Colour, Colour.RED),
    (datetime, datetime(2027, 3, 1, 1, tzinfo=UTC)),
    (date, date(2027, 3, 1)),
    (timedelta, timedelta(hours=90)),
    (Decimal, Decimal("0.10")),
    (UUID, UUID(int=7)),
    (bytes, b"abc"),
    (set[int], {1, 2}),
    (tuple[int, str], (1, "x")),
    (Annotated[int, Field(gt=0)], 5),
    (object, {"any": ["thing", None]}),
    (dict, {"a": 1}),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS)
def test_what_is_dumped_is_loaded_as_it_was(annotation: Any, value: Any):
    schema: Schema[Any] = Schema(annotation)
    assert schema.problems() == []
    assert schema.load(schema.dump(value)) == value


def test_a_type_adapter_is_taken_as_it_is():
    schema = Schema(TypeAdapter(list[int]))
    assert schema.load(b"[1,2]") == [1, 2]


def test_json_is_written_by_alias_and_compact():
    body = Schema(Cycle).dump(Cycle(cycle_id="a", howMany=4))
    assert body == b'{"cycle_id":"a","howMany":4,"share":null,"inner":null,"tags":[]}'


def test_a_dict_may_stand_for_a_model():
    assert Schema(Inner).dump({"id": "x"}) == b'{"id":"x"}'  # type: ignore[arg-type]


WRONG: list[tuple[Any, Any]] = [
    (int, SECRET),
    (str, 5),
    (Inner, {"id": 5}),
    (Inner, Cycle(cycle_id=SECRET)),
    (list[int], [1, SECRET]),
    (dict[str, int], {SECRET: SECRET}),
    (float, float("nan")),
    (float | None, float("inf")),
    (object, {"a": float("nan"), SECRET: 1}),
    (object, object()),
    (object, {"a": {object()}}),
    (Literal["a"], SECRET),
    (Colour, SECRET),
    (datetime, SECRET),
    (UUID, SECRET),
    (Annotated[str, Field(max_length=2)], SECRET),
    (Annotated[str, Field(pattern="^a")], SECRET),
]


@pytest.mark.parametrize(("annotation", "value"), WRONG)
def test_a_wrong_value_is_refused_without_being_told(annotation: Any, value: Any):
    schema: Schema[Any] = Schema(annotation)
    with pytest.raises(PayloadError) as caught:
        schema.dump(value)
    assert str(caught.value).startswith("payload")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


class Changed(BaseModel):
    number: int
    word: str = "x"
    inner: Inner = Inner(id="1")
    many: list[Inner] = []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("number", SECRET, "payload.number must be an integer"),
        ("word", 5, "payload.word must be a string"),
        ("word", None, "payload.word must be a string"),
        ("inner.id", 5, "payload.inner.id must be a string"),
        ("many.0.id", 5, "payload.many.0.id must be a string"),
    ],
)
def test_an_instance_that_was_changed_to_a_wrong_type_is_refused(
    path: str, value: object, message: str
):
    changed = Changed(number=1, inner=Inner(id="x"), many=[Inner(id="y")])
    owner: Any = changed
    *way, last = path.split(".")
    for part in way:
        owner = owner[int(part)] if part.isdecimal() else getattr(owner, part)
    object.__setattr__(owner, last, value)
    with pytest.raises(PayloadError) as caught:
        Schema(Changed).dump(changed)
    assert str(caught.value) == message


def test_a_slotted_dataclass_that_was_changed_is_refused():
    changed = Plain(1)
    changed.a = SECRET  # type: ignore[assignment]
    with pytest.raises(PayloadError, match=r"payload\.a must be an integer"):
        Schema(Plain).dump(changed)


def test_a_number_as_a_text_inside_of_an_instance_is_refused_although_it_could_be_read():
    changed = Changed(number=1)
    changed.number = "5"  # type: ignore[assignment]
    with pytest.raises(PayloadError, match="holds a value that cannot be written as JSON"):
        Schema(Changed).dump(changed)


@pytest.mark.parametrize(
    ("annotation", "body", "message"),
    [
        (Cycle, b"{}", "payload.cycle_id is required"),
        (Cycle, b'{"cycle_id":"a","howMany":"x"}', "payload.howMany must be an integer"),
        (Cycle, b'{"cycle_id":"a","inner":{}}', "payload.inner.id is required"),
        (Cycle, b'{"cycle_id":"a","tags":[1]}', "payload.tags.0 must be a string"),
        (Cycle, b"[]", "payload must be an object"),
        (Cycle, b"{", "payload must be JSON"),
        (Cycle, b"", "payload must be JSON"),
        (str, b"\xff", "payload must be JSON"),
        (float, b"NaN", "payload must be JSON"),
        (object, b'{"a":-Infinity}', "payload must be JSON"),
        (dict[str, int], b'{"s3cr3t":"x"}', "payload.* must be an integer"),
        (int | list[int], b'"s3cr3t"', "payload must be an integer; payload must be a list"),
        (Literal["a", "b"], b'"s3cr3t"', "payload must be 'a' or 'b'"),
    ],
)
def test_a_body_that_does_not_fit_names_field_and_rule(annotation: Any, body: bytes, message: str):
    with pytest.raises(PayloadError) as caught:
        Schema(annotation).load(body)
    assert str(caught.value) == message
    assert caught.value.__context__ is None


def test_a_word_that_looks_like_no_number_is_a_text():
    assert Schema(object).load(b'{"name":"NaN Infinity"}') == {"name": "NaN Infinity"}


def test_only_some_faults_are_shown_and_the_others_counted():
    with pytest.raises(PayloadError) as caught:
        Schema(list[int]).load(json.dumps(["x"] * 14).encode())
    assert str(caught.value).endswith("payload.9 must be an integer; and 4 more")


class Judged(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: str

    @field_validator("a")
    @classmethod
    def judge(cls, value: str) -> str:
        if value == "value":
            raise ValueError(SECRET)
        if value == "custom":
            raise PydanticCustomError("too_ugly", "{word}", {"word": SECRET})
        if value == "crash":
            raise KeyError(SECRET)
        assert value != "assertion", SECRET
        return value

    @model_validator(mode="after")
    def judge_all(self) -> "Judged":
        if self.a == "model":
            raise ValueError(SECRET)
        return self


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("value", "payload.a is refused by a validator"),
        ("assertion", "payload.a is refused by a validator"),
        ("model", "payload is refused by a validator"),
        ("custom", "payload.a breaks the rule 'too_ugly'"),
        ("crash", "payload makes a validator fail (KeyError)"),
    ],
)
def test_the_words_of_a_validator_are_not_passed_on(word: str, message: str):
    schema = Schema(Judged)
    for attempt in (
        lambda: schema.load(json.dumps({"a": word}).encode()),
        lambda: schema.dump({"a": word}),  # type: ignore[arg-type]
        lambda: schema.check({"a": word}),
    ):
        with pytest.raises(PayloadError) as caught:
            attempt()
        assert str(caught.value) == message


def test_an_unknown_key_is_told_to_its_author_only():
    value = {"a": "x", SECRET: 1}
    with pytest.raises(PayloadError) as caught:
        Schema(Judged).check(value)
    assert str(caught.value) == "payload.* is not a field of the schema"
    assert [each.place for each in Schema(Judged).faults(value)] == [SECRET]


def test_the_tag_of_a_union_is_not_told():
    class A(BaseModel):
        kind: Literal["a"]

    class B(BaseModel):
        kind: Literal["b"]

    schema: Schema[Any] = Schema(Annotated[A | B, Field(discriminator="kind")])
    with pytest.raises(PayloadError) as caught:
        schema.load(json.dumps({"kind": SECRET}).encode())
    assert str(caught.value) == "payload breaks the rule 'union_tag_invalid'"


def test_check_gives_the_normal_form_with_defaults():
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        at: datetime
        days: int = 30

    body = Schema(Strict).check({"at": "2027-03-01T00:00:00Z"})
    assert body == b'{"at":"2027-03-01T00:00:00Z","days":30}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": datetime(2027, 1, 1)}, "payload.a datetime is no JSON value"),
        ({"a": float("nan")}, "payload.a NaN is no JSON number"),
        ({1: "a"}, "payload a key is int"),
    ],
)
def test_check_takes_json_only(value: object, message: str):
    with pytest.raises(PayloadError, match=message):
        Schema(dict).check(value)


def test_a_wrong_value_that_only_a_serializer_makes_is_refused():
    class Odd(BaseModel):
        a: int

    odd = Odd.model_construct(a=object())
    with pytest.raises(PayloadError, match="cannot be written as JSON"):
        Schema(Odd).dump(odd)


def test_the_json_schema_is_that_of_what_is_read_and_the_caller_may_change_it():
    schema = Schema(Cycle)
    document = schema.json_schema()
    assert set(document["properties"]) == {"cycle_id", "howMany", "share", "inner", "tags"}
    document.clear()
    assert schema.json_schema() != {}


def test_the_default_of_a_set_is_in_order():
    class Tagged(BaseModel):
        tags: set[str] = {"c", "a", "b"}

    document = Schema(Tagged).json_schema()
    assert document["properties"]["tags"]["default"] == ["a", "b", "c"]


def test_a_changed_model_inside_of_a_typed_dict_is_refused():
    class Holder(TypedDict):
        inner: Inner

    changed = Inner(id="x")
    changed.id = 5  # type: ignore[assignment]
    with pytest.raises(PayloadError, match=r"payload\.inner\.id must be a string"):
        Schema(Holder).dump({"inner": changed})


PROGRAM = """
import json
from pydantic import BaseModel
from purista.schema import Schema

class Tagged(BaseModel):
    tags: set[str] = set("abcdefgh")
    more: frozenset[int] = frozenset({3, 1, 2})

print(json.dumps(Schema(Tagged).json_schema()))
"""


def test_the_json_schema_is_the_same_in_every_process():
    texts = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(texts) == 1


class NotInJson:
    pass


class Validated(BaseModel):
    a: int = Field(validation_alias="A")


class Serialized(BaseModel):
    a: int = Field(serialization_alias="A")


class Hidden(BaseModel):
    a: int = Field(exclude=True)


class HiddenDefault(BaseModel):
    a: int = Field(default=1, exclude=True)
    b: int = 2


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field
    def twice(self) -> int:
        return 2 * self.a


class ComputedOpen(BaseModel):
    a: int

    @computed_field
    def twice(self) -> int:
        return 2 * self.a


class Outer(BaseModel):
    inner: Serialized


@pytest.mark.parametrize(
    ("annotation", "part"),
    [
        (NotInJson, "NotInJson cannot be a payload (schema-for-unknown-type)"),
        (NotInJson(), "cannot be a payload"),
        (5, "5 cannot be a payload"),
        ("NoSuchType", "cannot be a payload"),
        (type, "cannot be a payload"),
        ({"type": "string"}, "a dict is no type; use Schema.from_json_schema(...)"),
        (Validated, "Validated reads A but does not write it; give the field one alias"),
        (Serialized, "Serialized reads a but does not write it; give the field one alias"),
        (Outer, "Serialized reads a but does not write it"),
        (Hidden, "Hidden reads a but does not write it"),
        (Computed, "Computed writes twice but refuses to read it; drop extra='forbid'"),
    ],
)
def test_a_type_that_cannot_be_a_payload_is_a_problem(annotation: Any, part: str):
    found = Schema(annotation).problems()
    assert len(found) == 1
    assert part in str(found[0])


@pytest.mark.parametrize("annotation", [HiddenDefault, ComputedOpen])
def test_fields_that_are_only_written_or_only_read_by_intent_are_fine(annotation: Any):
    assert Schema(annotation).problems() == []


def test_the_typed_dict_of_an_old_python_is_refused_with_the_remedy():
    import typing

    old = typing.TypedDict("old", {"a": int})  # noqa: UP013
    found = Schema(old).problems()
    if sys.version_info >= (3, 12):
        assert found == []
    else:
        assert "import TypedDict from typing_extensions" in str(found[0])


def test_a_type_that_is_no_payload_raises_a_contract_error_when_it_is_used():
    schema = Schema(NotInJson)
    for use in (lambda: schema.load(b"1"), lambda: schema.dump(NotInJson()), schema.json_schema):
        with pytest.raises(ContractError, match="cannot be a payload"):
            use()


def test_making_a_schema_is_free_until_it_is_used():
    assert repr(Schema(NotInJson)) == "Schema(NotInJson)"


def test_schemas_of_equal_types_are_equal():
    assert Schema(Cycle) == Schema(Cycle)
    assert Schema(int | str) == Schema(str | int)
    assert Schema(Cycle) != Schema(Inner)
    assert Schema(Cycle) != Cycle
    assert hash(Schema(Cycle)) == hash(Schema(Cycle))
    assert len({Schema(Annotated[int, Field(gt=0)]), Schema(Annotated[int, Field(gt=0)])}) <= 2
    assert isinstance(hash(Schema(Annotated[int, []])), int)


def test_schemas_of_equal_documents_are_equal():
    one = Schema.from_json_schema({"type": "integer", "title": "N"})
    assert one == Schema.from_json_schema({"title": "N", "type": "integer"})
    assert one != Schema.from_json_schema({"type": "string"})
    assert one != Schema(int)
    assert hash(one) == hash(Schema.from_json_schema({"title": "N", "type": "integer"}))
    assert repr(one) == "Schema.from_json_schema('N')"


def test_schemas_can_be_copied_and_pickled():
    document = Schema.from_json_schema({"type": "integer"}, template_optional=True)
    for schema in (Schema(Cycle), document):
        again = pickle.loads(pickle.dumps(schema))
        assert again == schema
        assert again.template_optional == schema.template_optional
        assert copy.deepcopy(schema) is schema


DOCUMENT = {
    "type": "object",
    "title": "Purge",
    "properties": {
        "older_than_days": {"type": "integer", "default": 30, "minimum": 1},
        "who": {"$ref": "#/$defs/Who"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Who"}},
        "either": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "pair": {"properties": {"a": True, "b": True}, "required": ["a", "b"]},
    },
    "required": ["who"],
    "additionalProperties": False,
    "$defs": {
        "Who": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "kind": {"default": "person"}},
            "required": ["name"],
        }
    },
}


def test_a_schema_that_is_known_as_a_document_validates_and_fills_in_defaults():
    schema = Schema.from_json_schema(DOCUMENT)
    assert schema.problems() == []
    value = {"who": {"name": "x"}, "tags": [{"name": "y"}], "either": {"a": 1}}
    expected = {
        "who": {"name": "x", "kind": "person"},
        "tags": [{"name": "y", "kind": "person"}],
        "either": {"a": 1},
        "older_than_days": 30,
    }
    assert json.loads(schema.check(value)) == expected
    assert json.loads(schema.dump(value)) == expected
    assert schema.load(json.dumps(value).encode()) == expected
    assert schema.json_schema() == DOCUMENT
    assert value == {"who": {"name": "x"}, "tags": [{"name": "y"}], "either": {"a": 1}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "payload.who is required"),
        ({"who": {}}, "payload.who.name is required"),
        ({"who": {"name": "x"}, "pair": {"a": 1}}, "payload.pair.b is required"),
        ({"who": {"name": 5}}, "payload.who.name breaks the rule 'type 'string''"),
        (
            {"who": {"name": "x"}, "older_than_days": 0},
            "payload.older_than_days breaks the rule 'minimum 1'",
        ),
        ({"who": {"name": "x"}, SECRET: 5}, "payload.* is not a field of the schema"),
        ({"who": {"name": "x"}, "either": SECRET}, "payload.either breaks the rule 'anyOf'"),
        (SECRET, "payload breaks the rule 'type 'object''"),
        ({"who": {"name": float("nan")}}, "payload.who.name NaN is no JSON number"),
    ],
)
def test_what_does_not_fit_a_document_is_refused_without_being_told(value: Any, message: str):
    schema = Schema.from_json_schema(DOCUMENT)
    for use in (schema.dump, schema.check):
        with pytest.raises(PayloadError) as caught:
            use(value)
        assert str(caught.value) == message


@pytest.mark.parametrize("body", [b"{", b"NaN", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused_by_a_document(body: bytes):
    with pytest.raises(PayloadError, match="payload must be JSON"):
        Schema.from_json_schema({}).load(body)


def test_a_wrong_body_is_refused_by_a_document():
    with pytest.raises(PayloadError, match=r"payload\.who is required"):
        Schema.from_json_schema(DOCUMENT).load(b"{}")


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ({"type": "strin"}, "is no JSON Schema: $.type: "),
        ({"$ref": "#/$defs/Nothing"}, "'#/$defs/Nothing' leads nowhere; define it under $defs"),
        ({"$ref": "https://example.com/schema"}, "'https://example.com/schema' leads nowhere"),
        ({"items": [{"$ref": "#/x"}]}, "is no JSON Schema"),
        ({"anyOf": [{"$ref": "#/x"}]}, "'#/x' leads nowhere"),
        ({"default": float("nan")}, "is no JSON at 'default'"),
    ],
)
def test_a_document_that_is_no_schema_by_itself_is_a_problem(document: Any, part: str):
    found = Schema.from_json_schema(document).problems()
    assert len(found) == 1
    assert part in str(found[0])


def test_references_inside_of_values_are_none():
    document = {"const": {"$ref": "#/x"}, "$ref": "#/$defs/a", "$defs": {"a": {}}}
    assert Schema.from_json_schema(document).problems() == []


def test_nothing_is_fetched_for_a_reference():
    schema = Schema.from_json_schema({"$ref": "http://127.0.0.1:9/schema"})
    with pytest.raises(PayloadError, match=r"the schema cannot be applied \(\w*Referencing"):
        schema.check({})


def test_a_document_needs_the_extra_only_when_it_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    schema = Schema.from_json_schema({"type": "integer"})
    assert schema.json_schema() == {"type": "integer"}
    for use in (schema.problems, lambda: schema.check(5), lambda: schema.load(b"5")):
        with pytest.raises(MissingExtraError, match=r"pip install 'purista\[jsonschema\]'"):
            use()


def test_importing_the_schema_imports_neither_pydantic_nor_jsonschema():
    program = "import sys, purista.schema; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"pydantic", "jsonschema", "asyncio"} & set(done.stdout.split())


@given(
    st.builds(
        Cycle,
        cycle_id=st.text(),
        howMany=st.integers(),
        share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        inner=st.none() | st.builds(Inner, id=st.text()),
        tags=st.lists(st.text(), max_size=3),
    )
)
def test_every_valid_value_survives_the_wire_and_fits_its_own_json_schema(value: Cycle):
    schema = Schema(Cycle)
    body = schema.dump(value)
    assert schema.load(body) == value
    document = Schema.from_json_schema(schema.json_schema())
    assert document.load(body) == json.loads(body)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_loaded_or_refused(body: bytes):
    for schema in (Schema(Cycle), Schema(object), Schema.from_json_schema(DOCUMENT)):
        try:
            schema.load(body)
        except PayloadError as error:
            assert error.__context__ is None  # noqa: PT017 - either outcome is right
