from datetime import UTC, datetime, timedelta

import pytest

from purista import Cron, Every, Expression, Once, Schedule, Service
from purista.caption import expression_text, target_text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Cron("0 2 * * mon"), "0 2 * * mon"),
        (Every(timedelta(hours=6)), "every 6 h"),
        (Every(timedelta(days=1, hours=1, minutes=1, seconds=1)), "every 1 d 1 h 1 min 1 s"),
        (Every(timedelta(seconds=1, microseconds=5)), "every 1 s 5 us"),
        (Once(datetime(2027, 1, 1, 9, tzinfo=UTC)), "once 2027-01-01T09:00:00+00:00"),
    ],
)
def test_an_expression_is_said_in_full(expression: Expression, text: str):
    assert expression_text(expression) == text


def test_a_target_is_its_kind_and_its_name_on_the_bridge():
    service = Service("Shop", version="2")
    nightly = {"expression": Cron("0 2 * * *"), "payload": {}}
    event = service.schedule("a").emit_event(service.event("due", dict), **nightly)
    queue = service.schedule("b").enqueue(service.queue("jobs", dict), **nightly)
    command = service.schedule("c").invoke_command(
        service.command("purge", dict, returns=int), **nightly
    )
    assert texts(event, queue, command) == ["event due", "queue jobs", "command Shop.v2.purge"]


def texts(*schedules: Schedule) -> list[str]:
    return [target_text(one) for one in schedules]
