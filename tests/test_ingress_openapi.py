import json
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route

from purista import Ingress, MemoryEventBridge, MemoryLedger, MemoryQueueBridge, Service
from purista.ingress.answer import TITLES
from purista.ingress.http import ingress_app
from purista.ingress.http.barecall import PARAMETERS
from purista.ingress.http.openapi import openapi
from purista.ledgers import Verdict
from purista.trigger import Trigger

DOCUMENT = openapi()
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def resolved(value: Any) -> Any:
    """Return a part of the document with its own references followed."""
    while isinstance(value, dict) and "$ref" in value:
        found: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [one for each in value.values() for one in references(each)]
    return [one for each in value for one in references(each)] if isinstance(value, list) else []


def schema(name: str) -> dict[str, Any]:
    return {**DOCUMENT["components"]["schemas"][name], "components": DOCUMENT["components"]}


def ingress() -> Ingress:
    bridges: Any = {"event_bridge": MemoryEventBridge(), "queue_bridge": MemoryQueueBridge()}
    return Ingress([Service("Shop")], ledger=MemoryLedger(), **bridges)


def test_the_document_is_for_the_caller_to_keep():
    openapi()["paths"].clear()
    assert openapi() == DOCUMENT


def test_it_is_json():
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_it_has_every_path_of_the_application_and_no_other():
    routes = [
        one for one in ingress_app(ingress(), development=True).routes if isinstance(one, Route)
    ]
    names = {"/triggers/{part:path}": "/triggers/{schedule_id}"}
    served = {names.get(one.path, one.path.replace("{part}", "{run_id}")) for one in routes}
    assert set(DOCUMENT["paths"]) == served


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_what_is_referred_to_is_there(reference: str):
    assert resolved({"$ref": reference})


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_a_schema_is_one(name: str):
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_says_its_answers(path: str, method: str, operation: dict[str, Any]):
    for status, response in operation["responses"].items():
        kinds = set(resolved(response)["content"])
        assert kinds == {"application/problem+json" if status >= "400" else "application/json"}
        assert resolved(response)["description"]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_only_what_tells_nothing_is_open(path: str, method: str, operation: dict[str, Any]):
    is_open = operation.get("security") == []
    assert is_open is (path in ("/health", "/ready", "/openapi.json"))
    assert ("401" in operation["responses"]) is not is_open


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_a_path_names_its_parameters(path: str, method: str, operation: dict[str, Any]):
    parameters = operation.get("parameters", [])
    named = {one["name"] for one in parameters if one["in"] == "path"}
    assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}


def test_operation_ids_are_unique():
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(ids) == len(set(ids))


def test_a_bare_call_has_the_parameters_that_are_read():
    parameters = DOCUMENT["paths"]["/triggers/{schedule_id}"]["post"]["parameters"]
    assert {one["name"] for one in parameters if one["in"] == "query"} == set(PARAMETERS)


def test_every_verdict_and_every_kind_of_problem_is_named():
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["Decision"]["properties"]["decision"]["enum"]) == set(Verdict)
    kinds = {one.rpartition(":")[2] for one in schemas["Problem"]["properties"]["type"]["enum"]}
    assert kinds == set(TITLES)


def test_a_trigger_is_an_event_of_the_document():
    trigger = Trigger(schedule_id="a.v1.b", nominal_time=None, source="x", manual=True, data=None)
    jsonschema.validate(trigger.to_cloudevent(), schema("Event"))


def test_a_problem_with_a_decision_is_both():
    decided = {"decision": "rejected", "reason": "", "scheduleId": "", "nominalTime": None}
    known = {"type": "urn:purista:problem:closing", "title": "", "status": 503, "detail": ""}
    jsonschema.validate({**known, **decided, "runId": None}, schema("DecisionProblem"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(known, schema("DecisionProblem"))
