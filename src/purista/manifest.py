"""The manifest: contracts as versioned JSON that any program can read, on any scheduler's side.

The same contracts give the same bytes, in any process. Nothing here reads or writes files. The form
is in ``docs/manifest.md`` and, for programs, in the JSON Schema that ``manifest_schema`` returns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from purista.entry import schedule_entry, service_entry
from purista.errors import ManifestError, Problem
from purista.meaning import fingerprint, fingerprint_of_schedule, remembering
from purista.reading import MANIFEST_VERSION, read_manifest
from purista.rebuilding import rebuilt
from purista.service import Service
from purista.wire import WrongValueError

__all__ = ["MANIFEST_VERSION", "Manifest", "export_manifest", "fingerprint", "manifest_schema"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contracts as JSON data, every default written out.

    ``document`` is that data, to be read only. ``notes`` are advice about what was read: what is kept
    and has no effect, what every trigger has to bring.

    >>> billing = Service("Billing", version="1")
    >>> Manifest.from_json(export_manifest(billing).to_json()).services()
    (<Service Billing.v1: 0 schedules>,)
    """

    document: Mapping[str, Any]
    notes: tuple[Problem, ...] = field(default=(), compare=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read a manifest, also one of the TypeScript original.

        Fields that a newer minor version brought are kept. Raises ``ManifestError`` with every
        mistake at once, each at its place (``schedules[2].expression.value``).
        """
        return cls(*read_manifest(text))

    def to_json(self) -> str:
        """Return the manifest as text: keys sorted, lists by id, a line break at the end."""
        lines = (
            f"  {_text(name)}: {_in_lines(self.document[name])}" for name in sorted(self.document)
        )
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @property
    def title(self) -> str | None:
        """What people call it."""
        return self.document.get("title")

    @property
    def version(self) -> str | None:
        """The version that its authors gave it; the version of the form is ``manifest_version``."""
        return self.document.get("version")

    @property
    def manifest_version(self) -> str:
        """The version of the form."""
        return str(self.document["manifestVersion"])

    @property
    def tzdata(self) -> str | None:
        """The version of the time-zone database with which it was exported."""
        return self.document.get("tzdata")

    @property
    def schedules(self) -> Mapping[str, Mapping[str, Any]]:
        """The entry of each schedule, by id."""
        return {entry["id"]: entry for entry in self.document["schedules"]}

    def services(self) -> tuple[Service, ...]:
        """Build the services from the manifest alone, by name; their handlers are unknown.

        Payload schemas are known as JSON Schema, which needs the extra ``jsonschema``
        (``MissingExtraError``). Raises ``ManifestError`` for what only the whole schedule shows, such
        as a payload template that does not fit.
        """
        return rebuilt(self.document)

    def __hash__(self) -> int:
        return hash(self.to_json())


def export_manifest(
    *services: Service,
    title: str | None = None,
    version: str | None = None,
    tzdata: str | None = None,
) -> Manifest:
    """Return the manifest of services.

    ``tzdata`` is the version of the time-zone database; by default that of the package ``tzdata``.
    Raises ``ManifestError`` for what the manifest cannot say, such as half a millisecond.
    """
    given = list({id(service): service for service in services}.values())
    problems: list[Problem] = list(_twice(given))
    document: dict[str, Any] = {
        "manifestVersion": MANIFEST_VERSION,
        "tzdata": tzdata if tzdata is not None else _tzdata_version(),
        "services": [],
        "schedules": [],
    }
    document |= {"title": title} if title is not None else {}
    document |= {"version": version} if version is not None else {}
    meaning = remembering()
    for service in sorted(given, key=lambda each: (each.name, each.version)):
        try:
            document["services"].append(service_entry(service))
        except WrongValueError as error:
            problems += (each.within(f"service '{service.id}'") for each in error.problems)
        for schedule in service.schedules.values():
            try:
                known = fingerprint_of_schedule(schedule, meaning)
                document["schedules"].append(schedule_entry(schedule, known))
            except WrongValueError as error:
                problems += (each.within(f"schedule '{schedule.id}'") for each in error.problems)
    if problems:
        raise ManifestError(problems)
    document["schedules"].sort(key=lambda entry: str(entry["id"]))
    return Manifest(document)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the form that this version writes."""
    from importlib.resources import files

    text = files("purista").joinpath("manifest.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _in_lines(value: Any) -> str:
    """Return JSON in lines; a list entry by entry, which takes far less memory at once."""
    if not isinstance(value, list) or not value:
        return _text(value).replace("\n", "\n  ")
    entries = (_text(each).replace("\n", "\n    ") for each in value)
    return "[\n    " + ",\n    ".join(entries) + "\n  ]"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)


def _twice(services: list[Service]) -> Iterator[Problem]:
    ids = [service.id for service in services]
    for each in sorted({one for one in ids if ids.count(one) > 1}):
        yield Problem(f"service '{each}'", "is given twice", "give each its own name or version")


def _tzdata_version() -> str:
    from importlib import import_module

    return str(import_module("tzdata").IANA_VERSION)
