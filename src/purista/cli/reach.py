"""Which targets a process reaches: those that it handles itself, and those that it shares a broker for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from purista.cli.bridging import Bridges
from purista.contract import Command, Event, Queue, Target, target_kind
from purista.errors import Problem
from purista.service import Service, problems


def unreached(
    services: Sequence[Service], bridges: Bridges, *, handles: bool = True
) -> list[Problem]:
    """Return what is wrong with services whose schedules one process takes triggers for.

    What is handled elsewhere is lost in this process's memory: it needs a bridge that other processes
    share, and so does the news that a job is done. ``handles``: it handles what the services handle.
    """
    shared = _shared(bridges)
    found = [
        each for each in problems(*services) if not each.message.startswith(_unserved_texts(shared))
    ]
    known = {each.place for each in found}
    here = services if handles else ()
    return [
        *found,
        *(each for each in _elsewhere(services, here, shared) if each.place not in known),
    ]


def _shared(bridges: Bridges) -> frozenset[str]:
    """Return the kinds of targets that reach other processes."""
    events, queues = bridges.events.capabilities, bridges.queues.capabilities
    found = {
        "event": events.across_processes,
        "command": events.across_processes and events.commands,
        "queue": queues.across_processes and events.across_processes,
    }
    return frozenset(kind for kind, is_shared in found.items() if is_shared)


def _unserved_texts(kinds: frozenset[str]) -> tuple[str, ...]:
    return tuple(f"no handler serves {kind} " for kind in kinds)


def _elsewhere(
    services: Sequence[Service], here: Sequence[Service], shared: frozenset[str]
) -> Iterator[Problem]:
    for service in services:
        for schedule in service.schedules.values():
            kind, target = target_kind(schedule.target), schedule.target
            if kind in shared or _is_served(target, here):
                continue
            message = f"its {kind} '{target.name}' is handled by no service in this process"
            remedy = "name the service that handles it too, or a broker that its process shares (--bridge)"
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
