"""cron: a block of ours in a user's crontab, over the program ``crontab``.

Whose an entry is, and what was applied last, stands in a comment above its lines. All is read and
written at once, so that a change is there as a whole or not at all; changes of ours come one after the
other. cron knows no transaction: a person who saves an editor that was open meanwhile wins.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from purista.clockchange import Timing
from purista.compiling import Placed, Request
from purista.plan import PAUSED, Desired, Observed, Owner
from purista.schedulers.cron import (
    LONGEST_COMMAND,
    CronSettings,
    cron_text,
    one_line,
    script_settings,
)
from purista.sync.cron_block import (
    ABOVE,
    COMMENTS,
    DESCRIPTION,
    SCHEDULE,
    SETTINGS,
    Crontab,
    Entry,
    UnreadableError,
    entry_of,
    paused,
    read_crontab,
    resumed,
)
from purista.sync.cron_command import FINGERPRINT, PROGRAM, told_in
from purista.sync.cron_foreign import foreign_jobs
from purista.sync.cron_line import other_jobs, read_time
from purista.sync.cron_program import CrontabProgram
from purista.sync.firing import merged_times
from purista.sync.port import Foreign, SyncError, changed_meanwhile

MOST_LINES: Final = 10_000
"""Lines of a user's crontab; Debian's ``crontab`` refuses one with more, cronie's daemon ignores it."""


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[CronSchedules]:
    """Take the crontab of the user that the settings name; as root, of any user."""
    assert isinstance(request.settings, CronSettings)
    yield CronSchedules(CrontabProgram(request.settings.user), request.settings)


