"""When a CronJob fires, and what it says: its text is read as robfig/cron v3 reads it.

https://pkg.go.dev/github.com/robfig/cron/v3, parser.go and spec.go. A field that holds a star of step 1
lets the other day field decide; any two others mean either, even where one holds all days.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from purista.clockchange import Timing
from purista.cronfield import UNITS, Unit
from purista.crontext import ALIASES
from purista.errors import ContractError, ExpressionError, Problem, PuristaError
from purista.expression import Cron, Every, Expression
from purista.plan import PAUSED, PROBLEM
from purista.schedulers.kubernetes import READING, is_misread
from purista.sync.goduration import go_duration
from purista.sync.port import Foreign
from purista.turnover import Horizon

DESCRIPTION: Final = "kubernetes.io/description"
"""https://kubernetes.io/docs/reference/labels-annotations-taints/#description"""

_PREFIX: Final = re.compile(r"(?:CRON_)?TZ=(\S*) +(.*)", re.DOTALL)
_NUMBER: Final = re.compile(r"\+?[0-9]+")
_EVERY: Final = "@every "
_SECOND: Final = timedelta(seconds=1)


def cron_of(text: str) -> Cron:
    """Return what robfig/cron makes of five fields, or of a word such as ``@daily``.

    >>> cron_of("0 9 ? * 1-5").canonical
    '0 9 * * 1-5'
    >>> cron_of("0 9 */2 * 1").day_rule
    'or'

    Raises ``ExpressionError``.
    """
    fields = ALIASES[text].split() if text in ALIASES else text.split()
    if len(fields) != 5:
        raise _unread(text, f"expected 5 fields, got {len(fields)}")
    try:
        return Cron(" ".join(map(_field, fields, UNITS[1:])), READING.day_rule)
    except ContractError:
        raise
    except ValueError as error:
        raise _unread(text, str(error)) from None


def cronjob_times(
    fields: Mapping[str, Any], start: datetime, end: datetime
) -> Iterable[datetime] | None:
    """Return when a CronJob with these fields fires.

    One that is being deleted never does. None without a time zone, for an interval, which counts from its last slot, for a text that is none,
    and where the engine errs in a zone.
    """
    if fields[PAUSED] or fields[PROBLEM] is not None:
        return ()
    if fields["timezone"] is None:
        return None
    try:
        timing = _timing(cron_of(str(fields["schedule"])), fields["timezone"])
    except PuristaError:
        return None
    return None if is_misread(timing, Horizon(start, end)) else timing.between(start, end)


def foreign_of(document: Mapping[str, Any], horizon: Horizon) -> Foreign:
    """Return a CronJob that is none of ours as a contract would say it."""
    metadata, spec = document["metadata"], document["spec"]
    text, timezone = _split(spec["schedule"], spec.get("timeZone"))
    doubts = list(_doubts(document))
    expression: Expression | None = None
    try:
        expression = _expression(text, document)
        if isinstance(expression, Cron) and is_misread(
            _timing(expression, timezone or "UTC"), horizon
        ):
            doubts.append(f"its engine errs where the clock changes in {timezone}")
    except PuristaError as error:
        expression = None
        doubts.append(f"no contract can say '{spec['schedule']}': {error}")
    if isinstance(expression, Every):
        doubts.append("its interval counts from when it fired last, or was made")
    elif timezone is None:
        doubts.append("it has no time zone: that of kube-controller-manager, taken to be UTC")
    return Foreign(
        metadata["name"],
        expression,
        timezone=timezone or "UTC",
        enabled=not spec.get("suspend", False),
        description=(metadata.get("annotations") or {}).get(DESCRIPTION, ""),
        dst_gap=READING.dst_gap or "skip",
        dst_overlap=READING.dst_overlap or "both",
        doubts=tuple(doubts),
    )


def _doubts(document: Mapping[str, Any]) -> Iterator[str]:
    spec = document["spec"]
    containers = spec["jobTemplate"]["spec"]["template"]["spec"].get("containers", ())
    images = ", ".join(f"'{each.get('image', '')}'" for each in containers)
    yield f"it runs {images}; say what the contract triggers in its place"
    if "deletionTimestamp" in document["metadata"]:
        yield "it is being deleted, and does not fire any more"
    for owner in document["metadata"].get("ownerReferences", ()):
        yield f"{owner['kind']} '{owner['name']}' made it, and may make it again"
    policy = spec.get("concurrencyPolicy", "Allow")
    if policy != "Allow":
        yield f"its concurrencyPolicy is {policy}: concurrency_policy='{policy.lower()}'"
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is None:
        yield "it starts the latest missed slot, however late: missed_run_policy='runOnce'"
    else:
        yield f"it starts a slot up to {deadline} s late: misfire_grace"


def _split(text: str, timezone: str | None) -> tuple[str, str | None]:
    """Return a text without the zone before it, and the zone."""
    match = _PREFIX.fullmatch(text)
    return (match[2].strip(), match[1] or "UTC") if match else (text, timezone)


def _expression(text: str, document: Mapping[str, Any]) -> Expression:
    if not text.startswith(_EVERY):
        return cron_of(text)
    try:
        length = go_duration(text.removeprefix(_EVERY))
    except ValueError as error:
        raise _unread(text, str(error)) from None
    interval = max(length // _SECOND * _SECOND, _SECOND)
    since = (document.get("status") or {}).get("lastScheduleTime")
    return Every(
        interval, datetime.fromisoformat(since or document["metadata"]["creationTimestamp"])
    )


def _timing(cron: Cron, timezone: str) -> Timing:
    return Timing(cron, timezone, READING.dst_gap or "skip", READING.dst_overlap or "both")


def _field(text: str, unit: Unit) -> str:
    """Return a field as a list of numbers, or as a star where that lets the other day field decide."""
    values: set[int] = set()
    has_star = False
    for part in filter(None, text.split(",")):
        numbers, is_star = _range(part, unit)
        values |= set(numbers)
        has_star = has_star or is_star
    if not values:
        raise ValueError(f"'{text}' holds nothing")
    return "*" if has_star else ",".join(map(str, sorted(values)))


def _range(text: str, unit: Unit) -> tuple[range, bool]:
    lowest, highest = unit.all_values[0], unit.all_values[-1]
    bounds, *steps = text.split("/")
    low, *high = bounds.split("-")
    if len(steps) > 1 or len(high) > 1:
        raise ValueError(f"'{text}' is no range")
    step = _number(steps[0], {}) if steps else 1
    if low in ("*", "?"):
        first, last = lowest, highest
    else:
        first = _number(low, unit.names)
        last = _number(high[0], unit.names) if high else highest if steps else first
    if first < lowest or last > highest or first > last or step == 0:
        raise ValueError(f"'{text}' is not within {lowest} to {highest}")
    return range(first, last + 1, step), low in ("*", "?") and step == 1


def _number(text: str, names: Mapping[str, int]) -> int:
    known = names.get(text.lower()) if len(text) == 3 else None
    if known is not None:
        return known
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"'{text}' is no number")
    return int(text)


def _unread(text: str, why: str) -> ContractError:
    return ExpressionError([Problem(f"schedule '{text}'", why)])
