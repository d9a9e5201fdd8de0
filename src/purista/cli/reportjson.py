"""A portability report as JSON."""

from __future__ import annotations

from typing import Any

from purista.caption import expression_text
from purista.portability import Finding, Note, utc_text
from purista.report import Cell, Report, Row


def report_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON data; instants are RFC 3339 in UTC."""
    return {
        "horizon": {"start": utc_text(report.horizon.start), "end": utc_text(report.horizon.end)},
        "limits": {
            name: [finding_json(each) for each in found] for name, found in report.limits.items()
        },
        "schedulers": dict(report.titles),
        "schedules": [_row(row) for row in report.rows],
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON data."""
    return {
        "code": finding.code,
        "example": finding.example,
        "leavesOut": finding.leaves_out,
        "message": finding.message,
        "option": finding.option,
        "remedy": finding.remedy,
        "schedule": finding.schedule_id,
        "source": finding.source,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "expression": expression_text(row.schedule.expression),
        "id": row.schedule.id,
        "on": {cell.scheduler: _cell(cell) for cell in row.cells},
        "timezone": row.schedule.timezone,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "accepted": [finding_json(each) for each in cell.accepted],
        "copied": cell.copied.text if cell.copied else None,
        "findings": [finding_json(each) for each in cell.findings],
        "lines": list(cell.lines),
        "notes": [_note(each) for each in cell.notes],
        "options": {option: str(each.support) for option, each in cell.options.items()},
        "support": str(cell.support),
    }


def _note(note: Note) -> dict[str, Any]:
    return {
        "code": note.code,
        "droppedPerYear": note.dropped_per_year,
        "message": note.message,
        "until": utc_text(note.until) if note.until else None,
    }
