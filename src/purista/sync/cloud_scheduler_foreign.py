"""Jobs of Google Cloud Scheduler that are none of ours, as contracts would say them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from purista.errors import ContractError
from purista.expression import Cron, Every, Expression
from purista.firetimes import zone_problems
from purista.sync.cloud_scheduler_job import SCHEDULE, fields_of
from purista.sync.cloud_scheduler_text import meets_change, read_schedule
from purista.sync.port import Foreign


def foreign_job(document: Mapping[str, Any], now: datetime) -> Foreign:
    """Return what a contract can say of a job; clock changes are looked at from ``now``."""
    fields = fields_of(document)
    zone = "UTC" if fields["timezone"] == "Etc/UTC" else fields["timezone"]
    expression = None if zone_problems(zone) else _expression(fields[SCHEDULE])
    return Foreign(
        document["name"].rpartition("/")[2],
        expression,
        timezone=zone,
        enabled=document.get("state", "ENABLED") not in ("PAUSED", "DISABLED"),
        description=fields["description"],
        doubts=(_aim(fields["target"]), *_doubts(fields[SCHEDULE], expression, zone, now)),
    )


_AHEAD: Final = timedelta(days=731)


def _expression(text: str) -> Expression | None:
    try:
        return read_schedule(text)
    except ContractError:
        return None


def _doubts(text: str, expression: Expression | None, zone: str, now: datetime) -> Iterator[str]:
    if zone_problems(zone):
        yield f"its time zone '{zone}' is not known"
    elif expression is None:
        yield f"Google's page leaves open what '{text}' means, or no contract can say it"
    if isinstance(expression, Every):
        yield "it counts from the end of the run before, a contract from the Unix epoch"
    if isinstance(expression, Cron) and meets_change(expression, zone, now, now + _AHEAD):
        yield "Google's page leaves open what it does at clock changes"


def _aim(target: Mapping[str, Any]) -> str:
    """Return what a job does, without what may be secret in an address."""
    if "pubsubTarget" in target:
        return f"it publishes to '{target['pubsubTarget'].get('topicName', '')}'"
    called = target.get("httpTarget", target.get("appEngineHttpTarget", {}))
    place = urlsplit(called.get("uri", called.get("relativeUri", "")))
    host = f"{place.scheme}://{place.netloc.rpartition('@')[2]}" if place.netloc else "App Engine "
    return f"it calls {called.get('httpMethod', 'POST')} {host}{place.path}"
