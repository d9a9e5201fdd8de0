"""NATS's scheduled messages mean what their contracts mean: asked of a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote

import pytest
from nats.js.client import JetStreamContext
from tests.engines import nats as engine
from tests.engines.nats import Question, Refused, Server, Window, nats_server, next_times

from purista import firetimes
from purista.compiling import Compilation, Request, compile_schedules, default_horizon, place
from purista.contract import Event, Schedule
from purista.cover import Line
from purista.dialect import clock_windows
from purista.errors import SettingsError
from purista.expression import EPOCH, Cron, Every, Once
from purista.schedulers import nats
from purista.schedulers.nats import SCHEDULER
from purista.settings import IngressSettings, read_settings
from purista.testing import SchedulerSuite
from purista.testing.corpus import END, START
from purista.trigger import Trigger
from purista.turnover import Horizon

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
GOLDENS = Path(__file__).parent / "goldens/compile/nats"
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
MANY = 800
"""A line that fires more often in two years is asked on chosen days, around each clock change too."""


class Asked(NamedTuple):
    """A text as the server is given it, and the line from which it was made: a guess of its times."""

    text: str
    timezone: str | None
    line: Line


class TestNats(SchedulerSuite):
    scheduler = SCHEDULER
    _answers: ClassVar[dict[tuple[str, str | None], list[datetime]]] = {}

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, set[datetime]]:
        assert (start, end) == (START, END)
        asked = dict(asked_of(compilation))
        texts = {one[:2]: one for several in asked.values() for one in several}
        missing = [one for key, one in texts.items() if key not in self._answers]
        self._answers.update(answers(missing))
        found = {one: set[datetime]() for one in asked}
        for one, several in asked.items():
            for each in several:
                found[one] |= set(self._answers[each[:2]])
        return found | one_shots(compilation)


def messages(compilation: Compilation) -> list[dict[str, Any]]:
    (text,) = (each.text for each in compilation.artifacts if each.path.endswith(".jsonl"))
    return [json.loads(line) for line in text.splitlines()]


def asked_of(compilation: Compilation) -> Iterator[tuple[str, list[Asked]]]:
    """Yield for each schedule what the server is told, from the messages."""
    told: dict[str, list[dict[str, str]]] = {}
    for message in messages(compilation):
        headers = message["headers"]
        told.setdefault(headers["ce-subject"], []).append(headers)
    for placed in compilation.placed:
        if placed.cover.lines and placed.schedule.enabled:
            yield (
                placed.schedule.id,
                [
                    Asked(each["Nats-Schedule"], each.get("Nats-Schedule-Time-Zone"), line)
                    for each, line in zip(told[placed.schedule.id], placed.cover.lines, strict=True)
                ],
            )


def one_shots(compilation: Compilation) -> dict[str, set[datetime]]:
    """Return when the one-shots are due, by their texts; that the server keeps to them is tested."""
    found: dict[str, set[datetime]] = {}
    for message in messages(compilation):
        text = message["headers"]["Nats-Schedule"]
        if text.startswith("@at "):
            at = datetime.fromisoformat(text.removeprefix("@at "))
            found[message["headers"]["ce-subject"]] = {at}
    return found


def answers(asked: Sequence[Asked]) -> dict[tuple[str, str | None], list[datetime]]:
    """Ask the server; of a line that fires often, what was not asked stays as it was guessed."""
    if not asked:
        return {}
    guessed = {one[:2]: guess(one, START, END) for one in asked}
    windows = [
        Window(
            one.text,
            one.timezone,
            since,
            until,
            guessed[one[:2]][part(guessed[one[:2]], since, until)],
        )
        for one in asked
        for since, until in stretches(one, guessed[one[:2]])
    ]
    for window, found in zip(windows, asyncio.run(engine.fires(windows)), strict=True):
        assert not isinstance(found, Refused), (window.expression, found)
        key = window.expression, window.timezone
        guessed[key][part(guessed[key], window.start, window.end)] = found
    return guessed


def guess(one: Asked, start: datetime, end: datetime) -> list[datetime]:
    words = {"dst_gap": "skip", "dst_overlap": "both"}
    return list(firetimes.between(one.line.cron, one.line.timezone, start, end, **words))


def part(times: Sequence[datetime], since: datetime, until: datetime) -> slice:
    return slice(bisect_left(times, since), bisect_right(times, until))


def stretches(one: Asked, guessed: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Return the times that are asked: all, or the days on which something might be otherwise."""
    if len(guessed) <= MANY:
        return [(START, END)]
    length = timedelta(hours=28) if len(guessed) < 40 * MANY else 3 * HOUR
    middles = [window.transition.instant for window in clock_windows(one.line.timezone, START, END)]
    middles += [datetime(2027, 2, 28, 23, tzinfo=UTC), datetime(2028, 2, 29, 23, tzinfo=UTC)]
    middles += [datetime(2027, 12, 31, 23, tzinfo=UTC), datetime(2028, 7, 9, 12, tzinfo=UTC)]
    return [(at - length / 2, at + length / 2) for at in sorted(middles)]


