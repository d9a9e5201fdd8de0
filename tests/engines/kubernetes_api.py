"""An API server for batch/v1 CronJobs and Jobs in namespaces, over HTTP, with a bearer token.

Covered: GET of one and of lists (labelSelector with =, ==, != and a key alone; limit and continue, of one
state of the list, 410 when told), POST, PUT, PATCH by server-side apply (force, managers of fields,
conflicts, uid and resourceVersion in what is applied) and by JSON merge patch, DELETE with preconditions
and propagation to Jobs; ``Status`` objects with reasons and causes as the real one words them; a changed
object gets a new resourceVersion, an unchanged one keeps it; what has finalizers is deleted when the last one
goes; dry runs; one webhook that changes what is written; defaults, checks and managers of fields are in
``kubernetes_objects``. Troubles come on demand: throttling, errors, a connection that ends before or after
the effect of a call, what a quota answers, a page that somebody else answers.

Not covered: watches, TLS, other ways of authentication, roles (but for verbs that are forbidden on demand),
strategic merge patch and JSON patch, foreground deletion, field validation by warnings, continue tokens
with a 410, counting for quotas, the controllers: ``fire`` only writes the status that the CronJob controller
writes.
"""

from __future__ import annotations

import base64
import copy
import json
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from tests.engines.kubernetes_objects import (
    ApplyConflictError,
    Cause,
    Document,
    Record,
    applied,
    managed_fields,
    mistakes,
    type_mistake,
    updated,
    with_defaults,
)

