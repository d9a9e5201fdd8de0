"""What is wrong with the server of a Redis event bridge, in words."""

from __future__ import annotations

from datetime import timedelta

from redis import exceptions

from purista.redisstore.explanation import explanation as server_explanation


def is_lasting(error: Exception) -> bool:
    """Whether trying again cannot help: the server answered that it will not."""
    lasting = exceptions.AuthenticationError | exceptions.InvalidResponse | exceptions.DataError
    if isinstance(error, lasting):
        return True
    passing = exceptions.ReadOnlyError | exceptions.ClusterDownError | exceptions.TryAgainError
    return isinstance(error, exceptions.ResponseError) and not isinstance(error, passing)


def bare(error: Exception) -> Exception:
    """Return an error without what Redis before 7.0 wraps around those within a script."""
    text = str(error)
    if isinstance(error, exceptions.ResponseError) and text.startswith("Error running script"):
        if "-OOM " in text:
            return exceptions.OutOfMemoryError(text)
        if "-READONLY " in text:
            return exceptions.ReadOnlyError(text)
    return error


def explanation(error: Exception) -> str:
    """Return what is wrong and what to do."""
    match error:
        case exceptions.DataError():
            return f"{error}; it was not sent"
        case exceptions.TimeoutError():
            return "it does not answer"
        case (
            exceptions.AuthenticationError()
            | exceptions.BusyLoadingError()
            | exceptions.InvalidResponse()
            | exceptions.ResponseError()
        ):
            return server_explanation(error, timeout=_NONE, rights=_RIGHTS, what="a stream")
        case _:
            return "it cannot be reached"


_NONE = timedelta(0)
_RIGHTS = (
    "+@read +@write +@scripting +@connection +@pubsub +info +time, and the keys and channels that "
    "begin with the prefix"
)
