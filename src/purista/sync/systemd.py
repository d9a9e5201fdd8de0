"""systemd: a timer and its service in the folder of a manager's units, over ``systemctl``.

Whose they are stands in the first comment of both files, what was applied last in the service's. The
manager is the host's; with ``PURISTA_SYSTEMD=user`` it is that of the user who runs this. A file is
written as a whole or not at all; systemd knows no transaction, so that all is looked at again right
before it is changed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from purista.compiling import Placed, Request
from purista.errors import LoadError
from purista.plan import PAUSED, Desired, Observed, Owner, digests
from purista.schedulers.systemd import SystemdSettings, unit_name, unit_texts
from purista.sync.firing import merged_times
from purista.sync.port import Foreign, SyncError, changed_meanwhile
from purista.sync.systemd_folder import Units, UnitsFolder, is_own
from purista.sync.systemd_manager import Manager, State
from purista.sync.systemd_times import OTHER_WAYS, foreign_of, listed, timings_of
from purista.sync.systemd_unit import KINDS, Marker, text_in_force, unit_fields, unit_text

MANAGER: Final = "PURISTA_SYSTEMD"
"""The environment variable that says whose units these are: ``system``, the default, or ``user``."""

IN_FORCE: Final = "in force"
"""The field that says whether systemd has read the files, and all of a change was made."""

DROP_INS: Final = "drop-ins"
"""The field with the files beside the units that change them, as those of ``systemctl edit``."""

STOPPED: Final = "until the host starts again"
"""What ``PAUSED`` says of a timer that is enabled and stopped."""

DISABLED: Final = "once the host starts again"
"""What ``PAUSED`` says of a timer that is disabled and still elapses."""

LONGEST_REASON: Final = 500

_SETTINGS: Final = tuple(f"{kind}." for kind in KINDS)
_VENDORS: Final = re.compile(r"(?:/usr)?/lib/systemd/(?:system|user)/service\.d/")
"""What a distribution gives to all services of a host."""

_TEMPLATE: Final = "it is a template: each unit of it that runs is a schedule of its own"
_BEHIND: Final = (
    "systemd has not read the files as they are; systemctl daemon-reload, and import again"
)
_PRIVILEGED: Final = ("User", "DynamicUser", "CapabilityBoundingSet", "RestrictNamespaces")
_SANDBOX: Final = ("Private", "Protect")
"""Settings of a service that the manager of a user cannot make true."""


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[SystemdUnits]:
    """Take the host's manager, or the user's: ``PURISTA_SYSTEMD``."""
    assert isinstance(request.settings, SystemdSettings)
    whose = os.environ.get(MANAGER, "system")
    if whose not in ("system", "user"):
        raise LoadError(f"{MANAGER} is '{whose}'; say system or user")
    manager, folder = Manager(whose), UnitsFolder(_folder(whose))
    await manager.refuse_missing()
    yield SystemdUnits(manager, folder)


def _folder(whose: str) -> Path:
    """Return where the units are kept that an administrator, or the user, makes (systemd.unit(5))."""
    if whose == "system":
        return Path("/etc/systemd/system")
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "systemd" / "user"


class SystemdUnits:
    """Implements the port with all of its parts for one manager."""

    def __init__(self, manager: Manager, folder: UnitsFolder) -> None:
        self._manager = manager
        self._folder = folder

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return an object for each that is placed: a timer and its service."""
        return [self._desired(each, request, deployment) for each in placed]

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's units, and those that have one of the names."""
        found = [
            each
            for each in await asyncio.to_thread(self._folder.all)
            if each.name in names or _is_of(each, deployment)
        ]
        states = await self._manager.states(_files(found))
        for each in await asyncio.to_thread(self._changed, found, states):
            yield _observed(each, states)

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write both files where there are none, and let the timer run."""
        texts = _texts(desired, fields, is_settled=bool(fields[PAUSED]))
        await asyncio.to_thread(self._folder.create, desired.name, texts)
        await self._settle(desired, fields, None)

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Write both files in place of those that were observed; they are looked at again right before."""
        there = await self._looked(observed)
        if there is None:
            raise changed_meanwhile(observed.name)
        units, state = there
        unwanted = observed.fields[DROP_INS].keys() - (fields.get(DROP_INS) or {}).keys()
        if observed.applied is not None:
            _refuse_shared(desired, unwanted)
        is_settled = _paused(state) == fields[PAUSED]
        texts = _texts(desired, fields, is_settled=is_settled, reason=_reason(units, fields))
        if units.is_masked:
            texts = _unmasked(desired, fields, texts)
        await asyncio.to_thread(self._folder.replace, units, texts, [*filter(is_own, unwanted)])
        await self._settle(desired, fields, state)

    async def delete(self, observed: Observed) -> None:
        """Stop the timer, and remove its files and those of ``systemctl edit``."""
        there = await self._looked(observed)
        if there is not None:
            await self._manager.disable(f"{observed.name}.timer")
            await asyncio.to_thread(self._folder.remove, there[0])
        await self._manager.reload()

    async def pause(self, name: str, *, reason: str) -> None:
        """Disable and stop the timer, with the reason in a comment of the service's file."""
        plain = " ".join(reason.split())[:LONGEST_REASON]
        await asyncio.to_thread(
            self._folder.mark, name, lambda marker: replace(marker, reason=plain)
        )
        await self._manager.disable(f"{name}.timer")
        await self._manager.reload()

    async def resume(self, name: str, *, reason: str) -> None:
        """Enable and start the timer."""
        await self._manager.enable(f"{name}.timer")
        await self._manager.reload()
        await self._manager.restart(f"{name}.timer")
        await asyncio.to_thread(self._folder.mark, name, lambda marker: replace(marker, reason=""))

    async def trigger(self, name: str) -> None:
        """Start the service, without waiting for it to end."""
        await self._manager.start(f"{name}.service")

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a timer elapses, by its lines of ``OnCalendar=``; None if anything else counts."""
        if fields.get(PAUSED) is True:
            return ()
        others = any(fields.get(f"timer.{name}") is not None for name in OTHER_WAYS)
        if fields.get(PAUSED) or fields.get(DROP_INS) or others:
            return None
        timings = timings_of(listed(fields.get("timer.OnCalendar")))
        if timings is None:
            return None
        return merged_times(each.between(start, end) for each in timings)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the timers of the folder without our marker, each line of a timer by itself."""
        found = await asyncio.to_thread(self._folder.foreign)
        files = [f"{name}.{kind}" for name in found if not _is_template(name) for kind in KINDS]
        states = await self._manager.states(files)
        for name, texts in (await asyncio.to_thread(self._merged, found, states)).items():
            if _is_template(name):
                yield Foreign(name, None, enabled=False, doubts=(_TEMPLATE,))
                continue
            state = _state(states, name, "timer")
            for each in foreign_of(name, texts, is_enabled=state.is_active or state.is_enabled):
                yield replace(each, doubts=(*each.doubts, *([_BEHIND] * state.is_behind)))

    def _changed(self, found: Iterable[Units], states: Mapping[str, State]) -> list[Units]:
        """Return units with all that changes them: also what is not beside them, but systemd has read."""
        return [self._folder.with_drop_ins(each, _drop_ins(each, states)) for each in found]

    def _merged(
        self, found: Mapping[str, Mapping[str, str]], states: Mapping[str, State]
    ) -> dict[str, dict[str, str]]:
        """Return the texts of units, each with what those say that change it."""
        merged: dict[str, dict[str, str]] = {}
        for name, texts in sorted(found.items()):
            merged[name] = {
                kind: text_in_force([text, *self._more(_state(states, name, kind))])
                for kind, text in texts.items()
            }
        return merged

    def _more(self, state: State) -> Iterable[str]:
        return self._folder.texts(map(Path, state.drop_ins)).values()

    def _desired(self, placed: Placed, request: Request, deployment: str) -> Desired:
        settings, schedule = placed.settings, placed.schedule
        assert isinstance(settings, SystemdSettings)
        fields: dict[str, Any] = {}
        for kind, text in zip(("timer", "service"), unit_texts(placed, request), strict=True):
            fields |= unit_fields(kind, text)
        fields |= {"timer.Install.WantedBy": "timers.target", PAUSED: not schedule.enabled}
        if self._manager.is_users:
            if settings.user is not None:
                raise SyncError(
                    f"schedule '{schedule.id}': [systemd] user is '{settings.user}', and a user's own "
                    "manager runs all as that user; leave it out"
                )
            fields = {name: value for name, value in fields.items() if _is_for_users(name)}
        fields |= {DROP_INS: {}, IN_FORCE: True}
        return Desired(
            unit_name(placed), Owner(deployment, schedule.id, placed.fingerprint), fields
        )

    async def _looked(self, observed: Observed) -> tuple[Units, State] | None:
        """Return what was observed, None where it is gone. Raises ``SyncError`` if it differs."""
        units = await asyncio.to_thread(self._folder.named, observed.name)
        if units is None:
            return None
        states = await self._manager.states(_files([units]))
        (changed,) = await asyncio.to_thread(self._changed, [units], states)
        now = _observed(changed, states)
        if (now.owner, now.version) != (observed.owner, observed.version):
            raise changed_meanwhile(observed.name)
        return units, _state(states, units.name, "timer")

    async def _settle(
        self, desired: Desired, fields: Mapping[str, Any], before: State | None
    ) -> None:
        """Let systemd read the files, and the timer run or not; only then all of it was applied.

        ``before`` is None where there were no files: the timer may still run, and be enabled.
        """
        timer, paused = f"{desired.name}.timer", fields[PAUSED]
        if paused is True and (before is None or before.is_enabled or before.is_active):
            await self._manager.disable(timer)
        if not paused and not (before and before.is_enabled):
            await self._manager.enable(timer)
        await self._manager.reload()
        if not paused:
            await self._manager.restart(timer)
        elif paused is not True:
            await self._manager.restart_running(timer)
        applied = _applied(desired)

        def settled(marker: Marker) -> Marker:
            if marker.owner != desired.owner:
                raise changed_meanwhile(desired.name)
            return replace(marker, applied=applied)

        await asyncio.to_thread(self._folder.mark, desired.name, settled)


