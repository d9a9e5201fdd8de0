"""Ledgers and queues by their address; a password is in no message."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest

from purista import MemoryLedger, SQLiteLedger
from purista.bridges.opening import open_queues
from purista.bridges.sqlite_queues import SQLiteQueueBridge
from purista.errors import BridgeError, LedgerError, MissingExtraError, PuristaError
from purista.ledgers.opening import open_ledger
from purista.storeaddress import holds_password, scheme_of, sqlite_path

SECRET = "hunter2"


def test_a_ledger_in_memory():
    assert isinstance(open_ledger("memory://"), MemoryLedger)


async def test_a_ledger_in_a_file_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    ledger = open_ledger("sqlite:///my runs.sqlite")
    assert isinstance(ledger, SQLiteLedger)
    await ledger.run("x")
    await ledger.close()
    assert (tmp_path / "my runs.sqlite").exists()


async def test_a_ledger_in_a_file_anywhere(tmp_path: Path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/ünïcode%20.sqlite")
    await ledger.run("x")
    await ledger.close()
    assert (tmp_path / "ünïcode%20.sqlite").exists()


def test_a_ledger_in_postgresql_and_in_redis():
    from purista.ledgers.postgres import PostgresLedger
    from purista.ledgers.redis import RedisLedger

    assert isinstance(open_ledger(f"postgresql://a:{SECRET}@db/runs"), PostgresLedger)
    assert isinstance(open_ledger(f"rediss://:{SECRET}@cache/1"), RedisLedger)


async def test_the_retention_is_the_ledgers(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/runs.sqlite"
    ledger = open_ledger(url, retention=timedelta(days=3))
    assert isinstance(ledger, SQLiteLedger)
    assert ledger._retention == timedelta(days=3)
    await ledger.close()


async def test_queues_and_ledger_at_one_address_are_one_store(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/runs.sqlite"
    ledger, queues = open_ledger(url), open_queues(url)
    assert isinstance(ledger, SQLiteLedger)
    assert isinstance(queues, SQLiteQueueBridge)
    assert ledger.store == queues.store
    await ledger.close()
    await queues.close()


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"postgre://a:{SECRET}@db/runs", "'postgre://'; did you mean 'postgresql'?"),
        (f"mysql://a:{SECRET}@db/runs", "use one of: memory"),
        (SECRET, "no scheme"),
        (f"{SECRET}:5432/x://", "no scheme"),
        ("", "no scheme"),
        (f"memory://{SECRET}", "takes nothing behind it"),
        (f"sqlite://{SECRET}/runs.sqlite", "write sqlite:///FILE"),
        ("sqlite:///", "write sqlite:///FILE"),
        (f"sqlite:///runs.sqlite?key={SECRET}", "write sqlite:///FILE"),
    ],
)
def test_another_address_is_refused_without_showing_it(url: str, part: str):
    for opener, error in ((open_ledger, LedgerError), (open_queues, BridgeError)):
        with pytest.raises(error) as caught:
            opener(url)
        assert part in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        (f"postgresql://a:{SECRET}@db/runs", "purista.ledgers.postgres", "postgres"),
        (f"redis://a:{SECRET}@db", "purista.ledgers.redis", "redis"),
    ],
)
def test_a_missing_driver_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"purista\[{extra}\]"):
        open_ledger(url)


def test_a_wrong_address_of_a_known_store_shows_no_password():
    for url in (f"postgresql://a:{SECRET}@db:port/x", f"redis://a:{SECRET}@db:port/x"):
        with pytest.raises(PuristaError) as caught:
            open_ledger(url)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("SQLite:///x", "sqlite"), ("postgresql+psycopg://x", "postgresql+psycopg"), ("a b://", "")],
)
def test_the_scheme_of_an_address(url: str, scheme: str):
    assert scheme_of(url) == scheme


def test_a_path_stands_as_it_is():
    assert sqlite_path("sqlite:////var/a b/%41.sqlite") == Path("/var/a b/%41.sqlite")


@pytest.mark.parametrize(
    ("url", "holds"),
    [
        ("postgresql://a@db/x", False),
        ("sqlite:///x", False),
        ("postgresql://a:b@db/x", True),
        ("redis://:b@db", True),
        ("postgresql://db/x?user=a&password=b", True),
        ("postgresql://[db", True),
    ],
)
def test_whether_an_address_holds_a_password(url: str, holds: bool):
    assert holds_password(url) is holds
