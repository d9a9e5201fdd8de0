import subprocess
import sys

import pytest

import purista


@pytest.mark.parametrize("name", purista.__all__)
def test_every_public_name_is_there_and_has_a_docstring(name: str):
    assert getattr(purista, name).__doc__ or name == "Expression"
    assert name in dir(purista)


def test_modules_are_reached_through_the_package():
    assert purista.firetimes.__name__ == "purista.firetimes"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Shedule'"):
        _ = purista.Shedule  # type: ignore[attr-defined]


def test_importing_the_package_loads_neither_pydantic_nor_asyncio():
    program = "import sys, purista; print(*({'pydantic', 'asyncio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"\n"
