"""Log lines of a long-lived process, on stderr: for people, or as JSON for programs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from purista.contract import near
from purista.errors import LoadError

LEVELS = ("debug", "info", "warning", "error")


def log(level: str, *, as_json: bool) -> None:
    """Log what this package says at ``level``, all else from warnings on. Raises ``LoadError``."""
    if level not in LEVELS:
        raise LoadError(f"--log-level '{level}': there is no such level; {near(level, LEVELS)}")
    logging.getLogger("purista").setLevel(level.upper())
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLine())


class JsonLine(logging.Formatter):
    """Writes each record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: ``time``, ``level``, ``logger``, ``message`` and, of an error, ``exception``."""
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
