"""NATS: scheduled messages in a JetStream stream, over nats-py.

An object is a message: whose it is, and what was applied last, stand in its headers. A schedule has one
for each of its lines. A one-shot whose time is over is no object any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from purista.bridges.nats_connection import ApiError, NatsConnection
from purista.compiling import Placed, Request
from purista.errors import BridgeError
from purista.plan import Desired, Observed, Owner
from purista.schedulers.nats import NatsSettings, schedule_messages, stream_config
from purista.sync.nats_message import LAST, STREAM, body_of, fields_of, headers_of, observed_of
from purista.sync.nats_stream import config_problems, consumer_problems, missing_subjects
from purista.sync.nats_times import SCHEDULE, foreign_of, message_times
from purista.sync.port import Foreign, SyncError, changed_meanwhile
from purista.turnover import Horizon

_NOT_FOUND: Final = frozenset({10037, 10059})
_CHANGED: Final = 10071
_ELSEWHERE: Final = 10060
"""JetStream's numbers for what is not there, for a subject that has another last message, or stream."""

AT_ONCE: Final = 64
"""Messages that are asked for at a time."""

TIMEOUT: Final = timedelta(seconds=10)
"""How long the server may take for an answer."""


_WHERE: Final = "NATS_URL says where it is, NATS_USER, NATS_CREDS and the like as whom"


@asynccontextmanager
async def open_live(request: Request) -> AsyncIterator[NatsSchedules]:
    """Connect to the server that ``NATS_URL`` names, as whom its own tools do."""
    assert isinstance(request.settings, NatsSettings)
    try:
        connection = NatsConnection(_address(), name="purista plan", timeout=TIMEOUT)
    except BridgeError as error:
        raise SyncError(f"{error}; {_WHERE}") from None
    try:
        await connection.connect(patience=timedelta(0))
    except BridgeError as error:
        await connection.close()
        raise SyncError(f"{error}; {_WHERE}") from None
    try:
        yield NatsSchedules(connection, request.settings, request.horizon)
    finally:
        await connection.close()


def _address() -> str:
    """Return the address, with the user and the files of the variables. Raises ``SyncError``.

    Variables as in https://docs.nats.io/using-nats/nats-tools/nats_cli.
    """
    url = os.environ.get("NATS_URL")
    if not url and os.environ.get("NATS_CONTEXT"):
        raise SyncError(
            "NATS_CONTEXT: contexts of the nats command are not read; set NATS_URL, and NATS_CREDS, "
            "NATS_NKEY, or NATS_USER and NATS_PASSWORD"
        )
    return _with_files(_with_user(url or "nats://localhost:4222"))


def _with_user(url: str) -> str:
    """Return an address with a user or a token, unless it has one."""
    name, password = os.environ.get("NATS_USER"), os.environ.get("NATS_PASSWORD")
    user = name or os.environ.get("NATS_TOKEN")
    scheme, _, place = url.partition("://") if "://" in url else ("nats", "", url)
    if not user or "@" in place:
        return url
    words = [user, password] if name and password else [user]
    return f"{scheme}://{':'.join(quote(each, safe='') for each in words)}@{place}"


def _with_files(url: str) -> str:
    """Return an address with a file of credentials or of a seed, unless it has options."""
    variables = {"credentials": "NATS_CREDS", "nkey": "NATS_NKEY"}
    named = {option: os.environ.get(name) for option, name in variables.items()}
    files = {option: Path(path).expanduser() for option, path in named.items() if path}
    return f"{url}?{urlencode(files)}" if files and "?" not in url else url


