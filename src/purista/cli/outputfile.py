"""Files that a command writes; ``-`` is stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from purista.errors import LoadError

STDOUT: Final = "-"


def check_paths(paths: Mapping[str, str]) -> None:
    """Raise ``LoadError`` where two options, the keys, name the same file."""
    options: dict[str, str] = {}
    for option, path in paths.items():
        if path in options:
            raise LoadError(f"{options[path]} and {option} both write '{path}'; name two files")
        options[path] = option


def write_file(path: str, chunks: Iterable[str]) -> None:
    """Write chunks as UTF-8, their line ends untouched. Raises ``LoadError``."""
    if path == STDOUT:
        with reader_may_leave():
            for chunk in chunks:
                sys.stdout.buffer.write(chunk.encode())
            sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as file:
            for chunk in chunks:
                file.write(chunk.encode())
    except OSError as error:
        raise LoadError(f"cannot write '{path}': {error.strerror or error}") from None


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly when the reader of stdout has seen enough, as ``head`` has."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Let stdout lead nowhere, as Python flushes it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
