"""The conformance suite of ledgers: what the port promises, one test for each promise."""
# ruff: noqa: D102 - the names of tests say what they test

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol

from purista.ledgers import Contracts, History, Ledger, Nonces, Proposal, RunStatus, Verdict

START = datetime(2027, 3, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)
RUN_TIMEOUT = timedelta(hours=1)
DEDUPE_WINDOW = timedelta(days=7)
SECOND = timedelta(seconds=1)


def proposal(**changes: Any) -> Proposal:
    """Return a punctual trigger of the schedule ``billing.v1.close``, with what a case changes.

    ``key`` and ``run_id`` follow ``nominal_time`` when they are not given.
    """
    nominal_time = changes.get("nominal_time", START)
    values: dict[str, Any] = {
        "schedule_id": "billing.v1.close",
        "nominal_time": nominal_time,
        "key": nominal_time.isoformat(),
        "run_id": f"run of {changes.get('schedule_id', '')} {nominal_time.isoformat()}",
        "source": "test",
        "owner": "first",
        "now": START,
        "verdict": Verdict.ACCEPTED,
        "reason": "on time",
        "concurrency_policy": "allow",
        "dedupe_window": DEDUPE_WINDOW,
        "run_timeout": RUN_TIMEOUT,
        "lease": LEASE,
    }
    return Proposal(**(values | changes))


class RecordingLedger(Ledger, History, Contracts, Nonces, Protocol):
    """A ledger with all that an ingress asks for."""


