"""Any interleaving of triggers, completions, crashes and clock moves, beside a simple model.

The model knows words that the ledgers do not: ``held`` is active under a lease, ``sent`` active
without one, ``lapsed`` a claim whose time-out passed, ``given up`` a failed dispatch whose redelivery
met an active run.
"""

import asyncio
import itertools
import shutil
import tempfile
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.engines.valkey import valkey_server

from purista.ledgers import Proposal, Verdict
from purista.ledgers.memory import MemoryLedger
from purista.ledgers.redis import RedisLedger
from purista.ledgers.sqlite import SQLiteLedger

START = datetime(2027, 3, 1, tzinfo=UTC)
LEASE = 3
TIMEOUT = 10
BACKWARDS = 4
WINDOWS = {"forbid": 25, "replace": 25, "allow": 25, "brief": 5, "shared": 25}
POLICIES = {"brief": "forbid", "shared": "forbid"}
LIVE = ("claimed", "held", "sent")
REFUSED = (Verdict.DISABLED, Verdict.UNEXPECTED, Verdict.REJECTED)
STATUS = {"held": "active", "sent": "active", "lapsed": "expired", "given up": "failed"}


def at(seconds):
    return START + timedelta(seconds=seconds)


@dataclass
class ModelRun:
    run_id: str
    schedule: str
    key: str
    state: str
    owner: str
    token: int
    claimed: int
    expires: int
    lease: int

    @property
    def lease_until(self):
        return at(self.lease) if self.state in ("claimed", "held", "lapsed") else None


@dataclass
class Trigger:
    schedule: str
    slot: int
    key: str
    run_id: str
    owner: str
    now: int
    verdict: Verdict
    manual: bool

    @property
    def window(self):
        return WINDOWS[self.schedule]

    @property
    def policy(self):
        return POLICIES.get(self.schedule, self.schedule)


