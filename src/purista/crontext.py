"""The whole text of a cron expression: its fields, the words that stand for it, its mistakes.

Says what is written and what is wrong with it; what it means is ``expression``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from purista import cronfield
from purista.cronfield import DayOfMonth, DayOfWeek, Field, Mistake
from purista.errors import ExpressionError, Problem

DayRule: TypeAlias = Literal["or", "and"]

DAY_RULES: Final = ("or", "and")
"""The words of ``day_rule``."""

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Short words for cron texts, in any case."""

MAX_TEXT_LENGTH: Final = 2000
"""Longer than any cron text that says each value once."""


class Fields(NamedTuple):
    """The six fields of a cron text; without seconds it is the second 0 that matches."""

    second: Field
    minute: Field
    hour: Field
    day_of_month: DayOfMonth
    month: Field
    day_of_week: DayOfWeek


def read_fields(text: str, day_rule: DayRule | None, seconds: bool) -> Fields:
    """Return what a cron text says; raises ``ExpressionError`` with every mistake in it."""
    tokens = _tokens(text, day_rule, seconds)
    second, second_mistakes = cronfield.parse_field(cronfield.SECOND, tokens[0])
    minute, minute_mistakes = cronfield.parse_field(cronfield.MINUTE, tokens[1])
    hour, hour_mistakes = cronfield.parse_field(cronfield.HOUR, tokens[2])
    day_of_month, day_of_month_mistakes = cronfield.parse_day_of_month(tokens[3])
    month, month_mistakes = cronfield.parse_field(cronfield.MONTH, tokens[4])
    day_of_week, day_of_week_mistakes = cronfield.parse_day_of_week(tokens[5])
    rule_problems = []
    if day_rule is None and day_of_month and day_of_week and needs_rule(day_of_month, day_of_week):
        rule_problems.append(_rule_problem(text, day_of_month, day_of_week))
    elif second and minute and hour and day_of_month and month and day_of_week:
        return Fields(second, minute, hour, day_of_month, month, day_of_week)
    mistakes = (
        second_mistakes,
        minute_mistakes,
        hour_mistakes,
        day_of_month_mistakes,
        month_mistakes,
        day_of_week_mistakes,
    )
    field_problems = _field_problems(text, mistakes if seconds else mistakes[1:])
    raise ExpressionError([*field_problems, *rule_problems])


def needs_rule(month: DayOfMonth, week: DayOfWeek) -> bool:
    """Whether one is a star step or a full range beside a partner: there schedulers disagree."""
    if month.unrestricted or week.unrestricted:
        return False
    return month.starred or week.starred or month.is_all or week.is_all


def time_texts(minute: Field, hour: Field) -> list[str]:
    """Render minute and hour plainly, with a star where there is one and with none where not.

    That one of the two begins with a star is a part of what they mean.
    """
    fields = (minute, hour)
    if not (minute.starred or hour.starred):
        return [cronfield.list_text(field.unit, field.values) for field in fields]
    texts = [cronfield.star_text(field.unit, field.values) for field in fields]
    if not any(text.startswith("*") for text in texts):
        at = 0 if minute.values[0] == 0 else 1
        texts[at] = cronfield.starred_text(fields[at].unit, fields[at].values)
    return texts


def shown_value(value: object) -> str:
    """Show what someone wrote, briefly; what cannot be shown is told by its type."""
    try:
        text = str(value) if isinstance(value, timedelta | datetime) else repr(value)
    except Exception:
        return f"({type(value).__name__})"
    return text if len(text) <= 80 else f"{text[:77]}..."


_FIVE: Final = "minute, hour, day of month, month, day of week"


