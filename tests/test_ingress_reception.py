import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from purista.errors import IngressError, TriggerError
from purista.ingress import Decision
from purista.ingress.answer import problem
from purista.ingress.reception import Reception, words
from purista.ledgers import Run
from purista.trigger import Trigger

TRIGGER = Trigger(
    schedule_id="Shop.v1.x", nominal_time=datetime(2027, 3, 1, tzinfo=UTC), source="test"
)


class Refusing:
    """An ingress behind an address that answers nothing but errors."""

    def __init__(self, error: IngressError) -> None:
        self.error = error

    async def accept(self, trigger: Trigger) -> Decision:
        raise self.error

    async def run(self, run_id: str) -> Run | None:
        raise self.error

    async def cancel(self, run_id: str) -> bool:
        raise self.error


def reception(error: IngressError) -> Reception:
    return Reception(Refusing(error), "test", logging.getLogger("purista.test"))


@pytest.mark.parametrize(
    ("status", "retry_after", "again"),
    [
        (None, None, 5),
        (None, 30.0, 30),
        (503, 0.2, 5),
        (503, 600.0, 600),
        (401, None, 5),
        (403, None, 5),
        (404, None, 5),
        (500, None, 5),
        (413, None, None),
        (400, None, None),
    ],
)
async def test_only_what_is_wrong_with_a_trigger_itself_is_not_worth_sending_again(
    status: int | None, retry_after: float | None, again: int | None
):
    error = IngressError("refused", status=status, retry_after=retry_after)
    given = await reception(error).take(TRIGGER, {})
    assert (given.retry_after, given.is_problem) == (again, True)
    assert given.status == (503 if again else status)


@pytest.mark.parametrize(("status", "level"), [(413, "ERROR"), (401, "WARNING")])
async def test_a_refusal_is_logged_in_one_line_with_its_reason(
    status: int, level: str, caplog: pytest.LogCaptureFixture
):
    await reception(IngressError("no\nway", status=status)).take(TRIGGER, {})
    [record] = [each for each in caplog.records if each.name == "purista.test"]
    assert (record.levelname, record.getMessage().endswith("no; way")) == (level, True)


def test_what_is_no_trigger_is_answered_with_what_is_wrong(caplog: pytest.LogCaptureFixture):
    given = reception(IngressError("x")).malformed(TriggerError("trigger: body: it is not JSON"))
    document: Mapping[str, Any] = given.document
    assert (given.status, document["detail"]) == (400, "trigger: body: it is not JSON")
    assert "refused: trigger: body: it is not JSON" in caplog.text


def test_a_problem_in_words_is_short():
    assert words(problem(422, "invalid-payload", "a\nb")) == "invalid-payload: a; b"
    assert len(words(problem(422, "invalid-payload", "a" * 5000))) == 500
