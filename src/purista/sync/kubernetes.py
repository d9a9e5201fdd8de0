"""Kubernetes: the CronJobs of a namespace, over its own Python client.

Whose one is stands in its labels and annotations, and so does what was applied last. It is created with a
POST, which never takes what is there; updated by server-side apply with its uid and resourceVersion.
That is forced: what a person manages and keeps is in the plan as it is there. An apply leaves what only
others manage, so that where something is to go the whole object is put, in the same version. Each write is
made as a dry run first: what admission makes of our values is kept with the object, in the same write.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, closing
from datetime import datetime
from functools import partial
from typing import Any, Final

from purista.compiling import MARKER, Placed, Request
from purista.errors import MissingExtraError
from purista.plan import PAUSED, PROBLEM, Desired, Observed, Owner
from purista.schedulers.kubernetes import KubernetesSettings, cronjob_texts
from purista.sync.kubernetes_api import (
    ALREADY_EXISTS,
    DENIED,
    MISSING,
    TAKEN,
    KubernetesApi,
    Refusal,
    Send,
    connected,
    tried,
)
from purista.sync.kubernetes_object import (
    DEPLOYMENT,
    MANAGED_BY,
    applied_of,
    fields_of,
    hides,
    job_of,
    loses,
    observed_of,
    owner_of,
    revealed,
    with_admitted,
    written,
)
from purista.sync.kubernetes_times import cronjob_times, foreign_of
from purista.sync.port import Foreign, SyncError, changed_meanwhile
from purista.turnover import Horizon

try:
    import yaml
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Kubernetes", "kubernetes") from None

AT_ONCE: Final = 20
"""CronJobs that are asked for one by one, at a time; of more names the namespace is listed."""

TRIES: Final = 5
"""How often a change is tried whose object only its controller changed meanwhile."""

LAST_ACTION: Final = "purista.dev/last-action"
"""The annotation with what an operator did last, and why."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[KubernetesCronJobs]:
    """Connect as kubectl does: ``KUBECONFIG``, ``~/.kube/config``, else as in a Pod."""
    assert isinstance(request.settings, KubernetesSettings)
    client = await asyncio.to_thread(connected)
    with closing(client):
        api = KubernetesApi(client, request.settings.namespace)
        await api.check()
        yield KubernetesCronJobs(api, request.settings.namespace, request.horizon)


def cronjobs(placed: Placed, request: Request) -> list[dict[str, Any]]:
    """Return the CronJobs of a schedule as data: what its artifact says."""
    return [yaml.load(text, Loader=_LOADER) for text in cronjob_texts(placed, request)]  # noqa: S506