def _tokens(text: str, day_rule: DayRule | None, seconds: bool) -> list[str]:
    """Return the texts of the six fields."""
    if type(text) is str and len(text) <= MAX_TEXT_LENGTH and text.isprintable():  # nearly always
        tokens = text.split()
        known = day_rule is None or day_rule in DAY_RULES
        if len(tokens) == 5 and seconds is False and known and text.isascii():
            return ["0", *tokens]
    problems = [
        *_argument_problems(day_rule, seconds),
        *(_text_problems(text) or _count_problems(text, seconds=seconds is True)),
    ]
    if problems:
        raise ExpressionError(problem.within(f"cron {shown_value(text)}") for problem in problems)
    tokens = text.split()
    if len(tokens) == 1:
        tokens = ALIASES[tokens[0].lower()].split()
    return tokens if len(tokens) == 6 else ["0", *tokens]


def _argument_problems(day_rule: object, seconds: object) -> list[Problem]:
    problems = []
    if day_rule is not None and day_rule not in DAY_RULES:
        problems.append(
            Problem("day_rule", f"unknown word {shown_value(day_rule)}", "use 'or' or 'and'")
        )
    if not isinstance(seconds, bool):
        problems.append(Problem("seconds", f"{shown_value(seconds)} is neither True nor False"))
    return problems


def _text_problems(text: object) -> list[Problem]:
    if not isinstance(text, str):
        return [Problem("", f"{type(text).__name__} is no text", "write Cron('0 2 * * *')")]
    if len(text) > MAX_TEXT_LENGTH:
        return [Problem("", f"{len(text)} characters are too many", f"use {MAX_TEXT_LENGTH}")]
    if not (text.isascii() and text.isprintable()):
        for position, character in enumerate(text, 1):
            if not " " <= character <= "~" and character not in "\t\r\n":
                found = f"character {position} is {character!a}"
                return [Problem("", found, "use ASCII letters, digits, signs and spaces")]
    return []


def _count_problems(text: str, *, seconds: bool) -> list[Problem]:
    tokens = text.split()
    count = len(tokens)
    expected = 6 if seconds else 5
    if count == expected:
        return []
    if tokens and ("=" in tokens[0] or tokens[0].startswith("@")):
        return _word_problems(tokens)
    expected_text = f"expected {expected} fields, got {count}"
    if count == 6:
        remedy = "say seconds=True if the first is for seconds; for a year use start_at and end_at"
    elif count == 7:
        remedy = "there is no year field: use start_at and end_at; seconds=True allows six fields"
    elif seconds:
        remedy = f"write second, {_FIVE}"
    else:
        remedy = f"write {_FIVE}"
    return [Problem("", expected_text, remedy)]


def _word_problems(tokens: list[str]) -> list[Problem]:
    word = tokens[0].lower()
    if word in ALIASES and len(tokens) == 1:
        return []
    shown = shown_value(tokens[0])
    if word in ALIASES:
        return [Problem("", f"{shown} stands alone, got {len(tokens)} words")]
    if word == "@every":
        return [Problem("", f"{shown} is an interval", "use Every(timedelta(minutes=5))")]
    if word == "@reboot":
        return [Problem("", f"{shown} is no time", "run it when the service starts")]
    if "=" in word:
        return [Problem("", f"{shown} sets a variable", "say timezone='Europe/Berlin' instead")]
    return [Problem("", f"unknown word {shown}", f"use one of: {', '.join(ALIASES)}")]


def _field_problems(text: str, mistakes: Iterable[tuple[Mistake, ...]]) -> Iterator[Problem]:
    place = f"cron {shown_value(text)}"
    units = cronfield.UNITS[-len(text.split()) :]
    position = 0
    for unit, token, found in zip(units, text.split(), mistakes, strict=True):
        position = text.index(token, position)
        for mistake in found:
            message = f"{mistake.message} (character {position + mistake.offset + 1})"
            yield Problem(f"{place}: {unit.name}", message, mistake.remedy)
        position += len(token)


def _rule_problem(text: str, month: DayOfMonth, week: DayOfWeek) -> Problem:
    odd = "day of month" if month.starred or month.is_all else "day of week"
    partner = "day of week" if odd == "day of month" else "day of month"
    return Problem(
        f"cron {shown_value(text)}: {odd}",
        f"a star step or a full range beside a restricted {partner} means 'and' to some schedulers"
        " and 'or' to others",
        "say day_rule='and' (both must match) or day_rule='or' (either), or write '*'",
    )
