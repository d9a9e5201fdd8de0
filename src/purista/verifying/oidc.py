"""OIDC bearer tokens: what Google Cloud Scheduler and Pub/Sub push send, and other issuers of their kind.

https://cloud.google.com/scheduler/docs/http-target-auth and
https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from purista.clock import Clock, SystemClock
from purista.errors import Problem, SettingsError, VerificationError
from purista.verifying.authorization import bearer_token, is_json_web_token
from purista.verifying.issuerkeys import IssuerKeys, address_problem
from purista.verifying.jwt import SIGNING, claims_of, header_of, need_joserfc
from purista.verifying.port import Caller, Incoming

if TYPE_CHECKING:
    import httpx

GOOGLE: Final = "https://accounts.google.com"
"""The issuer of Google's tokens; its legacy form without ``https://`` is taken as well
(https://developers.google.com/identity/openid-connect/reference)."""

ALGORITHMS: Final = ("RS256", "ES256")
"""What is allowed unless said otherwise; Google signs with RS256."""

LEEWAY: Final = timedelta(seconds=30)
"""How much the issuer's clock may differ from this one's."""

MAX_LEEWAY: Final = timedelta(minutes=5)
"""RFC 7519, section 4.1.4: "usually no more than a few minutes"."""


class OidcVerifier:
    """Takes ``Authorization: Bearer`` with a token that ``issuer`` signed for one of ``audience``.

    ``audience``: one or several texts; the token's has to be exactly one of them, and no other beside
    it, as whoever else a token is for could send it here. ``service_accounts``: the emails that may
    call, exactly, and only with ``email_verified``; ``subjects``: the values of ``sub`` that may, for
    issuers without emails. At least one is needed: anybody can have Google sign a token for any audience.

    ``jwks_url``: the issuer's JWK Set; without one its discovery document says where it is. Both are
    ``https``, or on this machine itself. ``client`` fetches them, for a proxy or a certificate of one's own.

    Raises ``SettingsError`` with every mistake, ``MissingExtraError`` without joserfc or httpx.
    """

    scheme: Final = "Bearer"

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str],
        *,
        service_accounts: str | Collection[str] = (),
        subjects: str | Collection[str] = (),
        jwks_url: str | None = None,
        algorithms: str | Collection[str] = ALGORITHMS,
        leeway: timedelta = LEEWAY,
        clock: Clock | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._issuers = (GOOGLE, GOOGLE.removeprefix("https://")) if issuer == GOOGLE else (issuer,)
        self._audiences = _texts(audience)
        self._accounts = _texts(service_accounts)
        self._subjects = _texts(subjects)
        self._algorithms = _texts(algorithms)
        self._leeway = leeway
        if problems := [*self._problems(), *_address_problems(issuer, jwks_url)]:
            raise SettingsError(problem.within("oidc") for problem in problems)
        need_joserfc()
        self._clock: Clock = clock or SystemClock()
        self._keys = IssuerKeys(issuer, jwks_url, clock=self._clock, client=client)

    def concerns(self, incoming: Incoming) -> bool:
        """Whether the request brings a JSON Web Token."""
        token = bearer_token(incoming)
        return token is not None and is_json_web_token(token)

    async def verify(self, incoming: Incoming) -> Caller:
        """Return who sent the request, named by the email or the subject on the list.

        Raises ``VerificationError``: ``malformed_token``, ``token_too_large``, ``algorithm_refused``,
        ``header_refused``, ``type_refused``, ``unknown_key``, ``wrong_signature``, ``malformed_claims``,
        ``wrong_issuer``, ``wrong_audience``, ``expired``, ``not_yet_valid``, ``unknown_caller``,
        ``keys_unavailable``.
        """
        token = bearer_token(incoming) or ""
        header = header_of(token, self._algorithms)
        keys = await self._keys.find(header.key_id)
        if not keys:
            raise VerificationError("unknown_key", "the token's key is none of its issuer's")
        claims = claims_of(token, header, keys)
        self._check_parties(claims)
        self._check_times(claims)
        return Caller("oidc", self._name(claims))

    async def undo(self, caller: Caller) -> None:
        """Do nothing: a token may be used again until it expires."""

    async def close(self) -> None:
        """Close the connections to the issuer. May be repeated."""
        await self._keys.close()

    def _check_parties(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") not in self._issuers:
            raise VerificationError("wrong_issuer", "the token is of another issuer")
        audience = claims.get("aud")
        if isinstance(audience, list) and len(audience) == 1:
            audience = audience[0]
        if not isinstance(audience, str) or audience not in self._audiences:
            raise VerificationError("wrong_audience", "the token is not, or not only, for this one")

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        """Check ``exp`` and ``iat``, which have to be there, and ``nbf``."""
        from joserfc import errors
        from joserfc.jwt import JWTClaimsRegistry

        registry = JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=int(self._leeway.total_seconds()),
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            registry.validate({name: claims[name] for name in _TIMES if name in claims})
        except errors.ExpiredTokenError:
            raise VerificationError("expired", "the token has expired") from None
        except errors.MissingClaimError as error:
            missing = f"the token does not have the claim '{error.claim}'"
            raise VerificationError("malformed_claims", missing) from None
        except errors.ClaimError as error:
            reason = "malformed_claims" if error.claim == "exp" else "not_yet_valid"
            raise VerificationError(
                reason, f"the token's claim '{error.claim}' is no time that fits"
            ) from None

    def _name(self, claims: Mapping[str, Any]) -> str:
        email, subject = claims.get("email"), claims.get("sub")
        # A text "true" is not true: it would be if any value that Python takes for true were taken.
        if (
            isinstance(email, str)
            and email in self._accounts
            and claims.get("email_verified") is True
        ):
            return email
        if isinstance(subject, str) and subject in self._subjects:
            return subject
        raise VerificationError("unknown_caller", "the token's account is not on the list")

    def _problems(self) -> Iterator[Problem]:
        for place, texts in (
            ("audience", self._audiences),
            ("service_accounts", self._accounts),
            ("subjects", self._subjects),
        ):
            if not all(each.strip() and each.isprintable() for each in texts):
                yield Problem(place, "one is blank or not printable", "leave it out")
        if not self._audiences:
            yield Problem("audience", "there is none", "give the one that the caller names")
        if not self._accounts and not self._subjects:
            yield Problem("service_accounts", "nobody may call", "list who may, or 'subjects'")
        if not self._algorithms or not self._algorithms <= SIGNING:
            yield Problem("algorithms", "one is not allowed, or there is none", "use RS256")
        if not timedelta(0) <= self._leeway <= MAX_LEEWAY:
            yield Problem("leeway", "it is negative or longer than 5 minutes", "use 30 seconds")


_TIMES: Final[tuple[str, ...]] = ("exp", "iat", "nbf")


def _address_problems(issuer: str, jwks_url: str | None) -> Iterator[Problem]:
    # An address is not shown: it may have a password in it.
    if problem := address_problem(issuer):
        yield Problem("issuer", problem, "give the issuer's https address")
    if jwks_url is not None and (problem := address_problem(jwks_url, like=issuer)):
        yield Problem("jwks_url", problem, "give the https address of the issuer's JWK Set")


def _texts(value: str | Collection[str]) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else value)