class KubernetesCronJobs:
    """Implements ``LiveScheduler`` and all that a live scheduler may do, for one namespace."""

    def __init__(self, api: KubernetesApi, namespace: str, horizon: Horizon) -> None:
        self._api = api
        self._namespace = namespace
        self._horizon = horizon

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return a CronJob for each line of what is placed."""
        found: list[Desired] = []
        for each in placed:
            assert isinstance(each.settings, KubernetesSettings)
            if each.settings.namespace != self._namespace:
                raise SyncError(
                    f"schedule '{each.schedule.id}': its namespace is '{each.settings.namespace}', the plan's "
                    f"'{self._namespace}'; give it a deployment of its own"
                )
            owner = Owner(deployment, each.schedule.id, each.fingerprint)
            found += [
                Desired(document["metadata"]["name"], owner, fields_of(document))
                for document in cronjobs(each, request)
            ]
        return found

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's CronJobs, and those that have one of the names."""
        missing = set(names)
        async for document in self._api.listed(_selector(deployment)):
            found = observed_of(document)
            missing.discard(found.name)
            yield found
        if len(missing) <= AT_ONCE:
            for looked in await asyncio.gather(*map(self._look, sorted(missing))):
                if looked is not None:
                    yield looked
            return
        async for document in self._api.listed(""):
            if document["metadata"]["name"] in missing:
                yield observed_of(document)

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Make a CronJob; one that is there already, just as it is wanted, is no error."""
        document = written(desired, fields, self._namespace)
        try:
            await _send(partial(self._api.create, "cronjobs"), document, fields)
        except Refusal as refusal:
            if refusal.code == MISSING:
                raise SyncError(f"{refusal}; create the namespace first") from None
            if refusal.code not in (TAKEN, DENIED):
                raise
            if _is_done(await self._look(desired.name), desired, fields):
                return
            if refusal.reason != ALREADY_EXISTS:
                raise
            raise SyncError(f"'{desired.name}' was made meanwhile; plan again") from None

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Give a CronJob these fields, unless they, or whose it is, are not as observed any more.

        Its controller writes its status at each slot; that is no change. One that is being deleted is left alone.
        """
        _refuse_deleted(observed)
        write = self._put if loses(observed.fields, fields) else self._apply

        async def change(now: Observed) -> None:
            await write(now, desired, fields)

        await self._changed(observed, change, lambda now: _is_done(now, desired, fields))

    async def delete(self, observed: Observed) -> None:
        """Delete a CronJob, and its Jobs with it, unless it is not as observed any more."""

        async def change(now: Observed) -> None:
            await self._api.delete(now.name, *now.version.split("/"))

        def is_done(now: Observed | None) -> bool:
            return now is None or (_is_deleted(now) and _is_one(now, observed))

        await self._changed(observed, change, is_done)

    async def pause(self, name: str, *, reason: str) -> None:
        """Suspend a CronJob, and those of the schedule's other lines, with the reason beside it."""
        await self._suspend(name, True, f"paused: {reason}")

    async def resume(self, name: str, *, reason: str) -> None:
        """Let it fire again, and those of the schedule's other lines."""
        await self._suspend(name, False, f"resumed: {reason}")

    async def trigger(self, name: str) -> None:
        """Make a Job as ``kubectl create job --from=cronjob/NAME`` does; its run is a manual one."""
        document = await self._api.read(name)
        if document is None or owner_of(document) is None:
            raise _none_of_ours(name)
        _refuse_deleted(observed_of(document))
        await self._start(job_of(document, f"{name}-x{secrets.token_hex(4)}"))

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a CronJob fires; None for what is not known of its text or its zone."""
        return cronjob_times(fields, start, end)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the CronJobs that purista did not make."""
        async for document in self._api.listed(f"{MANAGED_BY}!={MARKER}"):
            yield foreign_of(document, self._horizon)

    async def _start(self, job: Mapping[str, Any]) -> None:
        """Make a Job, or say that it may have been made: another one would send its trigger once more."""
        try:
            await self._api.create("jobs", job)
        except SyncError as error:
            refusal = error if isinstance(error, Refusal) else None
            if refusal is not None and refusal.reason == ALREADY_EXISTS:
                return  # the name is ours alone: an answer was lost
            if refusal is not None and refusal.is_sure:
                raise
            seen = f"kubectl -n {self._namespace} get job {job['metadata']['name']}"
            raise SyncError(f"{error}; it may have been made nevertheless; see {seen}") from None

    async def _look(self, name: str) -> Observed | None:
        document = await self._api.read(name)
        return None if document is None else observed_of(document)

    async def _apply(self, now: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        if hides(fields):
            fields = revealed(fields, await self._read(now))
        document = written(desired, fields, self._namespace)
        uid, version = now.version.split("/")
        document["metadata"] |= {"uid": uid, "resourceVersion": version}
        await _send(partial(self._api.apply, now.name), document, fields)

    async def _put(self, now: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        there = await self._read(now)
        document = written(desired, revealed(fields, there), self._namespace, there)
        await _send(partial(self._api.replace, now.name), document, fields)

    async def _read(self, now: Observed) -> dict[str, Any]:
        there = await self._api.read(now.name)
        if there is None or observed_of(there).version != now.version:
            raise Refusal(TAKEN, str(changed_meanwhile(now.name)))
        return there

    async def _changed(
        self,
        observed: Observed,
        change: Callable[[Observed], Awaitable[None]],
        is_done: Callable[[Observed | None], bool],
    ) -> None:
        """Change an object in the version that it has, as long as it says what was observed."""
        now: Observed | None = observed
        refused: Refusal | None = None
        for _ in range(TRIES):
            assert now is not None
            try:
                await change(now)
            except Refusal as refusal:
                if refusal.code not in (MISSING, TAKEN):
                    raise
                refused = refusal
            else:
                return
            now = await self._look(observed.name)
            if is_done(now):
                return
            if not _is_same(now, observed):
                raise changed_meanwhile(observed.name)
        assert refused is not None
        raise refused

    async def _suspend(self, name: str, suspend: bool, action: str) -> None:
        first = await self._look(name)
        if first is None or first.owner is None:
            raise _none_of_ours(name)
        _refuse_deleted(first)
        patch = {"metadata": {"annotations": {LAST_ACTION: action}}, "spec": {"suspend": suspend}}
        async for document in self._api.listed(_selector(first.owner.deployment)):
            found = observed_of(document)
            if found.owner is None or _is_deleted(found):
                continue
            if found.owner.schedule_id == first.owner.schedule_id:
                await self._patch(found, patch)

    async def _patch(self, observed: Observed, patch: Mapping[str, Any]) -> None:
        async def change(now: Observed) -> None:
            uid, version = now.version.split("/")
            metadata = {**patch["metadata"], "uid": uid, "resourceVersion": version}
            await self._api.merge(now.name, {**patch, "metadata": metadata})

        def is_done(now: Observed | None) -> bool:
            wanted = (observed.owner, patch["spec"]["suspend"])
            return now is not None and (now.owner, now.fields[PAUSED]) == wanted

        await self._changed(observed, change, is_done)


async def _send(send: Send, document: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Write a CronJob that says what the server makes of its fields."""
    await send(with_admitted(document, fields, await tried(send, document)), {})


def _selector(deployment: str) -> str:
    return f"{MANAGED_BY}={MARKER},{DEPLOYMENT}={deployment}"


def _is_same(now: Observed | None, observed: Observed) -> bool:
    """Whether an object is the one that was observed, and says the same."""
    if now is None or not _is_one(now, observed):
        return False
    return (now.fields, now.owner, now.applied) == (
        observed.fields,
        observed.owner,
        observed.applied,
    )


def _is_one(now: Observed, observed: Observed) -> bool:
    """Whether it is no other object that has the name by now."""
    return now.version.split("/")[0] == observed.version.split("/")[0]


def _is_done(now: Observed | None, desired: Desired, fields: Mapping[str, Any]) -> bool:
    """Whether an object is as it was to be written, as after an answer that was lost."""
    wanted = (fields, desired.owner, applied_of(desired))
    return now is not None and (now.fields, now.owner, now.applied) == wanted


def _is_deleted(observed: Observed) -> bool:
    return observed.fields[PROBLEM] is not None


def _refuse_deleted(observed: Observed) -> None:
    if _is_deleted(observed):
        raise SyncError(
            f"'{observed.name}' is being deleted; apply again once it is gone, or see its finalizers"
        )


def _none_of_ours(name: str) -> SyncError:
    return SyncError(f"'{name}' is not there, or none of ours; apply it first")
