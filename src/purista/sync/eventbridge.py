"""EventBridge Scheduler: the schedules of a group, over boto3.

An object is a schedule: whose it is, and what was applied last, stand in its Description. The group is made
where it is missing, and never changed. What else there must be - roles, queues, functions, the rule and the
API destination of an event bus - is looked for at most, and never made. A one-shot is deleted by AWS once it
has fired; one whose time is over is no object any more.
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
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from purista.compiling import Placed, Request
from purista.errors import MissingExtraError
from purista.expression import Once
from purista.native.awsroute import route_name, source_of
from purista.native.awssettings import ApiDestinationTarget, EventBridgeSettings
from purista.native.awsshared import group_object
from purista.plan import PAUSED, Desired, Observed, Owner, digests
from purista.schedulers.eventbridge import schedule_requests, settings_of
from purista.sync.eventbridge_calls import CONFIG, CONFLICT, NOT_FOUND, VALIDATION, Calls, Refusal
from purista.sync.eventbridge_fields import desired_of, is_marked, observed_of, request_of
from purista.sync.eventbridge_times import fire_times, foreign_schedule, is_over
from purista.sync.port import Foreign, SyncError, changed_meanwhile

try:
    import boto3
    from botocore.exceptions import (
        BotoCoreError,
        NoRegionError,
    )
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for EventBridge Scheduler", "aws") from None

PAGE: Final = 100
"""Schedules that one answer lists, at most (API_ListSchedules)."""

DELETED: Final = "DELETE"
"""What AWS does with a one-shot that has fired."""


class Route(NamedTuple):
    """A rule that must be there, for it sends on what schedules put on an event bus."""

    rule: str
    bus: str


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[EventBridgeSchedules]:
    """Connect as the AWS CLI does: its environment, its configuration, ``AWS_ENDPOINT_URL_SCHEDULER``."""
    assert isinstance(request.settings, EventBridgeSettings)
    try:
        session = boto3.Session()
        scheduler = session.client("scheduler", config=CONFIG)
        events = session.client("events", config=CONFIG)
    except NoRegionError:
        raise SyncError("AWS: no region is set; set AWS_DEFAULT_REGION, or AWS_PROFILE") from None
    except (BotoCoreError, ValueError) as error:
        raise SyncError(f"AWS: {error}") from None
    place = f"EventBridge Scheduler in {session.region_name}"
    try:
        yield EventBridgeSchedules(
            Calls(scheduler, place),
            Calls(events, f"EventBridge in {session.region_name}"),
            request.settings,
        )
    finally:
        scheduler.close()
        events.close()


class EventBridgeSchedules:
    """Implements ``LiveScheduler``, ``Pauses``, ``FireTimes`` and ``Imports`` for one group."""

    def __init__(self, scheduler: Calls, events: Calls, settings: EventBridgeSettings) -> None:
        self._call = scheduler
        self._call_events = events
        self._settings = settings
        self._group = settings.group
        self._routes: dict[str, Route] = {}
        self._making = asyncio.Lock()
        self._is_made = False

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return a schedule for each line of what is placed; none for a one-shot that is over."""
        now = datetime.now(UTC)
        found: list[Desired] = []
        for each, asked in schedule_requests(placed, request):
            settings = settings_of(each)
            if settings.group != self._group:
                raise SyncError(
                    f"schedule '{each.schedule.id}': its group is '{settings.group}', the plan's "
                    f"'{self._group}'; give it a deployment of its own"
                )
            expression = each.schedule.expression
            if isinstance(expression, Once):
                if expression.at <= now:
                    continue
                asked["ActionAfterCompletion"] = DELETED
            self._know_route(settings, request.ingress.triggers_url)
            found.append(desired_of(each, asked, deployment))
        return found

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's schedules of the group, and those that have one of the names.

        Answers of lists do not tell whose a schedule is: each of the group is asked for.
        """
        wanted, seen, now = set(names), set[str](), datetime.now(UTC)
        async for page in self._pages(GroupName=self._group):
            listed = {each["Name"] for each in page} - seen
            seen |= listed
            for found in await self._looked(sorted(listed)):
                if found.name in wanted or _is_of(found, deployment, now):
                    yield found
        left = sorted(wanted - seen)
        for at in range(0, len(left), PAGE):
            for found in await self._looked(left[at : at + PAGE]):
                yield found

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Create a schedule; its ClientToken lets AWS see that one is sent again."""
        await self._find_route(fields)
        try:
            await self._created({**self._request(desired, fields), "ClientToken": uuid4().hex})
        except Refusal as refusal:
            if refusal.code != CONFLICT:
                raise _explained(refusal, fields) from None
            if not _is_same(await self._look(desired.name), desired, fields):
                raise SyncError(f"'{desired.name}' was made meanwhile; plan again") from None

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Update a schedule, unless it is not as it was observed any more.

        AWS cannot tell that by itself: the schedule is read right before. What a person changes between
        those two calls is lost, for UpdateSchedule replaces everything.
        """
        await self._find_route(fields)
        if await self._look(observed.name) != observed:
            raise changed_meanwhile(observed.name)
        try:
            await self._call("update_schedule", **self._request(desired, fields))
        except Refusal as refusal:
            if refusal.code in (NOT_FOUND, CONFLICT):
                raise changed_meanwhile(observed.name) from None
            raise _explained(refusal, fields) from None

    async def delete(self, observed: Observed) -> None:
        """Delete a schedule that still has the marker; that is read right before, as for ``update``."""
        found = await self._look(observed.name)
        if found is None:
            return
        if not _is_owned_alike(found.owner, observed.owner):
            raise changed_meanwhile(observed.name)
        try:
            await self._call(
                "delete_schedule",
                passing=frozenset({CONFLICT}),
                Name=observed.name,
                GroupName=self._group,
            )
        except Refusal as refusal:
            if refusal.code != NOT_FOUND:
                raise

    async def pause(self, name: str, *, reason: str) -> None:
        """Disable a schedule; the reason stands at the end of its description."""
        await self._switch(name, paused=True, note=" ".join(reason.split()))

    async def resume(self, name: str, *, reason: str) -> None:
        """Enable it; the reason why it was paused goes, and this one stands nowhere."""
        await self._switch(name, paused=False, note="")

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a schedule fires; with a window, when that begins."""
        return fire_times(fields, start, end)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the schedules of all groups that we did not make, those of another group as GROUP/NAME."""
        found: set[tuple[str, str]] = set()
        async for page in self._pages():
            found |= {(self._known_as(each), each["GroupName"]) for each in page}
        ordered, now = sorted(found), datetime.now(UTC)
        for at in range(0, len(ordered), PAGE):
            part = ordered[at : at + PAGE]
            answers = await asyncio.gather(
                *(self._answer(called.rpartition("/")[2], group) for called, group in part)
            )
            for (called, _), answer in zip(part, answers, strict=True):
                if answer is not None and not is_marked(answer):
                    yield foreign_schedule(called, answer, now)

    async def _pages(self, **asked: Any) -> AsyncGenerator[list[dict[str, Any]], None]:
        while True:
            try:
                answer = await self._call("list_schedules", MaxResults=PAGE, **asked)
            except Refusal as refusal:
                if refusal.code == NOT_FOUND:
                    return
                raise
            if "Schedules" not in answer:
                raise SyncError(
                    "what answers is no EventBridge Scheduler; see AWS_ENDPOINT_URL_SCHEDULER"
                )
            yield answer["Schedules"]
            if not answer.get("NextToken"):
                return
            asked["NextToken"] = answer["NextToken"]

    async def _looked(self, names: Sequence[str]) -> list[Observed]:
        found = await asyncio.gather(*(self._look(each) for each in names))
        return [each for each in found if each is not None]

    async def _look(self, name: str) -> Observed | None:
        answer = await self._answer(name, self._group)
        return None if answer is None else observed_of(answer)

    async def _answer(self, name: str, group: str) -> dict[str, Any] | None:
        try:
            return await self._call("get_schedule", Name=name, GroupName=group)
        except Refusal as refusal:
            if refusal.code == NOT_FOUND:
                return None
            raise

    def _request(self, desired: Desired, fields: Mapping[str, Any]) -> dict[str, Any]:
        applied = digests(desired.fields)
        return request_of(desired.name, self._group, desired.owner, applied, fields)

    async def _created(self, request: Mapping[str, Any]) -> None:
        try:
            await self._call("create_schedule", **request)
        except Refusal as refusal:
            if refusal.code != NOT_FOUND:
                raise
        else:
            return
        async with self._making:
            await self._make_group()
        await self._call("create_schedule", passing=frozenset({NOT_FOUND}), **request)

    async def _make_group(self) -> None:
        if self._is_made:
            return
        if not self._settings.create_shared:
            raise SyncError(
                f"group '{self._group}' of EventBridge Scheduler is not there, and create_shared is false; "
                "apply the deployment that makes it, or what purista compile eventbridge writes for it"
            )
        try:
            await self._call("create_schedule_group", **group_object(self._group).request)
        except Refusal as refusal:
            if refusal.code != CONFLICT:
                raise
        self._is_made = True

    def _know_route(self, settings: EventBridgeSettings, url: str) -> None:
        if isinstance(settings.target, ApiDestinationTarget):
            rule = route_name(settings, url)
            bus = settings.target.event_bus_arn.rpartition("event-bus/")[2]
            self._routes[source_of(rule)] = Route(rule, bus)

    async def _find_route(self, fields: Mapping[str, Any]) -> None:
        """Raise ``SyncError`` where no rule takes what a schedule puts on its event bus, or a disabled one."""
        source = fields["target"].get("EventBridgeParameters", {}).get("Source")
        async with self._making:
            route = self._routes.get(source)
            if route is None:
                return
            try:
                found = await self._call_events(
                    "describe_rule", Name=route.rule, EventBusName=route.bus
                )
            except Refusal as refusal:
                if refusal.code != NOT_FOUND:
                    raise
                raise SyncError(
                    f"rule '{route.rule}' of event bus '{route.bus}' is not there, so that triggers would "
                    "reach nobody; make it, with its API destination, from what purista compile "
                    "eventbridge writes for CloudFormation and Terraform"
                ) from None
            if found.get("State") == "DISABLED":
                raise SyncError(
                    f"rule '{route.rule}' of event bus '{route.bus}' is disabled, so that triggers would "
                    "reach nobody; enable it with aws events enable-rule"
                )
            del self._routes[source]

    async def _switch(self, name: str, *, paused: bool, note: str) -> None:
        found = await self._look(name)
        if found is None:
            raise SyncError(
                f"'{name}' is not there in group '{self._group}'; apply the contracts first"
            )
        if found.owner is None:
            raise SyncError(f"'{name}' is not ours, and is left as it is")
        fields = {**found.fields, PAUSED: paused, "note": note}
        request = request_of(name, self._group, found.owner, found.applied or {}, fields)
        try:
            await self._call("update_schedule", passing=frozenset({CONFLICT}), **request)
        except Refusal as refusal:
            raise changed_meanwhile(name) if refusal.code == NOT_FOUND else refusal from None

    def _known_as(self, listed: Mapping[str, Any]) -> str:
        name, group = str(listed["Name"]), listed["GroupName"]
        return name if group == self._group else f"{group}/{name}"


def _is_of(found: Observed, deployment: str, now: datetime) -> bool:
    """Whether a schedule is the deployment's, and not one that AWS is about to delete by itself."""
    if found.owner is None or found.owner.deployment != deployment:
        return False
    is_left = found.fields["after_completion"] != DELETED or found.fields[PAUSED]
    return bool(is_left) or not is_over(found.fields, now)


def _is_owned_alike(one: Owner | None, other: Owner | None) -> bool:
    if one is None or other is None:
        return False
    return (one.deployment, one.schedule_id) == (other.deployment, other.schedule_id)


def _is_same(there: Observed | None, desired: Desired, fields: Mapping[str, Any]) -> bool:
    return there is not None and replace(there, applied=None) == Observed(
        desired.name, dict(fields), desired.owner
    )


def _explained(refusal: Refusal, fields: Mapping[str, Any]) -> SyncError:
    """Return what was refused, with what a request cannot make by itself."""
    if refusal.code != VALIDATION:
        return refusal
    target = fields["target"]
    return SyncError(
        f"{refusal}; role '{target['RoleArn']}' and target '{target['Arn']}' must be there before, "
        "and the role must be one that scheduler.amazonaws.com may assume"
    )
