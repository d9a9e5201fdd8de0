"""Whether bridges can do what services ask of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from purista.bridges import EventBridgeCapabilities, QueueBridgeCapabilities
from purista.errors import Problem
from purista.service import Service
from purista.subscribing import SubscriptionOptions


def unfit(
    services: Iterable[Service], events: EventBridgeCapabilities, queues: QueueBridgeCapabilities
) -> tuple[Problem, ...]:
    """Return what handlers ask for that their bridges cannot do, each with its place and the remedy."""
    return tuple(problem for one in services for problem in _unfit(one, events, queues))


def _unfit(
    service: Service, events: EventBridgeCapabilities, queues: QueueBridgeCapabilities
) -> Iterator[Problem]:
    for subscription in service.subscriptions.values():
        place = f"service '{service.id}': subscription '{subscription.name}'"
        yield from _unfit_options(subscription.options, place, events)
    if service.handlers and not events.commands:
        names = ", ".join(f"'{name}'" for name in service.handlers)
        yield Problem(
            f"service '{service.id}': commands {names}",
            f"event bridge '{events.name}' carries no commands",
            "use a bridge that does",
        )
    if not queues.delayed:
        for name, worker in service.workers.items():
            if worker.queue.max_attempts > 1:
                yield Problem(
                    f"service '{service.id}': queue '{name}'",
                    f"queue bridge '{queues.name}' cannot delay what is tried again",
                    "use a bridge that can, or say max_attempts=1",
                )


def _unfit_options(
    options: SubscriptionOptions, place: str, events: EventBridgeCapabilities
) -> Iterator[Problem]:
    if options.every_instance and not events.every_instance:
        text = f"event bridge '{events.name}' gives an event to one receiver of a name only"
        yield Problem(place, text, "leave out every_instance=True, or use a bridge that can")
    if options.ordered and not events.ordered:
        text = f"event bridge '{events.name}' keeps no order when an event is tried again"
        yield Problem(place, text, "leave out ordered=True, or use a bridge that is ordered")
