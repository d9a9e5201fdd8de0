"""What settings and addresses stand for: the ledger, the queues, who may send, and how it is sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from purista.cli.loading import load_manifest
from purista.clock import Clock
from purista.errors import LoadError, Problem, SettingsError
from purista.ingress.ingress import RunStore
from purista.ledgers import Nonces
from purista.ledgers.opening import open_ledger
from purista.manifest import Manifest
from purista.service import Service
from purista.settings import FILE, IngressSettings
from purista.settingtable import is_reference
from purista.storeaddress import scheme_of, sqlite_path
from purista.verifying import Verifier
from purista.verifying.secret import Secret

if TYPE_CHECKING:
    from purista.ingress.client import Credentials, IngressClient
    from purista.ingress.http import Limits

LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        envvar="PURISTA_LEDGER",
        help="The ledger, such as sqlite:///runs.sqlite, or env:NAME; else that of the settings.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", envvar="PURISTA_URL", help="The address of the ingress."),
]
Bearer = Annotated[
    str | None,
    typer.Option(metavar="env:NAME|file:PATH", help="The bearer token that the ingress takes."),
]
Sign = Annotated[
    str | None,
    typer.Option(metavar="env:NAME|file:PATH", help="The key to sign triggers with."),
]

MEMORY: Final = "memory"


def ledger_url(settings: IngressSettings, given: str | None) -> str | None:
    """Return the ledger's address, given or by the settings. Raises ``SettingsError``."""
    return resolved("the ledger's address", given or settings.ledger)


def opened_ledger(url: str, settings: IngressSettings) -> RunStore:
    """Return the ledger at an address, with the retention of the settings. Raises ``LedgerError``."""
    return open_ledger(url, retention=timedelta(days=settings.retention_days))


def known_ledger(settings: IngressSettings, given: str | None) -> RunStore:
    """Return the ledger of an ingress that has run. Raises ``LoadError``, ``LedgerError``."""
    url = ledger_url(settings, given)
    if url is None:
        raise LoadError(
            "no ledger is named; give --ledger sqlite:///runs.sqlite, or say ledger in the table "
            f"[ingress] of {FILE}"
        )
    if scheme_of(url) == MEMORY:
        raise LoadError("a ledger in memory ends with its process; name the one of the ingress")
    _check_file(url)
    return opened_ledger(url, settings)


def verifiers(settings: IngressSettings, ledger: RunStore, clock: Clock) -> Sequence[Verifier]:
    """Return who says that a request may be taken.

    Raises ``SettingsError`` with every secret that is not there, empty or too weak.
    """
    made: list[Verifier] = []
    problems: list[Problem] = []
    for make in (_bearer, _signatures, _oidc):
        try:
            made += make(settings, ledger, clock)
        except SettingsError as error:
            problems += (each.within(f"{FILE}: ingress") for each in error.problems)
    if problems:
        raise SettingsError(problems)
    return made


def limits(settings: IngressSettings) -> Limits:
    """Return how much, and how slowly, a caller may send."""
    from purista.ingress.http import Limits

    given = settings.limits.model_dump(exclude_none=True)
    bounds: dict[str, Any] = {
        name: timedelta(seconds=given[setting]) if setting.endswith("seconds") else given[setting]
        for setting, name in _LIMITS.items()
        if setting in given
    }
    return Limits(**bounds)


_LIMITS: Final = {
    "body_bytes": "body",
    "headers": "headers",
    "header_bytes": "header_bytes",
    "header_seconds": "header_time",
    "body_seconds": "body_time",
    "seconds": "time",
}


def previous(settings: IngressSettings) -> Manifest | tuple[Service, ...]:
    """Return the contract before this one. Raises ``LoadError`` or ``ManifestError``."""
    return () if settings.previous is None else load_manifest(Path(settings.previous))


def client(
    settings: IngressSettings, url: str | None, *, bearer: str | None, sign: str | None
) -> IngressClient:
    """Return a client of the ingress at ``url``, or at that of the settings.

    The credentials of the settings are for the settings' address alone; for another one they are given,
    or are systemd's credential ``bearer``. Raises ``SettingsError``.
    """
    address = (url or settings.url).rstrip("/").removesuffix("/triggers")
    if bearer is not None and sign is not None:
        raise LoadError("--bearer and --sign are two kinds of credentials; give one of them")
    known = settings.client
    if bearer is None and sign is None and address == settings.url:
        bearer, sign = known.bearer, known.sign
    if bearer is not None and sign is not None:
        text = "bearer and sign are two kinds of credentials"
        raise SettingsError([Problem(f"{FILE}: ingress.client", text, "keep one of them")])
    from purista.ingress.client import IngressClient

    credentials = _credentials(bearer, sign)
    return IngressClient(address, credentials=credentials, plain_http=known.plain_http)


def resolved(what: str, text: str | None) -> str | None:
    """Return an address, or the one that ``env:NAME`` or ``file:PATH`` refers to.

    Raises ``SettingsError``, which says ``what`` it is the address of.
    """
    if text is None or not is_reference(text):
        return text
    try:
        return Secret(text).value()
    except SettingsError as error:
        remedy = "give it the whole address"
        raise SettingsError(
            Problem(f"{what}: {each.place}", each.message, remedy) for each in error.problems
        ) from None


def _check_file(url: str) -> None:
    """Raise ``LoadError`` where a SQLite ledger is not there: reading would make an empty one."""
    try:
        path = sqlite_path(url) if scheme_of(url) == "sqlite" else None
    except ValueError:
        return
    if path is not None and not path.exists():
        raise LoadError(f"there is no ledger '{path}'; an ingress makes it when it first runs")


def _bearer(settings: IngressSettings, ledger: RunStore, clock: Clock) -> Sequence[Verifier]:
    from purista.verifying.bearer import BearerVerifier

    return [] if settings.bearer is None else [BearerVerifier(settings.bearer.tokens)]


def _signatures(settings: IngressSettings, ledger: RunStore, clock: Clock) -> Sequence[Verifier]:
    from purista.verifying.signatures import SignatureVerifier

    given = settings.signatures
    if given is None:
        return []
    assert isinstance(ledger, Nonces)
    tolerance = timedelta(seconds=given.tolerance_seconds)
    return [SignatureVerifier(given.keys, nonces=ledger, tolerance=tolerance, clock=clock)]


def _oidc(settings: IngressSettings, ledger: RunStore, clock: Clock) -> Sequence[Verifier]:
    from purista.verifying.oidc import OidcVerifier

    given = settings.oidc
    if given is None:
        return []
    made = OidcVerifier(
        given.issuer,
        given.audience,
        service_accounts=given.service_accounts,
        subjects=given.subjects,
        jwks_url=given.jwks_url,
        clock=clock,
    )
    return [made]


def _credentials(bearer: str | None, sign: str | None) -> Credentials | None:
    if sign is not None:
        from purista.verifying.signatures import Signer

        return Signer(sign)
    if bearer is not None:
        return bearer
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder and (Path(folder) / "bearer").is_file():
        return f"file:{folder}/bearer"
    return None