class LedgerSuite:
    """Every ledger passes this; a subclass whose name begins with ``Test`` says how to open one.

    ::

        class TestMyLedger(LedgerSuite):
            @contextlib.asynccontextmanager
            async def ledger(self):
                ledger = MyLedger(URL, prefix=new_message_id())
                try:
                    yield ledger
                finally:
                    await ledger.close()

    The tests are coroutines: set ``asyncio_mode = "auto"`` for pytest-asyncio, or mark the class with
    ``pytest.mark.asyncio``. For values in failures, call
    ``pytest.register_assert_rewrite("purista.testing")`` in ``conftest.py``. No test waits: every
    instant is in the proposals. A ledger that forgets what is old keeps it for at least 30 days.
    """

    def ledger(self) -> AbstractAsyncContextManager[RecordingLedger]:
        """Open a ledger that is empty and no other test's, and close it in the end."""
        raise NotImplementedError(f"{type(self).__name__}.ledger opens the ledger to be tested")

    async def test_a_first_trigger_is_accepted_and_claimed(self) -> None:
        async with self.ledger() as ledger:
            ruling = await ledger.decide(proposal(run_id="r"))
            assert (ruling.verdict, ruling.run_id, ruling.reason) == ("accepted", "r", "on time")
            assert (ruling.taken_over, ruling.cancelled, ruling.retry_after) == (False, (), None)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.token, run.owner) == (RunStatus.CLAIMED, ruling.token, "first")
            assert (run.claimed_at, run.expires_at) == (START, START + RUN_TIMEOUT)
            assert (run.lease_until, run.ended_at, run.outcome) == (START + LEASE, None, "")

    async def test_an_unknown_run_is_none(self) -> None:
        async with self.ledger() as ledger:
            assert await ledger.run("unknown") is None

    async def test_a_duplicate_of_a_claim_says_when_it_can_be_taken_over(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r"))
            ruling = await ledger.decide(proposal(run_id="r", now=START + 10 * SECOND))
            assert (ruling.verdict, ruling.run_id, ruling.token) == ("duplicate", "r", 0)
            assert ruling.retry_after == LEASE - 10 * SECOND

    async def test_a_claim_is_taken_over_once_its_lease_is_out(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            again = await ledger.decide(proposal(run_id="r", owner="second", now=START + LEASE))
            assert (again.verdict, again.run_id, again.taken_over) == ("accepted", "r", True)
            assert again.token > first.token
            assert again.cancelled == ()

    async def test_a_take_over_prolongs_the_run_but_not_its_dedupe_window(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r"))
            await ledger.decide(proposal(run_id="r", owner="second", now=START + LEASE))
            run = await ledger.run("r")
            assert run is not None
            assert (run.claimed_at, run.expires_at) == (START, START + LEASE + RUN_TIMEOUT)
            assert (run.lease_until, run.owner) == (START + 2 * LEASE, "second")

    async def test_a_take_over_by_another_trigger_of_the_key_keeps_the_run(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r", key="k"))
            later = START + RUN_TIMEOUT / 2
            again = await ledger.decide(
                proposal(run_id="other", key="k", nominal_time=later, now=later)
            )
            run = await ledger.run("r")
            assert (again.run_id, again.taken_over) == ("r", True)
            assert run is not None
            assert (run.nominal_time, run.key, run.status) == (START, "k", "claimed")
            assert await ledger.run("other") is None

    async def test_who_was_taken_over_is_fenced(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            again = await ledger.decide(proposal(run_id="r", owner="second", now=START + LEASE))
            assert not await ledger.dispatched("r", first.token, lease_until=None)
            assert not await ledger.release("r", first.token)
            assert await ledger.dispatched("r", again.token, lease_until=None)

    async def test_a_late_redelivery_takes_over_because_the_first_was_in_time(self) -> None:
        async with self.ledger() as ledger:
            for verdict in (Verdict.LATE, Verdict.COALESCED):
                key = str(verdict)
                await ledger.decide(proposal(key=key, run_id=key))
                late = proposal(key=key, run_id=key, now=START + LEASE, verdict=verdict)
                assert (await ledger.decide(late)).taken_over

    async def test_a_claim_is_not_taken_over_by_what_the_contract_refuses(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r"))
            for verdict in (Verdict.DISABLED, Verdict.UNEXPECTED, Verdict.REJECTED):
                refused = proposal(run_id="r", now=START + LEASE, verdict=verdict, reason="no")
                ruling = await ledger.decide(refused)
                assert (ruling.verdict, ruling.reason) == (verdict, "no")

    async def test_a_failed_dispatch_is_taken_over_at_once(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            assert await ledger.release("r", first.token)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.lease_until) == (RunStatus.FAILED, None)
            assert (await ledger.decide(proposal(run_id="r"))).taken_over

    async def test_a_dispatched_run_can_still_be_released_and_taken_over(self) -> None:
        async with self.ledger() as ledger:
            token = await self._active(ledger)
            assert await ledger.release("r", token)
            assert not await ledger.end("r", outcome="acked", now=START)
            assert (await ledger.decide(proposal(run_id="r"))).taken_over

    async def test_a_failed_dispatch_does_not_block_its_schedule(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r", concurrency_policy="forbid"))
            await ledger.release("r", first.token)
            other = await ledger.decide(_next(1, concurrency_policy="forbid"))
            assert other.verdict == "accepted"

    async def test_a_dispatched_run_is_active_and_its_redelivery_a_duplicate(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            assert await ledger.dispatched("r", first.token, lease_until=None)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.lease_until) == (RunStatus.ACTIVE, None)
            again = await ledger.decide(proposal(run_id="r", owner="second", now=START + 2 * LEASE))
            assert (again.verdict, again.run_id, again.retry_after) == ("duplicate", "r", None)

    async def test_an_active_run_whose_message_dies_with_its_process_can_be_taken_over(
        self,
    ) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, lease_until=START + LEASE)
            held = await ledger.decide(proposal(run_id="r", owner="second"))
            assert (held.verdict, held.retry_after) == ("duplicate", LEASE)
            again = await ledger.decide(proposal(run_id="r", owner="second", now=START + LEASE))
            assert (again.verdict, again.taken_over, again.cancelled) == ("accepted", True, ())

    async def test_a_process_does_not_take_over_what_is_active_in_itself(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, lease_until=START + LEASE)
            for later in (SECOND, LEASE, 2 * LEASE):
                again = await ledger.decide(proposal(run_id="r", now=START + later))
                assert (again.verdict, again.retry_after) == ("duplicate", None)

    async def test_a_renewed_lease_holds_longer(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, lease_until=START + LEASE)
            await ledger.decide(_next(1, run_id="claimed"))
            await ledger.renew("first", lease_until=START + 3 * LEASE)
            for run_id in ("r", "claimed"):
                run = await ledger.run(run_id)
                assert run is not None
                assert run.lease_until == START + 3 * LEASE

    async def test_renewing_touches_only_leases_that_the_owner_has(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, lease_until=None)
            await ledger.decide(_next(1, run_id="foreign", owner="second"))
            await ledger.decide(_next(2, run_id="ended"))
            await ledger.end("ended", outcome="acked", now=START)
            await ledger.renew("first", lease_until=START + 3 * LEASE)
            found = [await ledger.run(run_id) for run_id in ("r", "foreign", "ended")]
            leases = [run and run.lease_until for run in found]
            assert leases == [None, START + LEASE, None]

    async def test_renewing_never_shortens_a_lease(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, lease_until=START + LEASE)
            await ledger.renew("first", lease_until=START)
            run = await ledger.run("r")
            assert run is not None
            assert run.lease_until == START + LEASE

    async def test_renewing_does_not_prolong_a_claim_past_its_time_out(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r", run_timeout=SECOND))
            assert not await ledger.end("r", outcome="acked", now=START + SECOND)
            await ledger.renew("first", lease_until=START + 3 * LEASE)
            assert (await ledger.decide(proposal(run_id="r", now=START + LEASE))).taken_over

    async def test_renewing_for_an_unknown_owner_does_nothing(self) -> None:
        async with self.ledger() as ledger:
            await ledger.renew("nobody", lease_until=START)
            assert list(await ledger.runs()) == []

    async def test_an_ended_run_stays_ended(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            assert await ledger.end("r", outcome="acked", now=START + SECOND)
            assert not await ledger.end("r", outcome="dead", now=START + 2 * SECOND)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.outcome) == (RunStatus.ENDED, "acked")
            assert (run.ended_at, run.lease_until) == (START + SECOND, None)

    async def test_a_key_has_no_second_effect_within_its_dedupe_window(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            await ledger.end("r", outcome="acked", now=START + SECOND)
            last = START + DEDUPE_WINDOW - timedelta(microseconds=1)
            again = await ledger.decide(proposal(run_id="r", now=last))
            assert (again.verdict, again.run_id, again.retry_after) == ("duplicate", "r", None)

    async def test_a_key_counts_anew_after_its_dedupe_window(self) -> None:
        async with self.ledger() as ledger:
            token = await self._active(ledger)
            await ledger.end("r", outcome="acked", now=START + SECOND)
            later = START + DEDUPE_WINDOW
            again = await ledger.decide(proposal(run_id="r", now=later))
            assert (again.verdict, again.taken_over) == ("accepted", False)
            assert again.token > token
            (run,) = await ledger.runs()
            assert (run.claimed_at, run.status, run.outcome) == (later, RunStatus.CLAIMED, "")

    async def test_of_several_runs_of_a_key_the_newest_counts(self) -> None:
        async with self.ledger() as ledger:
            for number in range(3):
                later = START + number * LEASE
                anew = proposal(
                    key="k", run_id=str(number), now=later, dedupe_window=SECOND, lease=SECOND
                )
                ruling = await ledger.decide(anew)
                assert (ruling.verdict, ruling.run_id) == ("accepted", str(number))
            await ledger.end("0", outcome="acked", now=START)
            again = await ledger.decide(proposal(key="k", run_id="9", now=START + 9 * LEASE))
            assert (again.run_id, again.taken_over) == ("2", True)

    async def test_a_run_that_counts_anew_does_not_cancel_itself(self) -> None:
        async with self.ledger() as ledger:
            for policy in ("allow", "replace"):
                first = proposal(
                    run_id=policy, key=policy, schedule_id=policy, dedupe_window=SECOND
                )
                ruling = await ledger.decide(first)
                await ledger.dispatched(policy, ruling.token, lease_until=None)
                again = proposal(
                    run_id=policy,
                    key=policy,
                    schedule_id=policy,
                    dedupe_window=SECOND,
                    concurrency_policy=policy,
                    now=START + RUN_TIMEOUT,
                )
                ruling = await ledger.decide(again)
                assert (ruling.verdict, ruling.cancelled) == ("accepted", ())

    async def test_a_clock_that_was_set_back_opens_no_dedupe_window(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            await ledger.end("r", outcome="acked", now=START + SECOND)
            again = await ledger.decide(proposal(run_id="r", now=START - timedelta(minutes=5)))
            assert again.verdict == "duplicate"

    async def test_another_trigger_with_the_key_is_a_duplicate_of_the_first_run(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, key="2027-03")
            again = await ledger.decide(_next(1, key="2027-03", run_id="other"))
            assert (again.verdict, again.run_id) == ("duplicate", "r")

    async def test_the_same_key_of_another_schedule_is_another_run(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, key="2027-03")
            other = proposal(schedule_id="billing.v1.other", key="2027-03", run_id="other")
            assert (await ledger.decide(other)).verdict == "accepted"

    async def test_a_run_that_got_another_key_is_not_run_again(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, key="old template")
            again = await ledger.decide(proposal(run_id="r", key="new template"))
            assert (again.verdict, again.run_id) == ("duplicate", "r")

    async def test_a_run_is_not_overwritten_while_it_is_active(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, dedupe_window=SECOND)
            for policy in ("allow", "forbid", "replace"):
                again = await ledger.decide(
                    proposal(
                        run_id="r",
                        now=START + 5 * SECOND,
                        dedupe_window=SECOND,
                        concurrency_policy=policy,
                    )
                )
                assert (again.verdict, again.run_id) == ("duplicate", "r")

    async def test_a_run_that_ended_before_it_was_noted_as_dispatched_is_ended(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            assert await ledger.end("r", outcome="answered", now=START)
            assert await ledger.dispatched("r", first.token, lease_until=START + LEASE)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.outcome, run.lease_until) == ("ended", "answered", None)

    async def test_an_ended_run_cannot_be_released(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            await ledger.end("r", outcome="answered", now=START)
            assert not await ledger.release("r", first.token)

    async def test_what_is_not_known_is_fenced(self) -> None:
        async with self.ledger() as ledger:
            token = await self._active(ledger)
            assert not await ledger.end("unknown", outcome="acked", now=START)
            assert not await ledger.dispatched("unknown", token, lease_until=None)
            assert not await ledger.release("unknown", token)
            assert not await ledger.release("r", token + 1)

    async def test_allow_runs_side_by_side(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            other = await ledger.decide(_next(1))
            assert (other.verdict, other.cancelled) == ("accepted", ())
            assert await ledger.end("r", outcome="acked", now=START + SECOND)

    async def test_forbid_skips_while_a_run_is_claimed_or_active(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            assert (await ledger.decide(_next(1, concurrency_policy="forbid"))).verdict == "overlap"
            await ledger.dispatched("r", first.token, lease_until=None)
            ruling = await ledger.decide(_next(2, concurrency_policy="forbid", run_id="second"))
            assert (ruling.verdict, ruling.run_id, ruling.token) == ("overlap", "second", 0)
            assert await ledger.run("second") is None

    async def test_forbid_looks_at_its_own_schedule_only(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            other = proposal(schedule_id="billing.v1.other", concurrency_policy="forbid")
            assert (await ledger.decide(other)).verdict == "accepted"

    async def test_forbid_lets_the_next_run_begin_when_the_last_is_over(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, concurrency_policy="forbid")
            await ledger.end("r", outcome="acked", now=START + SECOND)
            assert (
                await ledger.decide(_next(1, concurrency_policy="forbid"))
            ).verdict == "accepted"

    async def test_a_skipped_trigger_is_not_run_when_it_comes_again(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            await ledger.decide(_next(1, concurrency_policy="forbid", run_id="skipped"))
            await ledger.end("r", outcome="acked", now=START + SECOND)
            again = await ledger.decide(_next(1, concurrency_policy="forbid", run_id="skipped"))
            assert (again.verdict, again.run_id, again.retry_after) == (
                "duplicate",
                "skipped",
                None,
            )

    async def test_a_skip_counts_for_its_nominal_time_only(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(_next(1, key="k", verdict=Verdict.LATE, reason="late"))
            assert (await ledger.decide(_next(2, key="k"))).verdict == "accepted"

    async def test_a_skip_is_forgotten_after_the_dedupe_window(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(verdict=Verdict.LATE))
            within = proposal(now=START + DEDUPE_WINDOW - SECOND)
            assert (await ledger.decide(within)).verdict == "duplicate"
            beyond = proposal(now=START + DEDUPE_WINDOW)
            assert (await ledger.decide(beyond)).verdict == "accepted"

    async def test_late_and_coalesced_triggers_are_skipped_and_used_up(self) -> None:
        async with self.ledger() as ledger:
            for number, verdict in enumerate((Verdict.LATE, Verdict.COALESCED)):
                ruling = await ledger.decide(_next(number, verdict=verdict, reason="too late"))
                assert (ruling.verdict, ruling.reason) == (verdict, "too late")
                assert (await ledger.decide(_next(number))).verdict == "duplicate"

    async def test_what_the_contract_refuses_is_not_used_up(self) -> None:
        async with self.ledger() as ledger:
            for number, verdict in enumerate(
                (Verdict.DISABLED, Verdict.UNEXPECTED, Verdict.REJECTED)
            ):
                ruling = await ledger.decide(_next(number, verdict=verdict, reason="no"))
                assert (ruling.verdict, ruling.reason) == (verdict, "no")
                assert (await ledger.decide(_next(number))).verdict == "accepted"

    async def test_a_person_may_run_what_was_skipped(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(verdict=Verdict.LATE))
            assert (await ledger.decide(proposal(manual=True))).verdict == "accepted"

    async def test_a_person_may_not_run_what_ran(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            assert (await ledger.decide(proposal(run_id="r", manual=True))).verdict == "duplicate"

    async def test_what_a_person_tried_in_vain_is_not_used_up(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            tried = await ledger.decide(_next(1, concurrency_policy="forbid", manual=True))
            await ledger.end("r", outcome="acked", now=START + SECOND)
            assert tried.verdict == "overlap"
            assert (
                await ledger.decide(_next(1, concurrency_policy="forbid"))
            ).verdict == "accepted"

    async def test_replace_cancels_and_fences_every_active_run(self) -> None:
        async with self.ledger() as ledger:
            token = await self._active(ledger, lease_until=START + LEASE)
            claimed = await ledger.decide(_next(1, run_id="claimed"))
            ruling = await ledger.decide(_next(2, concurrency_policy="replace", run_id="new"))
            assert (ruling.verdict, ruling.cancelled) == ("accepted", ("r", "claimed"))
            assert not await ledger.end("r", outcome="acked", now=START + SECOND)
            assert not await ledger.dispatched("claimed", claimed.token, lease_until=None)
            assert not await ledger.release("r", token)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.outcome, run.lease_until) == ("replaced", "replaced", None)

    async def test_a_replaced_run_does_not_come_back(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r"))
            await ledger.decide(_next(1, concurrency_policy="replace"))
            again = await ledger.decide(proposal(run_id="r", now=START + 2 * LEASE))
            assert (again.verdict, again.run_id, again.retry_after) == ("duplicate", "r", None)

    async def test_a_run_past_its_time_out_blocks_nothing_and_is_cancelled(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            later = START + RUN_TIMEOUT
            ruling = await ledger.decide(_next(1, concurrency_policy="forbid", now=later))
            assert (ruling.verdict, ruling.cancelled) == ("accepted", ("r",))
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.outcome, run.ended_at) == ("expired", "run_timeout", later)

    async def test_the_end_of_a_run_past_its_time_out_is_ignored(self) -> None:
        async with self.ledger() as ledger:
            token = await self._active(ledger)
            assert not await ledger.end("r", outcome="acked", now=START + RUN_TIMEOUT)
            run = await ledger.run("r")
            assert run is not None
            assert (run.status, run.outcome) == (RunStatus.EXPIRED, "run_timeout")
            assert not await ledger.dispatched("r", token, lease_until=None)
            assert not await ledger.release("r", token)

    async def test_a_dispatched_run_past_its_time_out_is_not_run_again(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, lease_until=START + LEASE)
            again = await ledger.decide(
                proposal(run_id="r", owner="second", now=START + RUN_TIMEOUT)
            )
            assert (again.verdict, again.run_id, again.retry_after) == ("duplicate", "r", None)

    async def test_a_claim_past_its_time_out_is_taken_over(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r", concurrency_policy="forbid"))
            later = START + RUN_TIMEOUT
            again = await ledger.decide(
                proposal(run_id="r", concurrency_policy="forbid", now=later)
            )
            assert (again.verdict, again.taken_over, again.cancelled) == ("accepted", True, ())

    async def test_a_claim_past_its_time_out_waits_for_its_lease(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r", run_timeout=SECOND))
            again = await ledger.decide(proposal(run_id="r", now=START + 10 * SECOND))
            assert (again.verdict, again.retry_after) == ("duplicate", LEASE - 10 * SECOND)

    async def test_a_dispatch_noted_after_the_time_out_is_fenced_but_not_repeated(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            await ledger.end("r", outcome="acked", now=START + RUN_TIMEOUT)
            assert not await ledger.dispatched("r", first.token, lease_until=None)
            again = await ledger.decide(proposal(run_id="r", now=START + RUN_TIMEOUT))
            assert (again.verdict, again.retry_after) == ("duplicate", None)

    async def test_a_take_over_that_overlaps_is_given_up(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r", concurrency_policy="forbid"))
            await ledger.release("r", first.token)
            await ledger.decide(_next(1, concurrency_policy="forbid", run_id="other"))
            again = await ledger.decide(proposal(run_id="r", concurrency_policy="forbid"))
            run = await ledger.run("r")
            assert again.verdict == "overlap"
            assert run is not None
            assert (run.status, run.outcome) == (RunStatus.FAILED, "overlap")
            await ledger.end("other", outcome="acked", now=START + SECOND)
            redelivered = proposal(run_id="r", concurrency_policy="forbid")
            assert (await ledger.decide(redelivered)).verdict == "duplicate"

    async def test_a_person_that_tries_in_vain_gives_nothing_up(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            await ledger.release("r", first.token)
            await ledger.decide(_next(1, run_id="other"))
            tried = proposal(run_id="r", concurrency_policy="forbid", manual=True)
            assert (await ledger.decide(tried)).verdict == "overlap"
            await ledger.end("other", outcome="acked", now=START)
            late = proposal(run_id="r", verdict=Verdict.LATE)
            assert (await ledger.decide(late)).taken_over

    async def test_a_person_may_run_what_was_given_up(self) -> None:
        async with self.ledger() as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            await ledger.release("r", first.token)
            await ledger.decide(_next(1, run_id="other"))
            await ledger.decide(proposal(run_id="r", concurrency_policy="forbid"))
            again = await ledger.decide(proposal(run_id="r", manual=True))
            assert (again.verdict, again.run_id, again.taken_over) == ("accepted", "r", False)
            assert again.token > first.token

    async def test_a_take_over_does_not_overlap_with_itself(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r", concurrency_policy="forbid"))
            again = await ledger.decide(
                proposal(run_id="r", concurrency_policy="forbid", now=START + LEASE)
            )
            assert (again.verdict, again.taken_over) == ("accepted", True)

    async def test_a_take_over_replaces_the_others_but_not_itself(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r"))
            await ledger.decide(_next(1, run_id="other"))
            again = await ledger.decide(
                proposal(run_id="r", concurrency_policy="replace", now=START + LEASE)
            )
            assert (again.taken_over, again.cancelled) == (True, ("other",))

    async def test_of_many_at_once_one_is_accepted(self) -> None:
        async with self.ledger() as ledger:
            rulings = await asyncio.gather(
                *(ledger.decide(proposal(run_id="r")) for _ in range(40))
            )
            assert sorted(ruling.verdict for ruling in rulings) == ["accepted"] + ["duplicate"] * 39

    async def test_every_decision_is_recorded_newest_first(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal(run_id="r", source="cron"))
            await ledger.decide(proposal(run_id="r", now=START + SECOND))
            await ledger.decide(_next(1, concurrency_policy="forbid"))
            await ledger.decide(proposal(schedule_id="billing.v1.other", verdict=Verdict.DISABLED))
            verdicts = [record.verdict for record in await ledger.records()]
            assert verdicts == ["disabled", "overlap", "duplicate", "accepted"]
            own = await ledger.records(schedule_id="billing.v1.close")
            assert [record.verdict for record in own] == verdicts[1:]
            assert [record.verdict for record in await ledger.records(limit=2)] == verdicts[:2]
            first = own[-1]
            assert (first.run_id, first.source, first.reason) == ("r", "cron", "on time")
            assert (first.nominal_time, first.decided_at) == (START, START)

    async def test_runs_come_newest_nominal_time_first(self) -> None:
        async with self.ledger() as ledger:
            for number in (1, 3, 0, 2):
                await ledger.decide(_next(number, run_id=str(number)))
            await ledger.decide(proposal(schedule_id="billing.v1.other", run_id="other"))
            own = await ledger.runs(schedule_id="billing.v1.close", limit=3)
            assert [run.run_id for run in own] == ["3", "2", "1"]
            assert {run.run_id for run in await ledger.runs()} == {"3", "2", "1", "0", "other"}

    async def test_unfinished_runs_are_those_that_something_can_become_of(self) -> None:
        async with self.ledger() as ledger:
            tokens = {}
            for number, name in enumerate(("claimed", "active", "failed", "ended", "expired")):
                ruling = await ledger.decide(_next(number, run_id=name))
                tokens[name] = ruling.token
            await ledger.dispatched("active", tokens["active"], lease_until=None)
            await ledger.release("failed", tokens["failed"])
            await ledger.end("ended", outcome="acked", now=START)
            await ledger.end("expired", outcome="acked", now=START + 2 * RUN_TIMEOUT)
            found = [run.run_id for run in await ledger.runs(unfinished=True)]
            assert found == ["failed", "active", "claimed"]

    async def test_latest_is_the_latest_that_a_scheduler_sent(self) -> None:
        async with self.ledger() as ledger:
            assert await ledger.latest("billing.v1.close") is None
            await ledger.decide(_next(9, manual=True))
            for number, verdict in enumerate(
                (Verdict.DISABLED, Verdict.UNEXPECTED, Verdict.REJECTED), start=6
            ):
                await ledger.decide(_next(number, verdict=verdict))
            assert await ledger.latest("billing.v1.close") is None
            await ledger.decide(_next(2))
            await ledger.decide(_next(1))
            assert await ledger.latest("billing.v1.close") == START + 2 * RUN_TIMEOUT
            await ledger.decide(_next(3, verdict=Verdict.LATE))
            assert await ledger.latest("billing.v1.close") == START + 3 * RUN_TIMEOUT
            assert await ledger.latest("billing.v1.other") is None

    async def test_latest_ignores_a_duplicate_that_the_contract_refuses(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(_next(9, manual=True))
            ruling = await ledger.decide(_next(9, verdict=Verdict.UNEXPECTED))
            assert ruling.verdict == "duplicate"
            assert await ledger.latest("billing.v1.close") is None

    async def test_instants_are_kept_to_the_microsecond_and_told_in_utc(self) -> None:
        async with self.ledger() as ledger:
            berlin = timezone(timedelta(hours=1))
            instant = datetime(2027, 3, 28, 2, 30, 0, 123457, tzinfo=berlin)
            await ledger.decide(proposal(run_id="r", nominal_time=instant, now=instant))
            run = await ledger.run("r")
            assert run is not None
            for kept in (run.nominal_time, run.claimed_at, await ledger.latest(run.schedule_id)):
                assert kept == instant
                assert kept.tzinfo is UTC
            again = proposal(run_id="r", nominal_time=instant.astimezone(UTC), now=instant)
            assert (await ledger.decide(again)).verdict == "duplicate"

    async def test_names_may_hold_anything(self) -> None:
        async with self.ledger() as ledger:
            names = ['it\'s "quoted"; --', "Zürich 日本 🕐", "a\x00b", "a", "%_?", "x" * 10_000, ""]
            for name in names:
                odd = proposal(schedule_id=name, key=name, run_id=name, source=name, owner=name)
                assert (await ledger.decide(odd)).verdict == "accepted"
                assert (await ledger.decide(odd)).run_id == name
            assert {run.key for run in await ledger.runs()} == set(names)

    async def test_durations_may_be_as_long_as_they_can(self) -> None:
        async with self.ledger() as ledger:
            most = timedelta.max
            long = proposal(run_id="r", dedupe_window=most, run_timeout=most, lease=most)
            assert (await ledger.decide(long)).verdict == "accepted"
            assert (await ledger.decide(long)).verdict == "duplicate"

    async def test_what_is_old_is_forgotten_but_not_the_latest(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            await ledger.decide(_next(1, verdict=Verdict.LATE))
            later = START + timedelta(days=31)
            for number in range(200):
                other = {"schedule_id": "billing.v1.other", "run_id": str(number)}
                await ledger.decide(proposal(**other, key=str(number), now=later))
            assert await ledger.run("r") is None
            assert list(await ledger.records(schedule_id="billing.v1.close")) == []
            assert await ledger.latest("billing.v1.close") == START + RUN_TIMEOUT

    async def test_a_long_dedupe_window_keeps_its_keys(self) -> None:
        async with self.ledger() as ledger:
            window = timedelta(days=365)
            await ledger.decide(proposal(run_id="r", dedupe_window=window))
            await ledger.end("r", outcome="acked", now=START)
            await ledger.decide(_next(1, verdict=Verdict.LATE, dedupe_window=window))
            later = START + timedelta(days=364)
            for number in range(200):
                other = {"schedule_id": "billing.v1.other", "run_id": str(number)}
                await ledger.decide(proposal(**other, key=str(number), now=later))
            for number in (0, 1):
                again = _next(number, dedupe_window=window, now=later, run_id=f"again {number}")
                assert (await ledger.decide(again)).verdict == "duplicate"

    async def test_a_purge_forgets_all_that_is_old_and_counts_it(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger)
            await ledger.decide(_next(1, verdict=Verdict.LATE))
            assert await ledger.purge(START + timedelta(days=29)) == 0
            assert await ledger.run("r") is not None
            assert await ledger.purge(START + timedelta(days=31)) == 4
            assert await ledger.run("r") is None
            assert list(await ledger.records()) == []
            assert await ledger.latest("billing.v1.close") == START + RUN_TIMEOUT

    async def test_a_purge_forgets_more_than_a_thousand_at_once(self) -> None:
        async with self.ledger() as ledger:
            for number in range(1100):
                await ledger.decide(proposal(schedule_id=str(number), run_id=str(number)))
            assert await ledger.purge(START + timedelta(days=31)) == 2200
            assert await ledger.runs() == []

    async def test_a_purge_drops_no_key_inside_its_window(self) -> None:
        async with self.ledger() as ledger:
            window = timedelta(days=365)
            await ledger.decide(proposal(run_id="r", dedupe_window=window))
            await ledger.end("r", outcome="acked", now=START)
            await ledger.decide(_next(1, verdict=Verdict.LATE, dedupe_window=window))
            assert await ledger.purge(START + timedelta(days=364)) == 0
            for number in (0, 1):
                later = START + timedelta(days=364)
                again = _next(number, dedupe_window=window, now=later, run_id=f"again {number}")
                assert (await ledger.decide(again)).verdict == "duplicate"

    async def test_a_purge_keeps_a_run_that_is_not_over(self) -> None:
        async with self.ledger() as ledger:
            await self._active(ledger, run_timeout=timedelta(days=90))
            await ledger.purge(START + timedelta(days=89))
            assert await ledger.run("r") is not None

    async def test_history_is_bounded_by_nominal_times(self) -> None:
        async with self.ledger() as ledger:
            for number in range(5):
                await ledger.decide(_next(number, run_id=str(number), now=START + 9 * RUN_TIMEOUT))
            bounds: dict[str, Any] = {
                "since": START + RUN_TIMEOUT,
                "until": START + 3 * RUN_TIMEOUT,
            }
            for one in ("billing.v1.close", None):
                runs = await ledger.runs(schedule_id=one, **bounds)
                records = await ledger.records(schedule_id=one, **bounds)
                assert [run.run_id for run in runs] == ["2", "1"]
                assert [record.run_id for record in records] == ["2", "1"]
                newest = await ledger.runs(schedule_id=one, since=START + RUN_TIMEOUT, limit=2)
                assert [run.run_id for run in newest] == ["4", "3"]
                oldest = await ledger.records(schedule_id=one, until=START + RUN_TIMEOUT)
                assert [record.run_id for record in oldest] == ["0"]
            assert await ledger.runs(unfinished=True, until=START) == []

    async def test_the_contract_of_a_schedule_is_remembered_with_the_one_before(self) -> None:
        async with self.ledger() as ledger:
            assert await ledger.contract("a") is None
            await ledger.note_contracts({"a": "1", "b": "1"}, now=START)
            await ledger.note_contracts({"a": "1"}, now=START + SECOND)
            await ledger.note_contracts({"a": "2"}, now=START + 2 * SECOND)
            await ledger.note_contracts({}, now=START + 3 * SECOND)
            known, other = await ledger.contract("a"), await ledger.contract("b")
            assert known is not None
            assert other is not None
            assert (known.fingerprint, known.previous) == ("2", "1")
            assert (known.since, known.known_since) == (START + 2 * SECOND, START)
            assert (other.fingerprint, other.previous, other.since) == ("1", None, START)

    async def test_going_back_to_the_contract_before_swaps_the_two(self) -> None:
        async with self.ledger() as ledger:
            for number, fingerprint in enumerate(("1", "2", "1")):
                now = START + number * SECOND
                await ledger.note_contracts({"a": fingerprint}, now=now)
            known = await ledger.contract("a")
            assert known is not None
            assert (known.fingerprint, known.previous) == ("1", "2")
            assert (known.since, known.known_since) == (START + 2 * SECOND, START)

    async def test_ten_thousand_contracts_are_noted_at_once(self) -> None:
        async with self.ledger() as ledger:
            await ledger.note_contracts({f"s{n}": str(n) for n in range(10_000)}, now=START)
            known = await ledger.contract("s9999")
            assert known is not None
            assert known.fingerprint == "9999"

    async def test_a_nonce_is_used_once_until_it_is_forgotten(self) -> None:
        async with self.ledger() as ledger:
            until = START + 10 * SECOND
            assert await ledger.use_nonce("n", now=START, kept_until=until)
            assert not await ledger.use_nonce("n", now=START + SECOND, kept_until=until + SECOND)
            assert await ledger.use_nonce("other", now=START, kept_until=until)
            assert await ledger.use_nonce("n", now=until, kept_until=until + 5 * SECOND)
            assert not await ledger.use_nonce("n", now=until, kept_until=until + 5 * SECOND)

    async def test_a_dropped_nonce_may_be_used_again(self) -> None:
        async with self.ledger() as ledger:
            until = START + 10 * SECOND
            await ledger.drop_nonce("n")
            assert await ledger.use_nonce("n", now=START, kept_until=until)
            await ledger.drop_nonce("n")
            assert await ledger.use_nonce("n", now=START, kept_until=until)
            assert not await ledger.use_nonce("n", now=START, kept_until=until)

    async def test_of_many_who_use_a_nonce_one_succeeds(self) -> None:
        async with self.ledger() as ledger:
            until = START + SECOND
            uses = (ledger.use_nonce("n", now=START, kept_until=until) for _ in range(20))
            assert sum(await asyncio.gather(*uses)) == 1

    async def test_closing_may_be_repeated(self) -> None:
        async with self.ledger() as ledger:
            await ledger.decide(proposal())
            await ledger.close()
            await ledger.close()

    async def _active(
        self, ledger: RecordingLedger, *, lease_until: datetime | None = None, **changes: Any
    ) -> int:
        """Let the run ``r`` be dispatched; return its token."""
        ruling = await ledger.decide(proposal(run_id="r", **changes))
        assert await ledger.dispatched("r", ruling.token, lease_until=lease_until)
        return ruling.token


def _next(number: int, **changes: Any) -> Proposal:
    """Return the trigger of a later nominal time, by default at the same time of day as the first."""
    nominal_time = START + number * RUN_TIMEOUT
    return proposal(nominal_time=nominal_time, **changes)