def _texts(
    desired: Desired, fields: Mapping[str, Any], *, is_settled: bool, reason: str = ""
) -> dict[str, str]:
    """Return the texts of both files. Until a timer runs or not as it is to, that is not yet applied."""
    applied = _applied(desired)
    if not is_settled:
        del applied[PAUSED]
    return {
        "timer": unit_text("timer", fields, Marker(desired.owner)),
        "service": unit_text("service", fields, Marker(desired.owner, applied, reason)),
    }


def _unmasked(
    desired: Desired, fields: Mapping[str, Any], texts: Mapping[str, str]
) -> dict[str, str]:
    """Return what is written where a person masked the timer: all of it, or nothing over the mask."""
    if fields[PAUSED]:
        return {"service": texts["service"]}
    return {**texts, "timer": unit_text("timer", desired.fields, Marker(desired.owner))}


def _applied(desired: Desired) -> dict[str, str]:
    return {name: each for name, each in digests(desired.fields).items() if name != IN_FORCE}


def _reason(units: Units, fields: Mapping[str, Any]) -> str:
    return units.marker.reason if fields[PAUSED] and units.marker is not None else ""


def _observed(units: Units, states: Mapping[str, State]) -> Observed:
    timer, service = (_state(states, units.name, kind) for kind in KINDS)
    fields: dict[str, Any] = {}
    for kind, text in units.texts.items():
        fields |= unit_fields(kind, text)
    paused, marker = _paused(timer), units.marker
    applied = _known(units, fields)
    is_read = not service.is_behind and (units.is_masked or not timer.is_behind)
    fields |= {
        PAUSED: paused,
        DROP_INS: dict(units.drop_ins),
        IN_FORCE: is_read and applied is not None and PAUSED in applied,
    }
    if applied is not None and paused in (STOPPED, DISABLED):
        applied = _mending(applied)
    said = repr((sorted(units.texts.items()), sorted(units.drop_ins.items()), paused))
    version = sha256(said.encode(errors="surrogateescape")).hexdigest()[:16]
    return Observed(
        units.name,
        fields,
        marker.owner if marker else None,
        applied,
        version,
        is_unfinished=not fields[IN_FORCE],
    )


