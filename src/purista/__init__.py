"""purista: declare schedules as trigger contracts, run them on any scheduler with the same meaning.

Every public name is here. Each is loaded when it is first asked for, so that importing the package
costs a program nothing that it does not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from purista.advising import (
        advice,
    )
    from purista.bridges.memory_events import (
        MemoryEventBridge,
    )
    from purista.bridges.memory_queues import (
        MemoryQueueBridge,
    )
    from purista.bridges.postgres_queues import (
        PostgresQueueBridge,
    )
    from purista.bridges.sqlite_queues import (
        SQLiteQueueBridge,
    )
    from purista.compiling import (
        compile_schedules,
    )
    from purista.context import (
        Context,
    )
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
        BridgeError,
        CommandError,
        CommandTimeoutError,
        ContractError,
        ExpressionError,
        HandledError,
        IngressError,
        LedgerError,
        ManifestError,
        PayloadError,
        PortabilityError,
        Problem,
        PuristaError,
        SettingsError,
        TriggerError,
        UnhandledError,
        UnknownCommandError,
        VerificationError,
    )
    from purista.exclusion import DateRange
    from purista.expression import (
        Cron,
        Every,
        Expression,
        Once,
    )
    from purista.host import (
        Host,
    )
    from purista.ingress import (
        Decision,
        Ingress,
    )
    from purista.ingress.client import (
        IngressClient,
    )
    from purista.ledgers.memory import (
        MemoryLedger,
    )
    from purista.ledgers.postgres import (
        PostgresLedger,
    )
    from purista.ledgers.redis import (
        RedisLedger,
    )
    from purista.ledgers.sqlite import (
        SQLiteLedger,
    )
    from purista.local import (
        LocalRunner,
    )
    from purista.manifest import (
        Manifest,
        export_manifest,
        fingerprint,
    )
    from purista.schedulers import (
        scheduler_named,
    )
    from purista.schema import (
        Schema,
    )
    from purista.service import (
        Service,
        check,
    )
    from purista.trigger import (
        Trigger,
    )

__version__ = "0.1.0"

_HOMES = {
    "Backoff": "purista.contract",
    "BridgeError": "purista.errors",
    "Command": "purista.contract",
    "CommandError": "purista.errors",
    "CommandTimeoutError": "purista.errors",
    "ConcurrencyPolicy": "purista.contract",
    "Context": "purista.context",
    "ContractError": "purista.errors",
    "Cron": "purista.expression",
    "DateRange": "purista.exclusion",
    "Decision": "purista.ingress",
    "DstGap": "purista.contract",
    "DstOverlap": "purista.contract",
    "Event": "purista.contract",
    "Every": "purista.expression",
    "Expression": "purista.expression",
    "ExpressionError": "purista.errors",
    "HandledError": "purista.errors",
    "Host": "purista.host",
    "Ingress": "purista.ingress",
    "IngressClient": "purista.ingress.client",
    "IngressError": "purista.errors",
    "LedgerError": "purista.errors",
    "LocalRunner": "purista.local",
    "Manifest": "purista.manifest",
    "ManifestError": "purista.errors",
    "MemoryEventBridge": "purista.bridges.memory_events",
    "MemoryLedger": "purista.ledgers.memory",
    "MemoryQueueBridge": "purista.bridges.memory_queues",
    "MissedRunPolicy": "purista.contract",
    "Once": "purista.expression",
    "PayloadError": "purista.errors",
    "PortabilityError": "purista.errors",
    "PostgresLedger": "purista.ledgers.postgres",
    "PostgresQueueBridge": "purista.bridges.postgres_queues",
    "Problem": "purista.errors",
    "PuristaError": "purista.errors",
    "Queue": "purista.contract",
    "RedisLedger": "purista.ledgers.redis",
    "SQLiteLedger": "purista.ledgers.sqlite",
    "SQLiteQueueBridge": "purista.bridges.sqlite_queues",
    "Schedule": "purista.contract",
    "Schema": "purista.schema",
    "Service": "purista.service",
    "SettingsError": "purista.errors",
    "Trigger": "purista.trigger",
    "TriggerError": "purista.errors",
    "UnhandledError": "purista.errors",
    "UnknownCommandError": "purista.errors",
    "VerificationError": "purista.errors",
    "advice": "purista.advising",
    "check": "purista.service",
    "compile_schedules": "purista.compiling",
    "export_manifest": "purista.manifest",
    "fingerprint": "purista.manifest",
    "scheduler_named": "purista.schedulers",
}
_MODULES = frozenset({"bridges", "errors", "firetimes", "ingress", "ledgers", "testing"})

__all__ = [
    "Backoff",
    "BridgeError",
    "Command",
    "CommandError",
    "CommandTimeoutError",
    "ConcurrencyPolicy",
    "Context",
    "ContractError",
    "Cron",
    "DateRange",
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
    "IngressClient",
    "IngressError",
    "LedgerError",
    "LocalRunner",
    "Manifest",
    "ManifestError",
    "MemoryEventBridge",
    "MemoryLedger",
    "MemoryQueueBridge",
    "MissedRunPolicy",
    "Once",
    "PayloadError",
    "PortabilityError",
    "PostgresLedger",
    "PostgresQueueBridge",
    "Problem",
    "PuristaError",
    "Queue",
    "RedisLedger",
    "SQLiteLedger",
    "SQLiteQueueBridge",
    "Schedule",
    "Schema",
    "Service",
    "SettingsError",
    "Trigger",
    "TriggerError",
    "UnhandledError",
    "UnknownCommandError",
    "VerificationError",
    "advice",
    "check",
    "compile_schedules",
    "export_manifest",
    "fingerprint",
    "scheduler_named",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    if name in _MODULES:
        return import_module(f"purista.{name}")
    raise AttributeError(f"module 'purista' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
