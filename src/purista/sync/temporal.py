"""Temporal: schedules of a namespace, over its SDK.

Whose a schedule is stands in its memo, which cannot be changed; its version and what was applied last in
the memo of the workflow that it starts. https://docs.temporal.io/schedule
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from purista.compiling import MARKER, Placed, Request, marker_text
from purista.errors import MissingExtraError
from purista.plan import PAUSED, Desired, Observed, Owner
from purista.schedulers.temporal import TemporalSettings, create_request
from purista.sync.port import Foreign, SyncError, changed_meanwhile
from purista.sync.retrying import ATTEMPTS, rest
from purista.sync.temporal_calls import Calls, Refusal, connected
from purista.sync.temporal_fields import (
    LIMIT,
    NOTES,
    WRITE,
    applied_of,
    fields_of,
    notes_with,
    part,
    payload,
    read,
    schedule_of,
)
from purista.sync.temporal_times import foreign_schedules, spec_times

try:
    from google.protobuf.json_format import ParseDict
    from temporalio.api.enums.v1 import ScheduleOverlapPolicy
    from temporalio.api.schedule.v1 import (
        Schedule,
        ScheduleListEntry,
        SchedulePatch,
        TriggerImmediatelyRequest,
    )
    from temporalio.api.workflowservice.v1 import (
        CreateScheduleRequest,
        DeleteScheduleRequest,
        DescribeScheduleRequest,
        DescribeScheduleResponse,
        ListSchedulesRequest,
        PatchScheduleRequest,
        UpdateScheduleRequest,
    )
    from temporalio.client import Client
    from temporalio.service import RPCStatusCode
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Temporal", "temporal") from None

PAGE: Final = 500
"""Schedules that one answer lists."""

AT_ONCE: Final = 20
"""Schedules that are asked for at a time."""


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[TemporalSchedules]:
    """Connect as Temporal's own tools do: ``TEMPORAL_ADDRESS``, ``TEMPORAL_API_KEY`` and the like."""
    assert isinstance(request.settings, TemporalSettings)
    namespace = request.settings.namespace
    yield TemporalSchedules(await connected(namespace), namespace)


