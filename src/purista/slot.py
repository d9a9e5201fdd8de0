"""A grid of slots: how a slot is told when all that is known is a moment soon after it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self

from purista.expression import EPOCH


class SlotGrid(NamedTuple):
    """Points ``phase`` + k x ``period`` seconds after the Unix epoch; ``period`` divides a day.

    >>> from datetime import UTC
    >>> SlotGrid(3600, 1800).slot(datetime(2027, 3, 28, 1, 29, tzinfo=UTC)).isoformat()
    '2027-03-28T00:30:00+00:00'
    """

    period: int
    phase: int

    def slot(self, instant: datetime) -> datetime:
        """Return the latest point of the grid that is not after ``instant``."""
        seconds = (instant - EPOCH) // _SECOND - self.phase
        return EPOCH + _SECOND * (seconds // self.period * self.period + self.phase)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read ``period+phase``, as the extension ``puristaslots`` has it. Raises ``ValueError``.

        >>> SlotGrid.from_text("3600+1800")
        SlotGrid(period=3600, phase=1800)
        """
        period, plus, phase = text.partition("+")
        is_plain = period.isascii() and period.isdigit() and phase.isascii() and phase.isdigit()
        if not plus or not is_plain or len(text) > 20:
            raise ValueError("it is not period+phase in seconds, such as 3600+1800")
        grid = cls(int(period), int(phase))
        if not 0 <= grid.phase < grid.period <= 86_400:
            raise ValueError("its period is 1 to 86400 seconds, its phase below that")
        return grid


_SECOND: Final = timedelta(seconds=1)
