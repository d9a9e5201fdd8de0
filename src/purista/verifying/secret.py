"""Secrets that settings refer to: read when they are needed, never shown, never empty."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, NoReturn, Protocol, TypeVar

from purista.errors import Problem, SettingsError

T = TypeVar("T")

MAX_SIZE: Final = 65_536
"""Bytes: no secret is longer, whatever a file holds."""


class Secret:
    """A secret by its reference: ``env:NAME`` or ``file:PATH``.

    An environment variable is read once. A file is read again when it has changed, so that a secret is
    rotated without a restart; a newline at its end is cut off. The reference is fit for messages, the
    secret is in none of them, and a ``Secret`` cannot be pickled. Raises ``SettingsError`` for
    anything else; the text is not shown then, as it may be a secret itself.

    >>> Secret("env:PURISTA_TOKEN")
    Secret('env:PURISTA_TOKEN')
    """

    __slots__ = ("_source",)

    def __init__(self, reference: str) -> None:
        self._source = _source(reference)

    @classmethod
    def inline(cls, value: str) -> Secret:
        """Return a secret by its value, for tests and for programs that fetch it themselves."""
        secret = cls.__new__(cls)
        secret._source = _Inline(value)
        return secret

    @property
    def reference(self) -> str:
        """Where the secret comes from; ``inline`` where the program gave it."""
        return self._source.reference

    def value(self) -> str:
        """Return the secret: the very same object until it changes.

        Raises ``SettingsError`` when it is not there, cannot be read, or is empty or blank.
        """
        value = self._source.read()
        if not value.strip():
            raise SettingsError([Problem(self.reference, "it is empty", "give it a secret")])
        return value

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled; refer to it again on the other side")


class Reading(Generic[T]):
    """What ``parse`` makes of a secret, made anew when the secret changes.

    ``parse`` raises ``SettingsError`` for what is no such secret; its problems have no place.
    """

    __slots__ = ("_made", "_parse", "_secret", "_seen")

    def __init__(self, secret: Secret, parse: Callable[[str], T]) -> None:
        self._secret = secret
        self._parse = parse
        self._seen: str | None = None
        self._made: list[T] = []

    def current(self) -> T:
        """Return it as the secret is now. Raises ``SettingsError``."""
        value = self._secret.value()
        if value is not self._seen:
            try:
                self._made = [self._parse(value)]
            except SettingsError as error:
                raise SettingsError(
                    problem.within(self._secret.reference) for problem in error.problems
                ) from None
            self._seen = value
        return self._made[0]


def readings(
    place: str, secrets: Sequence[Secret | str] | Secret | str, parse: Callable[[str], T]
) -> tuple[Reading[T], ...]:
    """Return the readings of some secrets, each of which could be read.

    A text is a reference, never the secret. Raises ``SettingsError`` with every problem, and when there
    is no secret at all: nobody means "no check" by an empty list.
    """
    given = [secrets] if isinstance(secrets, Secret | str) else list(secrets)
    if not given:
        raise SettingsError([Problem(place, "there is no secret", "give at least one")])
    problems: list[Problem] = []
    made: list[Reading[T]] = []
    for number, each in enumerate(given):
        try:
            reading = Reading(each if isinstance(each, Secret) else Secret(each), parse)
            reading.current()
            made.append(reading)
        except SettingsError as error:
            problems.extend(problem.within(f"{place}.{number}") for problem in error.problems)
    if problems:
        raise SettingsError(problems)
    return tuple(made)


def current(made: Sequence[Reading[T]]) -> tuple[list[T], list[Problem]]:
    """Return what the readings are now, and what is wrong with those that cannot be read."""
    found: list[T] = []
    problems: list[Problem] = []
    for reading in made:
        try:
            found.append(reading.current())
        except SettingsError as error:
            problems.extend(error.problems)
    return found, problems


def is_monotonous(secret: str | bytes) -> bool:
    """Whether a secret has fewer than 8 different characters or bytes: no random one of 22 has.

    >>> is_monotonous("x" * 40)
    True
    """
    return len(set(secret)) < 8


class _Source(Protocol):
    @property
    def reference(self) -> str: ...

    def read(self) -> str: ...


class _Inline:
    __slots__ = ("_value",)

    reference: Final = "inline"

    def __init__(self, value: str) -> None:
        self._value = value

    def read(self) -> str:
        return self._value


class _Variable:
    __slots__ = ("_name", "_value", "reference")

    def __init__(self, name: str) -> None:
        self.reference = f"env:{name}"
        self._name = name
        self._value: str | None = None

    def read(self) -> str:
        if self._value is None:
            self._value = os.environ.get(self._name)
        if self._value is None:
            raise SettingsError([Problem(self.reference, "it is not set", "set it to a secret")])
        return self._value


class _File:
    __slots__ = ("_path", "_seen", "_value", "reference")

    def __init__(self, path: str) -> None:
        self.reference = f"file:{path}"
        self._path = Path(path)
        self._seen: tuple[int, ...] = ()
        self._value = ""

    def read(self) -> str:
        try:
            return self._read()
        except OSError as error:
            reason = error.strerror
        raise SettingsError([Problem(self.reference, f"it cannot be read: {reason}")])

    def _read(self) -> str:
        found = os.stat(self._path)
        if not stat.S_ISREG(found.st_mode):  # Reading a pipe or a device might never end.
            raise SettingsError([Problem(self.reference, "it is no file", "name a file")])
        if _mark(found) != self._seen:
            with self._path.open("rb") as file:
                seen = _mark(os.fstat(file.fileno()))
                text = file.read(MAX_SIZE + 1)
            if len(text) > MAX_SIZE:
                raise SettingsError([Problem(self.reference, "it is too large for a secret")])
            # Latin-1 reads every byte; what no secret can hold is told by its parser.
            self._value = text.decode("latin-1").removesuffix("\n").removesuffix("\r")
            self._seen = seen
        return self._value


def _mark(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _source(reference: str) -> _Source:
    kind, _, name = reference.partition(":")
    if kind == "env" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return _Variable(name)
    if kind == "file" and name.isprintable() and name.strip():
        return _File(name)
    raise SettingsError(
        [Problem("", "it is no reference to a secret", "write env:NAME or file:PATH")]
    )
