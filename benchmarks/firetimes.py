"""Fire times against cronsim, over 60 expressions in two zones; and what they cost by themselves.

Floors: fire times per second at least 50 times cronsim as the geometric mean and 15 times on the
worst expression; the first fire from text not slower than cronsim; 29 February over 100 years under
a millisecond; 10,000 schedules for a year in flat memory. Run with `python benchmarks/firetimes.py`.
"""

import heapq
import itertools
import math
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from purista import firetimes
from purista.cronfield import parse_day_of_month, parse_day_of_week, parse_field
from purista.expression import Cron

ROUNDS = 5
ZONES = {"UTC": UTC, "Europe/Berlin": ZoneInfo("Europe/Berlin")}
START = datetime(2027, 1, 1, tzinfo=UTC)

DENSE = """
* * * * *           | */2 * * * *         | */5 * * * *         | */7 * * * *
*/15 * * * *        | 0,30 * * * *        | 10-50/10 * * * *    | * 9-17 * * *
*/5 9-17 * * 1-5    | */10 * 1-7 * *      | 0-29 * * * *        | */20 8-20 * * MON-SAT
5,35 */2 * * *      | */30 0-6 * * *      | * * * * 1           | */15 2 * * *
""".replace("\n", "|")
DAILY = """
0 * * * *           | 30 * * * *          | 0 */2 * * *         | 0 */6 * * *
15 */4 * * 1-5      | 0 9-17 * * 1-5      | 0 0 * * *           | 0 2 * * *
30 2 * * *          | 0 3 * * *           | 59 23 * * *         | 0 0,12 * * *
0,30 2,3 * * *      | 0 6,14,22 * * *     | 0 9 * * 1-5         | 0 8 * * MON,WED,FRI
0 22 * * 6,0        | 30 4 * 6-8 *        | 0 5 * 1,7 *         | 0 12 1-15 * *
""".replace("\n", "|")
SPARSE = """
0 0 * * 0           | 0 2 * * 1           | 30 2 * * 0          | 0 9 * * FRI
0 2 1 * *           | 0 0 1 * *           | 30 2 15 * *         | 0 0 1,15 * *
0 4 31 * *          | 0 0 13 * 5          | 0 0 1-7 * 1         | 0 6 1 1,4,7,10 *
0 0 L * *           | 0 2 LW * *          | 30 2 * * MON#2      | 0 9 * * FRI#1
0 9 * * 5L          | 0 0 * * SUN#3       | 0 3 1 3 *           | 0 2 28 3 *
0 0 31 12 *         | 0 0 1 1 *           | 0 12 25 12 *
""".replace("\n", "|")
RARE = "0 0 29 2 *"


def corpus() -> dict[str, int]:
    """Return the expressions, each with how many fires of it are timed."""
    texts = dict.fromkeys(_listed(DENSE), 2000)
    texts |= dict.fromkeys(_listed(DAILY), 1000) | dict.fromkeys(_listed(SPARSE), 300)
    return texts | {RARE: 25}


def _listed(texts: str) -> list[str]:
    return [text.strip() for text in texts.split("|") if text.strip()]


def best(measured: Callable[[], object], repeat: int = 1) -> float:
    """Return the shortest time in seconds of one call."""
    shortest = math.inf
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(repeat):
            measured()
        shortest = min(shortest, (time.perf_counter() - began) / repeat)
    return shortest


def drain(found: Iterable[object], count: int | None = None) -> None:
    deque(itertools.islice(found, count), maxlen=0)


def mean(ratios: Iterable[float]) -> float:
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logarithms) / len(logarithms))


def throughput(floor: float) -> None:
    ratios, to_floor = {}, []
    for (text, count), (name, zone) in itertools.product(corpus().items(), ZONES.items()):
        cron, start = Cron(text), START.astimezone(zone)
        theirs = best(lambda: drain(CronSim(text, start), count))  # noqa: B023
        ours = best(
            lambda: drain(firetimes.between(cron, name, START, firetimes.LATEST), count)  # noqa: B023
        )
        ratios[text, name] = theirs / ours
        to_floor.append(ours / count / floor)
        print(
            f"  {text:20} {name:14} {theirs / ours:7.0f} times; {ours / count * 1e9:7.0f} ns each"
        )
    worst = min(ratios, key=lambda key: ratios[key])
    print(f"fire times per second: {mean(ratios.values()):.0f} times cronsim (at least 50)")
    print(f"on the worst expression, {worst}: {ratios[worst]:.0f} times (at least 15)")
    print(
        f"a fire time costs {mean(to_floor):.1f} times one datetime addition ({floor * 1e9:.0f} ns), "
        f"at best {min(to_floor):.1f} times"
    )


def first_fire() -> None:
    ratios, unseen = {}, []
    for text, (name, zone) in itertools.product(corpus(), ZONES.items()):
        start = START.astimezone(zone)
        theirs = best(lambda: next(CronSim(text, start)), 100)  # noqa: B023
        ours = best(lambda: firetimes.next_after(Cron(text), name, START), 100)  # noqa: B023
        ratios[text, name] = theirs / ours
        unseen.append(theirs / min(_first_of_an_unseen(text, name) for _ in range(20)))
    worst = min(ratios, key=lambda key: ratios[key])
    print(
        f"first fire from text: {mean(ratios.values()):.1f} times as fast as cronsim (at least 1)"
    )
    print(f"on the worst expression, {worst}: {ratios[worst]:.2f} times")
    print(
        f"where no field was ever seen before: {mean(unseen):.1f} times, {min(unseen):.2f} at worst"
    )


def _first_of_an_unseen(text: str, name: str) -> float:
    for parse in (parse_field, parse_day_of_month, parse_day_of_week):
        parse.cache_clear()
    Cron("* * * * *")
    began = time.perf_counter()
    firetimes.next_after(Cron(text), name, START)
    return time.perf_counter() - began


def leap_days() -> None:
    start, end = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    for name in ZONES:
        cron = Cron(RARE)
        taken = best(lambda: drain(firetimes.between(cron, name, start, end)))  # noqa: B023
        print(f"29 February over 100 years in {name}: {taken * 1e3:.2f} ms (under 1)")


def many_schedules() -> None:
    names = list(ZONES)
    streams = [
        firetimes.between(
            Cron(f"{number % 60} {number % 24} * * {number % 7}"),
            names[number % 2],
            START,
            START + timedelta(days=365),
        )
        for number in range(10_000)
    ]
    merged = heapq.merge(*streams)
    drain(merged, 260_000)
    early, began = _memory(), time.perf_counter()
    rest = sum(1 for _ in merged)
    grown, taken = _memory() - early, time.perf_counter() - began
    print(
        f"10,000 schedules for a year: {rest + 260_000:,} fire times in order, memory grows by "
        f"{grown:.1f} MB after the first half; {taken / rest * 1e6:.1f} us each"
    )


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    minutes = [timedelta(minutes=minute) for minute in range(1440)]
    floor = best(lambda: drain(map(START.__add__, minutes)), 10) / len(minutes)
    many_schedules()
    throughput(floor)
    first_fire()
    leap_days()


if __name__ == "__main__":
    main()
