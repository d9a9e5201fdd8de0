"""Google Cloud Scheduler: the jobs of a project in a region.

A job has no etag: it is read again right before it is changed or deleted, and what somebody changes
within those milliseconds is lost. Pausing is a call of its own: it is written down as not yet made
before, and as made after. A job that begins paused is made with a schedule that is nearly a year away.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from purista.compiling import MARKER, Placed, Request, marker_text
from purista.native.cloudsettings import CloudSchedulerSettings
from purista.native.objectnames import line_names
from purista.plan import PAUSED, Desired, Observed, Owner, digests
from purista.schedulers.cloud_scheduler import job_document
from purista.sync.cloud_scheduler_calls import (
    QUOTA,
    CloudSchedulerCalls,
    Document,
    Refusal,
    open_calls,
)
from purista.sync.cloud_scheduler_foreign import foreign_job
from purista.sync.cloud_scheduler_job import (
    SCHEDULE,
    STATE,
    UNFINISHED,
    Marker,
    fields_of,
    fitting,
    mask_of,
    observed_job,
    read_description,
    update_of,
    with_fields,
)
from purista.sync.cloud_scheduler_text import known_timing
from purista.sync.port import Foreign, SyncError, changed_meanwhile


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[CloudSchedulerJobs]:
    """Connect with application default credentials.

    ``CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDSCHEDULER`` says where else than at Google's usual place.
    """
    assert isinstance(request.settings, CloudSchedulerSettings)
    async with open_calls(request.settings.parent) as calls:
        yield CloudSchedulerJobs(calls)


class CloudSchedulerJobs:
    """Implements ``LiveScheduler``, ``Pauses``, ``Triggers``, ``FireTimes`` and ``Imports``."""

    def __init__(self, calls: CloudSchedulerCalls) -> None:
        self._calls = calls

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return a job for each line of what is placed."""
        found: list[Desired] = []
        for each, names in line_names(placed):
            self._check_parent(each)
            owner = Owner(deployment, each.schedule.id, each.fingerprint)
            for number, name in enumerate(names):
                document = job_document(each, number, name, request)
                words = document["description"].removeprefix(marker_text(each)).removeprefix(" - ")
                fields = fields_of(document, fitting(words, owner))
                found.append(Desired(name, owner, {**fields, PAUSED: not each.schedule.enabled}))
        return found

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's jobs, and those that have one of the names."""
        async for document in self._calls.listed():
            found = observed_job(document)
            is_ours = found.owner is not None and found.owner.deployment == deployment
            if is_ours or found.name in names:
                yield found

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Create a job; one that is there already is no error if it is the very same."""
        if not fields[PAUSED]:
            await self._create(desired, fields, fields)
            return
        parked = {**fields, SCHEDULE: _parked(datetime.now(UTC)), PAUSED: False}
        made = await self._create(desired, parked, fields)
        await self._finish(await self._switch(made, paused=True), desired, fields)

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Update a job, unless it is not as it was observed any more when it is read again."""
        now, paused = observed, bool(fields[PAUSED])
        if observed.fields[PAUSED] != paused:
            step = observed.fields if paused else {**fields, PAUSED: True}
            now = await self._write(now, desired, step, fields)
            now = await self._switch(now, paused=paused)
        await self._finish(now, desired, fields)

    async def delete(self, observed: Observed) -> None:
        """Delete a job, unless it has another owner when it is read again."""

        async def attempt() -> None:
            document = await self._calls.get(observed.name)
            if document is None:
                return
            if observed_job(document).owner != observed.owner:
                raise changed_meanwhile(observed.name)
            await self._calls.delete(observed.name)

        await self._calls.tried(attempt)

    async def pause(self, name: str, *, reason: str) -> None:
        """Pause a job, and then write the reason in its description."""
        await self._operate(name, paused=True, reason=reason)

    async def resume(self, name: str, *, reason: str) -> None:
        """Let a job run again; why it was paused goes from its description."""
        await self._operate(name, paused=False, reason="")

    async def trigger(self, name: str) -> None:
        """Let a job run now. It is not asked again where the answer is lost: it could run twice.

        An HTTP target is called with the time of the next slot, or without one, which the ingress takes
        for a person's trigger. A message cannot say that: it counts for the slot before.
        """
        await self._calls.tried(partial(self._owned, name))
        try:
            await self._calls.tried(partial(self._calls.run, name), QUOTA)
        except Refusal as refusal:
            if not refusal.is_lost:
                raise
            raise SyncError(f"{refusal}; it may have run: look before it is run again") from None

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a job runs; None where Google's page leaves that open, as at clock changes."""
        if fields[PAUSED] or fields.get(STATE) == "DISABLED":
            return ()
        if STATE in fields:
            return None
        timing = known_timing(fields[SCHEDULE], fields["timezone"], start, end)
        return None if timing is None else timing.between(start, end)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the jobs without our marker, nor that of ``purista compile``."""
        found = [each async for each in self._calls.listed() if not _is_ours(each)]
        for document in sorted(found, key=lambda each: str(each["name"])):
            yield foreign_job(document, datetime.now(UTC))

    def _check_parent(self, placed: Placed) -> None:
        assert isinstance(placed.settings, CloudSchedulerSettings)
        if placed.settings.parent != self._calls.parent:
            raise SyncError(
                f"schedule '{placed.schedule.id}': it belongs to '{placed.settings.parent}', the plan "
                f"to '{self._calls.parent}'; give it a deployment of its own"
            )

    async def _create(
        self, desired: Desired, step: Mapping[str, Any], final: Mapping[str, Any]
    ) -> Observed:
        named = {"name": self._calls.path(desired.name)}
        made = with_fields(named, {}, step, desired.owner.fingerprint)
        made["description"] = _description(desired, step, final)

        async def attempt() -> Observed:
            created = await self._calls.create(made)
            if created is not None:
                return observed_job(created)
            there = await self._calls.get(desired.name)
            if there is None or observed_job(there) != observed_job(made):
                raise SyncError(f"'{desired.name}' was made meanwhile; plan again")
            return observed_job(there)

        return await self._calls.tried(attempt)

    async def _finish(self, now: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write all fields; an update that has let a paused job run again is made good."""
        written = await self._write(now, desired, fields, fields)
        if written.fields[PAUSED] != fields[PAUSED]:
            await self._switch(written, paused=bool(fields[PAUSED]))

    async def _write(
        self,
        expected: Observed,
        desired: Desired,
        step: Mapping[str, Any],
        final: Mapping[str, Any],
    ) -> Observed:
        """Give a job the fields of a step on the way to the final ones; raises where it has changed."""

        async def attempt() -> Observed:
            document = await self._calls.get(expected.name)
            if document is None:
                raise changed_meanwhile(expected.name)
            now = observed_job(document)
            marker, _ = read_description(document.get("description", ""))
            reason = marker.reason if marker is not None and step[PAUSED] else ""
            made = with_fields(document, now.fields, step, desired.owner.fingerprint)
            made["description"] = _description(desired, step, final, reason)
            mask = mask_of(document, made)
            if not mask:
                return now
            if now != expected:
                raise changed_meanwhile(expected.name)
            return await self._updated(update_of(made, mask), mask)

        return await self._calls.tried(attempt)

    async def _updated(self, document: Document, mask: Collection[str]) -> Observed:
        updated = await self._calls.update(document, mask)
        if updated is None:
            raise changed_meanwhile(document["name"].rpartition("/")[2])
        return observed_job(updated)

    async def _switch(self, now: Observed, *, paused: bool) -> Observed:
        """Pause a job or let it run again; return what it is to be now, and nothing else."""
        call = partial(self._calls.switch, now.name, paused=paused)
        if await self._calls.tried(call) is None:
            raise changed_meanwhile(now.name)
        return replace(now, fields={**now.fields, PAUSED: paused})

    async def _operate(self, name: str, *, paused: bool, reason: str) -> None:
        now = observed_job(await self._calls.tried(partial(self._owned, name)))
        if STATE in now.fields:
            raise SyncError(
                f"'{name}' is in state {now.fields[STATE]}, in which no job is paused or resumed; "
                "purista apply writes it again"
            )
        if now.fields[PAUSED] != paused:
            await self._switch(now, paused=paused)

        async def attempt() -> None:
            document = await self._owned(name)
            marker, words = read_description(document["description"])
            assert marker is not None
            text = marker._replace(reason=reason).text(words)
            if text != document["description"]:
                await self._updated(
                    {"name": document["name"], "description": text}, ["description"]
                )

        await self._calls.tried(attempt)

    async def _owned(self, name: str) -> Document:
        document = await self._calls.get(name)
        if document is None or observed_job(document).owner is None:
            raise SyncError(f"'{name}' is not there, or not ours; purista apply makes it")
        return document


def _description(
    desired: Desired, step: Mapping[str, Any], final: Mapping[str, Any], reason: str = ""
) -> str:
    """Return a description that tells as applied what a step has of the final fields.

    On the way there the job is of no version, so that a plan finds what was cut off.
    """
    applied = digests(desired.fields)
    known = {name: applied[name] for name in applied if step[name] == final[name]}
    owner = desired.owner if known == applied else replace(desired.owner, fingerprint=UNFINISHED)
    return Marker(owner, known, reason).text(step["description"])


def _parked(now: datetime) -> str:
    """Return a schedule that is far away: the day before yesterday, which comes again in a year."""
    day = now - timedelta(days=2)
    return f"0 0 {day.day} {day.month} *"


def _is_ours(document: Document) -> bool:
    description = document.get("description", "")
    return read_description(description)[0] is not None or description.startswith(f"{MARKER}: ")
