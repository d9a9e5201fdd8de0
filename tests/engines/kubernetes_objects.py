"""What the Kubernetes API server makes of a CronJob or a Job: an independent model of batch/v1.

It must not import purista: it is the yardstick. From the sources of Kubernetes 1.34: the defaults
(pkg/apis/batch/v1/defaults.go, pkg/apis/core/v1/defaults.go), the checks (pkg/apis/batch/validation,
apimachinery's names, labels and annotations), robfig/cron's parser, and who manages which field
(https://kubernetes.io/docs/reference/using-api/server-side-apply/). Types and unknown fields are those of
the published schema (kubernetes-validate): what is unknown, which a server drops with a warning, and what is
missing, which it answers with a 422, is a 400 here.

Not covered: Pod templates beyond what the schema and the few checks below say; quantities are not brought
into normal form; lists other than ``containers`` and ``env`` are atomic, and so are those two as soon as an
item has no name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any
from zoneinfo import available_timezones

import kubernetes_validate

VERSION = "1.34"
LONGEST_ANNOTATIONS = 262_144
Document = dict[str, Any]
Path = tuple[str, ...]
Manager = tuple[str, str]
"""A field manager and its operation, ``Apply`` or ``Update``."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?\Z")
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_KEYED = ("containers", "env")
_SERVERS_OWN = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
)
_MONTHS: dict[str, int] = dict(  # noqa: C408
    jan=1, feb=2, mar=3, apr=4, may=5, jun=6, jul=7, aug=8, sep=9, oct=10, nov=11, dec=12
)
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_CRON: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of ``details.causes`` of a 422."""

    reason: str
    message: str
    field: str


@dataclass(slots=True)
class Record:
    """An object as it is stored, and who manages which of its fields."""

    document: Document
    managers: dict[Manager, set[Path]] = field(default_factory=dict)


class ApplyConflictError(Exception):
    """Fields of an apply that others manage, with another value."""

    def __init__(self, found: list[tuple[Manager, Path]]) -> None:
        super().__init__(found)
        self.found = found


def type_mistake(document: Document) -> str:
    """Return what the schema does not allow, such as an unknown field; empty for nothing."""
    return _type_mistake(_Shape(document))


def mistakes(document: Document, old: Document | None = None) -> Iterator[Cause]:
    """Yield what is invalid in a CronJob or a Job with its defaults."""
    metadata, spec = document["metadata"], document["spec"]
    yield from _metadata_mistakes(metadata, "metadata", 52 if document["kind"] == "CronJob" else 63)
    if document["kind"] == "Job":
        yield from _template_mistakes(spec.get("template", {}), "spec.template")
        return
    yield from _schedule_mistakes(spec, old)
    template = spec.get("jobTemplate", {})
    yield from _map_mistakes(template.get("metadata") or {}, "spec.jobTemplate.metadata")
    yield from _template_mistakes(
        template.get("spec", {}).get("template", {}), "spec.jobTemplate.spec.template"
    )
    for name in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if spec.get(name, 0) < 0:
            yield _invalid(f"spec.{name}", spec[name], "must be greater than or equal to 0")
    if spec["concurrencyPolicy"] not in ("Allow", "Forbid", "Replace"):
        yield Cause(
            "FieldValueNotSupported",
            f'Unsupported value: "{spec["concurrencyPolicy"]}": supported values: "Allow", "Forbid", "Replace"',
            "spec.concurrencyPolicy",
        )


def cron_mistake(text: str) -> str:
    """Return why robfig/cron's ``ParseStandard`` does not read a text; empty where it does."""
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, _, text = text.partition(" ")
        if zone.partition("=")[2] not in {*available_timezones(), "", "UTC"}:
            return f"provided bad location {zone}"
    if text.startswith("@every "):
        ok = re.fullmatch(r"((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+", text[7:])
        return "" if ok else f"failed to parse duration {text}"
    if text.startswith("@"):
        return "" if text in _WORDS else f"unrecognized descriptor: {text}"
    fields = text.split()
    if len(fields) != 5:
        return f"expected exactly 5 fields, found {len(fields)}: {fields}"
    return next(filter(None, map(_field_mistake, fields, _CRON)), "")


