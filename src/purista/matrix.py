"""The capability tables of schedulers as Markdown: one matrix of words, and a table for each scheduler."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from purista.compiling import Scheduler
from purista.portability import OPTIONS, Support, code_of


def matrix_markdown(schedulers: Sequence[Scheduler]) -> str:
    """Return the matrix: a row for each option, a column for each scheduler.

    It says who honours the option at best; ``scheduler_markdown`` says how, and from where that is
    known.
    """
    titles = [each.title for each in schedulers]
    rows = [
        [f"`{option}`", *(_SIGNS[each.capabilities[option].support] for each in schedulers)]
        for option in OPTIONS
    ]
    return _table(["option", *titles], rows)


def scheduler_markdown(scheduler: Scheduler) -> str:
    """Return a scheduler's table: each option, who honours it, how, and who says so."""
    rows = [
        [f"`{option}`", str(cell.support), _plain(cell.how), _source(cell.source)]
        for option, cell in scheduler.capabilities.items()
    ]
    return _table(["option", "honoured by", "how, or what happens instead", "source"], rows)


def codes_markdown(schedulers: Iterable[Scheduler]) -> str:
    """Return the codes of the findings that the tables give, and on which schedulers."""
    given = list(schedulers)
    rows = []
    for option in OPTIONS:
        none = [each.title for each in given if each.capabilities[option].support is Support.NONE]
        if none:
            rows.append([f"`{code_of(option)}`", f"`{option}`", ", ".join(none)])
    return _table(["code", "option", "schedulers"], rows)


_SIGNS: Final = {Support.NATIVE: "native", Support.INGRESS: "ingress", Support.NONE: "**none**"}


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(_lines(titles, rows)) + "\n"


def _lines(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("\n", " ")


def _source(source: str) -> str:
    return f"<{source}>" if source.startswith("https://") else _plain(source)