class Model:
    def __init__(self):
        self.runs = {}
        self.skips = []
        self.latest = {}

    def decide(self, trigger):
        """Return verdict, run id, whether it is a take-over, cancelled runs, seconds to wait."""
        expired = self.expire(trigger)
        verdict, run, wait = self.judge(trigger)
        if not trigger.manual and trigger.verdict not in REFUSED:
            self.latest[trigger.schedule] = max(
                trigger.slot, self.latest.get(trigger.schedule, trigger.slot)
            )
        run_id = run.run_id if run and verdict != "overlap" else trigger.run_id
        if verdict in ("overlap", "late", "coalesced") and not trigger.manual:
            self.skips.append((trigger.schedule, trigger.key, trigger.slot, trigger.now, run_id))
        if verdict == "overlap" and run and not trigger.manual:
            run.state = "given up"
        if verdict != "accepted":
            return str(verdict), run_id, False, set(), wait
        cancelled = {one for one in expired if one != run_id}
        if trigger.policy == "replace":
            for other in self.live(trigger.schedule):
                if other is not run:
                    other.state = "replaced"
                    cancelled.add(other.run_id)
        self.claim(trigger, run)
        return "accepted", run_id, run is not None, cancelled, None

    def judge(self, trigger):
        """Return the verdict, the run that it is about, and how long to wait."""
        run, now = self.known(trigger), trigger.now
        if run is not None:
            takes_time = run.state in ("claimed", "lapsed", "held") and run.lease > now
            if run.state in ("sent", "ended", "replaced", "expired"):
                return "duplicate", run, None
            if run.state == "held" and run.owner == trigger.owner:
                return "duplicate", run, None
            if takes_time:
                return "duplicate", run, run.lease - now
        if trigger.verdict in REFUSED:
            return trigger.verdict, None, None
        if run is None:
            if self.was_skipped(trigger) and not trigger.manual:
                return "duplicate", None, None
            if trigger.verdict is not Verdict.ACCEPTED:
                return trigger.verdict, None, None
        others = [one for one in self.live(trigger.schedule) if one is not run]
        if others and trigger.policy == "forbid":
            return "overlap", run, None
        return "accepted", run, None

    def known(self, trigger):
        runs = [one for one in self.runs.values() if one.state != "given up"]
        fresh = [one for one in runs if trigger.now - one.claimed < trigger.window]
        found = [one for one in fresh if (one.schedule, one.key) == (trigger.schedule, trigger.key)]
        if found:
            return max(found, key=lambda one: (one.claimed, one.token))
        own = [one for one in runs if one.run_id == trigger.run_id]
        return next((one for one in own if one in fresh or one.state in LIVE), None)

    def was_skipped(self, trigger):
        wanted = (trigger.schedule, trigger.key, trigger.slot)
        return any(
            skip[:3] == wanted and trigger.now - skip[3] < trigger.window for skip in self.skips
        )

    def live(self, schedule):
        return [one for one in self.runs.values() if one.schedule == schedule and one.state in LIVE]

    def expire(self, trigger):
        over = [one for one in self.live(trigger.schedule) if one.expires <= trigger.now]
        for run in over:
            run.state = "lapsed" if run.state == "claimed" else "expired"
        return [run.run_id for run in over]

    def claim(self, trigger, run):
        run_id = run.run_id if run else trigger.run_id
        self.runs[run_id] = ModelRun(
            run_id,
            trigger.schedule,
            run.key if run else trigger.key,
            "claimed",
            trigger.owner,
            0,
            run.claimed if run else trigger.now,
            trigger.now + TIMEOUT,
            trigger.now + LEASE,
        )

    def dispatched(self, run_id, token, lease):
        run = self.runs.get(run_id)
        if run is None or run.token != token:
            return False
        if run.state == "lapsed":
            run.state = "expired"
        if run.state not in LIVE:
            return run.state == "ended"
        run.state = "sent" if lease is None else "held"
        run.lease = lease or 0
        return True

    def release(self, run_id, token):
        run = self.runs.get(run_id)
        if run is None or run.token != token or run.state not in LIVE:
            return False
        run.state = "failed"
        return True

    def end(self, run_id, now):
        run = self.runs[run_id]
        if run.state not in LIVE:
            return False
        if run.expires <= now:
            run.state = "lapsed" if run.state == "claimed" else "expired"
            return False
        run.state = "ended"
        return True

    def renew(self, owner, lease):
        for run in self.runs.values():
            if run.owner == owner and run.state in ("claimed", "held"):
                run.lease = max(run.lease, lease)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = self.make_ledger()
        self.model = Model()
        self.now = self.latest_now = 100
        self.owners = ["a", "b"]
        self.lives = 0
        self.template = 0
        self.claims = []
        self.tokens = [0]
        self.effects = defaultdict(set)
        self.fenced = {}
        self.failed = False

    def make_ledger(self):
        raise NotImplementedError

    def teardown(self):
        try:
            if not self.failed:
                self.everything_ends_or_expires()
        finally:
            self.call(self.ledger.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def call(self, awaitable):
        return self.runner.run(awaitable)

    @rule(
        schedule=st.sampled_from(sorted(WINDOWS)),
        slot=st.integers(0, 3),
        owner=st.integers(0, 1),
        verdict=st.sampled_from([Verdict.ACCEPTED] * 12 + list(Verdict)[3:]),
        manual=st.sampled_from([False] * 5 + [True]),
    )
    def trigger(self, schedule, slot, owner, verdict, manual):
        name = slot // 2 if schedule == "shared" else slot
        self.decide(
            Trigger(
                schedule,
                slot,
                f"{name}/{self.template}",
                f"{schedule}-{slot}",
                self.owners[owner],
                self.now,
                verdict,
                manual,
            )
        )

    def decide(self, trigger):
        expected = self.model.decide(trigger)
        ruling = self.call(
            self.ledger.decide(
                Proposal(
                    schedule_id=trigger.schedule,
                    nominal_time=at(trigger.slot),
                    key=trigger.key,
                    run_id=trigger.run_id,
                    source="test",
                    owner=trigger.owner,
                    now=at(trigger.now),
                    verdict=trigger.verdict,
                    reason="on time",
                    concurrency_policy=trigger.policy,
                    dedupe_window=timedelta(seconds=trigger.window),
                    run_timeout=timedelta(seconds=TIMEOUT),
                    lease=timedelta(seconds=LEASE),
                    manual=trigger.manual,
                )
            )
        )
        wait = ruling.retry_after and ruling.retry_after.total_seconds()
        cancelled = set(ruling.cancelled)
        got = (str(ruling.verdict), ruling.run_id, ruling.taken_over, cancelled, wait)
        self.failed = got != expected
        assert got == expected
        if ruling.verdict == "accepted":
            assert ruling.token > max(self.tokens), "tokens only grow"
            self.tokens.append(ruling.token)
            self.model.runs[ruling.run_id].token = ruling.token
            self.claims.append((trigger.owner, ruling.run_id, ruling.token))
            self.fenced.pop(ruling.run_id, None)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), durable=st.booleans())
    def dispatch(self, data, durable):
        _, run_id, token = data.draw(st.sampled_from(self.claims))
        run = self.model.runs.get(run_id)
        if run is not None and run.token == token and run.state == "claimed":
            self.effects[run.schedule, run.key].add((run_id, run.claimed))
        lease = None if durable else self.now + LEASE
        expected = self.model.dispatched(run_id, token, lease)
        lease_until = None if lease is None else at(lease)
        got = self.call(self.ledger.dispatched(run_id, token, lease_until=lease_until))
        assert got == expected

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def fail_to_dispatch(self, data):
        claim = data.draw(st.sampled_from(self.claims))
        self.claims.remove(claim)
        _, run_id, token = claim
        expected = self.model.release(run_id, token)
        assert self.call(self.ledger.release(run_id, token)) == expected

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data())
    def complete(self, data):
        run_id = data.draw(st.sampled_from(sorted(self.model.runs)))
        expected = self.model.end(run_id, self.now)
        assert self.call(self.ledger.end(run_id, outcome="acked", now=at(self.now))) == expected

    @rule(owner=st.integers(0, 1))
    def renew(self, owner):
        self.model.renew(self.owners[owner], self.now + LEASE)
        self.call(self.ledger.renew(self.owners[owner], lease_until=at(self.now + LEASE)))

    @rule(owner=st.integers(0, 1))
    def crash(self, owner):
        """What the process held is not renewed, dispatched or released any more."""
        dead = self.owners[owner]
        self.lives += 1
        self.owners[owner] = f"life {self.lives}"
        self.claims = [claim for claim in self.claims if claim[0] != dead]

    @rule(step=st.sampled_from([-2, -1, 1, 1, 2, 3, 4, 6, 10, 11, 25]))
    def move_clock(self, step):
        self.now = max(self.now + step, self.latest_now - BACKWARDS)
        self.latest_now = max(self.latest_now, self.now)

    @rule()
    def deploy_another_template(self):
        """The same triggers get other keys."""
        self.template += 1

    @invariant()
    def the_ledger_is_where_the_model_is(self):
        known = {run.run_id: run for run in self.call(self.ledger.runs(limit=1000))}
        for run_id, run in list(self.model.runs.items()):
            found = known.pop(run_id, None)
            if found is None:
                assert self.latest_now >= run.expires + WINDOWS[run.schedule], "forgotten too soon"
                self.model.runs.pop(run_id)
                continue
            assert found.status == STATUS.get(run.state, run.state)
            assert (found.owner, found.token, found.key) == (run.owner, run.token, run.key)
            assert (found.claimed_at, found.expires_at) == (at(run.claimed), at(run.expires))
            assert found.lease_until == run.lease_until
        assert known == {}
        for schedule, slot in self.model.latest.items():
            assert self.call(self.ledger.latest(schedule)) == at(slot)

    @invariant()
    def under_forbid_at_most_one_run_is_active(self):
        for run in self.call(self.ledger.runs(unfinished=True, limit=1000)):
            others = self.call(self.ledger.runs(schedule_id=run.schedule_id, unfinished=True))
            active = [one for one in others if one.status in ("claimed", "active")]
            if POLICIES.get(run.schedule_id, run.schedule_id) != "allow":
                assert len(active) <= 1

    @invariant()
    def a_key_has_one_effect_in_its_window(self):
        for (schedule, _), effects in self.effects.items():
            times = sorted(claimed for _, claimed in effects)
            for earlier, later in itertools.pairwise(times):
                assert later - earlier >= WINDOWS[schedule]

    @invariant()
    def a_replaced_run_stays_fenced(self):
        for run_id, run in self.model.runs.items():
            if run.state == "replaced":
                self.fenced[run_id] = run.token
        for run_id, token in self.fenced.items():
            end = self.ledger.end(run_id, outcome="acked", now=at(self.now))
            assert not self.call(end)
            assert not self.call(self.ledger.dispatched(run_id, token, lease_until=None))
            assert not self.call(self.ledger.release(run_id, token))

    def everything_ends_or_expires(self):
        """Once every time-out has passed, the next trigger of each schedule finds it free."""
        self.now = self.latest_now = self.latest_now + 100
        for schedule in WINDOWS:
            self.the_ledger_is_where_the_model_is()
            self.decide(
                Trigger(
                    schedule, 9, "last", f"{schedule}-9", "z", self.now, Verdict.ACCEPTED, False
                )
            )
        active = [
            run.run_id
            for run in self.call(self.ledger.runs(unfinished=True, limit=1000))
            if run.status in ("claimed", "active")
        ]
        assert sorted(active) == sorted(f"{schedule}-9" for schedule in WINDOWS)


class MemoryMachine(LedgerMachine):
    def make_ledger(self):
        return MemoryLedger(retention=timedelta(0))


class SQLiteMachine(LedgerMachine):
    def make_ledger(self):
        return SQLiteLedger(
            self.folder / "ledger.sqlite", retention=timedelta(0), synchronous="normal"
        )


class RedisMachine(LedgerMachine):
    url = ""

    def make_ledger(self):
        return RedisLedger(self.url, prefix=uuid.uuid4().hex, retention=timedelta(0))


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSQLite = SQLiteMachine.TestCase
TestSQLite.settings = settings(TestMemory.settings, max_examples=25)


class TestRedis(RedisMachine.TestCase):
    settings = settings(TestMemory.settings, max_examples=10)

    @classmethod
    def setUpClass(cls):
        RedisMachine.url = cls.enterClassContext(valkey_server()).url
