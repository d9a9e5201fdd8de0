import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


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
