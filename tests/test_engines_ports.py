"""Servers of tests are started again where another process was faster on a port."""

import pytest
from tests.engines.ports import TRIES, on_free_ports


@pytest.mark.parametrize("failures", [0, TRIES - 1])
def test_what_finds_its_port_taken_is_started_again(failures):
    tries = iter([RuntimeError("taken")] * failures)

    def start():
        for failure in tries:
            raise failure
        return "started"

    assert on_free_ports(start) == "started"


def test_what_never_starts_says_why():
    tries = []

    def start():
        tries.append("once more")
        raise RuntimeError("it does not want to")

    with pytest.raises(RuntimeError, match="it does not want to"):
        on_free_ports(start)
    assert len(tries) == TRIES
