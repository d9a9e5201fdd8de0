"""Why a server can forget what it was given: its settings for persistence and for a full memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis import exceptions

Ask = Callable[..., Awaitable[Any]]
"""Sends one command, given word by word, and returns its answer."""


async def weaknesses(ask: Ask) -> list[str]:
    """Return why the server can forget; a server that does not tell has none.

    https://valkey.io/topics/persistence/, https://valkey.io/topics/lru-cache/
    """
    try:
        persistence = _fields(await ask("INFO", "persistence"))
        memory = _fields(await ask("INFO", "memory"))
    except exceptions.ResponseError:
        return []
    found: list[str] = []
    if persistence.get("aof_enabled", "1") == "0":
        found.append("it keeps no append-only file; set 'appendonly yes'")
    elif await _fsync(ask) == "no":
        found.append("it leaves writing to the kernel; set 'appendfsync always'")
    policy = memory.get("maxmemory_policy", "")
    if policy.startswith("allkeys") and memory.get("maxmemory", "1") != "0":
        found.append(
            f"it evicts keys when it is full ({policy}); set 'maxmemory-policy noeviction'"
        )
    return found


async def _fsync(ask: Ask) -> str:
    """Return ``appendfsync``; managed services may refuse to tell."""
    try:
        found = await ask("CONFIG", "GET", "appendfsync")
    except exceptions.ResponseError:
        return ""
    return _pairs(found).get("appendfsync", "")


def _fields(info: Any) -> Mapping[str, str]:
    """Return the lines of ``INFO`` by their names; redis-py may have taken them apart already."""
    if isinstance(info, Mapping):
        return {_text(name): _text(value) for name, value in info.items()}
    lines = (line.partition(":") for line in _text(info).splitlines())
    return {name: value for name, _, value in lines}


def _pairs(found: Any) -> Mapping[str, str]:
    if isinstance(found, Mapping):
        return _fields(found)
    texts = [_text(one) for one in found]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _text(value: Any) -> str:
    return str(value, "utf-8", "replace") if isinstance(value, bytes) else str(value)
