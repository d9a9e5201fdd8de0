"""Every path of the HTTP API, fuzzed from its own OpenAPI document over a real server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    missing_required_header,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.engines.ingress_server import served

from purista import (
    Cron,
    Every,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
)
from purista.ingress.http import ingress_app
from purista.ingress.http.openapi import openapi
from purista.ingress.http.server import server_config
from purista.testing import ManualClock
from purista.verifying.bearer import BearerVerifier
from purista.verifying.secret import Secret

WORD = "a-token-of-at-least-22-characters"
HOURLY = "Shop.v1.hourly"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    missing_required_header,
    unsupported_method,
]


def config() -> Any:
    clock, shop = ManualClock(datetime(2027, 3, 1, 12, tzinfo=UTC)), Service("Shop", version="1")
    due = shop.event("due", dict[str, Any])
    shop.schedule("hourly").emit_event(due, expression=Every(timedelta(hours=1)), payload={})
    shop.schedule("daily").emit_event(due, expression=Cron("0 2 * * *"), timezone="Europe/Berlin")
    bridges: Any = {
        "event_bridge": MemoryEventBridge(clock=clock),
        "queue_bridge": MemoryQueueBridge(clock=clock),
    }
    ingress = Ingress([shop], ledger=MemoryLedger(), clock=clock, **bridges)
    app = ingress_app(ingress, verifiers=[BearerVerifier(Secret.inline(WORD))], opens=[ingress])
    return server_config(app)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    logging.getLogger("purista").setLevel(logging.ERROR)
    with served(config) as server:
        yield f"http://127.0.0.1:{server.port}"
    logging.getLogger("purista").setLevel(logging.NOTSET)


schema = schemathesis.openapi.from_dict(openapi())


@schema.parametrize()
@settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(case: schemathesis.Case, address: str):
    """What is drawn is sent to a schedule that is there, so that it gets past the first question."""
    if "schedule_id" in case.path_parameters:
        case.path_parameters["schedule_id"] = HOURLY
    if isinstance(case.body, dict) and "subject" in case.body:
        case.body["subject"] = HOURLY
    headers = {"authorization": f"Bearer {WORD}"}
    case.call_and_validate(base_url=address, headers=headers, checks=CHECKS)
