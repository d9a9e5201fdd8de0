"""Airflow: files in its DAG folder, and what its REST API says of them.

An object is a DAG: its file, and whether it is paused. Whose it is, what was applied last and why it
was paused stand in a comment of the file. A file that is deleted leaves Airflow's record of the DAG,
paused, with the history of its runs.
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
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from purista.compiling import Placed, Request
from purista.naming import names_of
from purista.native.dagparts import parts_of, text_of
from purista.plan import NOTE, PAUSED, PROBLEM, Desired, Observed, Owner, digests
from purista.schedulers.airflow import FILE_NAMES, dag_file
from purista.sync.airflow_api import AirflowApi, open_api
from purista.sync.airflow_config import bundle_name, folder_path
from purista.sync.airflow_folder import DagFileThere, DagFolder, Mark
from purista.sync.airflow_times import dag_times, foreign_of
from purista.sync.port import Foreign, SyncError, changed_meanwhile

PATIENCE: Final = timedelta(minutes=15)
"""So long Airflow may take to read a file: by default it looks for new ones each five minutes."""


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[AirflowDags]:
    """Find the DAG folder as Airflow does, and the API as ``airflowctl`` does."""
    path = folder_path()
    folder = DagFolder(path, bundle_name(path))
    async with open_api() as api:
        yield AirflowDags(folder, api)


class AirflowDags:
    """Implements all of ``purista.sync.port`` for one DAG folder and its Airflow."""

    def __init__(self, folder: DagFolder, api: AirflowApi) -> None:
        self._folder = folder
        self._api = api
        self._records: dict[str, bool] | None = None

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return a DAG for each that is placed. A contract never pauses one: disabled, it has no timetable."""
        found = []
        for each in placed:
            owner = Owner(deployment, each.schedule.id, each.fingerprint)
            parts = parts_of(dag_file(each, request).text, each.fingerprint)
            found.append(
                Desired(each.name, owner, {**parts, NOTE: "", PAUSED: False, PROBLEM: None})
            )
        return found

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's DAGs, and those that have one of the names, whoever made them."""
        dags = {each["dag_id"]: each async for each in self._api.dags()}
        errors = {each["filename"]: each async for each in self._import_errors()}
        self._records = {name: dag["is_paused"] for name, dag in dags.items()}
        files = await asyncio.to_thread(lambda: list(self._folder.ours()))
        seen: dict[str, str] = {}
        for there in files:
            mark, path = there.mark, there.path.name
            if mark.owner.deployment != deployment and mark.name not in names:
                continue
            if mark.name in seen:
                raise SyncError(
                    f"'{mark.name}' is in two files, '{seen[mark.name]}' and '{path}'; remove one"
                )
            seen[mark.name] = path
            dag = dags.get(mark.name)
            yield _observed(there, dag, self._problem(there, dag, errors.get(path)))
        for name in sorted(set(names) - seen.keys()):
            found = await asyncio.to_thread(self._at, name, dags.get(name))
            if found is not None:
                yield found

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write a file where there is none. A record that Airflow still has of such a DAG is told whether it runs."""
        text = _text(desired, fields)
        async with self._folder.locked():
            path = self._folder.path / _file_name(desired.name)
            if path.exists():
                raise SyncError(f"'{desired.name}' was made meanwhile; plan again")
            await self._set_before(desired, fields[PAUSED])
            self._folder.create(path, _mark(desired, fields), text)

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write a file in place of the one that was observed, and let the DAG be paused or not.

        The file is read again before, under a lock that all who apply take; an editor takes none.
        """
        text = _text(desired, fields)
        async with self._folder.locked():
            there = self._as_observed(observed)
            if there is None:
                raise changed_meanwhile(observed.name)
            if fields[PAUSED] != observed.fields[PAUSED]:
                await self._pause(there, fields[PAUSED])
            self._folder.replace(there, _mark(desired, fields), text)

    async def delete(self, observed: Observed) -> None:
        """Pause a DAG and delete its file. Airflow keeps its record, and the history of its runs.

        One that Airflow reads from another place goes on from there.
        """
        async with self._folder.locked():
            there = self._as_observed(observed)
            if there is None:
                return
            dag = await self._api.dag(observed.name)
            if dag is not None and not self._elsewhere(dag, there.path.name):
                await self._api.set_paused(observed.name, True)
            self._folder.remove(there)

    async def pause(self, name: str, *, reason: str) -> None:
        """Pause a DAG, as a person does with the switch; the reason stands in its file."""
        await self._switched(name, paused=True, note=reason)

    async def resume(self, name: str, *, reason: str) -> None:
        """Let it run again; the reason of its pause is taken away, this one is kept nowhere."""
        await self._switched(name, paused=False, note="")

    async def trigger(self, name: str) -> None:
        """Make a run of a DAG; refused for a paused one, whose run would wait."""
        dag = await self._record(await self._named(name))
        if dag["is_stale"]:
            raise _unknown(name)
        if dag["is_paused"]:
            raise SyncError(f"'{name}' is paused, and a run would wait; resume it first")
        await self._api.run(name, f"purista__{uuid4()}")

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a DAG fires by itself; None where a person wrote another timetable."""
        return dag_times(fields, start, end)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the DAGs of others that have a timetable, by name."""
        files = await asyncio.to_thread(lambda: list(self._folder.ours()))
        ours, now = {each.mark.name for each in files}, datetime.now(UTC)
        async for each in self._api.dags():
            name = each["dag_id"]
            if name in ours or each["is_stale"] or each["timetable_summary"] is None:
                continue
            details = await self._api.dag(name, "/details")
            if details is not None:
                yield foreign_of(details, await self._api.source(name), now)

    def _at(self, name: str, dag: Mapping[str, Any] | None) -> Observed | None:
        """Return what has a name, or its file, and was not among our files.

        It is looked at again: who else applies may have written it after they were listed.
        """
        file = _file_name(name)
        path = self._folder.path / file
        there = self._folder.look(path)
        if there is not None and there.mark.name == name:
            return _observed(there, dag, None)
        if path.exists():
            return Observed(name, {"file": file})
        elsewhere = None if dag is None else self._elsewhere(dag, file)
        return Observed(name, {"file": elsewhere}) if elsewhere else None

    async def _import_errors(self) -> AsyncGenerator[Mapping[str, Any], None]:
        async for each in self._api.import_errors():
            if each["bundle_name"] == self._folder.bundle:
                yield each

    def _problem(
        self, there: DagFileThere, dag: Mapping[str, Any] | None, error: Mapping[str, Any] | None
    ) -> str | None:
        """Return what is wrong with a file in the eyes of Airflow, if it has read it since it was written."""
        if error is not None and _time(error["timestamp"]) >= there.written:
            lines = str(error["stack_trace"]).strip().splitlines() or ["no reason"]
            return f"Airflow cannot import it: {lines[-1][:200]}"
        if datetime.now(UTC) - there.written < PATIENCE:
            return None
        if dag is None or dag["is_stale"]:
            return (
                "Airflow has not read it; is this its DAG folder, and does its DAG processor run?"
            )
        elsewhere = self._elsewhere(dag, there.path.name)
        return f"Airflow reads it from '{elsewhere}'" if elsewhere else None

    def _elsewhere(self, dag: Mapping[str, Any], file: str) -> str:
        """Return where else than from a file of the folder Airflow reads a DAG; empty where it does not."""
        place, bundle = str(dag["relative_fileloc"]), dag["bundle_name"]
        if dag["is_stale"] or (place, bundle) == (file, self._folder.bundle):
            return ""
        return place if bundle == self._folder.bundle else f"{place} of bundle {bundle}"

    def _as_observed(self, observed: Observed) -> DagFileThere | None:
        """Return the file of a DAG, None if it is gone. Raises ``SyncError`` if it is another by now."""
        path = self._folder.path / observed.version.rpartition(":")[0]
        there = self._folder.look(path)
        if there is None and not path.exists():
            return None
        if there is None or there.version != observed.version:
            raise changed_meanwhile(observed.name)
        return there

    async def _switched(self, name: str, *, paused: bool, note: str) -> None:
        async with self._folder.locked():
            there = await self._named(name)
            await self._pause(there, paused)
            if there.mark.note != note:
                self._folder.replace(there, replace(there.mark, note=note), there.text)

    async def _named(self, name: str) -> DagFileThere:
        found = await asyncio.to_thread(self._folder.named, name)
        if found is None:
            raise SyncError(f"'{name}' is not in '{self._folder.path}'; apply it first")
        return found

    async def _record(self, there: DagFileThere) -> dict[str, Any]:
        """Return what Airflow knows of a file's DAG. Raises ``SyncError``, also where it is another's."""
        name = there.mark.name
        dag = await self._api.dag(name)
        if dag is None:
            raise _unknown(name)
        elsewhere = self._elsewhere(dag, there.path.name)
        if elsewhere:
            raise SyncError(
                f"'{name}' is left as it is: Airflow reads it from '{elsewhere}'; remove one of the two"
            )
        return dag

    async def _pause(self, there: DagFileThere, paused: bool) -> None:
        await self._record(there)
        if not await self._api.set_paused(there.mark.name, paused):
            raise _unknown(there.mark.name)

    async def _set_before(self, desired: Desired, paused: bool) -> None:
        """Pause the record of a DAG that has no file yet, or let it run; one without a record runs."""
        if self._records is not None and self._records.get(desired.name, False) == paused:
            return
        if not await self._api.set_paused(desired.name, paused) and paused:
            raise SyncError(
                f"'{desired.name}' cannot begin paused, for Airflow has no record of it; give --override "
                f"{desired.owner.schedule_id}:{PAUSED}, and pause it once Airflow has read it"
            )


