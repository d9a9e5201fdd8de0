"""Keeping live schedulers in step with the contracts: one module for each scheduler, over ``purista.plan``."""

from purista.sync.applying import Result, apply_plan
from purista.sync.objects import objects_of
from purista.sync.port import (
    FireTimes,
    Foreign,
    Imports,
    LiveScheduler,
    OneEach,
    Pauses,
    SyncError,
    Triggers,
)

__all__ = [
    "FireTimes",
    "Foreign",
    "Imports",
    "LiveScheduler",
    "OneEach",
    "Pauses",
    "Result",
    "SyncError",
    "Triggers",
    "apply_plan",
    "objects_of",
]
