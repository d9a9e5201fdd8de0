"""Dispatch: an accepted run's payload goes to its target."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from purista.bridges import EventBridge, Job, QueueBridge, Reply
from purista.contract import Command, Event, Queue, Schedule
from purista.errors import BridgeError, CommandError
from purista.message import Message, RunInfo, new_message_id
from purista.telemetry import Telemetry

logger = logging.getLogger("purista.ingress")


class Dispatcher:
    """Sends messages to targets and tells how a run goes on from there."""

    def __init__(
        self,
        event_bridge: EventBridge,
        queue_bridge: QueueBridge,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.event_bridge = event_bridge
        self.queue_bridge = queue_bridge
        self._telemetry = telemetry

    def is_durable(self, schedule: Schedule) -> bool:
        """Whether a message to the schedule's target survives the end of this process.

        A command's answer comes back to this process, so that one never does.
        """
        match schedule.target:
            case Event():
                return self.event_bridge.capabilities.durable
            case Queue():
                return self.queue_bridge.capabilities.durable
            case Command():
                return False

    async def send(self, schedule: Schedule, body: bytes, run: RunInfo) -> asyncio.Task[str] | None:
        """Dispatch. Returns a task for the outcome of a command, None for an event or a job.

        Raises ``BridgeError`` when the target cannot be reached; a redelivery may help then.
        """
        if self._telemetry is None:
            return await self._send(schedule, body, run)
        with self._telemetry.dispatching(schedule.id, run.run_id, schedule.target.name):
            return await self._send(schedule, body, run)

    def job(self, schedule: Schedule, target: Queue[Any], body: bytes, run: RunInfo) -> Job:
        """Return the job of a run: a second one of the same run is not enqueued."""
        return Job(
            self._message(target.name, body, run),
            target.max_attempts,
            key=f"run:{run.run_id}",
            dedupe_window=schedule.dedupe_window,
        )

    async def _send(
        self, schedule: Schedule, body: bytes, run: RunInfo
    ) -> asyncio.Task[str] | None:
        target = schedule.target
        match target:
            case Event():
                await self.event_bridge.publish(self._message(target.name, body, run))
                return None
            case Queue():
                await self.queue_bridge.enqueue(self.job(schedule, target, body, run))
                return None
            case Command():
                message = self._message(target.address, body, run)
                pending = await self.event_bridge.request(message, timeout=schedule.run_timeout)
                return await _begun(pending, schedule)

    def _message(self, name: str, body: bytes, run: RunInfo) -> Message:
        headers = None if self._telemetry is None else self._telemetry.carry()
        return Message(name, body, new_message_id(), run, headers)


async def _begun(pending: Awaitable[Reply], schedule: Schedule) -> asyncio.Task[str]:
    """Return the task that waits for the reply, unless it is there already and says: nobody serves."""
    reply: asyncio.Task[Reply] = asyncio.ensure_future(_reply(pending))
    await asyncio.sleep(0)
    if reply.done() and not reply.exception():
        error = reply.result().error
        if error is not None and error.kind == "unknown":
            raise BridgeError(error.message)
    return asyncio.create_task(_outcome(reply, schedule), name=f"purista reply {schedule.id}")


async def _reply(pending: Awaitable[Reply]) -> Reply:
    return await pending


async def _outcome(reply: asyncio.Task[Reply], schedule: Schedule) -> str:
    try:
        error = (await reply).error
    except CommandError as failure:
        logger.warning("schedule %s: its command gave no answer: %s", schedule.id, failure.code)
        return f"failed: {failure.code}"
    except BridgeError:
        logger.exception("schedule %s: its command's answer was lost", schedule.id)
        return "failed: bridge"
    if error is None:
        return "answered"
    logger.warning("schedule %s: its command failed: %s", schedule.id, error.code)
    return f"failed: {error.code}"
