"""Which targets a process reaches: those that it handles itself, and queues that others work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from purista.bridges import QueueBridge
from purista.contract import Command, Event, Queue, Target, target_kind
from purista.errors import Problem
from purista.service import Service, problems


def unreached(services: Sequence[Service], queues: QueueBridge) -> list[Problem]:
    """Return what is wrong with services that one process serves.

    An event or a command whose handlers are elsewhere is lost here: its bridge is in this memory. The
    same holds for a job, unless other processes share the queues.
    """
    found = list(problems(*services))
    if queues.capabilities.across_processes:
        found = [each for each in found if not _is_queue(each)]
    known = {each.place for each in found}
    return [*found, *(each for each in _elsewhere(services, queues) if each.place not in known)]


def _is_queue(problem: Problem) -> bool:
    return problem.message.startswith("no handler serves queue ")


def _elsewhere(services: Sequence[Service], queues: QueueBridge) -> Iterator[Problem]:
    shared = queues.capabilities.across_processes
    for service in services:
        for schedule in service.schedules.values():
            target = schedule.target
            if _is_served(target, services) or (shared and isinstance(target, Queue)):
                continue
            message = (
                f"its {target_kind(target)} '{target.name}' is handled by no service given here"
            )
            remedy = "name the service that handles it too"
            if isinstance(target, Queue):
                remedy += ", or queues that its process shares"
            yield Problem(f"schedule '{schedule.id}': target", message, remedy)


def _is_served(target: Target, services: Sequence[Service]) -> bool:
    match target:
        case Event():
            receivers = [*_subscriptions(services), *_bound(services)]
            return target.name in receivers
        case Queue():
            return any(target.name in service.workers for service in services)
        case Command():
            handlers = (one for service in services for one in service.handlers.values())
            return target.address in {one.command.address for one in handlers}


def _subscriptions(services: Sequence[Service]) -> Iterator[str]:
    return (one.event.name for service in services for one in service.subscriptions.values())


def _bound(services: Sequence[Service]) -> Iterator[str]:
    return (one.event.name for service in services for one in service.bindings.values())