def with_defaults(document: Document) -> Document:
    """Return a copy with the defaults that the server writes."""
    made = copy.deepcopy(document)
    spec = made["spec"]
    template = spec
    if made["kind"] == "CronJob":
        _default(spec, concurrencyPolicy="Allow", suspend=False)
        _default(spec, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
        spec["jobTemplate"].setdefault("metadata", {}).setdefault("creationTimestamp", None)
        template = spec["jobTemplate"]["spec"]
    else:
        _default(spec, backoffLimit=6, completions=1, parallelism=1, suspend=False)
    pod = template["template"]
    pod.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    _default_pod(pod["spec"])
    return made


def applied(record: Record, manager: str, config: Document, *, force: bool) -> Record:
    """Return a record after a server-side apply, without defaults. Raises ``ApplyConflictError``."""
    wanted = leaves(config)
    there = leaves(record.document)
    me = (manager, "Apply")
    others = {one: set(held) for one, held in record.managers.items() if one != me}
    found = [
        (one, path)
        for one, held in others.items()
        for path in sorted(held & wanted.keys())
        if there.get(path) != wanted[path]
    ]
    if found and not force:
        raise ApplyConflictError(found)
    for one, path in found:
        others[one].discard(path)
    document = copy.deepcopy(record.document)
    managed = set().union(*others.values()) if others else set()
    for path in record.managers.get(me, set()) - wanted.keys() - managed:
        _remove(document, path)
    for path, value in wanted.items():
        _set(document, path, value)
    managers = {one: held for one, held in others.items() if held}
    return Record(document, {**managers, me: set(wanted)})


def updated(record: Record, manager: str, document: Document) -> Record:
    """Return a record after an update or another patch: who changed a field manages it."""
    old, new = leaves(record.document), leaves(document)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    touched = changed | (old.keys() - new.keys())
    managers = {one: held - touched for one, held in record.managers.items()}
    me = (manager, "Update")
    managers[me] = managers.get(me, set()) | changed
    return Record(document, {one: held for one, held in managers.items() if held})


def managed_fields(record: Record) -> list[Document]:
    """Return ``metadata.managedFields``."""
    return [
        {
            "manager": name,
            "operation": operation,
            "apiVersion": "batch/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": _nested(held),
        }
        for (name, operation), held in sorted(record.managers.items())
    ]


def leaves(document: Document) -> dict[Path, Any]:
    """Return the values of a document by their paths, but for what names it and what is the server's."""
    found = dict(_leaves(document, ()))
    own = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
    own |= {("metadata", name) for name in _SERVERS_OWN}
    return {
        path: value
        for path, value in found.items()
        if path not in own
        and path[0] != "status"
        and path[:2] != ("metadata", "managedFields")
        and not (path[-1] == "creationTimestamp" and value is None)
    }


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, (*path, name))
    elif _is_keyed(value, path):
        for each in value:
            yield from _leaves(each, (*path, f"k:{each['name']}"))
    else:
        yield path, value


def _is_keyed(value: Any, path: Path) -> bool:
    is_list = bool(path) and path[-1] in _KEYED and isinstance(value, list) and bool(value)
    return is_list and all(isinstance(each, dict) and "name" in each for each in value)


def _set(into: Any, path: Path, value: Any) -> None:
    for key, following in pairwise(path):
        into = _inside(into, key, [] if following.startswith("k:") else {})
    if value != {} or not isinstance(into.get(path[-1]), dict):
        into[path[-1]] = copy.deepcopy(value)


def _inside(into: Any, key: str, empty: Any) -> Any:
    if not key.startswith("k:"):
        if into.get(key) is None or type(into[key]) is not type(empty):
            into[key] = empty
        return into[key]
    found = next((each for each in into if each.get("name") == key[2:]), None)
    if found is None:
        found = {"name": key[2:]}
        into.append(found)
    return found


def _remove(document: Document, path: Path) -> None:
    way: list[tuple[Any, str]] = []
    into: Any = document
    for key in path[:-1]:
        way.append((into, key))
        if key.startswith("k:"):
            into = next((each for each in into if each.get("name") == key[2:]), None)
        else:
            into = into.get(key)
        if into is None:
            return
    into.pop(path[-1], None)
    for parent, key in reversed(way):
        if key.startswith("k:"):
            parent[:] = [each for each in parent if each]
        elif not parent[key]:
            del parent[key]


def _nested(paths: set[Path]) -> Document:
    made: Document = {}
    for path in sorted(paths):
        into = made
        for key in path:
            name = f'k:{{"name":"{key[2:]}"}}' if key.startswith("k:") else f"f:{key}"
            into = into.setdefault(name, {})
    return made


def _default(into: Document, **values: Any) -> None:
    for name, value in values.items():
        if into.get(name) is None:
            into[name] = value


def _default_pod(spec: Document) -> None:
    _default(spec, dnsPolicy="ClusterFirst", restartPolicy="Always", securityContext={})
    _default(spec, schedulerName="default-scheduler", terminationGracePeriodSeconds=30)
    account = spec.pop("serviceAccountName", None) or spec.pop("serviceAccount", None)
    if account:  # each is the other's (pkg/apis/core/v1/conversion.go)
        spec |= {"serviceAccountName": account, "serviceAccount": account}
    for each in spec.get("containers", ()):
        image = each.get("image", "")
        tag = image.rpartition("/")[2].partition(":")[2] or "latest"
        _default(
            each, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File"
        )
        _default(
            each, imagePullPolicy="Always" if tag == "latest" else "IfNotPresent", resources={}
        )
        for variable in each.get("env", ()):
            if variable.get("value") == "":
                del variable["value"]
            reference = (variable.get("valueFrom") or {}).get("fieldRef")
            if reference is not None:
                _default(reference, apiVersion="v1")


