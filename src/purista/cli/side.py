"""One side of a comparison: a manifest file, code, or the manifest of a git revision."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purista.cli.loading import exported, load
from purista.entry import SCHEDULE_FIELDS
from purista.errors import LoadError, ManifestError, Problem
from purista.manifest import MANIFEST_VERSION, Manifest
from purista.original import ORIGINAL_FIELDS
from purista.wire import EXPRESSION_FIELDS


@dataclass(frozen=True, slots=True)
class Side:
    """A manifest, and the name under which a person asked for it."""

    name: str
    manifest: Manifest

    @property
    def is_newer(self) -> bool:
        """Whether its form has a newer minor version, with fields that are unknown here."""
        return self.manifest.manifest_version != MANIFEST_VERSION


def load_sides(old: str, new: str) -> tuple[Side, Side]:
    """Load both sides; equal texts become one manifest. Raises ``LoadError`` or ``ContractError``."""
    texts = [_text(name) for name in (old, new)]
    first = _side(old, texts[0])
    if texts[0] is not None and texts[0] == texts[1]:
        return first, Side(new, first.manifest)
    return first, _side(new, texts[1])


def load_side(names: list[str]) -> Side:
    """Load services and manifests as one side. Raises ``LoadError`` or ``ContractError``."""
    sides = [_side(name, _text(name)) for name in names]
    return sides[0] if len(sides) == 1 else Side(", ".join(names), _joined(sides))


def _joined(sides: list[Side]) -> Manifest:
    """Return all schedules as one manifest; what is not the same on two sides is refused."""
    found: dict[str, Any] = {}
    for side in sides:
        for schedule_id, entry in side.manifest.schedules.items():
            if found.setdefault(schedule_id, entry) != entry:
                problem = Problem(
                    f"'{side.name}': schedule '{schedule_id}'",
                    "is another one in what was named before it",
                    "name them one by one",
                )
                raise ManifestError([problem])
    schedules = [found[schedule_id] for schedule_id in sorted(found)]
    return Manifest({**sides[0].manifest.document, "schedules": schedules})


def _side(name: str, text: bytes | None) -> Side:
    if text is None:
        return Side(name, _exported(name))
    try:
        manifest = Manifest.from_json(text)
        wrong = list(_unknown_fields(manifest))
    except ManifestError as error:
        wrong = list(error.problems)
    if wrong:
        raise ManifestError(each.within(f"'{name}'") for each in wrong)
    return Side(name, manifest)


def _exported(name: str) -> Manifest:
    try:
        return exported(load(name))
    except ManifestError as error:
        raise ManifestError(each.within(f"'{name}'") for each in error.problems) from None


def _unknown_fields(manifest: Manifest) -> Iterator[Problem]:
    """Say which fields may decide a schedule's times without being understood here.

    Those of a newer minor version are no mistake.
    """
    if manifest.manifest_version != MANIFEST_VERSION:
        return
    for schedule_id, entry in manifest.schedules.items():
        expression = entry["expression"]
        place = f"schedule '{schedule_id}': "
        yield from _unknown(entry, SCHEDULE_FIELDS | ORIGINAL_FIELDS, place)
        yield from _unknown(
            expression, EXPRESSION_FIELDS[expression["kind"]], f"{place}expression."
        )


def _unknown(entry: Mapping[str, Any], known: frozenset[str], place: str) -> Iterator[Problem]:
    for name in sorted(entry.keys() - known):
        if not name.startswith("x-"):
            message = "unknown field, so what it does to the nominal times cannot be told"
            yield Problem(f"{place}{name}", message, f"drop it, or call it 'x-{name}'")


def _text(name: str) -> bytes | None:
    """Return a manifest's text; None for the name of code."""
    if not name.endswith(".json"):
        return None
    if ":" in name and not os.path.exists(name):
        return _from_git(name)
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise LoadError(f"cannot read '{name}': {error.strerror or error}") from None


def _from_git(name: str) -> bytes:
    """Return a file of a revision, named as ``git show`` wants it (gitrevisions(7))."""
    command = ["git", "show", "--no-textconv", "--end-of-options", name]
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, and the name can be no option
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment,
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoadError(f"cannot read '{name}': git does not run: {reason}") from None
    if done.returncode == 0:
        return done.stdout
    raise LoadError(f"cannot read '{name}' from git: {_reason(done.stderr)}")


def _reason(talk: bytes) -> str:
    """Return what git says is wrong, without its hints and its prefix."""
    lines = talk.decode(errors="replace").splitlines()
    found = [line for line in lines if line.startswith(("fatal: ", "error: "))] or lines
    return found[0].partition(": ")[2] or found[0] if found else "it does not say why"
