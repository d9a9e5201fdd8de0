"""When an object fires that has several times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import merge
from itertools import groupby


def merged_times(streams: Iterable[Iterable[datetime]]) -> Iterator[datetime]:
    """Yield the times of ascending streams, ascending, each once, lazily."""
    return (at for at, _ in groupby(merge(*streams)))
