import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from purista.errors import LedgerError
from purista.sqlitefile import HELD_AT_MOST, SQLiteFile, store, transaction


class Words:
    """Tables of one column, for the tests of what all tables have in common."""

    subject = "words"
    error = LedgerError

    def problem(self, connection):
        return ""

    def is_made(self, connection):
        return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)

    def make(self, connection):
        connection.execute("CREATE TABLE words (word TEXT PRIMARY KEY)")


class Step:
    def __init__(self, work, is_wanted=True):
        self.work = work
        self.is_wanted = is_wanted
        self.outcomes = []

    def settle(self, value, error):
        self.outcomes.append((value, error))

    @property
    def error(self):
        return self.outcomes[-1][1]


def said(word):
    """A step that adds a word and tells how many another connection sees."""

    def work(connection):
        connection.execute("INSERT INTO words VALUES (?)", (word,))
        return seen(connection.execute("PRAGMA database_list").fetchone()[2])

    return Step(work)


def seen(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


@pytest.fixture
def path(tmp_path: Path):
    return tmp_path / "words.sqlite"


@pytest.fixture
def file(path: Path):
    file = SQLiteFile(path, Words(), busy_timeout=timedelta(milliseconds=50), synchronous="normal")
    yield file
    file.close()


def test_steps_share_a_transaction(file, path):
    steps = [said("a"), said("b"), said("c")]
    assert file.write(steps) == 3
    assert [step.outcomes for step in steps] == [[([], None)]] * 3
    assert seen(path) == ["a", "b", "c"]


def test_a_step_that_fails_undoes_only_itself(file, path):
    def half_done(connection):
        connection.execute("INSERT INTO words VALUES ('half')")
        raise KeyError("no such thing")

    steps = [said("a"), Step(half_done), said("a"), said("\ud800"), said("b")]
    assert file.write(steps) == 5
    assert [type(step.error) for step in steps] == [
        type(None),
        KeyError,
        LedgerError,
        LedgerError,
        type(None),
    ]
    assert seen(path) == ["a", "b"]


def test_a_step_that_ends_the_transaction_leaves_the_others_to_be_done_alone(file, path):
    def end(connection):
        connection.execute("INSERT OR ROLLBACK INTO words VALUES ('a')")

    steps = [said("a"), Step(end), said("b")]
    assert file.write(steps) == 3
    assert seen(path) == ["a", "b"]
    assert "UNIQUE constraint failed" in str(steps[1].error)
    assert steps[2].outcomes[-1] == (["a"], None)


def test_a_commit_that_fails_for_one_leaves_the_others_to_be_done_alone(file, path):
    def defer(connection):
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute("INSERT INTO children VALUES ('nobody')")

    def prepare(connection):
        connection.execute("CREATE TABLE children (parent TEXT REFERENCES words (word))")

    file.write([Step(prepare)])
    file._connection.execute("PRAGMA foreign_keys = ON")
    steps = [said("a"), Step(defer), said("b")]
    assert file.write(steps) == 3
    assert seen(path) == ["a", "b"]
    assert steps[2].outcomes[-1] == (["a"], None)


def test_what_nobody_wants_is_not_begun(file, path):
    unwanted = said("never")
    unwanted.is_wanted = False
    assert file.write([said("a"), unwanted, said("b")]) == 3
    assert file.write([unwanted]) == 1
    assert unwanted.outcomes == []
    assert seen(path) == ["a", "b"]


def test_a_transaction_that_takes_long_takes_up_no_more(file, path, monkeypatch):
    monkeypatch.setattr("purista.sqlitefile.HELD_AT_MOST", -1.0)
    steps = [said("a"), said("b"), said("c")]
    assert file.write(steps) == 1
    assert seen(path) == ["a"]
    assert [step.outcomes for step in steps[1:]] == [[], []]
    assert HELD_AT_MOST == 0.1


def test_a_locked_file_fails_all_steps_after_one_wait(file, path):
    file.write([said("a")])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        steps = [said("b"), said("c")]
        file.write(steps)
        other.execute("ROLLBACK")
    assert {str(step.error) for step in steps} == {
        f"words '{path}': another process kept it locked for 0:00:00.050000; "
        "end that one, or raise busy_timeout"
    }
    assert len({id(step.error) for step in steps}) == 2
    assert [len(step.outcomes) for step in steps] == [1, 1]


def test_a_thread_that_writes_for_long_is_an_error_for_another(file, path):
    with contextlib.closing(sqlite3.connect(path)):
        other = SQLiteFile(path, Words(), busy_timeout=timedelta(0), synchronous="normal")
    step = said("inner")

    def work(connection):
        other.write([step])

    file.write([Step(work)])
    assert "kept it locked" in str(step.error)


def test_a_link_to_a_file_is_the_same_store(tmp_path, path):
    path.touch()
    (tmp_path / "link.sqlite").symlink_to(path)
    assert store(tmp_path / "link.sqlite") == store(path) == f"sqlite:{path.resolve()}"
    assert store(tmp_path / "other.sqlite") != store(path)


def test_a_transaction_is_undone_when_its_block_raises(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE words (word TEXT)")
        with contextlib.suppress(KeyError), transaction(connection, "IMMEDIATE"):
            connection.execute("INSERT INTO words VALUES ('a')")
            raise KeyError
        assert not connection.in_transaction
    assert seen(path) == []
