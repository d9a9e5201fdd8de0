"""A plan for people and for programs: text, Markdown, JSON."""

from __future__ import annotations

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
            out.print(f"{sign} {each.name}: {_kept(kept)}{end}")
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
        yield _line(each)
    for each in change.kept:
        yield _kept(each)
    yield from _fires(change, shown, words)


def _fires(change: Change, shown: Shown, words: tuple[str, str]) -> Iterator[str]:
    found = shown.fires.get(change.name)
    if found is None:
        return
    for word, times in zip(words, (found.disappear, found.appear), strict=True):
        if times:
            yield f"{word}: {', '.join(map(utc_text, times))}"


def _line(change: FieldChange) -> str:
    if change.before == change.after:
        return (
            f"{change.name}: {json_text(change.after)} as a person set it, from now on by contract"
        )
    note = "  (changed by hand meanwhile)" if change.by_hand else ""
    return f"{change.name}: {json_text(change.before)} -> {json_text(change.after)}{note}"


def _kept(change: FieldChange) -> str:
    if change.name == PROBLEM:
        return f"the scheduler says: {change.before}"
    return f"{change.name}: {json_text(change.before)} is kept: changed by hand"


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
