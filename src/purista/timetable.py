"""The timetable: of all that a schedule says, what decides its nominal times.

Its zone may be one that this process knows by no name, such as that of another time-zone database.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from purista import firetimes, nominaltimes
from purista.entry import read_schedule
from purista.exclusion import Exclusion
from purista.expression import Expression
from purista.zone import zone_of

if TYPE_CHECKING:
    from purista.contract import Schedule


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a schedule is due; its fields mean what they mean in ``Schedule``."""

    expression: Expression
    timezone: str | ZoneInfo = "UTC"
    dst_gap: str = firetimes.DST_GAPS[0]
    dst_overlap: str = firetimes.DST_OVERLAPS[0]
    start_at: datetime | None = None
    end_at: datetime | None = None
    exclude: tuple[Exclusion, ...] = ()

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the nominal times from ``start`` to ``end``, both inclusive, as UTC, lazily."""
        # It has all that the function looks at, and a zone is taken wherever the name of one is.
        return nominaltimes.between(cast("Schedule", self), start, end)

    @property
    def zone(self) -> ZoneInfo:
        """The zone on whose wall clock its times are told."""
        return zone_of(self.timezone)

    def in_zone(self, zone: ZoneInfo) -> Timetable:
        """Return the same on another clock."""
        return dataclasses.replace(self, timezone=zone)


def timetable_of(entry: Mapping[str, Any]) -> Timetable | None:
    """Return the timetable of a manifest's entry; None while it is not enabled: nothing is due."""
    options = read_schedule(entry).options
    if not options["enabled"]:
        return None
    return Timetable(**{name: options[name] for name in _FIELDS if name in options})


_FIELDS = tuple(each.name for each in dataclasses.fields(Timetable))
