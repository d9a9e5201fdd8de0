"""What tests need: a manual clock, and the suites that every bridge passes."""

from purista.testing.manual_clock import ManualClock

__all__ = ["ManualClock"]
