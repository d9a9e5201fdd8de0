"""A plan for people and for programs: text, Markdown, JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from purista.cli.output import json_text, out, say
from purista.plan import PROBLEM, Action, Change, FieldChange, Plan
from purista.portability import utc_text
from purista.sync import Result
from purista.sync.foretelling import Foretold

_SIGNS: Final = {Action.CREATE: "+", Action.UPDATE: "~", Action.DELETE: "-"}
_CHANGE_WORDS: Final = ("fires, no more", "fires, new")
_KEPT_WORDS: Final = (
    "does not fire, though it is due",
    "fires, though it is not due, and the ingress does not take it",
)
_PLAIN_KEY: Final = re.compile(r"[\w-]+")
_STYLES: Final = {Action.CREATE: "green", Action.UPDATE: "yellow", Action.DELETE: "red"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan, and fire times by name.

    Of a change those that it takes away and brings; of what is kept those of the contract that are left out,
    and those that a person added.
    """

    plan: Plan
    fires: Mapping[str, Foretold]


def print_plan(shown: Shown) -> None:
    """Print a plan for a person; the summary goes to stderr."""
    found = shown.plan
    for each in found.changes:
        out.print(f"{_SIGNS[each.action]} {each.action} {each.name}", style=_STYLES[each.action])
        for line in _inside(each, shown, _CHANGE_WORDS):
            out.print(f"    {line}")
    for each in found.kept:
        for kept in each.kept:
            way_back = f"; --override {each.schedule_id}:{kept.name} takes it back"
            sign, end = ("!", "") if kept.name == PROBLEM else ("=", way_back)
            for line in _kept(kept):
                out.print(f"{sign} {each.name}: {line}{end}")
        for line in _fires(each, shown, _KEPT_WORDS):
            out.print(f"    {line}")
    for problem in found.conflicts:
        out.print(f"! {problem}", style="red")
    say(_summary(found))


def markdown_of(shown: Shown) -> str:
    """Return a plan as Markdown, for a review."""
    found = shown.plan
    lines = [f"### {found.scheduler}, deployment `{found.deployment}`", "", _summary(found), ""]
    if found.changes or found.kept:
        lines += ["| | schedule | what changes |", "|---|---|---|"]
    for each in (*found.changes, *found.kept):
        sign = "=" if each in found.kept else _SIGNS[each.action]
        words = _KEPT_WORDS if each in found.kept else _CHANGE_WORDS
        inside = "<br>".join(f"`{_cell(line)}`" for line in _inside(each, shown, words))
        lines.append(f"| {sign} | `{each.schedule_id}` | {inside} |")
    lines += [f"- **{each}**" for each in found.conflicts]
    return "\n".join(lines) + "\n"


def json_of(shown: Shown) -> dict[str, Any]:
    """Return a plan as JSON data."""
    found = shown.plan
    return {
        "scheduler": found.scheduler,
        "deployment": found.deployment,
        "state": found.state,
        "changes": [_change_json(each) | _fires_json(each, shown) for each in found.changes],
        "kept": [_change_json(each) | _fires_json(each, shown) for each in found.kept],
        "unchanged": found.unchanged,
        "leftAlone": found.left_alone,
        "conflicts": [str(each) for each in found.conflicts],
    }


def is_same_plan(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two plans as JSON do the same to the same state; fire times go by, and do not count."""
    return _deeds(before) == _deeds(now)


def result_json(result: Result) -> dict[str, Any]:
    """Return what became of a change as JSON data."""
    return {
        "action": str(result.change.action),
        "name": result.change.name,
        "scheduleId": result.change.schedule_id,
        "error": result.error or None,
    }


def _deeds(plan: Mapping[str, Any]) -> tuple[Any, ...]:
    changes = [
        {name: value for name, value in each.items() if name != "fires"}
        for each in plan.get("changes", ())
    ]
    return plan.get("scheduler"), plan.get("deployment"), plan.get("state"), changes


def _inside(change: Change, shown: Shown, words: tuple[str, str]) -> Iterator[str]:
    """Yield what changes inside of an object, and when it fires."""
    for each in change.fields:
        yield from _changed(each)
    for each in change.kept:
        yield from _kept(each)
    yield from _fires(change, shown, words)


def _fires(change: Change, shown: Shown, words: tuple[str, str]) -> Iterator[str]:
    found = shown.fires.get(change.name)
    if found is None:
        return
    for word, times in zip(words, (found.disappear, found.appear), strict=True):
        if times:
            yield f"{word}: {', '.join(map(utc_text, times))}"


def _changed(change: FieldChange) -> Iterator[str]:
    if change.before == change.after:
        text = json_text(change.after)
        yield f"{change.name}: {text} as a person set it, from now on by contract"
        return
    note = "  (changed by hand meanwhile)" if change.by_hand else ""
    for place, before, after in _differences(change.name, change.before, change.after):
        yield f"{place}: {_text(before)} -> {_text(after)}{note}"


def _kept(change: FieldChange) -> Iterator[str]:
    if change.name == PROBLEM:
        yield f"the scheduler says: {change.before}"
        return
    for place, before, _ in _differences(change.name, change.before, change.after):
        yield f"{place}: {_text(before)} is kept: changed by hand"


def _differences(place: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs inside of two JSON values, each with its place; ``...`` is what is not there.

    >>> list(_differences("spec", {"hour": [{"start": 2}], "a b": 1}, {"hour": [{"start": 3}]}))
    [('spec["a b"]', 1, Ellipsis), ('spec.hour[0].start', 2, 3)]
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            inside = f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{json_text(key)}]"
            pair = before.get(key, ...), after.get(key, ...)
            yield from _differences(f"{place}{inside}", *pair)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{place}[{index}]", *pair)
    elif before != after:
        yield place, before, after


def _text(value: Any) -> str:
    return "(none)" if value is ... else json_text(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def _summary(found: Plan) -> str:
    counts = ", ".join(f"{found.count(action)} to {action}" for action in reversed(Action))
    return (
        f"{counts}; {found.unchanged} as they should be, {len(found.kept)} changed by hand, "
        f"{found.left_alone} left alone"
    )


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "action": str(change.action),
        "name": change.name,
        "scheduleId": change.schedule_id,
        "fingerprint": None if change.desired is None else change.desired.owner.fingerprint,
        "fields": [_field_json(each) for each in _fields(change)],
        "kept": [_field_json(each) for each in change.kept],
    }


def _fields(change: Change) -> Iterable[FieldChange]:
    """Return what changes, for a program: of a new object everything."""
    if change.action is Action.CREATE and change.desired is not None:
        return [FieldChange(name, None, value) for name, value in change.desired.fields.items()]
    return change.fields


def _fires_json(change: Change, shown: Shown) -> dict[str, Any]:
    fires = shown.fires.get(change.name)
    if fires is None:
        return {"fires": None}
    return {
        "fires": {
            "disappear": [utc_text(each) for each in fires.disappear],
            "appear": [utc_text(each) for each in fires.appear],
            "more": fires.more,
        }
    }


def _field_json(change: FieldChange) -> dict[str, Any]:
    return {
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "byHand": change.by_hand,
    }
