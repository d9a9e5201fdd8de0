"""What nats-server's message schedules do, each fact asked of the real server.

The times are those that the server computes itself, its clock set to the instants in question; a few
schedules fire for real, to show that it keeps to them.
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.engines import nats
from tests.engines.nats import (
    Accepted,
    Question,
    Refused,
    Server,
    Window,
    create_stream,
    fires,
    nats_server,
    next_times,
    pass_through,
    stored_times,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

KUBERNETES = "robfig_cron_v3.0.1_as_kubernetes"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in json.loads((Path(__file__).parent / "oracles/cron_cases.json").read_text())["cases"]
    if KUBERNETES in case["engines"]
}
OTHERWISE = {
    "dial-08": "takes no TZ= before the fields; the zone is a header of its own",
    "dial-21": "takes no time zone with @every, not even UTC",
    "cal-04": "refuses what is not due within five years; robfig/cron never fires it",
}
"""Cases in which it differs from robfig/cron, on which its parser is based."""

PATTERN = Refused(10189, "message schedules pattern is invalid")
TARGET = Refused(10190, "message schedules target is invalid")
ZONE = Refused(10223, "message schedules time zone is invalid")
DAILY = "0 0 2 * * *"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[Server]:
    async with nats_server() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def answers() -> dict[str, list[str] | dict[str, str] | Refused]:
    """What the server computes for each recorded case, in the form of the record."""
    found = await fires([window(case) for case in CASES.values()])
    return {
        name: answer
        if isinstance(answer, Refused)
        else [instant.strftime("%Y-%m-%dT%H:%M:%SZ") for instant in answer]
        for name, answer in zip(CASES, found, strict=True)
    }


@pytest.mark.parametrize("case", [case for case in CASES if case not in OTHERWISE])
async def test_a_cron_text_with_a_zero_before_it_is_due_as_in_kubernetes(
    answers: dict[str, Any], case: str
) -> None:
    recorded = CASES[case]["engines"][KUBERNETES]
    assert answers[case] == (PATTERN if isinstance(recorded, dict) else recorded)


@pytest.mark.parametrize("case", OTHERWISE)
async def test_where_it_differs_from_kubernetes_it_refuses(
    answers: dict[str, Any], case: str
) -> None:
    assert answers[case] == PATTERN


@pytest.mark.parametrize(
    "text",
    [
        *("0 0 2 ? * MON-FRI", "0 5/20 * 1,15 JAN,jul *", "* * * * * *", "0 *-5 * * * *"),
        *("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"),
        *("@every 1s", "@every 1.5s", "@every 1h30m", "@every 2562047h"),
        *("@at 2099-01-01T00:00:00Z", "@at 2099-01-01T00:00:00.5+02:00"),
    ],
)
async def test_a_form_that_it_takes(server: Server, text: str) -> None:
    assert isinstance(await server.publish("schedules.form", text), Accepted)


@pytest.mark.parametrize(
    "text",
    [
        *("0 2 * * *", "0 0 2 * * * 2030", "TZ=UTC 0 0 2 * * *", "@reboot", "@DAILY"),
        *("0 0 0 * * 7", "0 0 0 * * Monday", "0 0 22-2 * * *", "0 0 0 1 NOV-FEB *", "0 , * * * *"),
        *("0 0 0 L * *", "0 0 0 15W * *", "0 0 0 * * 5L", "0 0 0 * * 5#3", "0 H * * * *"),
        *("@every 999ms", "@every 0s", "@every -5s", "@every 1d", "@at 2099-01-01 00:00:00"),
    ],
)
async def test_a_form_that_it_refuses(server: Server, text: str) -> None:
    assert await server.publish("schedules.form", text) == PATTERN


@pytest.mark.parametrize("zone", ["UTC", "Local", "EST", "Etc/GMT+5", "Europe/Kyiv"])
async def test_a_time_zone_is_a_name_of_the_server_s_own_database(
    server: Server, zone: str
) -> None:
    assert isinstance(await server.publish("schedules.zone", DAILY, timezone=zone), Accepted)
    assert await server.publish("schedules.zone", "@every 5s", timezone=zone) == PATTERN
    assert (
        await server.publish("schedules.zone", "@at 2099-01-01T00:00:00Z", timezone=zone) == PATTERN
    )


@pytest.mark.parametrize("zone", ["europe/berlin", "+02:00", "Z", "", "No/Such"])
async def test_another_time_zone_is_refused(server: Server, zone: str) -> None:
    assert await server.publish("schedules.zone", DAILY, timezone=zone) == ZONE


@pytest.mark.parametrize("target", ["", "due.*", "elsewhere", "schedules.target"])
async def test_a_target_is_another_plain_subject_of_the_same_stream(
    server: Server, target: str
) -> None:
    assert await server.publish("schedules.target", DAILY, target=target) == TARGET


async def test_an_empty_expression_makes_a_plain_message(server: Server) -> None:
    assert isinstance(await server.publish("schedules.empty", ""), Accepted)


@pytest.mark.parametrize(
    ("zone", "text", "after", "skipped"),
    [
        ("America/Havana", "0 0 2 * * MON", "2027-03-10T12:00Z", "2027-03-15T06:00Z"),
        ("America/Santiago", "0 30 1 * * SUN", "2027-08-30T12:00Z", "2027-09-05T04:30Z"),
        ("Atlantic/Azores", "0 0 2 1 * *", "2027-03-02T12:00Z", "2027-04-01T02:00Z"),
        ("Australia/Lord_Howe", "0 0 0 * * *", "2027-10-02T13:30Z", "2027-10-03T13:00Z"),
    ],
)
async def test_after_a_gap_at_midnight_or_of_half_an_hour_a_due_time_is_lost(
    zone: str, text: str, after: str, skipped: str
) -> None:
    question = Question(text, zone, datetime.fromisoformat(after))
    (found,) = (await next_times([question])).values()
    assert isinstance(found, datetime)
    assert found > datetime.fromisoformat(skipped)


async def test_before_a_gap_at_midnight_the_next_day_is_taken_for_the_same_day() -> None:
    question = Question("0 30 22 29 * *", "Africa/Cairo", datetime(2027, 4, 29, 20, 30, tzinfo=UTC))
    found = await next_times([question])
    assert found == {question: datetime(2027, 4, 30, 19, 30, tzinfo=UTC)}


async def test_it_fires_over_a_gap_as_it_computes_and_tells_the_next_time_in_the_zone() -> None:
    async with nats_server() as server:
        server.clock.set(datetime(2027, 3, 28, 0, tzinfo=UTC))
        await server.publish("schedules.gap", "0 30 2,4 * * *", timezone="Europe/Berlin")
        await pass_through(server, datetime(2027, 3, 28, 2, 30, tzinfo=UTC))
        (message,) = await server.produced()
    assert message["Nats-Time-Stamp"] == "2027-03-28T02:30:00Z"
    assert message["Nats-Schedule-Next"] == "2027-03-29T02:30:00+02:00"


async def test_a_produced_message_names_its_schedule_and_keeps_foreign_headers_only(
    server: Server,
) -> None:
    await server.publish(
        "schedules.headers",
        "@at 2020-01-01T00:00:00Z",
        target="due.headers",
        X_Own="kept",
        Nats_Msg_Id="lost",
        Nats_Schedule_TTL="1h",
    )
    (message,) = await server.produced("due.headers")
    own = {name: value for name, value in message.items() if name not in PLACE}
    assert own == {
        "X-Own": "kept",
        "Nats-Scheduler": "schedules.headers",
        "Nats-Schedule-Next": "purge",
        "Nats-TTL": "1h",
    }


async def test_a_time_that_is_past_fires_at_once_and_its_schedule_is_gone(server: Server) -> None:
    await server.publish("schedules.past", "@at 2020-01-01T00:00:00Z", target="due.past")
    await server.produced("due.past")
    assert await subjects(server, "schedules.past") == {}


async def test_a_schedule_replaces_the_one_on_its_subject(server: Server) -> None:
    for text in (DAILY, "@hourly"):
        await server.publish("schedules.replaced", text)
    assert await subjects(server, "schedules.replaced") == {"schedules.replaced": 1}


async def test_a_message_id_that_was_seen_leaves_the_old_schedule_without_an_error(
    server: Server,
) -> None:
    first = await server.publish("schedules.same", DAILY, Nats_Msg_Id="one")
    second = await server.publish("schedules.same", "@hourly", Nats_Msg_Id="one")
    assert isinstance(first, Accepted)
    assert second == Accepted(first.sequence, duplicate=True)


async def test_a_purge_and_a_cancelling_message_delete_a_schedule(server: Server) -> None:
    for name in ("purged", "cancelled"):
        await server.publish(f"schedules.del.{name}", DAILY)
    await server.ask(f"STREAM.PURGE.{nats.STREAM}", {"filter": "schedules.del.purged"})
    headers = {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "schedules.del.cancelled"}
    await server.client.request("due.cancel", b"", 5, headers=headers)
    assert await subjects(server, "schedules.del.*") == {}


async def test_publishing_an_interval_again_starts_it_anew(tmp_path: Path) -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    async with nats_server(tmp_path) as server:
        for minutes in (0, 40):
            server.clock.set(start + timedelta(minutes=minutes))
            await server.publish("schedules.interval", "@every 90m")
    assert stored_times(tmp_path) == {"schedules.interval": start + timedelta(minutes=130)}


@pytest.mark.parametrize(("how", "runs"), [(signal.SIGTERM, 1), (signal.SIGKILL, 0)])
async def test_of_missed_times_one_is_made_up_for_after_a_stop_and_none_after_a_kill(
    how: int, runs: int
) -> None:
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        async with nats_server(Path(folder)) as server:
            server.clock.set(now - timedelta(hours=5))
            missed = f"0 0 {(now - 3 * HOUR).hour} * * *"
            await server.publish("schedules.daily", missed, target="due.daily")
            await server.publish("schedules.once", f"@at {now - HOUR:%FT%TZ}", target="due.once")
            nats.stop(server, how)
        async with nats_server(Path(folder)) as server:
            await server.produced("due.once")
            # What is missed is due in the same turn, so that there is nothing more to wait for.
            assert (await subjects(server, "due.*")).get("due.daily", 0) == runs


async def test_a_stream_that_refuses_new_messages_cannot_schedule() -> None:
    async with nats_server() as server:
        await server.ask(f"STREAM.DELETE.{nats.STREAM}", {})
        with pytest.raises(ValueError, match="message scheduling cannot use discard new"):
            await create_stream(server, discard="new")


@pytest.mark.parametrize(("how", "left"), [(signal.SIGTERM, set()), (signal.SIGKILL, {"silent"})])
async def test_a_plain_message_silences_the_schedule_on_its_subject_but_a_kill_revives_it(
    tmp_path: Path, how: int, left: set[str]
) -> None:
    async with nats_server(tmp_path) as server:
        for name in ("silent", "other"):
            await server.publish(f"schedules.{name}", "@yearly")
        await server.client.request("schedules.silent", b"", 5)
        nats.stop(server, how)
    async with nats_server(tmp_path):
        pass
    assert set(stored_times(tmp_path)) == {f"schedules.{name}" for name in {"other", *left}}


async def test_a_limit_of_the_stream_takes_schedules_away() -> None:
    async with nats_server() as server:
        await server.ask(f"STREAM.DELETE.{nats.STREAM}", {})
        await create_stream(server, max_msgs=2)
        await server.publish("schedules.limited", DAILY)
        await asyncio.gather(*(server.client.request("due.x", b"", 5) for _ in range(2)))
        assert await subjects(server, "schedules.*") == {}


HOUR = timedelta(hours=1)
PLACE = {"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"}
"""Headers that say where a message was found."""


async def subjects(server: Server, name: str) -> dict[str, int]:
    """Count the stored messages of each subject."""
    answer = await server.ask(f"STREAM.INFO.{nats.STREAM}", {"subjects_filter": name})
    found: dict[str, int] = answer["state"].get("subjects", {})
    return found


def window(case: dict[str, Any]) -> Window:
    """Ask for the recorded instants, or for one where there are none."""
    recorded = case["engines"][KUBERNETES]
    claimed = [datetime.fromisoformat(i) for i in recorded] if isinstance(recorded, list) else []
    end = claimed[-1] if len(claimed) >= case["n"] else datetime.fromisoformat(case["end"])
    text = case["expr"] if case["expr"].startswith("@") else f"0 {case['expr']}"
    start = datetime.fromisoformat(case["start"])
    return Window(text, case["timezone"], start, end, claimed)
