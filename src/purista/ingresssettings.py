"""The settings of the ingress: where triggers go, and how it is run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from purista.settingtable import Reference, References, Settings, Store, Texts, Url


class BearerSettings(Settings):
    """Static bearer tokens that the ingress takes.

    One, or two while it is rotated. Make one with ``openssl rand -hex 32``.
    """

    tokens: References = Field(min_length=1, examples=["env:PURISTA_BEARER"])


class SignatureSettings(Settings):
    """Signed requests that the ingress takes, by Standard Webhooks.

    ``keys`` are ``whsec_`` or ``whpk_`` texts; two while they are rotated.
    """

    keys: References = Field(min_length=1, examples=["env:PURISTA_SIGNING_KEY"])
    tolerance_seconds: int = Field(default=300, gt=0, le=3600)


class OidcSettings(Settings):
    """Tokens of an OpenID Connect issuer that the ingress takes.

    ``audience`` is the text, or one of the texts, that the token has to be for, ``service_accounts``
    the emails that may call, ``subjects`` the values of ``sub`` for issuers without emails; one of
    the two is needed. ``jwks_url`` is where the issuer's keys are, if its discovery document does not say so.
    """

    issuer: str = Field(examples=["https://accounts.google.com"])
    audience: Texts = Field(min_length=1, examples=["https://triggers.example.com"])
    service_accounts: Texts = Field(default=[], examples=[["scheduler@shop.example.com"]])
    subjects: Texts = Field(default=[])
    jwks_url: str | None = None


class LimitSettings(Settings):
    """How much, and how slowly, one request may send.

    Bytes of a body; how many headers, and their bytes; seconds until the headers are there, then
    until the body is there, and until it is answered. What is not said is as the entry point has it.
    """

    body_bytes: int | None = Field(default=None, gt=0)
    headers: int | None = Field(default=None, gt=0)
    header_bytes: int | None = Field(default=None, gt=0)
    header_seconds: float | None = Field(default=None, gt=0, le=3600)
    body_seconds: float | None = Field(default=None, gt=0, le=3600)
    seconds: float | None = Field(default=None, gt=0, le=3600)


class ClientSettings(Settings):
    """With which credentials the command line sends triggers to the ingress.

    ``bearer`` is a token, ``sign`` a ``whsec_`` or ``whsk_`` key; at most one of the two.
    ``plain_http`` says that something else protects the way to another machine.
    """

    bearer: Reference | None = Field(default=None, examples=["env:PURISTA_BEARER"])
    sign: Reference | None = Field(default=None, examples=["env:PURISTA_SIGNING_KEY"])
    plain_http: bool = False


class IngressSettings(Settings):
    """Where triggers go, and how the ingress is run.

    ``url`` is the ingress's address; triggers are posted to ``<url>/triggers``. ``recovery`` is that
    of ``Ingress``: with ``ingress`` it fills what was missed when the next trigger comes. ``ledger``
    is the address of what ran, ``retention_days`` is how long it remembers at least. ``bridge`` is the
    address of the broker, ``events`` and ``queues`` that for events and commands, or for queues,
    alone; what is not said is in memory. ``triggers`` names a queue and an event
    from which triggers are taken, too. ``prefix`` begins the names of what is made in a broker, so that
    deployments can share it. ``previous`` is the manifest of the contract before this one; ``unknown_contract`` says
    what happens to triggers of any other. ``grace_seconds`` is how long what is at work may take
    when the ingress is told to stop.
    """

    url: Url = "http://127.0.0.1:8080"
    recovery: Literal["scheduler", "ingress"] = "scheduler"
    ledger: Store | None = Field(default=None, examples=["sqlite:///runs.sqlite"])
    bridge: Store | None = Field(default=None, examples=["nats://nats.example.com"])
    events: Store | None = Field(default=None, examples=["amqp://rabbitmq.example.com"])
    queues: Store | None = Field(default=None, examples=["sqlite:///runs.sqlite"])
    triggers: str | None = Field(default=None, min_length=1, examples=["purista.triggers"])
    prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = "purista"
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    host: str = Field(default="127.0.0.1", min_length=1)
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    previous: str | None = Field(default=None, min_length=1, examples=["previous.json"])
    unknown_contract: Literal["refuse", "accept"] = "refuse"
    grace_seconds: Annotated[int, Field(ge=0, le=86_400)] = 30
    bearer: BearerSettings | None = None
    signatures: SignatureSettings | None = None
    oidc: OidcSettings | None = None
    limits: LimitSettings = LimitSettings()
    client: ClientSettings = ClientSettings()

    @property
    def triggers_url(self) -> str:
        """Where a trigger is posted."""
        return f"{self.url}/triggers"