class CronSchedules:
    """Implements ``LiveScheduler``, ``Pauses``, ``FireTimes`` and ``Imports`` for one crontab."""

    def __init__(self, program: CrontabProgram, settings: CronSettings) -> None:
        self._program = program
        self._settings = settings

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return an entry for each that is placed."""
        return [self._desired(each, request, deployment) for each in placed]

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the entries of the deployment, and those that have one of the names."""
        crontab = await asyncio.to_thread(self._read)
        for each in crontab.entries:
            if each.owner.deployment == deployment or each.name in names:
                yield Observed(each.name, each.fields, each.owner, each.known, each.version)

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write an entry where there is none of its name."""
        entry = entry_of(desired, fields)
        _refuse_long(entry)

        def change(crontab: Crontab) -> Crontab:
            there = crontab.named(desired.name)
            if there is not None and there.text != entry.text:
                raise SyncError(
                    f"'{desired.name}' is there meanwhile, of deployment '{there.owner.deployment}'; "
                    "plan again"
                )
            return crontab.put(entry)

        await asyncio.to_thread(self._change, change)

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write an entry in place of the one that was observed, which is looked at again right before."""

        def change(crontab: Crontab) -> Crontab:
            there = _unchanged(crontab, observed)
            if there is None:
                raise changed_meanwhile(observed.name)
            entry = _updated(there, desired, fields)
            _refuse_long(entry)
            return crontab.put(entry)

        await asyncio.to_thread(self._change, change)

    async def delete(self, observed: Observed) -> None:
        """Take an entry out; it is looked at again right before."""

        def change(crontab: Crontab) -> Crontab:
            if _unchanged(crontab, observed) is None:
                return crontab
            return crontab.without(observed.name)

        await asyncio.to_thread(self._change, change)

    async def pause(self, name: str, *, reason: str) -> None:
        """Make comments of an entry's lines, with the reason above them."""
        await asyncio.to_thread(self._change, lambda all_: _with(all_, name, paused, reason))

    async def resume(self, name: str, *, reason: str) -> None:
        """Make lines of an entry's comments."""
        await asyncio.to_thread(self._change, lambda all_: _with(all_, name, _resumed, reason))

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when cron starts an entry's lines, on a host whose clock is as the settings say."""
        if fields.get(PAUSED):
            return ()
        if fields.get(ABOVE) or fields.get(SETTINGS):
            return None
        texts = [each for each in fields.get(SCHEDULE) or () if not each.startswith("#")]
        crons = [cron for cron in map(read_time, texts) if cron is not None]
        if len(crons) < len(texts):
            return None
        timings = [Timing(cron, self._settings.host_timezone, "next", "first") for cron in crons]
        return merged_times(each.between(start, end) for each in timings)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the lines outside of our blocks that start something; comments are none."""
        crontab = await asyncio.to_thread(self._read)
        for each in foreign_jobs(other_jobs(crontab.others), self._settings):
            yield each

    def _desired(self, placed: Placed, request: Request, deployment: str) -> Desired:
        settings, schedule = placed.settings, placed.schedule
        assert isinstance(settings, CronSettings)
        if settings.user != self._settings.user:
            raise SyncError(
                f"schedule '{schedule.id}': its user is '{settings.user}', the plan's "
                f"'{self._settings.user}'; give it a deployment of its own"
            )
        fields: dict[str, Any] = {
            DESCRIPTION: one_line(schedule.description).strip(),
            SCHEDULE: [cron_text(line) for line in placed.cover.lines],
            PAUSED: not schedule.enabled,
            COMMENTS: [],
            SETTINGS: [],
            ABOVE: [],
            **script_settings(placed, request),
            "PURISTA_SOURCE": "cron",
            "PURISTA_URL": request.ingress.triggers_url,
            PROGRAM: settings.program,
        }
        if settings.bearer_file:
            fields["PURISTA_BEARER_FILE"] = settings.bearer_file
        del fields[FINGERPRINT]
        owner = Owner(deployment, schedule.id, placed.fingerprint)
        desired = Desired(placed.name, owner, fields)
        _refuse_long(entry_of(desired, fields))
        return desired

    def _read(self) -> Crontab:
        where = f"the crontab of user '{self._settings.user}'"
        try:
            crontab = read_crontab(self._program.read())
        except UnreadableError as error:
            raise SyncError(f"{where}: {error}; nothing is changed") from None
        if crontab.escaped and not self._program.prints_bytes():
            raise SyncError(
                f"{where}: line {crontab.escaped} shows \\r or \\b, which Debian's crontab prints for a "
                "carriage return and a backspace as well, so that it cannot be written back as it is; take "
                "carriage returns out (crontab -l | sed 's/\\\\r$//' | crontab -), or put such a command "
                "into a script; nothing is changed"
            )
        return crontab

    def _change(self, change: Callable[[Crontab], Crontab]) -> None:
        """Read, change and write, while no other purista does."""
        with self._program.alone():
            before = self._read()
            after = change(before)
            if after.text == before.text and not any(each.above for each in before.entries):
                return
            lines = after.text.count("\n")
            if lines > MOST_LINES:
                raise SyncError(
                    f"the crontab of user '{self._settings.user}' would have {lines:,} lines; cron takes "
                    f"{MOST_LINES:,}; give some schedules another user, in a deployment of its own"
                )
            self._program.write(after.text)


def _updated(there: Entry, desired: Desired, fields: Mapping[str, Any]) -> Entry:
    """Return an entry in place of another."""
    told = _with_told(there.fields, desired, fields)
    try:
        if _is_told_apart(there.fields, desired, told):
            return entry_of(desired, told, reason=there.reason)
    except ValueError:
        pass
    schedule_id = desired.owner.schedule_id
    raise SyncError(
        f"'{desired.name}': a person gave its lines commands of their own, and the contract changed what "
        f"these are to say; --override {schedule_id}:{PROGRAM} takes that back, and --override "
        f"{schedule_id}:{SCHEDULE} the lines that were added"
    )


def _with_told(
    before: Mapping[str, Any], desired: Desired, fields: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return fields in which a program of ours that was told nothing is told all that it needs."""
    if fields[PROGRAM] != desired.fields[PROGRAM] or told_in(before):
        return fields
    return {**fields, **told_in(desired.fields)}


def _is_told_apart(before: Mapping[str, Any], desired: Desired, fields: Mapping[str, Any]) -> bool:
    """Whether it is known which line each command is for, and that it takes what it is told."""
    program = fields[PROGRAM]
    if isinstance(program, list) and fields[SCHEDULE] != before[SCHEDULE]:
        return False
    return program == desired.fields[PROGRAM] or bool(told_in(before)) or not told_in(fields)


def _refuse_long(entry: Entry) -> None:
    longest = max((len(each.command) for each in entry.jobs), default=0)
    if longest > LONGEST_COMMAND:
        raise SyncError(
            f"schedule '{entry.owner.schedule_id}': its command takes {longest} characters; cron takes "
            f"{LONGEST_COMMAND}; give the ingress a shorter address, or the schedule a shorter name"
        )


def _unchanged(crontab: Crontab, observed: Observed) -> Entry | None:
    """Return the entry that was observed, None where it is gone. Raises ``SyncError`` if it differs."""
    there = crontab.named(observed.name)
    if there is not None and (there.owner, there.version) != (observed.owner, observed.version):
        raise changed_meanwhile(observed.name)
    return there


def _with(
    crontab: Crontab, name: str, change: Callable[[Entry, str], Entry], reason: str
) -> Crontab:
    entry = crontab.named(name)
    if entry is None:
        raise SyncError(f"'{name}' is not in the crontab; apply it first")
    return crontab.put(change(entry, reason))


def _resumed(entry: Entry, _reason: str) -> Entry:
    return resumed(entry)