class TemporalSchedules:
    """Implements ``LiveScheduler`` and all that a live scheduler may do, for one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._calls = Calls(client, namespace)
        self._service = self._calls.service
        self._namespace = namespace

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return a schedule for each that is placed."""
        found = []
        for each in placed:
            assert isinstance(each.settings, TemporalSettings)
            if each.settings.namespace != self._namespace:
                raise SyncError(
                    f"schedule '{each.schedule.id}': its namespace is '{each.settings.namespace}', the plan's "
                    f"'{self._namespace}'; give it a deployment of its own"
                )
            owner = Owner(deployment, each.schedule.id, each.fingerprint)
            message = ParseDict(create_request(each, request)["schedule"], Schedule())
            # The version would change the notes with anything, and what a person wrote there would go.
            lasting = f"{MARKER}: {each.schedule.id}"
            message.state.notes = message.state.notes.replace(marker_text(each), lasting, 1)
            found.append(Desired(each.name, owner, fields_of(message)))
        return found

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's schedules, and those that have one of the names.

        The list is behind what was just changed, so that each name is asked for by itself.
        """
        wanted = set(names)
        async for entry in self._listed():
            marker = read(entry.memo.fields.get(MARKER))
            if isinstance(marker, Mapping) and marker.get("deployment") == deployment:
                wanted.add(entry.schedule_id)
        ordered = sorted(wanted)
        for at in range(0, len(ordered), PAGE):
            for found in await self.named(ordered[at : at + PAGE]):
                yield found

    async def named(self, names: Sequence[str]) -> Sequence[Observed]:
        """Return the schedules of these names."""
        places = asyncio.Semaphore(AT_ONCE)

        async def look(name: str) -> Observed | None:
            async with places:
                return await self._look(name)

        found = await asyncio.gather(*map(look, names))
        return [each for each in found if each is not None]

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Create a schedule; what is sent again, because an answer was lost, creates none."""
        write = str(uuid4())
        request = CreateScheduleRequest(
            namespace=self._namespace,
            schedule_id=desired.name,
            request_id=write,
            schedule=schedule_of(desired, fields, write),
            identity=MARKER,
        )
        marker = {
            "deployment": desired.owner.deployment,
            "schedule": desired.owner.schedule_id,
        }
        request.memo.fields[MARKER].CopyFrom(payload(marker))
        try:
            await self._calls.made(self._service.create_schedule, request)
        except Refusal as refusal:
            if refusal.status is RPCStatusCode.ALREADY_EXISTS:
                raise SyncError(f"'{desired.name}' was made meanwhile; plan again") from None
            raise

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Update a schedule, unless it is not as it was observed any more."""
        write = str(uuid4())
        request = UpdateScheduleRequest(
            namespace=self._namespace,
            schedule_id=desired.name,
            conflict_token=bytes.fromhex(observed.version),
            request_id=write,
            schedule=schedule_of(desired, fields, write),
            identity=MARKER,
        )
        try:
            await self._calls.made(self._service.update_schedule, request)
        except Refusal as refusal:
            if refusal.status is RPCStatusCode.NOT_FOUND:
                raise changed_meanwhile(desired.name) from None
            # Also what is sent again after a lost answer is refused so, once it was done.
            if refusal.status is not RPCStatusCode.FAILED_PRECONDITION:
                raise
        if await self._last_write(observed) != write:
            raise changed_meanwhile(desired.name)

    async def delete(self, observed: Observed) -> None:
        """Delete a schedule, unless it is not as it was observed any more."""
        found = await self._look(observed.name)
        if found is None:
            return
        if (found.owner, found.version) != (observed.owner, observed.version):
            raise changed_meanwhile(observed.name)
        request = DeleteScheduleRequest(
            namespace=self._namespace, schedule_id=observed.name, identity=MARKER
        )
        try:
            await self._calls.made(self._service.delete_schedule, request)
        except Refusal as refusal:
            if refusal.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def pause(self, name: str, *, reason: str) -> None:
        """Pause a schedule, with the reason in the last line of its notes."""
        notes = notes_with(await self._notes(name), " ".join(reason.split()))
        await self._switch(name, SchedulePatch(pause=notes))

    async def resume(self, name: str, *, reason: str) -> None:
        """Let it fire again, without the reason of its pause; this one stands only where no notes are left."""
        await self._switch(name, SchedulePatch(unpause=await self._notes(name) or reason))

    async def trigger(self, name: str) -> None:
        """Start its workflow now, whatever else is running; Temporal marks it as a manual run."""
        allow = ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL
        await self._patch(
            name, SchedulePatch(trigger_immediately=TriggerImmediatelyRequest(overlap_policy=allow))
        )

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a schedule fires; None for a spec that is not understood."""
        fires = not fields[PAUSED] and fields[LIMIT] != 0
        return spec_times(part(fields, "spec"), start, end) if fires else ()

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the schedules without our marker; one with several calendars comes as several."""
        names = sorted(
            [each.schedule_id async for each in self._listed() if MARKER not in each.memo.fields]
        )
        for at in range(0, len(names), PAGE):
            for found in await self.named(names[at : at + PAGE]):
                if found.owner is None:
                    for each in foreign_schedules(found.name, found.fields):
                        yield each

    async def _notes(self, name: str) -> str:
        """Return the notes of a schedule, without the reason of a pause."""
        found = await self._look(name)
        return "" if found is None else str(found.fields[NOTES])

    async def _switch(self, name: str, patch: SchedulePatch) -> None:
        """Pause or resume a schedule, and see that it is so.

        Of two patches that come at the same time, the schedule's workflow takes the second only.
        https://github.com/temporalio/temporal/blob/main/service/worker/scheduler/workflow.go, ``sleep``
        """
        for attempt in range(1, ATTEMPTS + 1):
            await self._patch(name, patch)
            found = await self._look(name)
            if found is not None and found.fields[PAUSED] is bool(patch.pause):
                return
            await rest(attempt)
        raise changed_meanwhile(name)

    async def _last_write(self, observed: Observed) -> str:
        """Return which write of ours is the last one, as soon as a schedule is not as observed any more.

        An update is answered before it is made, and one that comes too late is dropped without a word:
        https://github.com/temporalio/temporal/blob/main/service/worker/scheduler/workflow.go, ``processUpdate``
        """
        for attempt in range(1, ATTEMPTS + 1):
            found = await self._described(observed.name)
            if found is None:
                return ""
            if found.conflict_token.hex() != observed.version:
                return str(_told(found).get(WRITE, ""))
            await rest(attempt)
        raise SyncError(
            f"'{observed.name}': Temporal took the update, and has not made it; plan again"
        )

    async def _patch(self, name: str, patch: SchedulePatch) -> None:
        request = PatchScheduleRequest(
            namespace=self._namespace,
            schedule_id=name,
            patch=patch,
            identity=MARKER,
            request_id=str(uuid4()),
        )
        await self._calls.made(self._service.patch_schedule, request)

    async def _listed(self) -> AsyncGenerator[ScheduleListEntry, None]:
        token = b""
        while True:
            asked = ListSchedulesRequest(
                namespace=self._namespace, maximum_page_size=PAGE, next_page_token=token
            )
            page = await self._calls.made(self._service.list_schedules, asked)
            for entry in page.schedules:
                yield entry
            token = page.next_page_token
            if not token:
                return

    async def _look(self, name: str) -> Observed | None:
        found = await self._described(name)
        return None if found is None else _observed(name, found)

    async def _described(self, name: str) -> DescribeScheduleResponse | None:
        request = DescribeScheduleRequest(namespace=self._namespace, schedule_id=name)
        try:
            return await self._calls.made(self._service.describe_schedule, request)
        except Refusal as refusal:
            if refusal.status is RPCStatusCode.NOT_FOUND:
                return None
            raise


def _observed(name: str, found: DescribeScheduleResponse) -> Observed:
    marker = read(found.memo.fields.get(MARKER))
    version = found.conflict_token.hex()
    fields = fields_of(found.schedule)
    if not isinstance(marker, Mapping) or "deployment" not in marker:
        return Observed(name, fields, version=version)
    told = _told(found)
    owner = Owner(
        str(marker["deployment"]),
        str(marker.get("schedule", "")),
        str(told.get("version", "")),
    )
    return Observed(name, fields, owner, applied_of(told, fields), version)


def _told(found: DescribeScheduleResponse) -> Mapping[str, Any]:
    """Return what the last write of ours told; nothing where a person wrote over it."""
    told = read(found.schedule.action.start_workflow.memo.fields.get(MARKER))
    return told if isinstance(told, Mapping) else {}
