"""The parts of docs that are made from the code; UPDATE_DOCS=1 writes them anew."""

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from purista import Cron, Schedule, Service
from purista.bridges.opening import open_events, open_queues
from purista.cli.reportmarkdown import report_markdown
from purista.compiling import default_horizon, request_for
from purista.matrix import codes_markdown, matrix_markdown, scheduler_markdown
from purista.report import report
from purista.schedulers import BUILT_IN, scheduler_named
from purista.settings import IngressSettings, Settings, toml_value

DOCS = Path(__file__).parents[1] / "docs"
SCHEDULERS = [scheduler_named(name) for name in BUILT_IN]
HORIZON = default_horizon(datetime(2027, 1, 1, tzinfo=UTC))
BLOCK = re.compile(r"(<!-- made: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def naive(expression: str, timezone: str, **options: Any) -> str:
    """The report of one daily event, on every scheduler."""
    service = Service("Billing", version="1")
    event = service.event("billing.due", str)
    service.schedule("due").emit_event(
        event, expression=Cron(expression), timezone=timezone, payload="due", **options
    )
    return report_of(list(service.schedules.values()))


def report_of(schedules: list[Schedule]) -> str:
    requests = {
        each.name: request_for(each, {each.name: each.sample}, HORIZON) for each in SCHEDULERS
    }
    return report_markdown(report(schedules, SCHEDULERS, requests, HORIZON))


def samples() -> str:
    """The sample settings of every scheduler as TOML."""
    lines = ["```toml", "[ingress]", 'url = "https://triggers.example.com"', 'recovery = "ingress"']
    for scheduler in SCHEDULERS:
        lines += ["", f"[{scheduler.name}]", *toml(scheduler.sample, scheduler.name)]
    return "\n".join([*lines, "```", ""])


def toml(values: Mapping[str, Any], table: str) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {toml_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{table}.{key}]", *toml(value, f"{table}.{key}")]
    return lines


def reference() -> str:
    """Every setting of every table: what the type of the settings says of itself."""
    return "\n".join(
        part for each in SCHEDULERS for part in setting_lines(each.settings, each.name)
    )


def ingress_reference() -> str:
    """Every setting of the ingress, and of the tables within its table."""
    return "\n".join(table_lines(IngressSettings, "ingress"))


def table_lines(model: type[Settings], table: str) -> Iterator[str]:
    _, _, words = (inspect.getdoc(model) or "").partition("\n")
    nested = {name: [*nested_models(one.annotation)] for name, one in model.model_fields.items()}
    yield from [f"### `[{table}]`", "", words.strip().replace("``", "`"), ""]
    for name, field in model.model_fields.items():
        yield f"- `{name}`: " + (f"see `[{table}.{name}]`" if nested[name] else default_text(field))
    yield ""
    for name, models in nested.items():
        for each in models:
            yield from table_lines(each, f"{table}.{name}")


def setting_lines(model: type[Settings], table: str) -> Iterator[str]:
    _, _, words = (inspect.getdoc(model) or "").partition("\n")
    yield f"### `[{table}]`"
    yield from ["", words.strip().replace("``", "`"), ""] if words.strip() else [""]
    yield from (f"- `{name}`: {default_text(field)}" for name, field in model.model_fields.items())
    yield ""
    for name, field in model.model_fields.items():
        for nested in nested_models(field.annotation):
            kind = nested.model_fields.get("kind")
            if kind is not None:
                [word] = get_args(kind.annotation)
                names = (f"`{each}` ({default_text(found)})" for each, found in named(nested))
                yield f"`{name}` of kind `{word}`: {', '.join(names)}."
                yield ""


def default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "optional" if field.default is None else f"`{toml_value(field.default)}`"


def nested_models(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for each in get_args(annotation):
        yield from nested_models(each)


def named(model: type[Settings]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in model.model_fields.items() if name != "kind"]


def tables() -> str:
    return "\n".join(f"### {each.title}\n\n{scheduler_markdown(each)}" for each in SCHEDULERS)


def capability_table(kind: str, reports: Sequence[Any]) -> str:
    """What bridges say they do: a row for each field."""
    lines = [
        f"| {kind} | {' | '.join(one.name for one in reports)} |",
        f"|---|{'---|' * len(reports)}",
    ]
    for field in fields(reports[0]):
        if field.name != "name":
            cells = (cell(getattr(one, field.name)) for one in reports)
            lines.append(f"| `{field.name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"`{value}`"


def event_bridges() -> str:
    bridges = [open_events(url) for url in ADDRESSES]
    return capability_table("event bridge", [one.capabilities for one in bridges])


def queue_bridges() -> str:
    bridges = [open_queues(url) for url in ADDRESSES if not url.startswith("amqp")]
    return capability_table("queue bridge", [one.capabilities for one in bridges])


ADDRESSES = (
    "memory://",
    "sqlite:///billing.sqlite",
    "nats://broker",
    "amqp://broker",
    "redis://broker",
    "postgresql://broker/billing",
)

MADE: Mapping[str, Callable[[], str]] = {
    "matrix": lambda: matrix_markdown(SCHEDULERS),
    "codes": lambda: codes_markdown(SCHEDULERS),
    "tables": tables,
    "settings": samples,
    "reference": reference,
    "ingress": ingress_reference,
    "event bridges": event_bridges,
    "queue bridges": queue_bridges,
    "friday the 13th": lambda: naive("0 0 13 * FRI", "UTC"),
    "berlin at half past two": lambda: naive("30 2 * * *", "Europe/Berlin"),
}


@pytest.mark.parametrize("page", ["bridges.md", "portability.md", "schedulers.md", "settings.md"])
def test_what_docs_show_of_the_code_is_what_the_code_says(page: str):
    path = DOCS / page
    text = path.read_text()
    made = BLOCK.sub(lambda found: f"{found[1]}{MADE[found[2]]()}{found[3]}", text)
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(made)
    assert path.read_text() == made
    assert BLOCK.search(made)
