"""The judge: what became of a schedule's nominal times, by the evidence. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from purista.audit.evidence import Evidence, Slice
from purista.audit.finding import Finding, Kind
from purista.contract import MissedRunPolicy, Schedule
from purista.ingress.timing import is_missed, time_verdict
from purista.ledgers import Record, Run, RunStatus, Verdict


class Judge:
    """Judges slices of one schedule, oldest first, as of ``now``.

    The ledger need not know what is older than ``remembered``. At most ``most`` findings are kept,
    all are counted.
    """

    def __init__(
        self, schedule: Schedule, *, now: datetime, remembered: datetime, most: int
    ) -> None:
        self.schedule = schedule
        self.expected = self.on_time = self.pending = self.lost = 0
        self.counts: Counter[Kind] = Counter()
        self.findings: list[Finding] = []
        self._now = now
        self._remembered = remembered
        self._most = most
        self._open: list[datetime] = []
        self._missed: list[datetime] = []

    @property
    def is_open(self) -> bool:
        """Whether what comes later can still stand for nominal times without a trigger (``runOnce``)."""
        return bool(self._open)

    def take(self, given: Slice) -> None:
        """Judge a slice of the window."""
        self.expected += len(given.times)
        for nominal in given.times:
            self._arrival(nominal, given.evidence.get(nominal))
        expected = frozenset(given.times)
        for nominal in sorted(given.evidence):
            self._besides(nominal, given.evidence[nominal], is_expected=nominal in expected)

    def look_ahead(self, given: Slice) -> bool:
        """Let a slice behind the window stand for what is open; return whether that is settled."""
        for nominal in given.times:
            evidence = given.evidence.get(nominal)
            if evidence is not None and evidence.came_at is not None:
                self._settle(nominal, evidence, evidence.came_at)
        return not self._open

    def close(self) -> None:
        """Nothing follows: what is open was missed. Puts the findings in the order of time."""
        self._close(stands=False)
        self.findings.sort(key=lambda one: (one.nominal_time, one.kind))

    def still_taken(self) -> datetime | None:
        """Return the oldest missed nominal time that the ingress would still run, if any."""
        oldest = None
        for nominal in reversed(self._missed):
            verdict, _ = time_verdict(self.schedule, nominal, self._now)
            if verdict is not Verdict.ACCEPTED:
                break
            oldest = nominal
        return oldest

    def _arrival(self, nominal: datetime, evidence: Evidence | None) -> None:
        came_at = None if evidence is None else evidence.came_at
        if evidence is None or came_at is None:
            self._nothing_came(nominal)
            return
        self._settle(nominal, evidence, came_at)
        finding = self._judged(nominal, evidence, came_at)
        if finding is None:
            self.on_time += 1
        else:
            self._add(finding)

    def _nothing_came(self, nominal: datetime) -> None:
        if not is_missed(self.schedule, nominal, self._now):
            self.pending += 1
        elif self.schedule.missed_run_policy == MissedRunPolicy.RUN_ONCE:
            self._open.append(nominal)
        else:
            self._miss(nominal)

    def _judged(self, nominal: datetime, evidence: Evidence, came_at: datetime) -> Finding | None:
        """Return what there is to say about a nominal time that was decided; None: it ran on time."""
        skipped, by_hand, again = evidence.skipped, evidence.by_hand, evidence.duplicate
        if evidence.is_given_up:
            reason = "its dispatch failed; when it was sent again another run was active"
            return _about(Kind.OVERLAP, nominal, evidence.accepted, reason)
        if evidence.accepted is not None:
            return self._punctuality(nominal, came_at, evidence.accepted)
        if by_hand is not None and (skipped is not None or again is None):
            first = "no trigger came" if skipped is None else f"not run: {skipped.reason}"
            reason = f"{first}; run by a person at {_text(by_hand.decided_at)}"
            return _about(Kind.RECOVERED, nominal, by_hand, reason)
        if skipped is not None:
            return _skipped(nominal, skipped)
        if again is not None and by_hand is None and not evidence.runs:
            return _about(Kind.SAME_KEY, nominal, again, f"its key is that of run {again.run_id}")
        if again is not None or evidence.runs:
            return self._punctuality(nominal, came_at, again)
        refused = evidence.rejected
        reason = "" if refused is None else refused.reason
        return _about(Kind.REJECTED, nominal, refused, reason, is_lost=True)

    def _punctuality(
        self, nominal: datetime, came_at: datetime, record: Record | None
    ) -> Finding | None:
        if not is_missed(self.schedule, nominal, came_at):
            return None
        lateness = came_at - nominal
        return _about(Kind.LATE, nominal, record, f"run {lateness} late", lateness=lateness)

    def _besides(self, nominal: datetime, evidence: Evidence, *, is_expected: bool) -> None:
        """Add what comes on top of a nominal time's arrival."""
        again, times = evidence.again, evidence.unexpected_count
        if is_expected and again:
            reason = "it came once more" if again == 1 else f"it came {again} times more"
            self._add(_about(Kind.DUPLICATE, nominal, evidence.duplicate, reason, count=again))
        if evidence.unexpected is not None:
            reason = evidence.unexpected.reason
            self._add(_about(Kind.UNEXPECTED, nominal, evidence.unexpected, reason, count=times))
        if not is_expected:
            for record in (evidence.rejected, evidence.skipped):
                if record is not None and record.verdict in _REFUSED:
                    self._add(_about(Kind(record.verdict), nominal, record, record.reason))
        for run in evidence.runs:
            fate = _fate(run, self._now)
            if fate is not None:
                self._add(fate)

    def _settle(self, nominal: datetime, evidence: Evidence, came_at: datetime) -> None:
        """Decide about what is open, now that something came for the later ``nominal``.

        A run that comes past its grace stands for all that was missed before it; one that comes in
        time shows that the latest missed one should have run by itself.
        """
        if not self._open:
            return
        skip = None if evidence.skipped is None else evidence.skipped.verdict
        if not is_missed(self.schedule, nominal, came_at):
            self._close(stands=False)
        elif evidence.has_run or skip is Verdict.OVERLAP:
            self._close(stands=True)
        elif skip is not None and skip is not Verdict.COALESCED:
            self._close(stands=False)

    def _close(self, *, stands: bool) -> None:
        missed, self._open = self._open, []
        for nominal in missed:
            if stands:
                reason = "no trigger came; a later run stands for it"
                self._add(Finding(kind=Kind.COALESCED, nominal_time=nominal, reason=reason))
            else:
                self._miss(nominal)

    def _miss(self, nominal: datetime) -> None:
        if nominal < self._remembered:
            reason = "the ledger may have forgotten it"
            self._add(Finding(kind=Kind.FORGOTTEN, nominal_time=nominal, reason=reason))
            return
        self._missed.append(nominal)
        self._add(_about(Kind.MISSED, nominal, None, "no trigger came", is_lost=True))

    def _add(self, finding: Finding) -> None:
        self.counts[finding.kind] += finding.count
        self.lost += int(finding.is_lost)
        if len(self.findings) < self._most:
            self.findings.append(finding)


