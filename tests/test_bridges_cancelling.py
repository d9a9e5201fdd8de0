"""Work of client libraries ends when it is cancelled, whatever they make of it."""

import asyncio
from collections.abc import Callable

import pytest

from purista.bridges.cancelling import cancellable


def with_result(answer: asyncio.Future[int]) -> None:
    answer.set_result(1)


def with_error(answer: asyncio.Future[int]) -> None:
    answer.set_exception(ConnectionError())


@pytest.mark.parametrize("answered", [with_result, with_error])
async def test_a_cancellation_that_comes_with_the_answer_is_raised(
    answered: Callable[[asyncio.Future[int]], None],
) -> None:
    answer = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(cancellable(asyncio.wait_for(answer, 60)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answered(answer)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_out_that_comes_with_the_answer_is_a_time_out() -> None:
    answer = asyncio.get_running_loop().create_future()

    async def work() -> None:
        async with asyncio.timeout(0):
            asyncio.get_running_loop().call_soon(answer.set_result, 1)
            await cancellable(asyncio.wait_for(answer, 60))

    with pytest.raises(TimeoutError):
        await work()


async def test_what_cleans_up_after_a_cancellation_is_not_cancelled_again() -> None:
    done = []

    async def work() -> None:
        try:
            await cancellable(asyncio.sleep(60))
        finally:
            done.append(await cancellable(asyncio.sleep(0, "cleaned up")))

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["cleaned up"]


async def test_results_and_errors_are_those_of_the_work() -> None:
    async def fail() -> None:
        raise ConnectionError

    assert await cancellable(asyncio.sleep(0, 1)) == 1
    with pytest.raises(ConnectionError):
        await cancellable(fail())