NAMESPACE = "billing"
Trouble = Literal[
    "throttle", "error", "drop before", "drop after", "quota changed", "quota exceeded", "page"
]
_KINDS = {"cronjobs": "CronJob", "jobs": "Job"}
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
PAGE = b"<!doctype html><title>Sign in</title>"
_KEPT = (
    "uid",
    "namespace",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_CHANGED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


class Call(NamedTuple):
    """One request that came in."""

    method: str
    path: str
    query: dict[str, str]
    body: Any

    @property
    def is_change(self) -> bool:
        return self.method != "GET" and "dryRun" not in self.query


class StatusError(Exception):
    """An answer that is a ``Status``."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": code,
        }


@dataclass(slots=True)
class _Plan:
    """A trouble for the calls ``first`` to ``last`` of those it is for, counted from one."""

    trouble: Trouble
    first: int
    last: int
    only: Callable[[Call], bool]
    seen: int = 0


_QUOTA = {
    "quota changed": StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on resourcequotas "{NAMESPACE}": {_CHANGED}',
        name=NAMESPACE,
        kind="resourcequotas",
    ),
    "quota exceeded": StatusError(
        403,
        "Forbidden",
        'jobs.batch "x" is forbidden: exceeded quota: billing, requested: count/jobs.batch=1, '
        "used: count/jobs.batch=5, limited: count/jobs.batch=5",
    ),
}


class KubernetesServer:
    """The server, and what a person does with kubectl on it."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self.namespaces = {NAMESPACE}
        self.records: dict[tuple[str, str, str], Record] = {}
        self.calls: list[Call] = []
        self.forbidden: set[str] = set()
        self.webhook: Callable[[Document], object] = lambda document: None
        self.webhook_runs_dry = True
        self.page_code = 200
        self.most = 500
        self.expires = 0
        self._lists: dict[str, tuple[list[Document], str]] = {}
        self._version = 1000
        self._plans: list[_Plan] = []
        self._lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig that leads here."""
        file = folder / "kubeconfig"
        named = {"name": "test"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{**named, "cluster": {"server": self.url}}],
            "users": [{**named, "user": {"token": self.token}}],
            "contexts": [{**named, "context": {"cluster": "test", "user": "test"}}],
        }
        file.write_text(json.dumps(document))
        return file

    def trouble(
        self,
        kind: Trouble,
        *,
        at: int = 1,
        times: int = 1,
        only: Callable[[Call], bool] = lambda call: call.path != "/version",
    ) -> None:
        """Give the calls from the ``at``-th on some trouble, so many times."""
        with self._lock:
            self._plans.append(_Plan(kind, at, at + times - 1, only))

    def at_peace(self) -> None:
        """End all troubles."""
        with self._lock:
            self._plans.clear()

    def names(self, kind: str = "cronjobs") -> list[str]:
        with self._lock:
            return sorted(name for held, _, name in self.records if held == kind)

    def get(self, name: str, kind: str = "cronjobs") -> Document:
        """Return an object as the server answers it."""
        with self._lock:
            return self._shown(self._record(kind, NAMESPACE, name))

    def make(self, document: Document, manager: str = "kubectl-create") -> None:
        """Do what ``kubectl create -f`` does."""
        with self._lock:
            self._create("cronjobs", NAMESPACE, copy.deepcopy(document), manager)

    def edit(
        self, name: str, change: Callable[[Document], Any], manager: str = "kubectl-edit"
    ) -> None:
        """Do what ``kubectl edit cronjob NAME`` does."""
        with self._lock:
            document = self.get(name)
            change(document)
            self._replace("cronjobs", NAMESPACE, name, document, manager)

    def remove(self, name: str) -> None:
        """Do what ``kubectl delete cronjob NAME`` does."""
        with self._lock:
            self._delete("cronjobs", NAMESPACE, name, {})

    def fire(self, name: str) -> None:
        """Write the status that the controller writes when it made a Job."""
        with self._lock:
            record = self._record("cronjobs", NAMESPACE, name)
            record.document["status"] = {"lastScheduleTime": _now()}
            record.document["metadata"]["resourceVersion"] = self._next()

    def answer(self, call: Call, content: str, token: str) -> tuple[int, Document, str]:
        """Return the status, the document, and what becomes of the connection."""
        with self._lock:
            trouble = self._due(call)
            if trouble == "throttle":
                text = "too many requests, please try again later"
                raise StatusError(429, "TooManyRequests", text, retryAfterSeconds=1)
            if trouble == "error":
                raise StatusError(500, "InternalError", "etcdserver: leader changed")
            if trouble in _QUOTA:
                raise _QUOTA[trouble]
            if trouble in ("drop before", "page"):
                return 0, {}, trouble
            self.calls.append(call)
            if token != f"Bearer {self.token}":
                raise StatusError(401, "Unauthorized", "Unauthorized")
            try:
                code, found = self._dry(call, content)
            except StatusError:
                if trouble:
                    return 0, {}, trouble
                raise
            return code, found, trouble

    def _due(self, call: Call) -> str:
        for plan in self._plans:
            if plan.only(call):
                plan.seen += 1
                if plan.first <= plan.seen <= plan.last:
                    return plan.trouble
        return ""

    def _dry(self, call: Call, content: str) -> tuple[int, Document]:
        """Do a call; where it is a dry run, all is as before."""
        before, version = dict(self.records), self._version
        is_dry = call.query.get("dryRun") == "All"
        if is_dry and not self.webhook_runs_dry:
            text = 'admission webhook "hook.example.com" does not support dry run'
            raise StatusError(400, "BadRequest", text)
        found = self._do(call, content)
        if is_dry:
            self.records, self._version = before, version
        return found

    def _do(self, call: Call, content: str) -> tuple[int, Document]:
        if call.path == "/version":
            return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        parts = call.path.removeprefix("/apis/batch/v1/namespaces/").split("/")
        if call.path.startswith("/apis/batch/v1/namespaces/") and len(parts) in (2, 3):
            namespace, kind, *rest = parts
            if kind in _KINDS:
                self._permit(call.method, kind, namespace, bool(rest))
                name = rest[0] if rest else ""
                return self._on(call, content, kind, namespace, name)
        raise StatusError(404, "NotFound", "the server could not find the requested resource")

    def _permit(self, method: str, kind: str, namespace: str, is_one: bool) -> None:
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        verb = verbs.get(method, "get" if is_one else "list")
        if verb in self.forbidden:
            text = (
                f'{kind}.batch is forbidden: User "tester" cannot {verb} resource "{kind}" in API group '
                f'"batch" in the namespace "{namespace}"'
            )
            raise StatusError(403, "Forbidden", text, group="batch", kind=kind)

    def _on(
        self, call: Call, content: str, kind: str, namespace: str, name: str
    ) -> tuple[int, Document]:
        manager = call.query.get("fieldManager", "unknown")
        if call.method == "GET":
            if name:
                return 200, self._shown(self._record(kind, namespace, name))
            return 200, self._list(kind, namespace, call.query)
        if call.method == "POST" and not name:
            return 201, self._create(kind, namespace, call.body, manager)
        if call.method == "DELETE" and name:
            return 200, self._delete(kind, namespace, name, call.body or {})
        if call.method == "PUT" and name:
            return 200, self._replace(kind, namespace, name, call.body, manager)
        if call.method == "PATCH" and name and content == _APPLY:
            if "fieldManager" not in call.query:
                raise StatusError(400, "BadRequest", "fieldManager is required for apply patch")
            force = call.query.get("force") == "true"
            return self._apply(kind, namespace, name, call.body, manager, force)
        if call.method == "PATCH" and name and content == _MERGE:
            return 200, self._merge(kind, namespace, name, call.body, manager)
        if call.method == "PATCH" and name:
            raise StatusError(
                415, "UnsupportedMediaType", f"the media type {content} is not covered here"
            )
        raise StatusError(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )

    def _record(self, kind: str, namespace: str, name: str) -> Record:
        found = self.records.get((kind, namespace, name))
        if found is None:
            raise StatusError(
                404,
                "NotFound",
                f'{kind}.batch "{name}" not found',
                name=name,
                group="batch",
                kind=kind,
            )
        return found

    def _shown(self, record: Record) -> Document:
        made = copy.deepcopy(record.document)
        made["metadata"]["managedFields"] = managed_fields(record)
        return made

    def _list(self, kind: str, namespace: str, query: dict[str, str]) -> Document:
        if "continue" in query:
            if self.expires:
                self.expires -= 1
                text = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
                raise StatusError(410, "Expired", text)
            items, version = self._lists.pop(query["continue"])
        else:
            matches = _selector(query.get("labelSelector", ""))
            version = str(self._version)
            items = [
                {
                    key: value
                    for key, value in self._shown(record).items()
                    if key not in ("kind", "apiVersion")
                }
                for (held, place, _), record in sorted(self.records.items())
                if (held, place) == (kind, namespace)
                and matches(record.document["metadata"].get("labels") or {})
            ]
        most = min(int(query.get("limit") or self.most), self.most)
        metadata: Document = {"resourceVersion": version}
        if len(items) > most:
            token = base64.b64encode(secrets.token_bytes(12)).decode()
            self._lists[token] = (items[most:], version)
            metadata |= {"continue": token, "remainingItemCount": len(items) - most}
        return {
            "kind": f"{_KINDS[kind]}List",
            "apiVersion": "batch/v1",
            "metadata": metadata,
            "items": items[:most],
        }

    def _create(self, kind: str, namespace: str, document: Any, manager: str) -> Document:
        self._type_check(document, kind)
        name = document["metadata"].get("name", "")
        if document["metadata"].get("resourceVersion"):
            raise StatusError(
                400, "BadRequest", "resourceVersion should not be set on objects to be created"
            )
        if document["metadata"].get("namespace", namespace) != namespace:
            raise StatusError(
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            )
        self._need(namespace)
        fresh = self._admitted(document)
        self._check(kind, fresh, None)
        if (kind, namespace, name) in self.records:
            raise StatusError(
                409,
                "AlreadyExists",
                f'{kind}.batch "{name}" already exists',
                name=name,
                group="batch",
                kind=kind,
            )
        return self._keep(kind, namespace, name, updated(_nothing(fresh), manager, fresh), None)

    def _replace(
        self, kind: str, namespace: str, name: str, document: Any, manager: str
    ) -> Document:
        record = self._record(kind, namespace, name)
        document = copy.deepcopy(document)
        document["metadata"].pop("managedFields", None)
        self._type_check(document, kind)
        if document["metadata"].get("name") != name:
            raise StatusError(
                400, "BadRequest", "the name of the object does not match the name on the URL"
            )
        self._same(kind, record, document["metadata"])
        fresh = self._fresh(kind, record, document)
        return self._keep(kind, namespace, name, updated(record, manager, fresh), record)

    def _merge(self, kind: str, namespace: str, name: str, patch: Any, manager: str) -> Document:
        record = self._record(kind, namespace, name)
        return self._replace(kind, namespace, name, _merged(record.document, patch), manager)

    def _apply(
        self, kind: str, namespace: str, name: str, config: Any, manager: str, force: bool
    ) -> tuple[int, Document]:
        metadata = config.get("metadata", {})
        if (config.get("kind"), config.get("apiVersion")) != (_KINDS[kind], "batch/v1"):
            raise StatusError(
                400, "BadRequest", "apply configuration must have apiVersion and kind"
            )
        if metadata.get("name", name) != name or metadata.get("managedFields"):
            raise StatusError(
                400,
                "BadRequest",
                "metadata.managedFields must be nil, and the name that of the URL",
            )
        there = self.records.get((kind, namespace, name))
        if there is None:
            self._need(namespace)
            if metadata.get("uid"):
                text = f"uid mismatch: the provided object specified uid {metadata['uid']}, and no existing object was found"
                raise _conflict(kind, name, text)
            metadata.pop("resourceVersion", None)
        else:
            self._same(kind, there, metadata)
        base = there or _nothing(
            {"apiVersion": "batch/v1", "kind": _KINDS[kind], "metadata": {"name": name}}
        )
        try:
            made = applied(base, manager, config, force=force)
        except ApplyConflictError as error:
            raise _apply_conflict(error) from None
        self._type_check(made.document, kind)
        if there is None:
            fresh = self._admitted(made.document)
            self._check(kind, fresh, None)
        else:
            fresh = self._fresh(kind, there, made.document)
        kept = self._keep(kind, namespace, name, Record(fresh, made.managers), there)
        return (200 if there else 201), kept

    def _delete(self, kind: str, namespace: str, name: str, options: Document) -> Document:
        record = self._record(kind, namespace, name)
        metadata = record.document["metadata"]
        for key, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = options.get("preconditions", {}).get(key)
            if wanted is not None and wanted != metadata[key]:
                text = f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {metadata[key]}"
                raise _conflict(kind, name, text)
        if metadata.get("finalizers"):
            if "deletionTimestamp" not in metadata:
                gone = {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
                document = copy.deepcopy(record.document)
                document["metadata"] |= gone | {"resourceVersion": self._next()}
                self.records[kind, namespace, name] = Record(document, record.managers)
            return self._shown(self.records[kind, namespace, name])
        del self.records[kind, namespace, name]
        self._next()
        if options.get("propagationPolicy", "Background") != "Orphan":
            for place, each in list(self.records.items()):
                owners = each.document["metadata"].get("ownerReferences", ())
                if any(owner["uid"] == metadata["uid"] for owner in owners):
                    del self.records[place]
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {"name": name, "group": "batch", "kind": kind, "uid": metadata["uid"]},
        }

    def _type_check(self, document: Any, kind: str) -> None:
        if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
            raise StatusError(400, "BadRequest", "the object provided is unrecognized")
        if (document.get("kind"), document.get("apiVersion")) != (_KINDS[kind], "batch/v1"):
            raise StatusError(
                400, "BadRequest", f'{_KINDS[kind]} in version "v1" cannot be handled'
            )
        why = type_mistake(document)
        if why:
            raise StatusError(
                400,
                "BadRequest",
                f'{_KINDS[kind]} in version "v1" cannot be handled as a {_KINDS[kind]}: strict decoding error: {why}',
            )

    def _check(self, kind: str, document: Document, old: Document | None) -> None:
        found = list(mistakes(document, old))
        if found:
            raise _invalid(kind, document["metadata"].get("name", ""), found)

    def _same(self, kind: str, record: Record, metadata: Document) -> None:
        held = record.document["metadata"]
        if metadata.get("uid", held["uid"]) != held["uid"]:
            text = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {held['uid']}"
            raise _conflict(kind, held["name"], text)
        if metadata.get("resourceVersion") not in (None, "", held["resourceVersion"]):
            raise _conflict(kind, held["name"], _CHANGED)

    def _fresh(self, kind: str, record: Record, document: Document) -> Document:
        """Return what is stored for an object in place of another, once it is checked."""
        fresh = self._admitted(document)
        self._check(kind, fresh, record.document)
        for name in _KEPT:
            fresh["metadata"].pop(name, None)
            if name in record.document["metadata"]:
                fresh["metadata"][name] = record.document["metadata"][name]
        fresh["metadata"].pop("managedFields", None)
        fresh.pop("status", None)
        if "status" in record.document:
            fresh["status"] = record.document["status"]
        return fresh

    def _admitted(self, document: Document) -> Document:
        """Return a document with defaults, as the webhook changes it."""
        found = with_defaults(document)
        self.webhook(found)
        return found

    def _keep(
        self, kind: str, namespace: str, name: str, record: Record, there: Record | None
    ) -> Document:
        metadata = record.document["metadata"]
        if there is None:
            metadata |= {
                "namespace": namespace,
                "uid": str(uuid4()),
                "creationTimestamp": _now(),
                "generation": 1,
                "resourceVersion": self._next(),
            }
            record.document["status"] = {}
        elif record != there:
            metadata["generation"] += record.document["spec"] != there.document["spec"]
            metadata["resourceVersion"] = self._next()
        self.records[kind, namespace, name] = record
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            del self.records[kind, namespace, name]
        return self._shown(record)

    def _need(self, namespace: str) -> None:
        if namespace not in self.namespaces:
            raise StatusError(
                404,
                "NotFound",
                f'namespaces "{namespace}" not found',
                name=namespace,
                kind="namespaces",
            )

    def _next(self) -> str:
        self._version += 1
        return str(self._version)


@contextmanager
def kubernetes_server() -> Iterator[KubernetesServer]:
    server = KubernetesServer()
    try:
        yield server
    finally:
        server.stop()


def _nothing(document: Document) -> Record:
    named = {"name": document["metadata"].get("name", "")}
    return Record(
        {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": named}
    )


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _conflict(kind: str, name: str, why: str) -> StatusError:
    text = f'Operation cannot be fulfilled on {kind}.batch "{name}": {why}'
    return StatusError(409, "Conflict", text, name=name, group="batch", kind=kind)


def _apply_conflict(error: ApplyConflictError) -> StatusError:
    texts = [(manager, "." + ".".join(path)) for (manager, _), path in error.found]
    many = f"{len(texts)} conflict{'s' * (len(texts) > 1)}"
    shown = ", ".join(
        f'conflict with "{manager}" using batch/v1: {path}' for manager, path in texts
    )
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}" using batch/v1',
            "field": path,
        }
        for manager, path in texts
    ]
    return StatusError(409, "Conflict", f"Apply failed with {many}: {shown}", causes=causes)


def _invalid(kind: str, name: str, found: list[Cause]) -> StatusError:
    texts = [f"{each.field}: {each.message}" for each in found]
    shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [
        {"reason": each.reason, "message": each.message, "field": each.field} for each in found
    ]
    text = f'{_KINDS[kind]}.batch "{name}" is invalid: {shown}'
    return StatusError(
        422, "Invalid", text, name=name, group="batch", kind=_KINDS[kind], causes=causes
    )


def _merged(value: Any, patch: Any) -> Any:
    """Return what RFC 7386 makes of a patch."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    made = copy.deepcopy(value) if isinstance(value, dict) else {}
    for name, each in patch.items():
        if each is None:
            made.pop(name, None)
        else:
            made[name] = _merged(made.get(name), each)
    return made


def _selector(text: str) -> Callable[[dict[str, str]], bool]:
    wanted: list[tuple[str, str | None, bool]] = []
    for part in filter(None, text.split(",")):
        if "!=" in part:
            key, _, value = part.partition("!=")
            wanted.append((key, value, False))
        elif "=" in part:
            key, _, value = part.replace("==", "=").partition("=")
            wanted.append((key, value, True))
        elif part.isprintable() and " " not in part and "!" not in part:
            wanted.append((part, None, True))
        else:
            raise StatusError(400, "BadRequest", f"unable to parse requirement: {part}")

    def matches(labels: dict[str, str]) -> bool:
        return all(
            key in labels if value is None else (labels.get(key) == value) is is_equal
            for key, value, is_equal in wanted
        )

    return matches


def _handler(server: KubernetesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            url = urlsplit(self.path)
            call = Call(
                self.command,
                url.path,
                dict(parse_qsl(url.query)),
                json.loads(body) if body else None,
            )
            content = self.headers.get("Content-Type", "")
            after = ""
            try:
                code, found, after = server.answer(
                    call, content, self.headers.get("Authorization", "")
                )
            except StatusError as error:
                code, found = error.code, error.document
            if after == "page":
                self._write(server.page_code, PAGE, "text/html")
                return
            if after.startswith("drop"):
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._write(code, json.dumps(found).encode(), "application/json")

        def _write(self, code: int, text: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            if code == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    return Handler
