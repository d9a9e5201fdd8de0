"""``purista dead-letters``: what failed for good, in queues and at subscribers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

import typer

from purista.bridges import DeadLetters, EventDeadLetters
from purista.cli.bridging import Bridges, BridgeUrl, EventsUrl, QueuesUrl, addresses, opened_bridges
from purista.cli.exitcode import AGAIN, DONE
from purista.cli.loading import load_services
from purista.cli.output import out, print_json, say, table, utc_text
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.contract import Queue, near
from purista.errors import BridgeError, LoadError
from purista.ingress.consumer import SUBSCRIBER
from purista.ingress.ingress import own_subscriber
from purista.message import RUN_ENDED, Message
from purista.service import Service
from purista.storeaddress import scheme_of, sqlite_path

_DONE: Final = {"redrive": "sent again", "purge": "deleted"}


class Place(NamedTuple):
    """Where dead letters are: a queue, or an event's subscriber."""

    name: str
    subscriber: str | None = None

    def __str__(self) -> str:
        return self.name if self.subscriber is None else f"{self.name} at {self.subscriber}"


class Letter(NamedTuple):
    """One dead letter; what it holds is nobody's business here."""

    place: Place
    message: Message
    attempts: int
    reason: str
    died_at: datetime


def dead_letters(
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
        ),
    ],
    of: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of one queue, event or subscriber alone.")
    ] = None,
    message_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The one with this message id.")
    ] = None,
    redrive: Annotated[
        bool, typer.Option("--redrive", help="Send them again, with all their attempts.")
    ] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Delete them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    bridge: BridgeUrl = None,
    events: EventsUrl = None,
    queues: QueuesUrl = None,
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the dead letters of the services' queues and subscriptions; redrive or purge them.

    Payloads are not shown.

    Example: purista dead-letters billing.app:billing --of monthlyReports --redrive
    """
    if redrive and purge:
        raise LoadError("--redrive and --purge are two ends of a dead letter; choose one")
    loaded = load_services(services)
    known = ingress_settings(settings)
    places = _chosen([*_places(loaded), *_trigger_places(known.triggers)], of)
    urls = addresses(known, bridge=bridge, events=events, queues=queues)
    bridges = opened_bridges(known, bridge=bridge, events=events, queues=queues)
    if not any(one.capabilities.durable for one in bridges):
        raise LoadError("what is in memory ends with its process; name the broker with --bridge")
    if not redrive and not purge:
        _check_files(urls)
        return _ran(_listed(bridges, places, message_id, as_json=as_json))
    word = "redrive" if redrive else "purge"
    if not yes and not _is_confirmed(word, places):
        return DONE
    _check_files(urls)
    return _ran(_changed(bridges, places, message_id, word, as_json=as_json))


def _check_files(urls: Iterable[str | None]) -> None:
    """Raise ``LoadError`` where a SQLite file is not there: reading would make an empty one."""
    for url in urls:
        path = sqlite_path(url) if url is not None and scheme_of(url) == "sqlite" else None
        if path is not None and not path.exists():
            raise LoadError(f"there is no file '{path}'; a worker makes it when it first runs")


def _places(services: Sequence[Service]) -> Iterator[Place]:
    """Return every place of the services once."""
    seen: set[Place] = set()
    for service in services:
        names = [*service.workers]
        names += [one.target.name for one in service.schedules.values() if _is_queue(one.target)]
        found = [Place(name) for name in names]
        receivers = [(one.event.name, one.name) for one in service.subscriptions.values()]
        receivers += [(one.event.name, one.name) for one in service.bindings.values()]
        found += [Place(event, f"{service.id}.{name}") for event, name in receivers]
        found.append(Place(RUN_ENDED, own_subscriber(service.id)))
        for place in found:
            if place not in seen:
                seen.add(place)
                yield place


def _trigger_places(name: str | None) -> list[Place]:
    return [] if name is None else [Place(name), Place(name, SUBSCRIBER)]


def _is_queue(target: object) -> bool:
    return isinstance(target, Queue)


def _chosen(places: Sequence[Place], name: str | None) -> Sequence[Place]:
    if name is None:
        return places
    found = [one for one in places if name in one or (one.subscriber or "").endswith(f".{name}")]
    if not found:
        known = {word for one in places for word in one if word}
        raise LoadError(f"--of '{name}': no such queue, event or subscriber; {near(name, known)}")
    return found


def _is_confirmed(word: str, places: Sequence[Place]) -> bool:
    if not sys.stdin.isatty():
        raise LoadError(f"--{word} changes what is there; give --yes where nobody can be asked")
    for place in places:
        say(str(place))
    return typer.confirm(f"{word.capitalize()} the dead letters of these?", err=True)


def _ran(work: Any) -> int:
    try:
        asyncio.run(work)
    except BridgeError as error:
        say(f"purista: {error}", "red")
        return AGAIN
    return DONE


async def _listed(
    bridges: Bridges, places: Sequence[Place], message_id: str | None, *, as_json: bool
) -> None:
    try:
        await bridges.connect(waits=False)
        letters = [letter for place in places for letter in await _letters(bridges, place)]
    finally:
        await bridges.close()
    letters = [one for one in letters if message_id in (None, one.message.id)]
    if as_json:
        print_json([_json(one) for one in letters])
        return
    shown = table("died", "where", "id", "attempts", "reason")
    for one in letters:
        died = utc_text(one.died_at)
        shown.add_row(died, str(one.place), one.message.id, str(one.attempts), one.reason)
    if letters:
        out.print(shown)
    say(f"{len(letters)} dead letters")


async def _letters(bridges: Bridges, place: Place) -> list[Letter]:
    if place.subscriber is None:
        assert isinstance(bridges.queues, DeadLetters)
        return [
            Letter(place, one.job.message, one.attempts, one.reason, one.died_at)
            for one in await bridges.queues.dead_letters(place.name)
        ]
    if not isinstance(bridges.events, EventDeadLetters):
        return []
    return [
        Letter(place, one.message, one.attempts, one.reason, one.died_at)
        for one in await bridges.events.dead_letters(place.name, place.subscriber)
    ]


async def _changed(
    bridges: Bridges, places: Sequence[Place], message_id: str | None, word: str, *, as_json: bool
) -> None:
    try:
        await bridges.connect(waits=False)
        counts = {str(place): await _change(bridges, place, message_id, word) for place in places}
    finally:
        await bridges.close()
    done = {place: count for place, count in counts.items() if count}
    if message_id is not None and not done:
        raise LoadError(f"no dead letter has the id '{message_id}'; list them without --{word}")
    if as_json:
        print_json({word: done})
        return
    for name, count in done.items():
        out.print(f"{name}: {count}")
    say(f"{sum(done.values())} dead letters {_DONE[word]}")


async def _change(bridges: Bridges, place: Place, message_id: str | None, word: str) -> int:
    if place.subscriber is None:
        change: Callable[..., Awaitable[int]] = getattr(bridges.queues, word)
        return await change(place.name, message_id=message_id)
    if not isinstance(bridges.events, EventDeadLetters):
        return 0
    change = getattr(bridges.events, word)
    return await change(place.name, place.subscriber, message_id=message_id)


def _json(letter: Letter) -> dict[str, Any]:
    run = letter.message.run
    return {
        "name": letter.place.name,
        "subscriber": letter.place.subscriber,
        "messageId": letter.message.id,
        "runId": None if run is None else run.run_id,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "diedAt": utc_text(letter.died_at),
    }
