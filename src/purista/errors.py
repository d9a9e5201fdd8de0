"""Every exception that purista raises.

::

    PuristaError
    ├── ContractError          a declaration is wrong; carries every problem found (a ValueError too)
    │   ├── ExpressionError    a Cron, Every or Once is wrong
    │   ├── ManifestError      a manifest is wrong
    │   └── SettingsError      purista.toml is wrong
    ├── PortabilityError       a scheduler would not do what a contract says (a ValueError too)
    ├── PayloadError           a payload does not fit its schema (a ValueError too)
    ├── TriggerError           a trigger is malformed (a ValueError too)
    ├── CommandError           what the caller of a command can get
    │   ├── HandledError       raised by a handler on purpose: code, message, data reach the caller
    │   ├── UnhandledError     the handler failed in an unexpected way; details stay in its log
    │   ├── UnknownCommandError
    │   └── CommandTimeoutError
    ├── BridgeError            a broker could not do what was asked
    │   ├── BridgeClosedError
    │   └── LeaseLostError     the lease ran out or was taken away
    ├── VerificationError      a request could not be shown to come from whom it may
    ├── IngressError           an ingress could not be asked, or did not take the request
    ├── LedgerError            the store of runs could not do what was asked
    ├── LoadError              'package.module:attribute' could not be loaded
    └── MissingExtraError      an optional dependency is not installed (an ImportError too)

Messages say where, what and what to do; they never contain a payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is, what is wrong, and what to do about it.

    >>> str(Problem("schedule 'billing.v1.x': timezone", "unknown time zone 'Mars'", "use UTC"))
    "schedule 'billing.v1.x': timezone: unknown time zone 'Mars'; use UTC"
    """

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}; {self.remedy}" if self.remedy else text

    def within(self, place: str) -> Problem:
        """Return the same problem, seen from an outer ``place``."""
        return Problem(f"{place}: {self.place}" if self.place else place, self.message, self.remedy)


class PuristaError(Exception):
    """The root of all errors of this package."""


class ContractError(PuristaError, ValueError):
    """One or more mistakes in a declaration; ``problems`` holds each of them."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(_listed(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class ExpressionError(ContractError):
    """A cron text, an interval or a one-shot that has no meaning, or more than one."""


class ManifestError(ContractError):
    """A manifest that cannot be read: broken JSON, wrong fields, or a newer major version."""


class SettingsError(ContractError):
    """Deployment settings that are missing or wrong; carries every mistake."""


class PortabilityError(PuristaError, ValueError):
    """A scheduler would not do what contracts say, and nobody has accepted that.

    ``findings`` holds each difference; the message names every one.
    """

    findings: tuple[Any, ...]

    def __init__(self, scheduler: str, findings: Iterable[Any]) -> None:
        self.scheduler = scheduler
        self.findings = tuple(findings)
        count = len(self.findings)
        lines = [f"{scheduler}: {count} finding{'' if count == 1 else 's'}:"]
        super().__init__("\n".join([*lines, *(f"  - {each}" for each in self.findings)]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.scheduler, self.findings)


class PayloadError(PuristaError, ValueError):
    """A payload that does not fit its schema; names fields and rules, never values."""


class TriggerError(PuristaError, ValueError):
    """A trigger that is not a CloudEvents 1.0 event of purista's type."""


class CommandError(PuristaError):
    """What the caller of a command can get instead of an answer.

    ``code`` is a stable word for programs, ``message`` is for people, ``data`` is JSON or None.
    """

    def __init__(self, code: str, message: str, data: Any = None) -> None:
        self.code = code
        self.message = message
        self.data = data
        super().__init__(f"{code}: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.data)


class HandledError(CommandError):
    """Raise it in a handler: code, message and data reach the caller as they are."""


class UnhandledError(CommandError):
    """The handler failed in a way it did not plan; only its own log has the details."""


class UnknownCommandError(CommandError):
    """No service on the bridge handles the command."""


class CommandTimeoutError(CommandError):
    """No answer came in time; the command may still have run."""


class BridgeError(PuristaError):
    """A broker could not do what was asked."""


class BridgeClosedError(BridgeError):
    """The bridge is closed, or is closing and takes nothing new."""


class LeaseLostError(BridgeError):
    """The job is no longer this worker's: its lease ran out, or it was settled already."""


class VerificationError(PuristaError):
    """A request could not be shown to come from a caller who may send triggers.

    ``reason`` is a word for logs and metrics; the message is for logs. The caller is told neither.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, str(self))


class IngressError(PuristaError):
    """An ingress behind an address could not be reached, or refused the request.

    ``retry_after``: sending it again can help, not before so many seconds; None: it cannot. ``status``
    is the HTTP status, None where there was no answer.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), status=self.status, retry_after=self.retry_after), (str(self),)


class LedgerError(PuristaError):
    """The store of runs could not do what was asked."""


class LoadError(PuristaError):
    """A name of the form ``package.module:attribute`` leads to nothing usable."""


class MissingExtraError(PuristaError, ImportError):
    """An optional dependency is missing; the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs more packages: pip install 'purista[{extra}]'")


def _listed(problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    return "\n".join([f"{len(problems)} problems:", *(f"  - {problem}" for problem in problems)])
