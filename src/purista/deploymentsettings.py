"""The settings of one deployment: which scheduler holds which schedules, and what differs there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from pydantic import Field

from purista.contract import Schedule, near
from purista.errors import Problem, PuristaError, SettingsError
from purista.expression import Cron, Every, Expression
from purista.portability import utc_text
from purista.settings import FILE, read_settings
from purista.settingtable import Settings, Texts
from purista.turnover import Horizon


class DeploymentSettings(Settings):
    """A table ``[deployments.NAME]``.

    ``scheduler`` is where its schedules are, ``settings`` and ``ingress`` are taken before the tables of that
    scheduler and of the ingress. ``services`` and ``schedules`` are patterns of ids: only those go there, and
    where ``tags`` are named, only those that have one of them.
    ``disabled`` are patterns of schedule ids that do not fire there, ``slower`` gives such patterns a cron text
    or a length such as ``6h`` in place of their own: every time of it must be one of the contract's, as a
    deployment may only narrow a contract.
    """

    scheduler: str = Field(examples=["temporal"])
    services: Texts = Field(default=["*"], examples=[["Billing.v1"]])
    schedules: Texts = Field(default=["*"], examples=[["Billing.v1.*"]])
    tags: Texts = Field(default=[], examples=[["nightly"]])
    disabled: Texts = Field(default=[], examples=[["*.purgeDrafts"]])
    slower: dict[str, str] = Field(default={}, examples=[{"Billing.v1.poll": "0 * * * *"}])
    settings: dict[str, Any] = Field(default={})
    ingress: dict[str, Any] = Field(default={})

    def chosen(self, schedules: Iterable[Schedule], horizon: Horizon) -> list[Schedule]:
        """Return the schedules that go there, as they are there. Raises ``SettingsError``.

        A slower expression is compared with the contract for a year from the start of the horizon. A pattern
        that none of the schedules matches is an error: what it was to leave out would be there.
        """
        schedules = list(schedules)
        idle = list(self._idle(schedules))
        if idle:
            raise SettingsError(idle)
        return [
            self._narrowed(each, horizon)
            for each in schedules
            if _is_any(each.id.rpartition(".")[0], self.services)
            and _is_any(each.id, self.schedules)
            and (not self.tags or not set(self.tags).isdisjoint(each.tags))
        ]

    def _idle(self, schedules: Sequence[Schedule]) -> Iterator[Problem]:
        """Yield the patterns that match nothing."""
        ids = {each.id for each in schedules}
        services = {each.rpartition(".")[0] for each in ids}
        tags = {tag for each in schedules for tag in each.tags}
        for name, patterns, known in (
            ("services", self.services, services),
            ("schedules", self.schedules, ids),
            ("tags", self.tags, tags),
            ("disabled", self.disabled, ids),
            ("slower", self.slower, ids),
        ):
            for pattern in patterns:
                if pattern != "*" and not any(fnmatchcase(each, pattern) for each in known):
                    place = f"{FILE}: {name}"
                    yield Problem(place, f"'{pattern}' matches none", near(pattern, known))

    def is_slower(self, schedule_id: str) -> bool:
        """Whether a schedule has a slower expression there."""
        return _is_any(schedule_id, self.slower)

    def _narrowed(self, schedule: Schedule, horizon: Horizon) -> Schedule:
        if _is_any(schedule.id, self.disabled):
            return replace(schedule, enabled=False)
        for pattern, text in self.slower.items():
            if fnmatchcase(schedule.id, pattern):
                return _slower(schedule, pattern, text, horizon)
        return schedule

    def document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings file as it is for this deployment; what is no table there is left as it is."""
        own = {"ingress": self.ingress, self.scheduler: self.settings}
        found = {name: document.get(name, {}) for name in own}
        return {
            **document,
            **{
                name: {**table, **own[name]} if isinstance(table, Mapping) else table
                for name, table in found.items()
            },
        }


def deployment_settings(document: Mapping[str, Any], name: str) -> DeploymentSettings | None:
    """Return the table of a deployment, None where the file names none. Raises ``SettingsError``."""
    tables = document.get("deployments", {})
    if not isinstance(tables, Mapping):
        raise SettingsError(
            [Problem(f"{FILE}: deployments", "it is no table", "write [deployments.NAME]")]
        )
    if name not in tables:
        return None
    table = f"deployments.{name}"
    found = read_settings({table: tables[name]}, {table: DeploymentSettings})[table]
    assert isinstance(found, DeploymentSettings)
    return found


def deployment_remedy(document: Mapping[str, Any], name: str, schedulers: Iterable[str]) -> str:
    """Return what to write in place of a word that is neither a deployment nor a scheduler."""
    return near(name, {*document.get("deployments", {}), *schedulers})


def _slower(schedule: Schedule, pattern: str, text: str, horizon: Horizon) -> Schedule:
    """Return a schedule with another expression. Raises ``SettingsError`` where it would fire at other times."""
    place = f"{FILE}: slower.{pattern!r}"
    try:
        found = replace(schedule, expression=_expression(schedule, text))
    except PuristaError as error:
        raise SettingsError([Problem(place, str(error))]) from None
    for at in found.between(horizon.start, horizon.start + _YEAR):
        if not schedule.contains(at):
            raise SettingsError(
                [
                    Problem(
                        place,
                        f"'{text}' is due at {utc_text(at)}, and '{schedule.id}' is not",
                        "a deployment may only leave times out; change the contract",
                    )
                ]
            )
    return found


def _expression(schedule: Schedule, text: str) -> Expression:
    own = schedule.expression
    length = _LENGTH.fullmatch(text)
    if length is None:
        return Cron(text, own.day_rule if isinstance(own, Cron) else None)
    anchor = own.anchor if isinstance(own, Every) else None
    return Every(int(length[1]) * _UNITS[length[2]], anchor)


_YEAR: Final = timedelta(days=366)
_LENGTH: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def _is_any(text: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
