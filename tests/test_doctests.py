"""The examples in docstrings run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import purista

MODULES = [
    module.name
    for module in pkgutil.walk_packages(purista.__path__, "purista.")
    if module.name != "purista.__main__" and not module.name.startswith("purista.ingress.airflow")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_there_are_examples_to_run():
    attempted = [doctest.testmod(importlib.import_module(name)).attempted for name in MODULES]
    assert sum(attempted) > 50