class NatsSchedules:
    """Implements ``LiveScheduler`` for one stream."""

    def __init__(
        self, connection: NatsConnection, settings: NatsSettings, horizon: Horizon
    ) -> None:
        self._connection = connection
        self._horizon = horizon
        self._stream = settings.stream
        self._prefix = settings.subject_prefix
        self._config: dict[str, Any] | None = None
        self._desired: Sequence[Desired] = ()

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return a message for each line of what is placed; none for a one-shot that is over."""
        now = datetime.now(UTC)
        found: list[Desired] = []
        for each in placed:
            assert isinstance(each.settings, NatsSettings)
            if (each.settings.stream, each.settings.subject_prefix) != (self._stream, self._prefix):
                raise SyncError(
                    f"schedule '{each.schedule.id}': its subjects are '{each.settings.subject_prefix}.>' "
                    f"in stream '{each.settings.stream}', the plan's '{self._prefix}.>' in "
                    f"'{self._stream}'; give it a deployment of its own"
                )
            owner = Owner(deployment, each.schedule.id, each.fingerprint)
            found += [
                Desired(message.subject, owner, fields_of(message.headers))
                for message in schedule_messages(each, request.horizon)
                if message.before is None or message.before > now
            ]
        self._config = stream_config(self._stream, placed) if placed else None
        self._desired = found
        return found

    async def observed(
        self, deployment: str, names: Collection[str]
    ) -> AsyncGenerator[Observed, None]:
        """Yield the deployment's scheduled messages, and those on one of the subjects.

        Raises ``SyncError`` also where the stream cannot keep what is desired, or let it fire.
        """
        try:
            await self._check()
            async for each in self._each(self._stream, f"{self._prefix}.>"):
                if each.name in names or _is_of(each, deployment):
                    yield each
        except BridgeError as error:
            raise SyncError(str(error)) from None

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Publish a message on a subject that has none; makes the stream where it is not there."""
        await self._publish(desired, fields, "0")

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Publish a message in place of the one that was observed."""
        await self._publish(desired, fields, observed.version)

    async def delete(self, observed: Observed) -> None:
        """Delete the message of a subject that was observed, and no later one."""
        try:
            there = await self._last(self._stream, observed.name)
            if there is None:
                return
            if there.version != observed.version:
                raise changed_meanwhile(observed.name)
            wanted = {"filter": observed.name, "seq": int(observed.version) + 1}
            await self._connection.api(f"STREAM.PURGE.{self._stream}", wanted)
        except BridgeError as error:
            raise SyncError(str(error)) from None

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return when a message is published; None where that is not known."""
        return message_times(fields, start, end)

    async def foreign(self) -> AsyncGenerator[Foreign, None]:
        """Yield the scheduled messages without our marker, of all streams that take schedules."""
        found: list[Foreign] = []
        try:
            for each in await self._listed("STREAM.LIST", "streams"):
                if each["config"].get("allow_msg_schedules"):
                    found += [one async for one in self._foreign_in(each["config"]["name"])]
        except BridgeError as error:
            raise SyncError(str(error)) from None
        for one in sorted(found, key=lambda one: one.name):
            yield one

    async def _foreign_in(self, stream: str) -> AsyncGenerator[Foreign, None]:
        shown = "" if stream == self._stream else stream
        async for each in self._each(stream, ">"):
            if each.owner is None and SCHEDULE in each.fields:
                yield foreign_of(each.name, each.fields, shown, self._horizon)

    async def _check(self) -> None:
        """Raise ``SyncError`` where the stream cannot keep what is desired, or let it fire."""
        if not self._desired:
            return
        config = await self._stream_config()
        if config is None:
            await self._check_room()
            return
        problems = list(config_problems(config, self._desired))
        subjects = config.get("subjects") or ()
        problems += [
            f"its subjects have to hold '{each}'{await self._holder(each)}"
            for each in missing_subjects(subjects, self._desired, self._prefix)
        ]
        consumers = await self._listed(f"CONSUMER.LIST.{self._stream}", "consumers")
        names = [each.name for each in self._desired]
        problems += consumer_problems(config, [each["config"] for each in consumers], names)
        self._refuse(problems)

    async def _check_room(self) -> None:
        """Raise ``SyncError`` where another stream has the subjects of the one that is to be made."""
        assert self._config is not None
        taken = [(each, await self._holder(each)) for each in self._config["subjects"]]
        self._refuse(
            [f"it cannot be made with '{each}'{holder}" for each, holder in taken if holder]
        )

    def _refuse(self, problems: Sequence[str]) -> None:
        if problems:
            raise SyncError(
                f"stream '{self._stream}' of NATS at {self._connection} would lose schedules or "
                f"triggers: {'; '.join(problems)}. Change it (nats stream edit {self._stream}), or give "
                "[nats] another stream, subject_prefix or target"
            )

    async def _holder(self, subject: str) -> str:
        """Return which other stream has a subject, in words."""
        answer = await self._connection.api("STREAM.NAMES", {"subject": subject})
        others = [each for each in answer.get("streams") or () if each != self._stream]
        return f", which stream '{others[0]}' has" if others else ""

    async def _stream_config(self) -> dict[str, Any] | None:
        try:
            answer = await self._connection.api(f"STREAM.INFO.{self._stream}")
        except ApiError as error:
            if error.code in _NOT_FOUND:
                return None
            raise
        config: dict[str, Any] = answer["config"]
        return config

    async def _listed(self, subject: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = await self._connection.api(subject, {"offset": len(found)})
            page = answer.get(name) or []
            found += page
            if not page or len(found) >= answer.get("total", len(found)):
                return found

    async def _each(self, stream: str, pattern: str) -> AsyncGenerator[Observed, None]:
        subjects = await self._subjects(stream, pattern)
        for at in range(0, len(subjects), AT_ONCE):
            some = [self._last(stream, each) for each in subjects[at : at + AT_ONCE]]
            for found in await asyncio.gather(*some):
                if found is not None:
                    yield found

    async def _subjects(self, stream: str, pattern: str) -> list[str]:
        found: list[str] = []
        while True:
            wanted = {"subjects_filter": pattern, "offset": len(found)}
            try:
                answer = await self._connection.api(f"STREAM.INFO.{stream}", wanted)
            except ApiError as error:
                if error.code in _NOT_FOUND:
                    return []
                raise
            page = answer["state"].get("subjects") or {}
            found += sorted(page)
            if len(page) == 0 or len(found) >= answer.get("total", len(found)):
                return found

    async def _last(self, stream: str, subject: str) -> Observed | None:
        try:
            answer = await self._connection.api(
                f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}
            )
        except ApiError as error:
            if error.code in _NOT_FOUND:
                return None
            raise
        return observed_of(subject, answer["message"])

    async def _publish(self, desired: Desired, fields: Mapping[str, Any], expected: str) -> None:
        headers = headers_of(desired, fields) | {LAST: expected, STREAM: self._stream}
        body = body_of(fields)
        try:
            await self._connection.published(desired.name, body, headers, missing=self._make_stream)
        except ApiError as error:
            if error.code == _CHANGED:
                await self._check_done(desired, fields)
                return
            if error.code == _ELSEWHERE:
                raise SyncError(
                    f"'{desired.name}' is of another stream than '{self._stream}' meanwhile; plan again"
                ) from None
            raise SyncError(str(error)) from None
        except BridgeError as error:
            raise SyncError(str(error)) from None

    async def _check_done(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Raise ``SyncError`` unless a message is as it was to be, as after an answer that was lost."""
        try:
            there = await self._last(self._stream, desired.name)
        except BridgeError as error:
            raise SyncError(str(error)) from None
        wanted = {name: text for name, text in fields.items() if text is not None}
        if there is None or (there.fields, there.owner) != (wanted, desired.owner):
            raise changed_meanwhile(desired.name)

    async def _make_stream(self) -> None:
        """Make the stream. A server before 2.14 does so too, and then keeps schedules that never fire."""
        if self._config is None:
            return
        answer = await self._connection.api(f"STREAM.CREATE.{self._stream}", self._config)
        if not answer["config"].get("allow_msg_schedules"):
            raise SyncError(
                f"NATS at {self._connection} knows no message schedules; it has to be nats-server 2.14 "
                f"or later. Delete stream '{self._stream}' there, which is empty"
            )


def _is_of(observed: Observed, deployment: str) -> bool:
    return observed.owner is not None and observed.owner.deployment == deployment