_REFUSED = (Verdict.REJECTED, Verdict.DISABLED)


def _skipped(nominal: datetime, record: Record) -> Finding:
    lateness = record.decided_at - nominal if record.verdict is Verdict.LATE else None
    reason = f"not run: {record.reason}"
    return _about(Kind(record.verdict), nominal, record, reason, lateness=lateness)


def _fate(run: Run, now: datetime) -> Finding | None:
    """Return what became of a run, unless it ended well, gave way, or is at work."""
    is_open = run.status in (RunStatus.CLAIMED, RunStatus.ACTIVE)
    is_over = run.status is RunStatus.EXPIRED or (is_open and run.expires_at <= now)
    is_left = run.lease_until is not None and run.lease_until <= now
    if (is_open or is_over) and is_left:
        reason = "its process ended before it was done, and its trigger was not sent again"
        return _about_run(Kind.FAILED, run, reason, is_lost=True)
    if is_over:
        return _about_run(Kind.EXPIRED, run, "its run time-out has passed")
    if run.status is RunStatus.FAILED and run.ended_at is None:
        reason = "its dispatch failed, and its trigger was not sent again"
        return _about_run(Kind.FAILED, run, reason, is_lost=True)
    if run.status is RunStatus.ENDED and run.outcome.startswith(("failed", "dead")):
        return _about_run(Kind.FAILED, run, f"run without success: {run.outcome}")
    return None


def _about_run(kind: Kind, run: Run, reason: str, *, is_lost: bool = False) -> Finding:
    at = run.nominal_time
    return Finding(kind=kind, nominal_time=at, reason=reason, is_lost=is_lost, run_id=run.run_id)


def _about(
    kind: Kind,
    nominal: datetime,
    record: Record | None,
    reason: str,
    *,
    count: int = 1,
    is_lost: bool = False,
    lateness: timedelta | None = None,
) -> Finding:
    return Finding(
        kind=kind,
        nominal_time=nominal,
        reason=reason,
        is_lost=is_lost,
        count=count,
        lateness=lateness,
        source=None if record is None else record.source,
        run_id=None if record is None else record.run_id,
    )


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
