import contextlib

from purista.ledgers.memory import MemoryLedger
from purista.testing import LedgerSuite


class TestMemoryLedger(LedgerSuite):
    @contextlib.asynccontextmanager
    async def ledger(self):
        yield MemoryLedger()
