"""When a scheduled message is published, and the contract that it would have.

Its text is read as robfig/cron reads it, of which the server's own parser is a descendant; with seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from purista.clockchange import Timing
from purista.crontext import ALIASES
from purista.dialect import begins_within_an_hour, clock_windows, touches_midnight
from purista.errors import ContractError, Problem, PuristaError
from purista.expression import Cron, Every, Expression, Once
from purista.schedulers.nats import READING
from purista.sync.goduration import go_duration
from purista.sync.kubernetes_times import cron_of
from purista.sync.nats_stream import TARGET
from purista.sync.port import Foreign
from purista.turnover import Horizon

SCHEDULE: Final = "Nats-Schedule"
ZONE: Final = "Nats-Schedule-Time-Zone"
SOURCE: Final = "Nats-Schedule-Source"


def message_times(
    fields: Mapping[str, Any], start: datetime, end: datetime
) -> Iterable[datetime] | None:
    """Return when a message is published.

    None for words that are not read, for an interval, which counts from when it was published, and where
    the server errs in a zone.
    """
    try:
        expression = expression_of(fields.get(SCHEDULE) or "")
        timing = Timing(expression, fields.get(ZONE) or "UTC", _GAP, _OVERLAP)
    except PuristaError:
        return None
    if isinstance(expression, Every) or _is_misread(timing, Horizon(start, end)):
        return None
    return timing.between(start, end)


def foreign_of(name: str, fields: Mapping[str, Any], stream: str, horizon: Horizon) -> Foreign:
    """Return a message that is none of ours as a contract would say it.

    ``stream`` is the one that holds it, empty for the one that the settings name.
    """
    zone = fields.get(ZONE) or "UTC"
    doubts = list(_doubts(fields, stream))
    expression: Expression | None = None
    try:
        expression = expression_of(fields[SCHEDULE])
        if _is_misread(Timing(expression, zone, _GAP, _OVERLAP), horizon):
            doubts.append(f"the server errs where the clock changes in {zone}")
    except PuristaError as error:
        expression = None
        doubts.append(f"no contract can say '{fields[SCHEDULE]}': {error}")
    if isinstance(expression, Every):
        doubts.append("it counts from when it was published; a contract from the Unix epoch")
    return Foreign(
        name,
        expression,
        timezone=zone,
        dst_gap=_GAP,
        dst_overlap=_OVERLAP,
        doubts=tuple(doubts),
    )


def expression_of(text: str) -> Expression:
    """Return what a schedule header says. Raises ``ContractError`` for what no contract can say.

    >>> expression_of("0 0 9 1,* * 1").canonical
    '0 9 * * 1'
    """
    word, _, rest = text.partition(" ")
    if word == "@at":
        try:
            return Once(datetime.fromisoformat(rest))
        except ValueError:
            raise _unread(text) from None
    if word == "@every":
        try:
            return Every(go_duration(rest))
        except ValueError:
            raise _unread(text) from None
    if text in ALIASES:
        return Cron(ALIASES[text])
    second, *others = text.split() or [""]
    if len(others) != 5:
        raise _unread(text)
    plain, rule = cron_of(" ".join(others)).canonical, READING.day_rule
    return Cron(plain, rule) if second == "0" else Cron(f"{second} {plain}", rule, seconds=True)


_GAP: Final = READING.dst_gap or "skip"
_OVERLAP: Final = READING.overlap_in(timedelta(0)) or "first"


def _is_misread(timing: Timing, horizon: Horizon) -> bool:
    """Whether the server may miss times of a cron text where the zone's clock changes.

    It looks for a day from midnight to midnight, and for an hour from one to the next: ``0 0 0 1 * *`` in
    Cairo does not fire on 2027-05-01, and ``0 50 2 * * *`` in Chatham not twice on 2027-04-04.
    """
    windows = clock_windows(timing.timezone, horizon.start, horizon.end)
    is_cron = isinstance(timing.expression, Cron)
    return is_cron and (begins_within_an_hour(windows) or touches_midnight(windows))


def _doubts(fields: Mapping[str, Any], stream: str) -> Iterator[str]:
    yield f"it publishes to '{fields.get(TARGET) or ''}'"
    if stream:
        yield f"it is in stream '{stream}'"
    if fields.get(SOURCE):
        yield f"it publishes what '{fields[SOURCE]}' held last"


def _unread(text: str) -> ContractError:
    return ContractError([Problem(f"schedule '{text}'", "it is not understood")])
