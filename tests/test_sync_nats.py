"""Plan, apply and drift against a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import nats
import nkeys  # type: ignore[import-untyped]
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from tests.engines.nats_broker import Server, nats_broker
from tests.engines.proxy import Trap, proxy
from tests.live_suite import TOLD, LiveSchedulerSuite, LiveShop, with_options
from tests.planned import (
    DAILY,
    HOURLY,
    MOVED,
    Capture,
    cut_at_every_call,
    in_folder,
)

from purista.bridges.nats_connection import NatsConnection
from purista.compiling import request_for
from purista.plan import Observed
from purista.schedulers import scheduler_named
from purista.sync import SyncError, apply_plan
from purista.sync.nats import NatsSchedules, open_live
from purista.sync.nats_times import foreign_of, message_times
from purista.turnover import Horizon

SECOND = (
    'shop.schedule("second").emit_event(due, expression=Every(timedelta(seconds=1)), **options)\n'
)
PAST = (
    'shop.schedule("once").emit_event('
    "due, expression=Once(datetime(2020, 1, 1, tzinfo=UTC)), **options)\n"
)
SUBJECT = "purista.schedules.Shop.v1"
TRIGGERS = "purista.triggers"
MADE: dict[str, Any] = {
    "subjects": ["purista.schedules.>", TRIGGERS],
    "retention": "workqueue",
    "storage": "file",
    "allow_direct": True,
    "allow_msg_ttl": True,
    "allow_msg_schedules": True,
}
"""A stream as a person makes it."""

HORIZON = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
T = TypeVar("T")


class Shop(LiveShop):
    """A shop in a deployment of its own, with a server of its own."""

    def __init__(
        self, folder: Path, capsys: Capture, server: Server, deployment: str = "default"
    ) -> None:
        super().__init__("nats", folder, capsys, deployment)
        self.server = server

    def name(self, schedule: str) -> str:
        prefix = "" if self.deployment == "default" else f"{self.deployment}."
        return f"purista.schedules.{prefix}Shop.v1.{schedule}.1"

    def other(self) -> Shop:
        return Shop(self.folder, self.capsys, self.server, f"{self.deployment}x")

    def by_hand(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Do what a person does with the nats command."""

        async def done() -> T:
            client = await nats.connect(self.server.url)
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(done())

    def held(self) -> dict[str, Any]:
        return self.by_hand(self._held)

    async def _held(self, client: Client) -> dict[str, Any]:
        return {name: await _shown(client, name) for name in await _counts(client)}

    def messages(self) -> dict[str, int]:
        """Return how many messages each subject of a schedule has."""
        return self.by_hand(_counts)

    def headers(self, schedule: str) -> dict[str, str]:
        """Return the headers of a schedule, without those that say what it replaces."""

        async def found(client: Client) -> dict[str, str]:
            message = await client.jetstream().get_last_msg("PURISTA", self.name(schedule))
            said = message.headers or {}
            return {name: text for name, text in said.items() if "Expected" not in name}

        return self.by_hand(found)

    def publish(self, subject: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Publish a message."""

        async def done(client: Client) -> None:
            await client.jetstream().publish(subject, body, headers=dict(headers))

        self.by_hand(done)

    def republish(self, schedule: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Publish a schedule with other headers besides its own."""
        self.publish(self.name(schedule), {**self.headers(schedule), **headers}, body)

    def stream(self, name: str, **config: Any) -> None:
        """Make a stream."""

        async def done(client: Client) -> None:
            wanted = json.dumps({"name": name, **config}).encode()
            answer = await client.request(f"$JS.API.STREAM.CREATE.{name}", wanted, 5)
            assert b'"error"' not in answer.data, answer.data

        self.by_hand(done)

    def take(self, schedule: str) -> None:
        self.stream("PURISTA", **MADE)
        self.publish(
            self.name(schedule),
            theirs("0 0 5 * * *"),
        )

    def move(self, schedule: str) -> str:
        self.republish(schedule, {"Nats-Schedule": "0 0 7 * * *"})
        return "Nats-Schedule"

    def delete(self, schedule: str) -> None:
        async def done(client: Client) -> None:
            await client.jetstream().purge_stream("PURISTA", subject=self.name(schedule))

        self.by_hand(done)


def theirs(text: str, *, target: str = TRIGGERS, zone: str = "") -> dict[str, str]:
    """Return the headers of a schedule that is not ours."""
    headers = {"Nats-Schedule": text, "Nats-Schedule-Target": target}
    return {**headers, "Nats-Schedule-Time-Zone": zone} if zone else headers


async def _counts(client: Client) -> dict[str, int]:
    with contextlib.suppress(NotFoundError):
        info = await client.jetstream().stream_info(
            "PURISTA", subjects_filter="purista.schedules.>"
        )
        return dict(info.state.subjects or {})
    return {}


async def _shown(client: Client, name: str) -> Any:
    message = await client.jetstream().get_last_msg("PURISTA", name)
    said = message.headers or {}
    return {key: text for key, text in said.items() if "Expected" not in key}, message.data


@pytest.fixture
def shop(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with in_folder(tmp_path, monkeypatch), nats_broker() as server:
        monkeypatch.setenv("NATS_URL", server.url)
        yield Shop(tmp_path, capsys, server)


class TestNats(LiveSchedulerSuite):
    """What holds for every scheduler."""

    parts: ClassVar = {
        MOVED: {"Nats-Schedule", "ce-puristaslots"},
        with_options('timezone="Europe/Berlin"'): {"Nats-Schedule-Time-Zone", "ce-puristaslots"},
        with_options("misfire_grace=timedelta(days=2)"): {"Nats-Schedule-TTL"},
        with_options('concurrency_policy="forbid"'): {"fingerprint"},
        DAILY.replace("0 2", "0 2,3"): {"Nats-Schedule", "ce-puristaslots"},
        TOLD: {"Purista-Description"},
    }


def test_an_update_replaces_the_message(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.write(MOVED)
    (change,) = shop.plan()["changes"]
    fields = {one["name"]: (one["before"], one["after"]) for one in change["fields"]}
    assert fields["Nats-Schedule"] == ("0 0 2 * * *", "0 0 3 * * *")
    shop.apply()
    assert shop.messages() == {f"{SUBJECT}.daily.1": 1}
    assert shop.actions() == []


@pytest.mark.parametrize(("method", "least"), [("api", 4), ("published", 2)])
def test_an_apply_that_is_cut_off_at_any_call_is_completed_by_the_next(
    shop: Shop, method: str, least: int
) -> None:
    shops = (Shop(shop.folder, shop.capsys, shop.server, f"d{number}") for number in count())
    assert cut_at_every_call(shops, NatsConnection, method) >= least


@pytest.mark.parametrize("passes", [False, True], ids=["request", "answer"])
def test_what_a_lost_connection_left_undone_is_told_and_done_by_the_next(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, passes: bool
) -> None:
    shop.write(*[HOURLY.replace("hourly", f"hourly{number}") for number in range(20)])
    traps: list[Trap] = []

    async def applied(*arguments: Any, **options: Any) -> Any:
        mark = b"Shop.v1.hourly7"
        traps.append(between.drop_answer_to(mark) if passes else between.drop_request(mark))
        return await apply_plan(*arguments, **options)

    port = int(shop.server.url.rpartition(":")[2])
    with proxy(port) as between:
        monkeypatch.setenv("NATS_URL", between.through(shop.server.url))
        monkeypatch.setattr("purista.cli.planning.apply_plan", applied)
        code, _, err = shop.call("apply")
        assert traps[0].sprung.is_set()
        made = sum(line.startswith("created ") for line in err.splitlines())
        assert f"{made} change" in err
        assert f" made, {20 - made} failed" in err
        assert code == (0 if made == 20 else 75)
        assert made == 20 or not passes
        assert len(shop.messages()) >= made
        monkeypatch.setattr("purista.cli.planning.apply_plan", apply_plan)
        shop.apply()
        assert shop.plan()["unchanged"] == 20
    assert set(shop.messages().values()) == {1}


def test_a_plan_shows_which_fire_times_disappear_and_appear(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.write(DAILY.replace("0 2", "0 2,3"))
    fires = shop.plan()["changes"][0]["fires"]
    assert [one[11:] for one in fires["appear"]] == ["03:00:00Z"] * 3
    assert (fires["disappear"], fires["more"]) == ([], True)


def test_when_an_interval_fires_that_a_person_made_is_not_foretold(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.republish("daily", {"Nats-Schedule": "@every 7m"})
    (change,) = shop.plan("--override", "Shop.v1.daily")["changes"]
    assert change.get("fires") is None


def test_schedules_of_others_are_imported_as_contracts(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    for name, text in {
        "words": "@weekly",
        "cron": "0 30 6 13 * 5",
        "every": "@every 1h30m",
        "once": "@at 2099-01-02T03:04:05Z",
    }.items():
        shop.publish(f"purista.schedules.{name}.1", theirs(text))
    code, out, err = shop.run("import", "nats")
    assert code == 0, err
    assert "4 schedules, 0 that no contract can say" in err
    for line in (
        'expression=Cron("0 0 * * 0"),',
        'expression=Cron("30 6 13 * 5", day_rule="or"),',
        "expression=Every(timedelta(seconds=5400)),",
        "expression=Once(datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)),",
        "# it publishes to 'purista.triggers'",
    ):
        assert line in out, out
    (shop.folder / "from_nats.py").write_text(out)
    assert shop.run("check", "from_nats:imported")[0] == 0


def test_both_halves_of_an_edit_are_kept(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    edit = {
        "Nats-Schedule": "0 0 4 * * *",
        "Nats-Schedule-Time-Zone": "America/New_York",
        "Nats-Msg-Id": "by-hand",
    }
    shop.republish("daily", edit, b"other")
    del edit["Nats-Msg-Id"]
    assert shop.kept() == {**edit, "message body": "other"}
    shop.write(TOLD)
    shop.apply()
    assert shop.kept() == {**edit, "message body": "other"}
    shop.apply("--override", "Shop.v1.daily")
    assert shop.is_done()


def test_a_header_that_a_person_took_away_stays_away(shop: Shop) -> None:
    shop.write(TOLD)
    shop.apply()
    headers = shop.headers("daily")
    del headers["Purista-Description"]
    shop.publish(shop.name("daily"), headers)
    shop.write(TOLD.replace("0 2", "0 3"))
    shop.apply()
    assert shop.kept() == {"Purista-Description": None}


@pytest.mark.parametrize("subject", ["purista.schedules.>", TRIGGERS])
def test_a_subject_of_another_stream_is_told_before_anything_is_done(
    shop: Shop, subject: str
) -> None:
    shop.stream("OTHER", **{**MADE, "subjects": [subject]})
    shop.write(DAILY)
    for command in ("plan", "apply"):
        code, _, err = shop.call(command)
        assert code == 75
        assert f"with '{subject}', which stream 'OTHER' has" in err
    shop.stream("PURISTA", **{**MADE, "subjects": ["mine"]})
    code, _, err = shop.call("plan")
    assert code == 75
    assert f"its subjects have to hold '{subject}', which stream 'OTHER' has" in err
    assert shop.held() == {}


def test_a_message_never_goes_to_another_stream(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unchecked(_: NatsSchedules) -> None:
        """Another stream took the subject after the plan."""

    monkeypatch.setattr(NatsSchedules, "_check", unchecked)
    shop.stream("OTHER", **MADE)
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert code == 75
    assert "is of another stream than 'PURISTA' meanwhile; plan again" in err


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"max_age": 3_600_000_000_000}, "max_age has to be 0"),
        ({"max_msgs": 100}, "max_msgs has to be -1"),
        ({"max_bytes": 1_000_000}, "max_bytes has to be -1"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject has to be -1"),
        ({"storage": "memory"}, "storage has to be file"),
        ({"retention": "interest"}, "retention has to be workqueue"),
        ({"no_ack": True}, "no_ack has to be false"),
        ({"allow_msg_schedules": False}, "allow_msg_schedules has to be true"),
        ({"allow_msg_ttl": False}, "allow_msg_ttl has to be true"),
        (
            {"subject_transform": {"src": "purista.schedules.>", "dest": "moved.>"}},
            "subject_transform has to be none",
        ),
        ({"subjects": ["purista.schedules.>"]}, f"its subjects have to hold '{TRIGGERS}'"),
        ({"subjects": [TRIGGERS]}, "its subjects have to hold 'purista.schedules.>'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_stream_that_would_lose_schedules_is_refused(
    shop: Shop, setting: dict[str, Any], reason: str
) -> None:
    shop.stream("PURISTA", **{**MADE, **setting})
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert reason in err
    assert "nats stream edit PURISTA" in err
    shop.write()
    assert shop.actions() == []


def test_a_consumer_that_would_take_schedules_is_refused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()

    def consume(name: str, subject: str) -> None:
        async def done(client: Client) -> None:
            await client.jetstream().pull_subscribe(subject, name, stream="PURISTA")

        shop.by_hand(done)

    consume("triggers", TRIGGERS)
    assert shop.is_done()
    consume("all", "purista.schedules.>")
    code, _, err = shop.call("plan")
    assert (code, "consumer 'all' has to be one of triggers only" in err) == (75, True)


def test_another_target_in_the_same_stream_is_told_with_the_way_out(shop: Shop) -> None:
    (shop.folder / "purista.toml").write_text(
        '[deployments.staging]\nscheduler = "nats"\nsettings = { target = "staging.triggers" }\n'
    )
    shop.write(DAILY)
    shop.apply()
    shop.scheduler = "staging"
    code, _, err = shop.call("plan")
    assert code == 75
    assert "its subjects have to hold 'staging.triggers'" in err


def test_a_server_that_knows_no_schedules_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "purista.sync.nats.stream_config",
        lambda name, _: {"name": name, **MADE, "allow_msg_schedules": False},
    )
    shop.write(DAILY)
    code, _, err = shop.call("apply")
    assert code == 75
    assert "it has to be nats-server 2.14 or later" in err


def deleted(shop: Shop, meanwhile: Callable[[NatsSchedules], Awaitable[None]]) -> None:
    """Delete what was observed, after something that comes between."""

    async def work() -> None:
        async with open_live(request_for(scheduler_named("nats"), {}, HORIZON)) as live:
            (there,) = [each async for each in live.observed(shop.deployment, ())]
            await meanwhile(live)
            await live.delete(there)

    asyncio.run(work())


def test_a_delete_of_what_was_replaced_meanwhile_is_refused(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()

    async def move(_: NatsSchedules) -> None:
        await asyncio.to_thread(shop.move, "daily")

    with pytest.raises(SyncError, match="meanwhile; plan again"):
        deleted(shop, move)
    assert shop.headers("daily")["Nats-Schedule"] == "0 0 7 * * *"


def test_a_delete_leaves_what_replaces_the_message_in_the_last_moment(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(DAILY)
    shop.apply()
    original = NatsSchedules._last

    async def then_moved(live: NatsSchedules, stream: str, subject: str) -> Observed | None:
        found = await original(live, stream, subject)
        await asyncio.to_thread(shop.move, "daily")
        return found

    async def late(_: NatsSchedules) -> None:
        monkeypatch.setattr(NatsSchedules, "_last", then_moved)

    deleted(shop, late)
    assert shop.headers("daily")["Nats-Schedule"] == "0 0 7 * * *"


def test_what_is_gone_already_is_deleted(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()

    async def purge(_: NatsSchedules) -> None:
        await asyncio.to_thread(shop.delete, "daily")

    deleted(shop, purge)


def test_schedules_of_other_subjects_and_streams_are_imported(shop: Shop) -> None:
    shop.write(DAILY)
    shop.apply()
    shop.stream("JOBS", **{**MADE, "subjects": ["jobs.*", "done"]})
    shop.stream("PLAIN", subjects=["plain"])
    shop.publish("plain", {})
    shop.publish("jobs.billing", theirs("0 0 3 1,* * 1", target="done"))
    code, out, err = shop.run("import", "nats")
    assert code == 0, err
    assert "1 schedules, 0 that no contract can say" in err
    assert "# it is in stream 'JOBS'" in out
    assert 'expression=Cron("0 3 * * 1"' in out
    (shop.folder / "purista.toml").write_text('[nats]\nstream = "JOBS"\n')
    assert "it is in stream" not in shop.run("import", "nats")[1]


ERRS = (
    ("0 0 0 1 * *", "Africa/Cairo", True),
    ("@weekly", "Africa/Cairo", True),
    ("0 0 12 * * 5", "America/Havana", True),
    ("0 0 12 * * 5", "America/Santiago", True),
    ("@daily", "Australia/Lord_Howe", True),
    ("0 0 0 1 * *", "Asia/Beirut", True),
    ("0 50 2 * * *", "Pacific/Chatham", True),
    ("0 0 12 * * 5", "Europe/Berlin", False),
    ("@at 2027-06-01T00:00:00Z", "UTC", False),
)


@pytest.mark.parametrize(("text", "zone", "errs"), ERRS)
def test_where_the_server_errs_no_times_are_foretold_and_import_doubts(
    text: str, zone: str, errs: bool
) -> None:
    fields = theirs(text, zone=zone)
    times = message_times(fields, HORIZON.start, HORIZON.end)
    assert (times is None) == errs
    found = foreign_of("x", fields, "", HORIZON)
    assert found.expression is not None
    assert any("errs" in each for each in found.doubts) == errs


@pytest.mark.parametrize("text", ["", "* * *", "@every x", "@at noon", "@reboot", "0 0 9 32 * *"])
def test_what_is_not_understood_is_a_doubt_and_has_no_times(text: str) -> None:
    fields = theirs(text)
    assert message_times(fields, HORIZON.start, HORIZON.end) is None
    found = foreign_of("x", fields, "", HORIZON)
    assert found.expression is None
    assert any("no contract can say" in each for each in found.doubts)


def test_the_variables_of_the_nats_command_say_who_it_is(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, public = user_key()
    (tmp_path / "user.nk").write_bytes(seed)
    users = [
        '{ user: "a@b", password: "p:w/d" }',
        f"{{ nkey: {public} }}",
    ]
    with (
        in_folder(tmp_path, monkeypatch),
        nats_broker(f"authorization {{ users: [{', '.join(users)}] }}") as server,
    ):
        shop = Shop(tmp_path, capsys, server)
        shop.write(DAILY)
        monkeypatch.setenv("NATS_URL", server.url.removeprefix("nats://"))
        code, _, err = shop.call("plan")
        assert (code, "it refuses the user" in err) == (75, True)
        assert "NATS_CREDS" in err
        with monkeypatch.context() as patch:
            patch.setenv("NATS_USER", "a@b")
            patch.setenv("NATS_PASSWORD", "p:w/d")
            assert shop.actions() == [("create", shop.name("daily"))]
            patch.setenv("NATS_PASSWORD", "wrong")
            code, _, err = shop.call("plan")
            assert (code, "wrong" in err) == (75, False)
        with monkeypatch.context() as patch:
            patch.setenv("NATS_NKEY", str(tmp_path / "user.nk"))
            assert shop.actions() == [("create", shop.name("daily"))]
    with in_folder(tmp_path, monkeypatch), nats_broker("authorization { token: t0k }") as server:
        monkeypatch.setenv("NATS_URL", server.url)
        for name in ("NATS_USER", "NATS_TOKEN"):
            with monkeypatch.context() as patch:
                patch.setenv(name, "t0k")
                assert shop.actions() == [("create", shop.name("daily"))]


def user_key() -> tuple[bytes, str]:
    """Return the seed of a user, and its public key."""
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed, nkeys.from_seed(bytearray(seed)).public_key.decode()


@pytest.mark.parametrize("name", ["NATS_CREDS", "NATS_NKEY"])
def test_a_file_without_the_keys_of_a_user_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shop.write(DAILY)
    monkeypatch.setenv(name, "gone")
    code, _, err = shop.call("plan")
    assert (code, "'gone' cannot be read (FileNotFoundError)" in err) == (75, True)
    for text in ("", "SUAGARBAGE"):
        (shop.folder / "gone").write_text(text)
        code, _, err = shop.call("plan")
        assert (code, "'gone' are none" in err or "'gone' is none" in err) == (75, True)


def test_a_context_of_the_nats_command_is_not_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(DAILY)
    monkeypatch.setenv("NATS_CONTEXT", "prod")
    assert shop.call("plan")[0] == 0
    monkeypatch.delenv("NATS_URL")
    code, _, err = shop.call("plan")
    assert (code, "contexts of the nats command are not read; set NATS_URL" in err) == (75, True)


def test_a_deployment_chooses_schedules_by_their_tags(shop: Shop) -> None:
    (shop.folder / "purista.toml").write_text(
        '[deployments.staging]\nscheduler = "nats"\ntags = ["money"]\n'
    )
    shop.write(DAILY.replace("**options", 'tags=["money", "night"], **options'), HOURLY)
    shop.scheduler = "staging"
    assert shop.actions() == [("create", "purista.schedules.staging.Shop.v1.daily.1")]


def test_a_deployment_may_only_slow_a_contract_down(shop: Shop) -> None:
    settings = shop.folder / "purista.toml"
    shop.write(DAILY, HOURLY)
    shop.scheduler = "staging"

    def slower(text: str) -> None:
        table = f'scheduler = "nats"\nslower = {{ "*.hourly" = "{text}" }}\n'
        settings.write_text(f"[deployments.staging]\n{table}")

    slower("0 */6 * * *")
    found = {one["name"]: one for one in shop.plan()["changes"]}
    hourly = found["purista.schedules.staging.Shop.v1.hourly.1"]["fields"]
    assert [one["after"] for one in hourly if one["name"] == "Nats-Schedule"] == ["0 0 */6 * * *"]
    versions = {one["fingerprint"] for one in shop.plan()["changes"]}
    settings.unlink()
    shop.scheduler = "nats"
    assert versions == {one["fingerprint"] for one in shop.plan()["changes"]}
    shop.scheduler = "staging"
    slower("6h")
    assert shop.call("plan")[0] == 0
    for text, reason in (
        ("30 * * * *", "a deployment may only leave times out"),
        ("90m", "a deployment may only leave times out"),
        ("0 0 31 2 *", "slower.'*.hourly'"),
    ):
        slower(text)
        code, _, err = shop.call("plan")
        assert code == 2, err
        assert reason in err


def test_a_one_shot_that_is_over_is_not_published_again(shop: Shop) -> None:
    shop.write(DAILY, PAST)
    assert shop.actions("--accept", "never-due") == [("create", f"{SUBJECT}.daily.1")]


def test_an_updated_schedule_fires_once_for_each_of_its_times(shop: Shop) -> None:
    shop.write(SECOND)
    shop.apply()
    shop.write(SECOND.replace('"second"', '"second", "Each second"'))
    shop.apply()

    async def fired() -> list[str]:
        client = await nats.connect(shop.server.url)
        pull = await client.jetstream().pull_subscribe("purista.triggers", "i", stream="PURISTA")
        await pull.fetch(5, timeout=10)
        await asyncio.sleep(3)
        found = list(await pull.fetch(10, timeout=1))
        await client.close()
        return [f"{one.metadata.timestamp:%H:%M:%S}" for one in found]

    seconds = asyncio.run(fired())
    assert len(seconds) >= 2
    assert len(seconds) == len(set(seconds))


def test_a_server_that_is_away_is_told_by_the_exit_code(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", "nats://u:hunter2@127.0.0.1:1")
    shop.write(DAILY)
    code, _, err = shop.call("plan")
    assert code == 75
    assert "NATS_URL says where it is" in err
    assert "hunter2" not in err


def test_what_it_cannot_pause_is_refused_with_the_way_out(shop: Shop) -> None:
    shop.write(DAILY)
    code, _, err = shop.call("pause", "-s", "daily", "--reason", "x")
    assert code == 2
    assert "nats cannot pause a schedule; say enabled=False in the contract" in err


def test_a_deployment_that_cannot_begin_a_name_is_refused(shop: Shop) -> None:
    shop.write(DAILY)
    for name in ("a b", "staging.eu", "*"):
        code, _, err = shop.call("plan", "--deployment", name)
        assert code == 2
        assert "it begins the names of objects" in err


def test_a_deployment_of_the_settings_narrows_the_contracts(shop: Shop) -> None:
    (shop.folder / "purista.toml").write_text(
        """
[deployments.staging]
scheduler = "nats"
settings = { stream = "STAGING", subject_prefix = "staging.schedules", target = "staging.triggers" }
schedules = ["*.daily", "*.hourly"]
disabled = ["*.hourly"]

[deployments.broken]
scheduler = "nats"
disable = ["*"]
"""
    )
    shop.write(DAILY, HOURLY, SECOND)
    shop.scheduler = "staging"
    assert shop.actions() == [("create", "staging.schedules.staging.Shop.v1.daily.1")]
    shop.apply()
    assert shop.actions() == []
    shop.scheduler = "stagin"
    code, _, err = shop.call("plan")
    assert (code, "did you mean 'staging'?" in err) == (2, True)
    shop.scheduler = "broken"
    code, _, err = shop.call("plan")
    assert code == 2
    assert "deployments.broken.disable: no such setting; did you mean 'disabled'?" in err
