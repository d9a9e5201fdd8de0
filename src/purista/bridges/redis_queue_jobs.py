"""Jobs as the server keeps them, and back: message id, most attempts, the rest as JSON, a new line, the body."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from purista.bridges.job_values import job_of, values_of
from purista.bridges.port import DeadLetter, Job, LeasedJob
from purista.errors import BridgeError
from purista.message import Message

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = 2**53 - 1
"""Microseconds that are as good as for ever; the largest number that scripts and scores hold exactly."""


class RanOut(NamedTuple):
    """A job whose lease ran out in an attempt; ``run``: its run's id, or that of the message."""

    message_id: str
    attempt: int
    most: int
    run: str


class Look(NamedTuple):
    """What one look into a queue gave.

    ``next_in``: in how many seconds a look may give more; None when that is not known, 0: this one was
    not a whole one. ``gone``: how many jobs the server had lost; ``odd``: how many cannot be read, which
    are dead once their leases ran out often enough.
    """

    leased: list[LeasedJob]
    ran_out: list[RanOut]
    next_in: float | None
    gone: int
    odd: int


def microseconds(duration: timedelta) -> int:
    """Return a duration that the server can add to an instant; none that is negative."""
    return min(max(duration // _MICROSECOND, 0), _NEVER)


def instant(moment: datetime) -> int:
    """Return an instant as the server counts it."""
    return (moment - _EPOCH) // _MICROSECOND


def quoted(message_id: str) -> str:
    """Return a message id without spaces."""
    return quote(message_id, safe="", errors="surrogatepass")


def stored(job: Job) -> bytes:
    """Return a job as it is stored.

    >>> stored(Job(Message("reports", b"{}", "a 1"))).partition(b" ")[0]
    b'a%201'
    """
    most, message_id, body, details = values_of(job)
    return f"{quoted(message_id)} {most} {details}\n".encode() + body


def restored(queue: str, text: bytes) -> Job:
    """Return a job that was stored. Raises ``BridgeError`` when it cannot be read."""
    head, _, body = text.partition(b"\n")
    try:
        message_id, most, details = head.decode().split(" ", 2)
        message_id = unquote(message_id, errors="surrogatepass")
        return job_of(queue, (int(most), message_id, body, details))
    except (ValueError, KeyError, TypeError, OverflowError):
        raise BridgeError(
            f"queue '{queue}': what is stored as a job cannot be read; nobody but this package "
            "may write there"
        ) from None


def look(queue: str, answer: Sequence[bytes]) -> Look:
    """Return what a look gave."""
    left, gone, *leases = map(int, answer[0].split())
    count = len(leases) // 2
    leased = []
    for token, attempt, text in zip(leases[::2], leases[1::2], answer[1:], strict=False):
        with suppress(BridgeError):
            leased.append(LeasedJob(queue, restored(queue, text), attempt, token))
    odd = count - len(leased)
    next_in = 0 if odd else None if left < 0 else left / 1_000_000
    return Look(leased, those_that_ran_out(queue, answer[1 + count :]), next_in, gone, odd)


def those_that_ran_out(queue: str, told: Sequence[bytes]) -> list[RanOut]:
    """Return the jobs whose leases a script ended; without those that are gone or cannot be read."""
    found = []
    for one in told:
        attempt, _, head = one.partition(b" ")
        with suppress(BridgeError):
            found.append(_ran_out(restored(queue, head), int(attempt)))
    return found


def token(leased: LeasedJob) -> str:
    """Return a lease's token as the server has it."""
    return f"{leased.token:016d}"


def letter(queue: str, number: bytes, known: bytes, job: bytes) -> DeadLetter:
    """Return a dead letter; one whose job cannot be read says so."""
    attempts, _, died, _, reason = known.split(b" ", 4)
    died_at = _EPOCH + timedelta(microseconds=int(died))
    try:
        found = restored(queue, job)
    except BridgeError as error:
        lost = Job(Message(queue, b"null", number.decode()))
        return DeadLetter(queue, lost, int(attempts), str(error), died_at)
    return DeadLetter(queue, found, int(attempts), reason.decode("utf-8", "replace"), died_at)


def _ran_out(job: Job, attempt: int) -> RanOut:
    message = job.message
    run = message.run.run_id if message.run else message.id
    return RanOut(message.id, attempt, job.max_attempts, run)