def _observed(there: DagFileThere, dag: Mapping[str, Any] | None, problem: str | None) -> Observed:
    parts = parts_of(there.text, there.mark.owner.fingerprint)
    paused = "is_paused_upon_creation=True" in there.text if dag is None else dag["is_paused"]
    note = there.mark.note if paused else ""
    fields = {**parts, NOTE: note, PAUSED: paused, PROBLEM: problem}
    return Observed(there.mark.name, fields, there.mark.owner, there.mark.applied, there.version)


def _text(desired: Desired, fields: Mapping[str, Any]) -> str:
    try:
        return text_of(fields, desired.owner.fingerprint)
    except ValueError as error:
        raise SyncError(
            f"'{desired.name}': what a person changed in its file does not go with what the contract "
            f"changes: {error}; mend the file, or give --override {desired.owner.schedule_id}"
        ) from None


def _mark(desired: Desired, fields: Mapping[str, Any]) -> Mark:
    return Mark(desired.name, desired.owner, digests(desired.fields), fields[NOTE])


def _file_name(name: str) -> str:
    return f"{names_of([name], FILE_NAMES)[name]}.py"


def _unknown(name: str) -> SyncError:
    return SyncError(
        f"'{name}' is not known to Airflow, which reads new files each refresh_interval; try again later"
    )


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
