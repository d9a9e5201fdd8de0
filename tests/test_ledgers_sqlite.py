import contextlib
import tempfile
from pathlib import Path

from purista.ledgers.sqlite import SQLiteLedger
from purista.testing import LedgerSuite


class TestSQLiteLedger(LedgerSuite):
    @contextlib.asynccontextmanager
    async def ledger(self):
        with tempfile.TemporaryDirectory() as folder:
            ledger = SQLiteLedger(Path(folder) / "ledger.sqlite", synchronous="normal")
            try:
                yield ledger
            finally:
                await ledger.close()
