"""The slot of an event whose scheduler says only where its slots lie, by when the event was published.

A message that is the same for every slot (Cloud Scheduler by Pub/Sub, NATS) has neither a time nor an id.
Its extension ``puristaslots`` is ``period+phase`` in seconds: ``time`` is the latest point of that grid
that is not after the publishing, and ``id`` is ``<subject>/<time>``, the same whenever it is delivered
again. See docs/schedulers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from purista.cloudevent import refuse
from purista.errors import Problem
from purista.slot import SlotGrid

SLOTS: Final = "puristaslots"
"""The extension that says where slots lie."""


def slotted(event: Mapping[str, Any], published: datetime | None) -> Mapping[str, Any]:
    """Return the event with its time and id; unchanged where it has a time or no slots.

    ``published``: when the broker took the message; None where that is not known. Raises
    ``TriggerError``.
    """
    slots = event.get(SLOTS)
    if slots is None or event.get("time") is not None:
        return event
    if published is None:
        remedy = "send 'time', or use a broker that tells the time of publishing"
        refuse([Problem(f"attribute '{SLOTS}'", "when it was published is not known", remedy)])
    try:
        slot = SlotGrid.from_text(str(slots)).slot(published.astimezone(UTC))
    except (ValueError, OverflowError) as error:
        refuse(
            [Problem(f"attribute '{SLOTS}'", str(error), "compile and apply the schedule again")]
        )
    time = slot.isoformat().replace("+00:00", "Z")
    return {**event, "time": time, "id": event.get("id") or f"{event.get('subject')}/{time}"}


def publish_time(text: object, place: str) -> datetime | None:
    """Read when a message was published (RFC 3339); None for none. Raises ``TriggerError``."""
    if text is None or text == "":
        return None
    try:
        instant = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        refuse([Problem(place, "it is no RFC 3339 time", "leave it as the broker sent it")])
    return instant