def schedule(name: str = "x", **options: Any) -> Schedule:
    values: dict[str, Any] = {"expression": Cron("0 4 * * *"), "payload": "due", **options}
    target = Event("due", str, service_name="S", service_version="1")
    return Schedule(name=name, service_name="S", service_version="1", target=target, **values)


def request(**options: Any) -> Request:
    settings = nats.NatsSettings.model_validate(options)
    return Request(settings, IngressSettings(recovery="ingress"), default_horizon(NEW_YEAR))


def compiled(*schedules: Schedule, asked: Request | None = None) -> Compilation:
    return compile_schedules(SCHEDULER, schedules, asked or request())


def text_of(compilation: Compilation, name: str) -> str:
    (text,) = (each.text for each in compilation.artifacts if each.path == f"PURISTA/{name}")
    return text


def codes(asked: Request | None = None, **options: Any) -> list[str]:
    return [each.code for each in place(SCHEDULER, [schedule(**options)], asked or request())[1]]


# Zones: the changes of every kind that the time-zone database knows for 2027 to 2036.

ZONES = (
    *("Africa/Cairo", "Africa/Casablanca", "Europe/Berlin", "America/New_York", "America/Nuuk"),
    *("America/Havana", "America/Santiago", "Australia/Sydney", "Pacific/Auckland"),
    *("Antarctica/Troll", "Asia/Beirut", "Europe/Helsinki", "Asia/Gaza", "Asia/Jerusalem"),
    *("Atlantic/Azores", "Europe/London", "Australia/Lord_Howe", "Pacific/Easter"),
    *("Pacific/Chatham", "America/St_Johns", "Asia/Tehran"),
)


def around_changes() -> Iterator[Schedule]:
    """Yield schedules of every hour, and of every day of week and month next to a change."""
    for zone in ZONES:
        windows = clock_windows(zone, START, END)
        texts = {f"15 {hour} * * *" for hour in range(24)} | {"*/20 * * * *", "10 */3 * * *"}
        for window in windows:
            for shift in (-1, 0, 1):
                day = (window.first + shift * DAY).date()
                texts |= {f"40 0,9,23 * * {day.isoweekday() % 7}", f"5 0,1,6 {day.day} * *"}
        for number, text in enumerate(sorted(texts)):
            name = f"{zone.replace('/', '_')}-{number}"
            yield schedule(name, expression=Cron(text), timezone=zone, dst_overlap="both")