def _paused(timer: State) -> bool | str:
    """Return whether a timer elapses neither now nor after the next start of the host, or which of both."""
    if timer.is_active:
        return False if timer.is_enabled else DISABLED
    return STOPPED if timer.is_enabled else True


def _mending(applied: Mapping[str, str]) -> dict[str, str]:
    """Return what was applied, without a pause by contract: a person has lifted it by half only."""
    is_paused = applied.get(PAUSED) == digests({PAUSED: True})[PAUSED]
    return {name: each for name, each in applied.items() if name != PAUSED or not is_paused}


def _refuse_shared(desired: Desired, drop_ins: Iterable[str]) -> None:
    """Raise ``SyncError`` for files that are to go and that other units may need."""
    shared = sorted(each for each in drop_ins if not is_own(each))
    if shared:
        raise SyncError(
            f"'{desired.name}': purista removes only drop-ins that its units alone have, and not "
            f"{', '.join(shared)}; remove that by hand, do systemctl daemon-reload, and plan again"
        )


def _known(units: Units, fields: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what was applied last. A setting that was not is one that a person wrote.

    Nothing is known where a file is gone: all of it is written anew.
    """
    is_whole = units.is_masked or len(units.texts) == len(KINDS)
    if units.marker is None or units.marker.applied is None or not is_whole:
        return None
    nothing = digests({name: None for name in fields if name.startswith(_SETTINGS)})
    return nothing | dict(units.marker.applied)


def _is_of(units: Units, deployment: str) -> bool:
    return units.marker is not None and units.marker.owner.deployment == deployment


def _is_template(name: str) -> bool:
    return name.endswith("@")


def _drop_ins(units: Units, states: Mapping[str, State]) -> Iterator[Path]:
    for kind in KINDS:
        for path in _state(states, units.name, kind).drop_ins:
            if not _VENDORS.match(path):
                yield Path(path)


def _state(states: Mapping[str, State], name: str, kind: str) -> State:
    return states.get(f"{name}.{kind}", State())


def _files(units: Iterable[Units]) -> list[str]:
    return [f"{each.name}.{kind}" for each in units for kind in KINDS]


def _is_for_users(field: str) -> bool:
    kind, _, name = field.partition(".")
    if kind != "service":
        return True
    return name not in (*_PRIVILEGED, "Unit.Wants", "Unit.After") and not name.startswith(_SANDBOX)
