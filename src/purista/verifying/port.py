"""The port to what tells who sent a request; it fails closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from purista.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came, before anything in it is believed.

    ``headers`` in the order in which they came, their names in lower case; ``body`` byte for byte.
    """

    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header, or None. Raises ``VerificationError`` when it is there twice."""
        values = [value for each, value in self.headers if each == name]
        if len(values) > 1:
            raise VerificationError("duplicate_header", f"header '{name}' is there twice")
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, in words fit for a log: ``method`` and a ``name`` that holds no secret.

    ``nonce`` is what the request may be used for once, where its credentials say so.
    """

    method: str
    name: str
    nonce: str | None = None


class Verifier(Protocol):
    """Tells who sent a request, by one kind of credentials."""

    @property
    def scheme(self) -> str:
        """The challenge of its 401 answer, such as ``Bearer`` (RFC 9110, section 11.6.1)."""

    def concerns(self, incoming: Incoming) -> bool:
        """Whether the request brings credentials of this kind, right or wrong."""

    async def verify(self, incoming: Incoming) -> Caller:
        """Return who sent the request. Raises ``VerificationError``, and nothing else."""

    async def undo(self, caller: Caller) -> None:
        """What was asked for did not happen: the very same request may come again."""

    async def close(self) -> None:
        """Release everything. May be repeated."""


async def verified(verifiers: Sequence[Verifier], incoming: Incoming) -> tuple[Caller, Verifier]:
    """Return who sent a request, and who says so: the first verifier that it convinces.

    Raises ``VerificationError`` of the last one that it concerns.
    """
    refusal = VerificationError("no_credentials", "no credentials were sent")
    for verifier in verifiers:
        try:
            if verifier.concerns(incoming):
                return await verifier.verify(incoming), verifier
        except VerificationError as error:
            refusal = error
    raise refusal
