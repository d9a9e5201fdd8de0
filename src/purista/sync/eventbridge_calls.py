"""Calls of an AWS service over botocore: in threads, with time-outs, again where it refuses for now."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from purista.errors import MissingExtraError
from purista.sync.port import SyncError
from purista.sync.retrying import ATTEMPTS, rest

try:
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        HTTPClientError,
        NoCredentialsError,
        SSLError,
    )
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.parsers import ResponseParserError
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for EventBridge Scheduler", "aws") from None

AT_ONCE: Final = 16
"""Calls that are made at a time."""

UNREACHED: Final = 4
"""How often a call is tried that reaches nobody."""

CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=AT_ONCE,
    retries={"mode": "standard", "total_max_attempts": 1},
)
"""botocore itself tries each call once: how often, is counted here."""

CONFLICT: Final = "ConflictException"
NOT_FOUND: Final = "ResourceNotFoundException"
VALIDATION: Final = "ValidationException"

_FOR_NOW: Final = frozenset(
    {"ThrottlingException", "InternalServerException", "TooManyRequestsException"}
)
_WHO: Final = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
_PASSING: Final = (NoConnectionError, HTTPClientError, ResponseParserError)
_REMEDY: Final = (
    "credentials come from where the AWS CLI takes them, such as AWS_PROFILE or AWS_ACCESS_KEY_ID"
)
_LONGEST: Final = 400


class Refusal(SyncError):
    """What a service said; ``code`` is AWS's word for it."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Calls:
    """A client of botocore, which threads may share. ``place`` is what people call the service."""

    def __init__(self, client: Any, place: str) -> None:
        self._client = client
        self._place = place
        self._places = asyncio.Semaphore(AT_ONCE)

    async def __call__(
        self, operation: str, *, passing: frozenset[str] = frozenset(), **request: Any
    ) -> dict[str, Any]:
        """Call an operation; ``passing`` are more words for what may pass. Raises ``Refusal``."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._call(operation, request)
            except ClientError as error:
                refusal, most = self._refused(error), ATTEMPTS
                if not (_is_for_now(error) or refusal.code in passing):
                    raise refusal from None
            except SSLError as error:
                raise Refusal(f"{self._place}: {error}") from None
            except _PASSING as error:
                is_away = isinstance(error, EndpointConnectionError)
                refusal, most = self._away(error), UNREACHED if is_away else ATTEMPTS
            except BotoCoreError as error:
                raise self._failed(error) from None
            if attempt >= most:
                raise refusal from None
            await rest(attempt)
        raise AssertionError

    async def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        async with self._places:
            answer: dict[str, Any] = await asyncio.to_thread(
                getattr(self._client, operation), **request
            )
            return answer

    def _refused(self, error: ClientError) -> Refusal:
        said = error.response.get("Error", {})
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))[:_LONGEST]
        remedy = f"; {_REMEDY}" if code in _WHO else ""
        return Refusal(f"{self._place}: {code}: {message}{remedy}", code)

    def _away(self, error: Exception) -> Refusal:
        """Return what is said of a connection that failed; its own text may hold a request."""
        return Refusal(
            f"{self._place} does not answer ({type(error).__name__}); the region, and "
            "AWS_ENDPOINT_URL_SCHEDULER if it is set, say where it is"
        )

    def _failed(self, error: BotoCoreError) -> Refusal:
        remedy = f"; {_REMEDY}" if isinstance(error, NoCredentialsError) else ""
        return Refusal(f"{self._place}: {str(error)[:_LONGEST]}{remedy}")


def _is_for_now(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    return code in _FOR_NOW or status == 429 or status >= 500
