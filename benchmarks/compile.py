"""Compiling 10,000 schedules of 100 services, for each scheduler: at most 11 times the time of 1,000.

Besides, for Kubernetes, against ``json.dumps`` with sorted keys of the same objects: at most 8 times
its time.
"""

import gc
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import yaml
from pydantic import BaseModel

from purista import Cron, Every, Schedule, Service
from purista.compiling import (
    Compilation,
    Request,
    Scheduler,
    compile_schedules,
    default_horizon,
    place,
    request_for,
)
from purista.schedulers import scheduler_named, scheduler_names

ROUNDS = 3
SAMPLE = 1_000
ZONES = ("Europe/Berlin", "America/New_York", "UTC", "Asia/Kolkata")


class Cycle(BaseModel):
    cycle_id: str


def schedules(count: int) -> list[Schedule]:
    """Schedules of services with 100 each; no two services have the same expressions."""
    made: list[Schedule] = []
    for number in range(count // 100):
        service = Service(f"Service{number}")
        event = service.event(f"service{number}.due", Cycle)
        for each in range(100):
            minute, hour = (7 * each + number) % 60, (each + number // 60) % 24
            days = ("*", "1", "15", "*")[each % 4]
            expression = Cron(f"{minute} {hour} {days} * {'1-5' if each % 4 == 3 else '*'}")
            made.append(
                service.schedule(f"schedule{each}", "Renders what is due").emit_event(
                    event,
                    expression=Every(timedelta(hours=6)) if each == 99 else expression,
                    timezone=ZONES[each % len(ZONES)],
                    concurrency_policy=("allow", "forbid")[each % 2],
                    payload={"cycle_id": "{nominal_time:%Y-%m}"},
                )
            )
    return made


def compiled(
    scheduler: Scheduler, given: Iterable[Schedule], accepted: frozenset[str]
) -> Compilation:
    return compile_schedules(scheduler, given, request(scheduler, accepted))


def codes(scheduler: Scheduler, given: Iterable[Schedule]) -> frozenset[str]:
    _, found = place(scheduler, given, request(scheduler))
    return frozenset(each.code for each in found)


def request(scheduler: Scheduler, accepted: frozenset[str] = frozenset()) -> Request:
    document = {scheduler.name: scheduler.sample, "ingress": {"recovery": "ingress"}}
    horizon = default_horizon(datetime(2027, 1, 1, tzinfo=UTC))
    return request_for(scheduler, document, horizon, accepted=accepted)


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def against_dumps(many: list[Schedule]) -> str:
    kubernetes = scheduler_named("kubernetes")
    took = seconds(lambda: compiled(kubernetes, many, frozenset()))
    texts = [each.text for each in compiled(kubernetes, many[:SAMPLE], frozenset()).artifacts]
    objects = [yaml.load(text, yaml.CSafeLoader) for text in texts]  # one document each
    dumps = seconds(lambda: [json.dumps(each, sort_keys=True) for each in objects], 5)
    ratio = took / len(many) / (dumps / len(objects))
    return f"kubernetes against json.dumps of the same objects {ratio:5.2f} times (at most 8)"


def main() -> None:
    few, many = schedules(1_000), schedules(10_000)
    gc.collect()
    gc.freeze()  # The garbage collector is not to look through the schedules again and again.
    for name in scheduler_names():
        scheduler = scheduler_named(name)
        accepted = codes(scheduler, many)
        small = seconds(lambda s=scheduler, a=accepted: compiled(s, few, a))
        large = seconds(lambda s=scheduler, a=accepted: compiled(s, many, a))
        print(
            f"{name:16} 10,000 schedules {large / small:5.2f} times 1,000 (at most 11); "
            f"{large:.2f} against {small:.3f} s"
        )
    print(against_dumps(many))


if __name__ == "__main__":
    main()
