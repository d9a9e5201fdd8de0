"""What is wrong with a Redis or Valkey server, in words that say what to do and tell no password."""

from __future__ import annotations

from datetime import timedelta

from redis import exceptions


def explanation(error: Exception, *, timeout: timedelta, rights: str, what: str) -> str:
    """Return what is wrong.

    ``rights``: what a user has to be allowed, as ``ACL SETUSER`` takes it; ``what`` is kept there.
    """
    text = str(error)
    match error:
        case exceptions.AuthenticationError():
            return "it wants another user name or password; give them in the URL"
        case exceptions.NoPermissionError():
            return f"its user may not do that; allow {rights}"
        case exceptions.BusyLoadingError():
            return "it is still loading its data; try again"
        case exceptions.MovedError():
            return (
                f"it is a cluster, and {what} is on its node {error.host}:{error.port}; "
                "name that one"
            )
        case exceptions.ClusterDownError():
            return "it is a cluster that is not whole; look at its CLUSTER INFO"
        case exceptions.ReadOnlyError():
            return "it is a replica that may only be read; name the primary"
        case exceptions.OutOfMemoryError():
            return "it is out of memory; raise its maxmemory or make room"
        case exceptions.InvalidResponse():
            return "what answers there is no Redis and no Valkey; name another address"
        case exceptions.TimeoutError() | exceptions.ConnectionError() | OSError():
            return _unreached(text, timeout)
        case _:
            return f"it answers: {text[:200]}"


def _unreached(text: str, timeout: timedelta) -> str:
    if "connecting to" in text:
        return f"it cannot be reached: {text.rstrip('.')}; start it, or name another address"
    if text.startswith("Timeout"):
        return (
            f"it did not answer within {timeout}; whether it took the step is not known, try again"
        )
    return "the connection broke; whether it took the step is not known, try again"
