"""The agenda of 10,000 schedules for a year, streamed: rows per second, and memory that stays flat.

The yardstick for the rate only yields the same schedules' nominal times, one schedule after the
other, without any order between them.
"""

import resource
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from purista import Cron, Every, Expression, Schedule, Service
from purista.agenda import agenda

SCHEDULES = 10_000
START = datetime(2027, 1, 1, tzinfo=UTC)
END = START + timedelta(days=365)
ZONES = ("Europe/Berlin", "UTC", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe")


def schedules() -> list[Schedule]:
    service = Service("Bench")
    event = service.event("due", dict)
    return [
        service.schedule(f"schedule{number}").emit_event(
            event,
            expression=expression(number),
            timezone=ZONES[number % len(ZONES)],
            payload={},
        )
        for number in range(SCHEDULES)
    ]


def expression(number: int) -> Expression:
    """A mixture: monthly, weekly, daily, every few hours, at intervals; all at different times."""
    minute, hour = number % 60, number // 60 % 24
    mixture: list[Expression] = [
        Cron(f"{minute} {hour} {number % 28 + 1} * *"),
        Cron(f"{minute} {hour} * * {number % 7}"),
        Cron(f"{minute} {hour} * * *"),
        Cron(f"{minute} */{2 + number % 11} * * *"),
        Every(timedelta(minutes=300 + number)),
    ]
    return mixture[number // 7 % len(mixture)]


def megabytes() -> float:
    """Return the most memory that the process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def drain(rows: Iterable[object]) -> tuple[int, float]:
    began = time.perf_counter()
    count = sum(1 for _ in rows)
    return count, time.perf_counter() - began


def main() -> None:
    made = schedules()
    plain, plain_seconds = drain(at for one in made for at in one.between(START, END))
    before = megabytes()
    rows = agenda(made, START, END)
    began = time.perf_counter()
    next(rows)
    first = time.perf_counter() - began
    drain(islice(rows, 10_000))
    early = megabytes()
    count, seconds = drain(rows)
    late = megabytes()
    rate, plain_rate = count / seconds, plain / plain_seconds
    print(
        f"{SCHEDULES} schedules, {count + 10_001:,} rows of a year: {rate:,.0f} rows a second, "
        f"{rate / plain_rate:.2f} of what the schedules yield unmerged; first row after {first:.2f} s"
    )
    print(
        f"memory: {before:.0f} MB before, {early:.0f} MB after 10,000 rows, {late:.0f} MB at the end: "
        f"{late - early:.1f} MB more for {count / 10_000:.0f} times the rows"
    )


if __name__ == "__main__":
    main()