def _metadata_mistakes(metadata: Mapping[str, Any], place: str, longest: int) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not _NAME.match(name) or len(name) > 253:
        text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        yield _invalid(f"{place}.name", name, text)
    if len(name) > longest:
        yield _invalid(f"{place}.name", name, f"must be no more than {longest} characters")
    yield from _map_mistakes(metadata, place)


def _map_mistakes(metadata: Mapping[str, Any], place: str) -> Iterator[Cause]:
    for kind in ("labels", "annotations"):
        for key, value in (metadata.get(kind) or {}).items():
            if not _KEY.match(key):
                yield _invalid(
                    f"{place}.{kind}", key, "name part must consist of alphanumeric characters"
                )
            if kind == "labels" and not _LABEL.match(value):
                yield _invalid(
                    f"{place}.labels",
                    value,
                    "a valid label must be an empty string or consist of ...",
                )
    notes = metadata.get("annotations") or {}
    if (
        sum(len(key.encode()) + len(value.encode()) for key, value in notes.items())
        > LONGEST_ANNOTATIONS
    ):
        yield Cause(
            "FieldValueTooLong",
            f"Too long: may not be more than {LONGEST_ANNOTATIONS} bytes",
            f"{place}.annotations",
        )


def _schedule_mistakes(spec: Mapping[str, Any], old: Document | None) -> Iterator[Cause]:
    text, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not text:
        yield Cause("FieldValueRequired", "Required value", "spec.schedule")
    elif why := cron_mistake(text):
        yield _invalid("spec.schedule", text, why)
    if "TZ" in text and zone is not None:
        yield _invalid(
            "spec.schedule", text, "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        )
    elif "TZ" in text and (old is None or "TZ" not in old["spec"]["schedule"]):
        yield _invalid(
            "spec.schedule",
            text,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        )
    if zone is None:
        return
    if not zone:
        yield _invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
    elif zone.lower() == "local":
        yield _invalid(
            "spec.timeZone",
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        )
    elif zone not in available_timezones():
        yield _invalid("spec.timeZone", zone, f"unknown time zone {zone}")


def _template_mistakes(template: Mapping[str, Any], place: str) -> Iterator[Cause]:
    yield from _map_mistakes(template.get("metadata") or {}, f"{place}.metadata")
    spec = template.get("spec", {})
    if spec.get("restartPolicy") not in ("Never", "OnFailure"):
        yield Cause(
            "FieldValueRequired",
            'Required value: valid values: "OnFailure", "Never"',
            f"{place}.spec.restartPolicy",
        )
    containers = spec.get("containers", ())
    if not containers:
        yield Cause("FieldValueRequired", "Required value", f"{place}.spec.containers")
    for at, each in enumerate(containers):
        inside = f"{place}.spec.containers[{at}]"
        if not each.get("image"):
            yield Cause("FieldValueRequired", "Required value", f"{inside}.image")
        for number, variable in enumerate(each.get("env", ())):
            if variable.get("value") and variable.get("valueFrom"):
                text = "may not be specified when `value` is not empty"
                yield _invalid(f"{inside}.env[{number}].valueFrom", "", text)


def _field_mistake(text: str, bounds: tuple[str, int, int, Mapping[str, int]]) -> str:
    name, low, high, words = bounds
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"(?:[*?](?:-\w+)?|(\+?\w+)(?:-(\+?\w+))?)(?:/(\d+))?", part)
        if match is None:
            return f"failed to parse {part} as {name}"
        numbers = [_number(one, words) for one in match.groups()[:2] if one is not None]
        if None in numbers or any(not low <= one <= high for one in numbers if one is not None):
            return f"value of {part} is not within {low} to {high} ({name})"
        if numbers != sorted(one for one in numbers if one is not None):
            return f"beginning of range beyond end of range: {part}"
        if match[3] is not None and int(match[3]) == 0:
            return f"step of range should be a positive number: {part}"
    return ""


def _number(text: str, words: Mapping[str, int]) -> int | None:
    found = words.get(text.lower())
    return int(text) if found is None and text.lstrip("+").isdecimal() else found


def _invalid(place: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else value
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {why}", place)


class _Shape:
    """A document that is equal to another with values of the same types in the same places."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._text = repr(_types(document))

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shape) and other._text == self._text


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in sorted(value.items())}
    return [_types(item) for item in value] if isinstance(value, list) else type(value).__name__


@cache
def _type_mistake(shape: _Shape) -> str:
    validate: Callable[..., str] = kubernetes_validate.validate
    try:
        validate(shape.document, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""
