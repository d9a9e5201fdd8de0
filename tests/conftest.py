import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

LONG = ("test_schedulers_", "test_soak", "test_ingress_airflow", "test_faults_", "test_sync_")
"""Beginnings of the files that take longest; they are begun first, so that none is left alone at the end."""

pytest.register_assert_rewrite("tests.live_suite", "tests.planned")

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return next((at for at, name in enumerate(LONG) if item.path.name.startswith(name)), len(LONG))


@pytest.fixture
def billing_example() -> ModuleType:
    """A fresh import of the example that the docs show."""
    spec = importlib.util.spec_from_file_location("billing_example", ROOT / "examples/billing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
