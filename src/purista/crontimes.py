"""When a cron expression is due in a zone: the wall clock's matches, and what clock changes do.

A *fixed-time* expression names times of day; ``dst_gap`` and ``dst_overlap`` say what becomes of
those that a clock change leaves out or repeats. Every other follows the wall clock through the
change: what does not exist is not due, what comes twice is due twice. The distinction is that of
Debian's cron(8); ``docs/time.md`` explains the words.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import sub
from typing import NamedTuple

from purista.batches import Batch, Batches, cut
from purista.expression import EARLIEST, LATEST, Cron
from purista.wallclock import first_match, last_match
from purista.zone import Offsets, Span


class CronTimes(NamedTuple):
    """A cron expression in a zone, with its clock-change rules. Instants are UTC, whole seconds."""

    cron: Cron
    offsets: Offsets
    dst_gap: str
    dst_overlap: str

    def first_from(self, instant: datetime) -> datetime | None:
        """Return the first nominal time at or after ``instant``, None when none comes."""
        at = max(instant, EARLIEST)
        while at <= LATEST:
            span = self.offsets.span(at)
            match = first_match(self.cron, max(at, self._begin(span)) + span.offset)
            found = match and match - span.offset
            if found and found >= self._end(span):
                found = None
            moved = self._moved_from(span, at)
            if moved and (not found or moved < found):
                found = moved
            if found:
                return found if found <= LATEST else None
            if self._repeats_at_end(span):
                at = span.end
            elif match:
                at = max(span.end, match - _MARGIN)
            else:
                return None
        return None

    def last_to(self, instant: datetime) -> datetime | None:
        """Return the last nominal time at or before ``instant``, None when there is none."""
        at = min(instant, LATEST)
        while at >= EARLIEST:
            span = self.offsets.span(at)
            match = last_match(self.cron, min(at, self._end(span) - _SECOND) + span.offset)
            found = match and match - span.offset
            if found and found < self._begin(span):
                found = None
            moved = self._moved_to(span, at)
            if moved and (not found or moved > found):
                found = moved
            if found:
                return found if found >= EARLIEST else None
            if self._repeats_at_start(span):
                at = span.start - _SECOND
            elif match:
                at = min(span.start - _SECOND, match + _MARGIN)
            else:
                return None
        return None

    def batches(self, first: datetime, last: datetime) -> Iterator[Batch]:
        """Yield the nominal times from ``first`` to ``last``, both inclusive, in batches, lazily."""
        matches = Batches(self.cron, last - first)
        if self.offsets.are_fixed or matches.pace == "dense":
            return self._dense(matches, first, last)
        if matches.pace == "rare" or self.dst_gap != "skip" or self.dst_overlap == "both":
            return self._rare(matches, first, last)
        return self._single(first, last)

    def _single(self, first: datetime, last: datetime) -> Iterator[Batch]:
        """Look at each match by itself, where none moves and none counts twice."""
        match = first_match(self.cron, first - _DAY)
        while match is not None and match <= last + _DAY:
            instant = self._instant(match)
            if instant and first <= instant <= last:
                yield instant, _NO_DISTANCE
            match = first_match(self.cron, match + _SECOND)

    def _rare(self, matches: Batches, first: datetime, last: datetime) -> Iterator[Batch]:
        """Look at the matches of a year together, and anew at those near a change."""
        at, end = first, last + _SECOND
        is_simple = self.dst_gap == "skip" and self.dst_overlap != "both"
        for base, distances in matches.between(first - _DAY, last + _DAY):
            offsets = self.offsets.calm_offsets(base, distances)
            if offsets:
                yield from cut((base, tuple(map(sub, distances, offsets))), at, end)
                at = max(at, base + distances[-1] - offsets[-1] + _SECOND)
                continue
            for match in map(base.__add__, distances):
                if is_simple:
                    instant = self._instant(match)
                    if instant and at <= instant <= last:
                        yield instant, _NO_DISTANCE
                        at = instant + _SECOND
                else:
                    stop = match + _MARGIN
                    yield from self._dense(matches, max(at, match - _MARGIN), min(stop, last))
                    at = max(at, stop + _SECOND)

    def _instant(self, match: datetime) -> datetime | None:
        """Return the one instant of a match, where none moves and none counts twice."""
        early, late = self.offsets.passes(match)
        if early < late:
            return None
        return match - (early if self.dst_overlap == "first" else late)

    def _singles(self, first: datetime, last: datetime) -> Iterator[Batch]:
        at = self.first_from(first)
        while at is not None and at <= last:
            yield at, _NO_DISTANCE
            at = self.first_from(at + _SECOND)

    def _dense(self, matches: Batches, first: datetime, last: datetime) -> Iterator[Batch]:
        at = first
        while at <= last:
            span = self.offsets.span(at)
            if self.dst_gap != "skip" and span.change_in > _ZERO:
                yield from self._singles(at, min(span.start + span.change_in - _SECOND, last))
                at = max(at, span.start + span.change_in)
            at = max(at, self._begin(span))
            end = min(self._end(span), last + _SECOND)
            barren = True
            for base, distances in matches.between(at + span.offset, end + span.offset):
                yield base - span.offset, distances
                barren = False
            at = span.end
            if barren:
                match = first_match(self.cron, at - _DAY)
                if match is None:
                    return
                at = max(at, match - _DAY)

    def _begin(self, span: Span) -> datetime:
        """Return from where on the span's matches count: a second pass does not under ``first``."""
        if span.change_in < _ZERO and self.dst_overlap == "first":
            return span.start - span.change_in
        return span.start

    def _end(self, span: Span) -> datetime:
        """Return before what the span's matches count: a first pass does not under ``last``."""
        if span.change_out < _ZERO and self.dst_overlap == "last":
            return span.end + span.change_out
        return span.end

    def _moved_from(self, span: Span, at: datetime) -> datetime | None:
        """Return the first time at or after ``at`` that the gap before the span moved into it."""
        if self.dst_gap == "skip" or at >= span.start + span.change_in:
            return None
        gap_end = span.start + span.offset
        gap_start = gap_end - span.change_in
        if self.dst_gap == "shift":
            before = span.offset - span.change_in
            match = first_match(self.cron, max(gap_start, at + before))
            return match - before if match and match < gap_end else None
        match = first_match(self.cron, gap_start)
        return span.start if match and match < gap_end and at <= span.start else None

    def _moved_to(self, span: Span, at: datetime) -> datetime | None:
        """Return the last time at or before ``at`` that the gap before the span moved into it."""
        if self.dst_gap == "skip" or span.change_in <= _ZERO:
            return None
        gap_end = span.start + span.offset
        gap_start = gap_end - span.change_in
        if self.dst_gap == "shift":
            before = span.offset - span.change_in
            match = last_match(self.cron, min(gap_end - _SECOND, at + before))
            return match - before if match and match >= gap_start else None
        match = first_match(self.cron, gap_start)
        return span.start if match and match < gap_end else None

    def _repeats_at_end(self, span: Span) -> bool:
        """Whether the overlap after the span repeats a match of it."""
        if span.change_out >= _ZERO:
            return False
        end = span.end + span.offset
        match = first_match(self.cron, end + span.change_out)
        return match is not None and match < end

    def _repeats_at_start(self, span: Span) -> bool:
        """Whether the overlap before the span has repeated a match."""
        if span.change_in >= _ZERO:
            return False
        start = span.start + span.offset
        match = last_match(self.cron, start - span.change_in - _SECOND)
        return match is not None and match >= start


_ZERO = timedelta(0)
_NO_DISTANCE = (_ZERO,)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
"""No wall clock differs from UTC by as much."""

_MARGIN = timedelta(days=2)
"""No clock change further from a match than this can repeat or move it."""
