"""purista: declare schedules as trigger contracts, run them on any scheduler with the same meaning.

The names of the contract are here; what runs it is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from purista.context import Context
from purista.contract import (
    Backoff,
    Command,
    ConcurrencyPolicy,
    DstGap,
    DstOverlap,
    Event,
    MissedRunPolicy,
    Queue,
    Schedule,
)
from purista.errors import (
    CommandError,
    CommandTimeoutError,
    ContractError,
    ExpressionError,
    HandledError,
    ManifestError,
    PayloadError,
    Problem,
    PuristaError,
    TriggerError,
    UnhandledError,
    UnknownCommandError,
)
from purista.expression import Cron, Every, Expression, Once
from purista.payload import Schema
from purista.service import Service, advice, check

if TYPE_CHECKING:
    from purista.bridges.memory_events import MemoryEventBridge
    from purista.bridges.memory_queues import MemoryQueueBridge
    from purista.host import Host
    from purista.ingress import Decision, Ingress
    from purista.ledgers.memory import MemoryLedger
    from purista.ledgers.sqlite import SQLiteLedger
    from purista.local import LocalRunner

__version__ = "0.1.0"

_LAZY = {
    "Manifest": "purista.manifest",
    "Trigger": "purista.trigger",
    "export_manifest": "purista.manifest",
    "fingerprint": "purista.manifest",
    "Decision": "purista.ingress",
    "Host": "purista.host",
    "Ingress": "purista.ingress",
    "LocalRunner": "purista.local",
    "MemoryEventBridge": "purista.bridges.memory_events",
    "MemoryLedger": "purista.ledgers.memory",
    "MemoryQueueBridge": "purista.bridges.memory_queues",
    "SQLiteLedger": "purista.ledgers.sqlite",
}

__all__ = [
    "Backoff",
    "Command",
    "CommandError",
    "CommandTimeoutError",
    "ConcurrencyPolicy",
    "Context",
    "ContractError",
    "Cron",
    "Decision",
    "DstGap",
    "DstOverlap",
    "Event",
    "Every",
    "Expression",
    "ExpressionError",
    "HandledError",
    "Host",
    "Ingress",
    "LocalRunner",
    "Manifest",
    "ManifestError",
    "MemoryEventBridge",
    "MemoryLedger",
    "MemoryQueueBridge",
    "MissedRunPolicy",
    "Once",
    "PayloadError",
    "Problem",
    "PuristaError",
    "Queue",
    "SQLiteLedger",
    "Schedule",
    "Schema",
    "Service",
    "Trigger",
    "TriggerError",
    "UnhandledError",
    "UnknownCommandError",
    "advice",
    "check",
    "export_manifest",
    "fingerprint",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'purista' has no attribute '{name}'")
