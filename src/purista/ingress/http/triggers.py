"""Triggers over HTTP: an event, a bare call, a message that Pub/Sub pushes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from purista.ingress.answer import Answer, answer, decided
from purista.ingress.decision import Decision
from purista.ingress.http.barecall import PARAMETERS, bare_trigger
from purista.ingress.http.request import Refusal, Request, refusal
from purista.ingress.ingress import Ingress
from purista.ingress.pubsub_messages import pushed_trigger, unwrapped_trigger
from purista.ledgers import Verdict
from purista.telemetry import Telemetry, carrier_of
from purista.trigger import Trigger

STRUCTURED: Final = "application/cloudevents+json"
"""The content type of a body that is the whole event."""

UNWRAPPED: Final = "x-goog-pubsub-message-id"
"""The header of a message that Pub/Sub pushes without a wrapper, with its metadata
(https://cloud.google.com/pubsub/docs/payload-unwrapping)."""


class Triggers:
    """Passes triggers on to an ingress and says what it decided."""

    def __init__(self, ingress: Ingress, telemetry: Telemetry | None) -> None:
        self._ingress = ingress
        self._telemetry = telemetry

    async def event(self, request: Request) -> Answer:
        """Take a CloudEvent, in structured or in binary mode."""
        request.parameters(())
        given = request.given
        kind = _media_type(given)
        request.check_is_vouched_for(by_body=kind == STRUCTURED)
        if kind == STRUCTURED:
            trigger = Trigger.from_json(request.body)
        elif "ce-specversion" in given and not kind.startswith("application/cloudevents"):
            _check_json(kind, request.body)
            trigger = Trigger.from_headers(request.headers, request.body)
        else:
            raise _not_taken(f"send '{STRUCTURED}', or the attributes in ce- headers")
        return answer(await self._accept(trigger, given))

    async def bare(self, request: Request) -> Answer:
        """Take a call that is no event: the path names the schedule."""
        request.check_is_vouched_for(by_body=False)
        query = request.parameters(PARAMETERS)
        given, body = request.given, request.body
        _check_json(_media_type(given), body)
        trigger = bare_trigger(request.part, given, query, body, self._ingress.clock.now())
        return answer(await self._accept(trigger, given))

    async def pushed(self, request: Request) -> Answer:
        """Take a message that Pub/Sub pushes.

        It sends again whatever is not acknowledged, so a trigger whose time is none of the schedule's
        is: schedulers send such ones on purpose, and a dead-letter topic is for mistakes.
        """
        request.parameters(())
        given, body = request.given, request.body
        request.check_is_vouched_for(by_body=UNWRAPPED not in given)
        if UNWRAPPED in given:
            trigger, carrier = unwrapped_trigger(request.headers, body)
        else:
            _check_json(_media_type(given), body)
            trigger, carrier = pushed_trigger(body)
        decision = await self._accept(trigger, carrier)
        if decision.verdict is Verdict.UNEXPECTED and not decision.retry:
            return Answer(200, decided(decision))
        return answer(decision)

    async def _accept(self, trigger: Trigger, carrier: Mapping[str, str]) -> Decision:
        if self._telemetry is None:
            return await self._ingress.accept(trigger)
        with self._telemetry.arrived(carrier_of(carrier)):
            return await self._ingress.accept(trigger)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_json(kind: str, body: bytes) -> None:
    """Refuse a body that says it is no JSON; without a content type it is taken for JSON."""
    is_json = kind in ("", "application/json", "text/json") or kind.endswith("+json")
    if body and (not is_json or kind.startswith("application/cloudevents")):
        raise _not_taken("send JSON as 'application/json'")


def _not_taken(remedy: str) -> Refusal:
    return refusal(415, "unsupported-media-type", "content_type", remedy)
