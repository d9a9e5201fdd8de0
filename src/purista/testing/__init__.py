"""What tests need: a manual clock, and the suites that every bridge passes."""

from purista.testing.event_bridge_suite import EventBridgeSuite
from purista.testing.ledger_suite import LedgerSuite
from purista.testing.manual_clock import ManualClock
from purista.testing.queue_bridge_suite import QueueBridgeSuite
from purista.testing.scheduler_suite import SchedulerSuite
from purista.testing.service_harness import Harness, HarnessRun, harness

__all__ = [
    "EventBridgeSuite",
    "Harness",
    "HarnessRun",
    "harness",
    "LedgerSuite",
    "ManualClock",
    "QueueBridgeSuite",
    "SchedulerSuite",
]
