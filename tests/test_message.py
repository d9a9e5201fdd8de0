import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from purista.message import Message, RunInfo, new_message_id


def printed(code: str) -> list[bytes]:
    """Run code in a new process and return the lines that it prints."""
    program = f"import os; from purista.message import new_message_id; {code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.split()


def test_no_two_messages_have_one_id():
    assert len({new_message_id() for _ in range(10_000)}) == 10_000


def test_no_two_messages_have_one_id_whichever_thread_makes_them():
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: [new_message_id() for _ in range(1000)], range(8)))
    assert len({each for some in ids for each in some}) == 8000


def test_another_process_makes_other_ids():
    ids = [printed("print(new_message_id())")[0] for _ in range(2)]
    assert ids[0] != ids[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_forked_process_makes_other_ids():
    ids = printed("os.fork() and os.wait(); print(new_message_id(), flush=True)")
    assert len(ids) == 2
    assert ids[0] != ids[1]


def test_a_message_of_no_run_needs_only_name_body_and_id():
    message = Message("billing.monthlyCycleDue", b"{}", "id-1")
    assert message.run is None


def test_a_message_says_whether_it_is_the_runs_target():
    nominal = datetime(2027, 3, 1, 1, tzinfo=UTC)
    run = RunInfo(
        "run-1", "billing.v1.monthlyBillingCycle", nominal, "Europe/Berlin", is_target=True
    )
    message = Message("billing.monthlyCycleDue", b"{}", "id-1", run)
    assert message.run is not None
    assert message.run.is_target
    assert not run._replace(is_target=False).is_target
