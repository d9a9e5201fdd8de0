"""The registry of schedulers: this package's, and those of others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.test_compiling import BELLS

from purista import schedulers
from purista.compiling import Scheduler
from purista.errors import LoadError
from purista.schedulers import BUILT_IN, GROUP, scheduler_named, scheduler_names

Installing = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installing]:
    """Lay out a distribution as an installer does: its metadata with the entry points, its module."""

    def installing(source: str = "", **entries: str) -> None:
        module = tmp_path / "purista_bells_for_tests.py"
        module.write_text(source)
        info = tmp_path / "purista_bells-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: purista-bells\nVersion: 1.0\n")
        lines = [
            f"{name.replace('_', '-')} = purista_bells_for_tests:{value}"
            for name, value in entries.items()
        ]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)
        schedulers._entry_points.cache_clear()

    yield installing
    sys.modules.pop("purista_bells_for_tests", None)
    schedulers._entry_points.cache_clear()


OURS = "from tests.test_compiling import BELLS\n"


def refused(name: str) -> str:
    with pytest.raises(LoadError) as caught:
        scheduler_named(name)
    return str(caught.value)


def test_the_schedulers_of_this_package_are_named_in_order():
    assert scheduler_names() == tuple(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_scheduler_of_this_package_has_its_name(name: str):
    found: Scheduler = scheduler_named(name)
    assert found.name == name
    assert found.title
    assert found.settings.model_validate(found.sample) is not None


def test_a_scheduler_is_imported_only_when_it_is_asked_for():
    code = (
        "import sys; from purista.schedulers import scheduler_named; scheduler_named('kubernetes');"
        "print([m for m in sys.modules if m.startswith('purista.schedulers.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['purista.schedulers.kubernetes']"


def test_an_entry_point_adds_a_scheduler(install: Installing):
    install(OURS, bells="BELLS", a_bell="BELLS")
    assert scheduler_names() == (*BUILT_IN, "a-bell", "bells")
    assert scheduler_named("bells") is BELLS


def test_an_entry_point_takes_no_name_of_this_package(install: Installing):
    install(OURS, cron="BELLS")
    assert scheduler_names() == tuple(BUILT_IN)
    assert scheduler_named("cron") is not BELLS


def test_an_unknown_name_is_told_with_the_nearest_or_with_all(install: Installing):
    install(OURS, bells="BELLS")
    assert refused("kubernets") == "no scheduler 'kubernets'; did you mean 'kubernetes'?"
    assert refused("bell") == "no scheduler 'bell'; did you mean 'bells'?"
    assert refused("zzz").startswith("no scheduler 'zzz'; use one of: airflow, bells, cloud-")


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("raise ZeroDivisionError('oh')", "BELLS", "ZeroDivisionError: oh"),
        ("import no_such_module_anywhere", "BELLS", "ModuleNotFoundError: No module named"),
        ("", "BELLS", "AttributeError: module"),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_says_which_and_why(
    install: Installing, source: str, value: str, message: str
):
    install(source, bells=value)
    place = "scheduler 'bells': 'purista_bells_for_tests:BELLS' cannot be loaded: "
    assert refused("bells").startswith(place + message)
    assert scheduler_names() == (*BUILT_IN, "bells")


def test_an_entry_point_to_something_else_says_what_it_lacks(install: Installing):
    install("VALUE = 3", bells="VALUE")
    assert refused("bells") == "scheduler 'bells': its entry point is none: it has no 'name'"


def test_an_error_of_loading_is_passed_on_as_it_is(install: Installing):
    install(
        "from purista.errors import LoadError\nraise LoadError('its license ran out')", bells="X"
    )
    assert refused("bells") == "its license ran out"


def test_an_entry_point_to_a_class_asks_for_a_value(install: Installing):
    install("from tests.test_compiling import Bells", bells="Bells")
    assert refused("bells") == "scheduler 'bells': its entry point is a class; name a value of it"
