"""The audit: a schedule's nominal times compared with what the ledger knows of them."""

from purista.audit.auditing import audit
from purista.audit.evidence import MANUAL, is_manual
from purista.audit.finding import ARRIVALS, Finding, Kind, ScheduleAudit

__all__ = ["ARRIVALS", "MANUAL", "Finding", "Kind", "ScheduleAudit", "audit", "is_manual"]
