"""Kill a process at every step of accept -> claim -> dispatch -> complete, then redeliver.

For one kind of target: count the steps of a run that is not killed, then for each step fork a child
that kills itself there, and a second child in which the scheduler delivers the trigger again until
the answer says that nothing is gained by it. Prints one JSON object per step.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

from purista import (
    Context,
    Cron,
    Host,
    Ingress,
    MemoryEventBridge,
    MemoryQueueBridge,
    Service,
    SQLiteLedger,
    Trigger,
)

NOMINAL = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
LEASE = timedelta(milliseconds=300)


class Steps:
    """Counts the steps, and kills this process at one of them."""

    def __init__(self, kill_at: int = 0) -> None:
        self.kill_at = kill_at
        self.names: list[str] = []

    def step(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, thing: object, *methods: str) -> None:
        """Make the beginning and the end of each method a step."""
        for method in methods:
            setattr(thing, method, self._wrapped(getattr(thing, method), method))

    def _wrapped(self, call, name):
        async def stepped(*args, **options):
            self.step(f"before {name}")
            result = await call(*args, **options)
            self.step(f"after {name}")
            return result

        return stepped


def service(kind: str, folder: Path, steps: Steps, done: asyncio.Event) -> Service:
    made = Service("Crash")
    effects = sqlite3.connect(folder / "effects.sqlite")
    effects.execute("CREATE TABLE IF NOT EXISTS effects (run_id TEXT PRIMARY KEY)")
    effects.execute("CREATE TABLE IF NOT EXISTS calls (run_id TEXT)")

    async def handle(number: int, ctx: Context) -> None:
        steps.step("handler begins")
        await asyncio.sleep(0)
        with effects:
            effects.execute("INSERT INTO calls VALUES (?)", (ctx.run_id,))
            effects.execute("INSERT OR IGNORE INTO effects VALUES (?)", (ctx.run_id,))
        steps.step("effect is written")
        await asyncio.sleep(0)
        steps.step("handler ends")
        if kind == "event":
            await ctx.emit(finished, number)
        done.set()

    builder = made.schedule("job")
    options = {
        "expression": Cron("0 * * * *"),
        "payload": 1,
        "concurrency_policy": "forbid",
        "missed_run_policy": "catchUp",
    }
    finished = made.event("finished", int)
    if kind == "event":
        event = made.event("event", int)
        made.subscription(event)(handle)
        builder.emit_event(event, completed_by=finished, **options)
    elif kind == "queue":
        queue = made.queue("queue", int)
        made.worker(queue)(handle)
        builder.enqueue(queue, **options)
    else:
        command = made.command("command", int)
        made.handles(command)(handle)
        builder.invoke_command(command, **options)
    return made


async def deliver(kind: str, folder: Path, steps: Steps) -> list[str]:
    """Deliver the trigger as a scheduler does; return the decisions."""
    done = asyncio.Event()
    made = service(kind, folder, steps, done)
    ledger = SQLiteLedger(folder / "runs.sqlite")
    events, queues = MemoryEventBridge(), MemoryQueueBridge()
    steps.around(ledger, "decide", "dispatched", "end")
    steps.around(events, "publish", "request")
    steps.around(queues, "enqueue", "ack")
    parts = {"event_bridge": events, "queue_bridge": queues}
    decisions = []
    ingress = Ingress([made], ledger=ledger, claim_lease=LEASE, **parts)
    async with asyncio.timeout(20), ingress, Host(made, **parts):
        while True:
            trigger = Trigger(schedule_id="Crash.v1.job", nominal_time=NOMINAL, source="test")
            decision = await ingress.accept(trigger)
            steps.step("answered")
            decisions.append(str(decision.verdict))
            if decision.retry_after is None:
                break
            await asyncio.sleep(decision.retry_after.total_seconds() + 0.05)
        if decision.accepted:
            await done.wait()
            await ingress.ended(decision.run_id or "")
        run = await ledger.run(decision.run_id or "")
        decisions.append(str(run.status) if run else "no run")
    await events.close()
    await queues.close()
    await ledger.close()
    return decisions


def child(kind: str, folder: Path, steps: Steps) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            decisions = asyncio.run(deliver(kind, folder, steps))
            (folder / "decisions.json").write_text(json.dumps([decisions, steps.names]))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def count(folder: Path, table: str) -> int:
    connection = sqlite3.connect(folder / "effects.sqlite")
    try:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        connection.close()


def main() -> None:
    kind, root = sys.argv[1], Path(sys.argv[2])
    whole = root / "whole"
    whole.mkdir()
    code = child(kind, whole, Steps())
    decisions, names = json.loads((whole / "decisions.json").read_text())
    report(kind, 0, "", code, whole, decisions)
    for number, name in enumerate(names, 1):
        folder = root / str(number)
        folder.mkdir()
        killed = child(kind, folder, Steps(number))
        assert killed == -signal.SIGKILL, (name, killed)
        code = child(kind, folder, Steps())
        decisions = json.loads((folder / "decisions.json").read_text())[0] if code == 0 else []
        report(kind, number, name, code, folder, decisions)


def report(kind: str, number: int, name: str, code: int, folder: Path, decisions: list) -> None:
    line = {
        "kind": kind,
        "killed_at": number,
        "step": name,
        "code": code,
        "effects": count(folder, "effects"),
        "calls": count(folder, "calls"),
        "decisions": decisions,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
