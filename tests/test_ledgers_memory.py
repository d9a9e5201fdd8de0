import contextlib
from datetime import timedelta

from purista.ledgers import Verdict
from purista.ledgers.memory import MemoryLedger
from purista.testing import LedgerSuite
from purista.testing.ledger_suite import SECOND, START, proposal


class TestMemoryLedger(LedgerSuite):
    @contextlib.asynccontextmanager
    async def ledger(self):
        yield MemoryLedger()


async def test_a_ledger_does_not_grow_for_ever():
    ledger = MemoryLedger(retention=timedelta(days=1))
    for day in range(1000):
        now = START + timedelta(days=day)
        verdict = Verdict.LATE if day % 2 else Verdict.ACCEPTED
        await ledger.decide(
            proposal(nominal_time=now, now=now, verdict=verdict, dedupe_window=SECOND)
        )
    assert len(await ledger.runs(limit=1000)) <= 2
    assert len(await ledger.records(limit=1000)) <= 3


async def test_what_counts_anew_is_kept_anew():
    ledger = MemoryLedger(retention=timedelta(days=1))
    for hours in (0, 20):
        now = START + timedelta(hours=hours)
        await ledger.decide(proposal(run_id="r", now=now, dedupe_window=SECOND))
        late = proposal(key="late", verdict=Verdict.LATE, now=now, dedupe_window=SECOND)
        await ledger.decide(late)
    later = START + timedelta(hours=30)
    for number in range(10):
        await ledger.decide(proposal(key=str(number), run_id=str(number), now=later))
    assert await ledger.run("r") is not None
    again = proposal(key="late", now=later, dedupe_window=timedelta(days=1))
    assert (await ledger.decide(again)).verdict == "duplicate"


async def test_an_old_run_of_a_key_is_forgotten_without_the_newer_one():
    ledger = MemoryLedger(retention=timedelta(days=1))
    for hours in (0, 20):
        now = START + timedelta(hours=hours)
        await ledger.decide(proposal(key="k", run_id=str(hours), now=now, dedupe_window=SECOND))
    later = START + timedelta(hours=30)
    again = proposal(key="k", run_id="30", now=later, dedupe_window=timedelta(days=1))
    assert [(await ledger.decide(again)).run_id for _ in range(3)] == ["20", "20", "20"]
    assert await ledger.run("0") is None


async def test_what_is_known_stays_readable_after_closing():
    ledger = MemoryLedger()
    await ledger.decide(proposal(run_id="r"))
    await ledger.close()
    assert await ledger.run("r") is not None


async def test_questions_about_unknown_schedules_leave_nothing_behind():
    ledger = MemoryLedger()
    for number in range(3):
        assert await ledger.latest(str(number)) is None
        assert list(await ledger.runs(schedule_id=str(number))) == []
        assert list(await ledger.records(schedule_id=str(number))) == []
    await ledger.decide(proposal())
    assert await ledger.latest("0") is None