def test_around_every_kind_of_change_lines_in_the_zone_fire_as_the_dialect_says() -> None:
    placed, _ = place(SCHEDULER, around_changes(), request())
    local = [each for each in placed if each.cover.lines[0].timezone != "UTC"]
    windows = []
    for each in local:
        ((cron, zone),) = each.cover.lines
        asked = Asked(nats.cron_text(Line(cron, zone)), zone, Line(cron, zone))
        for window in clock_windows(zone, START, END):
            since, until = (window.transition.instant + shift * DAY for shift in (-1.5, 1.5))
            windows.append(Window(asked.text, zone, since, until, guess(asked, since, until)))
    found = asyncio.run(engine.fires(windows))
    assert found == [list(window.claimed) for window in windows]
    zones = {each.schedule.timezone for each in local}
    assert {"Europe/Berlin", "America/New_York", "Antarctica/Troll"} <= zones
    assert not zones & {"Africa/Cairo", "America/Havana", "America/Nuuk", "Pacific/Chatham"}
    assert "Australia/Lord_Howe" not in zones


# From a schedule to a trigger: the consumer that the module's docstring describes.


def trigger_of(headers: Mapping[str, str], stored: datetime) -> Trigger:
    """Return the trigger of a produced message: the slot is on its grid, the latest that has come."""
    found = {name: value for name, value in headers.items() if name.startswith("ce-")}
    if "ce-time" not in found:
        period, phase = map(int, found["ce-puristaslots"].split("+"))
        seconds = (stored - EPOCH) // SECOND - phase
        at = EPOCH + (seconds // period * period + phase) * SECOND
        found["ce-time"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        found["ce-id"] = f"{found['ce-subject']}/{found['ce-time']}"
    return Trigger.from_headers(found, b"")


@asynccontextmanager
async def published(
    compilation: Compilation, since: datetime, folder: Path | None = None
) -> AsyncIterator[tuple[Server, JetStreamContext.PullSubscription]]:
    """Let a server whose clock stands at ``since`` hold what was compiled, and consume the triggers."""
    async with nats_server(folder) as server:
        server.clock.set(since)
        await server.ask("STREAM.CREATE.PURISTA", json.loads(text_of(compilation, "stream.json")))
        for message in messages(compilation):
            await publish(server, message["subject"], message["headers"])
        stream = server.client.jetstream()
        yield (
            server,
            await stream.pull_subscribe("purista.triggers", "ingress", stream="PURISTA"),
        )


async def publish(server: Server, subject: str, headers: dict[str, str]) -> None:
    reply = await server.client.request(subject, b"", 5, headers=headers)
    assert "error" not in json.loads(reply.data), reply.data


async def pass_through(server: Server, instant: datetime) -> None:
    """Let the server fire what is due at ``instant``: as the harness does, in our own stream."""
    server.clock.set(instant - SECOND)
    past = {"Nats-Schedule": "@at 2000-01-01T00:00:00Z"}
    target = {"Nats-Schedule-Target": "purista.schedules.poked"}
    await publish(server, "purista.schedules.poke", past | target)
    server.clock.set(instant)


async def fetched(triggers: JetStreamContext.PullSubscription) -> Trigger:
    (message,) = await triggers.fetch(1, timeout=10)
    await message.ack_sync()
    return trigger_of(message.headers or {}, message.metadata.timestamp)


async def test_the_slot_of_an_exact_line_is_the_nominal_time() -> None:
    one = schedule(expression=Cron("30 4 * * *"), timezone="Europe/Berlin")
    compilation = compiled(one)
    assert compilation.placed[0].cover.fit == "exact"
    async with published(compilation, datetime(2027, 3, 27, 12, tzinfo=UTC)) as (server, triggers):
        slots = [datetime(2027, 3, day, 2, 30, tzinfo=UTC) for day in (28, 29)]
        for slot in slots:
            await pass_through(server, slot)
            found = await fetched(triggers)
            assert (found.schedule_id, found.nominal_time) == ("S.v1.x", slot)
            assert one.contains(slot)
            assert found.id == f"S.v1.x/{slot:%Y-%m-%dT%H:%M:%SZ}"
            assert found.fingerprint == compilation.placed[0].fingerprint


@pytest.mark.parametrize(
    ("options", "slots"),
    [
        (
            {"expression": Cron("30 2 * * *"), "timezone": "Europe/Berlin"},
            {"2027-10-31T00:30Z": True, "2027-10-31T01:30Z": False, "2027-11-01T01:30Z": True},
        ),
        (
            {"expression": Cron("30 0 * * *"), "timezone": "America/Havana"},
            {"2027-03-13T05:30Z": True, "2027-03-14T04:30Z": False, "2027-03-15T04:30Z": True},
        ),
        (
            {"expression": Every(90 * MINUTE)},
            {"2027-01-01T00:30Z": False, "2027-01-01T01:00Z": False, "2027-01-01T01:30Z": True},
        ),
    ],
)
async def test_the_slots_of_more_lines_than_the_contract_s_are_told_apart(
    options: dict[str, Any], slots: dict[str, bool]
) -> None:
    one = schedule(**options)
    compilation = compiled(one)
    assert compilation.placed[0].cover.fit == "superset"
    times = {datetime.fromisoformat(text): due for text, due in slots.items()}
    async with published(compilation, min(times) - 10 * MINUTE) as (server, triggers):
        for slot, due in times.items():
            await pass_through(server, slot)
            found = await fetched(triggers)
            assert found.nominal_time == slot
            assert one.contains(slot) is due


async def test_a_one_shot_says_its_time_however_late_it_is_sent(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    compilation = compiled(schedule(expression=Once(now - HOUR)))
    async with published(compilation, now - 2 * HOUR, tmp_path):
        pass
    async with nats_server(tmp_path) as server:
        stream = server.client.jetstream()
        triggers = await stream.pull_subscribe("purista.triggers", "ingress", stream="PURISTA")
        found = await fetched(triggers)
        assert (found.nominal_time, found.id) == (now - HOUR, f"S.v1.x/{now - HOUR:%FT%TZ}")
        assert await held(server) == []


async def test_a_trigger_is_gone_when_it_is_acknowledged_and_its_schedule_stays() -> None:
    async with published(compiled(schedule()), NEW_YEAR) as (server, triggers):
        await pass_through(server, NEW_YEAR + 4 * HOUR)
        await fetched(triggers)
        state = await server.ask("STREAM.INFO.PURISTA", {"subjects_filter": ">"})
        subjects = state["state"]["subjects"]
        assert subjects == {"purista.schedules.S.v1.x.1": 1, "purista.schedules.poked": 1}


def test_slots_are_told_a_few_milliseconds_late_and_at_the_slot_itself() -> None:
    slot = datetime(2027, 1, 1, 1, 30, tzinfo=UTC)
    headers = messages(compiled(schedule(expression=Every(90 * MINUTE))))[0]["headers"]
    for late in (timedelta(0), timedelta(milliseconds=5), timedelta(seconds=2)):
        assert trigger_of(headers, slot + late).nominal_time == slot


# What the messages say.


def headers_of(**options: Any) -> dict[str, str]:
    found: dict[str, str] = messages(compiled(schedule(**options)))[0]["headers"]
    return found


def test_a_line_in_its_zone_says_the_zone_and_one_in_utc_none() -> None:
    berlin = headers_of(timezone="Europe/Berlin")
    assert berlin["Nats-Schedule"] == "0 0 4 * * *"
    assert berlin["Nats-Schedule-Time-Zone"] == "Europe/Berlin"
    assert "Nats-Schedule-Time-Zone" not in headers_of(timezone="America/Havana")


def test_no_schedule_has_a_message_id_or_an_interval_and_every_one_has_its_marker() -> None:
    compilation = TestNats().compiled(TestNats().contracts())
    found = [each["headers"] for each in messages(compilation)]
    assert not any("Nats-Msg-Id" in each for each in found)
    assert not any("@every" in each["Nats-Schedule"] for each in found)
    assert all(
        each["Purista"] == f"purista: {each['ce-subject']} {each['ce-puristafingerprint']}"
        for each in found
    )


@pytest.mark.parametrize(
    ("options", "ttl"),
    [
        ({}, "86400s"),
        ({"misfire_grace": 3 * DAY}, "259200s"),
        ({"missed_run_policy": "catchUp", "catch_up_window": 2 * DAY}, "172800s"),
        ({"missed_run_policy": "runOnce"}, None),
    ],
)
def test_a_trigger_is_kept_for_as_long_as_it_can_be_more_than_late(
    options: dict[str, Any], ttl: str | None
) -> None:
    assert headers_of(**options).get("Nats-Schedule-TTL") == ttl


def test_a_description_is_one_header_whatever_is_in_it() -> None:
    text = 'Schließt ab:\n{{Count}} 100 % "x" $HOME `id`'
    header = headers_of(description=text)["Purista-Description"]
    assert header.isascii()
    assert header.isprintable()
    assert "{{" not in header
    assert unquote(header) == text
    assert codes(description="x" * 100_001) == ["limit-description"]


def test_what_was_missed_is_a_finding_unless_the_ingress_recovers_it() -> None:
    alone = replace(request(), ingress=IngressSettings())
    assert codes(alone, missed_run_policy="runOnce") == ["missed-run-policy-runonce"]
    assert codes(alone, missed_run_policy="catchUp") == ["missed-run-policy-catchup"]
    assert codes(alone) == []
    assert codes(missed_run_policy="catchUp") == []
    once = Once(datetime(2027, 6, 1, tzinfo=UTC))
    assert codes(alone, expression=once, missed_run_policy="runOnce") == []


async def test_what_is_not_due_within_five_years_is_refused_by_the_server_and_left_out() -> None:
    since = datetime(2096, 3, 1, tzinfo=UTC)
    leap_days = Cron("0 0 29 2 *")
    asked = replace(request(), horizon=Horizon(since, since + DAY))
    (found,) = place(SCHEDULER, [schedule(expression=leap_days)], asked)[1]
    assert (found.code, found.leaves_out) == ("limit-five-years", True)
    assert "2104-02-29" in found.example
    assert codes(expression=leap_days) == []
    question = Question("0 0 0 29 2 *", None, since)
    assert isinstance((await next_times([question]))[question], Refused)


def test_a_disabled_schedule_is_purged_and_not_published() -> None:
    compilation = compiled(schedule(enabled=False), schedule("y"))
    assert [each["headers"]["ce-subject"] for each in messages(compilation)] == ["S.v1.y"]
    script = text_of(compilation, "publish.sh")
    assert "replace 'purista.schedules.S.v1.x.*'\n\n" in script
    assert "publish purista.schedules.S.v1.x" not in script


def test_settings_are_checked() -> None:
    wrong = {"target": "purista.schedules.triggers", "subject_prefix": "purista.schedules"}
    with pytest.raises(SettingsError, match="target lies under subject_prefix"):
        read_settings({"nats": wrong}, {"nats": nats.NatsSettings})
    with pytest.raises(SettingsError) as several:
        read_settings({"nats": {"stream": "a.b", "target": "a.*"}}, {"nats": nats.NatsSettings})
    assert len(several.value.problems) == 2


def test_a_stream_of_one_schedule_stands_beside_the_others() -> None:
    hints = {"nats": {"stream": "OTHER", "subject_prefix": "other", "target": "due"}}
    compilation = compiled(schedule("x", provider_hints=hints), schedule("y"))
    assert [each.path for each in compilation.artifacts] == [
        *(f"OTHER/{name}" for name in ("stream.json", "messages.jsonl", "publish.sh")),
        *(f"PURISTA/{name}" for name in ("stream.json", "messages.jsonl", "publish.sh")),
    ]
    assert json.loads(compilation.artifacts[0].text)["subjects"] == ["due", "other.>"]


@pytest.mark.parametrize("recovery", ["ingress", "scheduler"])
def test_the_example_compiles_to_the_golden_files(recovery: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    try:
        schedules = import_module("billing").billing.schedules.values()
    finally:
        sys.path.pop(0)
    asked = replace(request(), ingress=IngressSettings.model_validate({"recovery": recovery}))
    _, found = place(SCHEDULER, schedules, asked)
    texts = {"findings.txt": "".join(f"{each}\n" for each in found)}
    if recovery == "ingress":
        texts |= {each.path: each.text for each in compiled(*schedules, asked=asked).artifacts}
    folder = GOLDENS / ("." if recovery == "ingress" else "without-recovery")
    for name, text in texts.items():
        golden = folder / name
        if os.environ.get("UPDATE_GOLDENS"):
            golden.parent.mkdir(parents=True, exist_ok=True)
            golden.write_text(text)
        assert golden.read_text() == text, f"{golden} differs; UPDATE_GOLDENS=1 writes it"


# The script, with a stand-in for the nats command that asks the real server.

COMMAND = """\
#!{python}
import argparse, asyncio, json, os, sys
import nats

def arguments():
    parser = argparse.ArgumentParser("nats")
    commands = parser.add_subparsers(required=True, dest="command")
    publish = commands.add_parser("publish")
    publish.add_argument("subject")
    publish.add_argument("body")
    publish.add_argument("--jetstream", action="store_true", required=True)
    publish.add_argument("--quiet", action="store_true")
    publish.add_argument("--header", action="append", default=[])
    streams = commands.add_parser("stream").add_subparsers(required=True, dest="verb")
    for verb, options in dict(info=["json"], add=[], edit=["force"], purge=["force"]).items():
        stream = streams.add_parser(verb)
        stream.add_argument("stream")
        for option in options:
            stream.add_argument("--" + option, action="store_true", required=True)
        if verb in ("add", "edit"):
            stream.add_argument("--config", required=True, type=argparse.FileType())
        if verb == "purge":
            stream.add_argument("--subject", required=True)
    return parser.parse_args()

async def main(given):
    client = await nats.connect(os.environ["NATS_URL"])
    if given.command == "publish":
        headers = dict(each.split(":", 1) for each in given.header)
        reply = await client.request(given.subject, given.body.encode(), 5, headers=headers)
    else:
        verb = dict(info="INFO", add="CREATE", edit="UPDATE", purge="PURGE")[given.verb]
        question = dict(info=lambda: {{}}, purge=lambda: dict(filter=given.subject)).get(
            given.verb, lambda: json.load(given.config)
        )()
        api = "$JS.API.STREAM." + verb + "." + given.stream
        reply = await client.request(api, json.dumps(question).encode(), 5)
    await client.close()
    answer = json.loads(reply.data)
    if "error" in answer:
        sys.exit("nats: error: " + answer["error"]["description"])
    print(json.dumps(answer, indent=2))

asyncio.run(main(arguments()))
"""


async def run_script(
    folder: Path, server: Server, compilation: Compilation
) -> subprocess.CompletedProcess[str]:
    """Write the artifacts down and run the script as a person would, in another folder."""
    command = folder / "bin/nats"
    command.parent.mkdir(exist_ok=True)
    command.write_text(COMMAND.format(python=sys.executable))
    command.chmod(0o755)
    for each in compilation.artifacts:
        (folder / each.path).parent.mkdir(exist_ok=True)
        (folder / each.path).write_text(each.text)
    environment = {
        "PATH": f"{command.parent}:/usr/bin:/bin",
        "NATS_URL": server.client.connected_url.geturl() if server.client.connected_url else "",
    }
    script = ["sh", str(folder / "PURISTA/publish.sh")]
    return await asyncio.to_thread(
        subprocess.run, script, capture_output=True, text=True, env=environment, timeout=60
    )


ADDED = {"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Rollup"}
"""Headers that say where a message was found, and that a schedule replaces the one before it."""


async def held(server: Server) -> list[dict[str, Any]]:
    """Return the schedules in the stream, as they would be written down."""
    state = await server.ask("STREAM.INFO.PURISTA", {"subjects_filter": "purista.schedules.>"})
    found = []
    for subject in sorted(state["state"].get("subjects", {})):
        got = await server.client.request(f"$JS.API.DIRECT.GET.PURISTA.{subject}", b"", 5)
        headers = {name: value for name, value in (got.headers or {}).items() if name not in ADDED}
        found.append({"subject": subject, "headers": headers})
    return found


async def test_the_script_creates_the_stream_and_publishes_every_message(tmp_path: Path) -> None:
    text = "It's Jürgen's:\n{{Count}} 100 % \"x\" $HOME `id`"
    compilation = compiled(
        schedule("a..b", description=text),
        schedule("moved", expression=Cron("30 2 * * *"), timezone="Europe/Berlin", dst_gap="next"),
        schedule("once", expression=Once(datetime(2099, 1, 1, tzinfo=UTC))),
        schedule("passed", expression=Once(datetime(2020, 1, 1, tzinfo=UTC))),
    )
    async with nats_server() as server:
        done = await run_script(tmp_path, server, compilation)
        assert (done.returncode, done.stderr) == (0, "")
        wanted = [each for each in messages(compilation) if "passed" not in each["subject"]]
        found = await held(server)
    assert len(wanted) == 4
    key = str
    assert sorted(found, key=key) == sorted(
        ({"subject": each["subject"], "headers": each["headers"]} for each in wanted), key=key
    )


async def test_the_script_takes_away_what_a_schedule_no_longer_needs(tmp_path: Path) -> None:
    two = schedule(expression=Cron("30 2 * * *"), timezone="Europe/Berlin", dst_gap="next")
    async with nats_server() as server:
        await run_script(tmp_path, server, compiled(two, schedule("y")))
        assert len(await held(server)) == 3
        again = await run_script(
            tmp_path, server, compiled(schedule(), schedule("y", enabled=False))
        )
        assert again.returncode == 0
        found = [each["subject"] for each in await held(server)]
    assert found == ["purista.schedules.S.v1.x.1"]


async def test_the_script_leaves_a_stream_that_is_not_ours_alone(tmp_path: Path) -> None:
    async with nats_server() as server:
        theirs = {"name": "PURISTA", "subjects": ["theirs"]}
        await server.ask("STREAM.CREATE.PURISTA", theirs)
        done = await run_script(tmp_path, server, compiled(schedule()))
        assert done.returncode == 1
        assert "is none of purista's" in done.stderr
        found = await server.ask("STREAM.INFO.PURISTA", {})
        assert found["config"]["subjects"] == ["theirs"]


async def test_the_script_stops_at_what_the_server_refuses(tmp_path: Path) -> None:
    compilation = compiled(schedule(), schedule("y"))
    broken = [
        replace(each, text=each.text.replace("0 0 4 * * *", "0 0 25 * * *", 1))
        for each in compilation.artifacts
    ]
    async with nats_server() as server:
        done = await run_script(tmp_path, server, replace(compilation, artifacts=tuple(broken)))
        assert done.returncode != 0
        assert "pattern is invalid" in done.stderr
        assert await held(server) == []


async def test_a_name_of_any_shape_makes_a_subject_that_the_server_takes() -> None:
    odd = [schedule(each) for each in ("a..b", "a...b", "a-_b", "x" * 180)]
    async with nats_server() as server:
        await server.ask(
            "STREAM.CREATE.PURISTA", json.loads(text_of(compiled(*odd), "stream.json"))
        )
        for message in messages(compiled(*odd)):
            await publish(server, message["subject"], message["headers"])
        assert len(await held(server)) == len(odd)
