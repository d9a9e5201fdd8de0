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
__version__ = "0.1.0"
