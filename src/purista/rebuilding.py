"""Services from a manifest alone: what was declared, without the code behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from purista.contract import Command, Event, Queue, Schedule, Target
from purista.entry import KINDS, ReadMessage, ReadSchedule, read_schedule, read_service
from purista.errors import ContractError, ManifestError, Problem
from purista.jsonvalue import compact
from purista.meaning import TargetFacts, target_facts
from purista.payload import Schema
from purista.service import Service


def rebuilt(document: Mapping[str, Any]) -> tuple[Service, ...]:
    """Return the services of a manifest in normal form, by name. Raises ``ManifestError``."""
    rebuilding = _Rebuilding()
    for entry in document["services"]:
        rebuilding.add_service(entry)
    for entry in document["schedules"]:
        rebuilding.add_schedule(read_schedule(entry))
    if rebuilding.problems:
        raise ManifestError(rebuilding.problems)
    found = rebuilding.services
    return tuple(found[key] for key in sorted(found))


class _Rebuilding:
    """One rebuilding: it shares equal schemas and messages, and collects problems."""

    def __init__(self) -> None:
        self.services: dict[tuple[str, str], Service] = {}
        self.problems: list[Problem] = []
        self._schemas: dict[bytes, Schema[Any]] = {}

    def add_service(self, entry: Mapping[str, Any]) -> None:
        """Declare a service and its messages."""
        read = read_service(entry)
        service = Service(read.name, version=read.version, description=read.description)
        self.services[read.name, read.version] = service
        for message in read.messages:
            try:
                known: dict[str, Target] = getattr(service, KINDS[message.facts.kind])
                known[message.facts.name] = self._message(message)
            except ContractError as error:
                self.problems += [each.within(f"service '{service.id}'") for each in error.problems]

    def add_schedule(self, read: ReadSchedule) -> None:
        """Add a schedule to its service, which may be known by its schedules only."""
        key = (read.service_name, read.service_version)
        service = self.services.setdefault(key, Service(key[0], version=key[1]))
        try:
            schedule = Schedule(
                name=read.name,
                service_name=read.service_name,
                service_version=read.service_version,
                target=self._target(read.target),
                stated=frozenset(read.options),
                **read.options,
            )
            service.add_schedule(schedule)
        except ContractError as error:
            self.problems += [
                each if "schedule '" in each.place else each.within(f"schedule '{read.id}'")
                for each in error.problems
            ]

    def _target(self, facts: TargetFacts) -> Target:
        """Return the declared message, or one of its own where nothing declares the same."""
        service = self.services.get((facts.service_name, facts.service_version))
        known: Mapping[str, Target] = getattr(service, KINDS[facts.kind], {})
        declared = known.get(facts.name)
        if declared is not None and target_facts(declared) == facts:
            return declared
        return self._message(ReadMessage(facts, {}))

    def _message(self, message: ReadMessage) -> Target:
        """Return a message; whoever handles it is elsewhere."""
        facts, schema = message.facts, self._schema(message.facts.document)
        arguments: dict[str, Any] = {
            "service_name": facts.service_name,
            "service_version": facts.service_version,
            "external": True,
            **facts.options,
        }
        if facts.kind == "event":
            return Event(facts.name, schema, **arguments)
        if facts.kind == "queue":
            return Queue(facts.name, schema, **arguments)
        returns = self._schema(message.returns)
        return Command(facts.name, schema, returns=returns, **arguments)

    def _schema(self, document: Mapping[str, Any]) -> Schema[Any]:
        key = compact(document, sort_keys=True)
        if key not in self._schemas:
            self._schemas[key] = Schema.from_json_schema(document, template_optional=True)
        return self._schemas[key]
