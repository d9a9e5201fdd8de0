"""The fault suites: the same hard cases for every engine; a subclass names the engine."""

import sys

if "pytest" in sys.modules:  # not in the programs that the suites start
    import pytest

    for _module in ("fault_suite", "queue_faults", "event_faults", "waiting"):
        pytest.register_assert_rewrite(f"{__name__}.{_module}")
