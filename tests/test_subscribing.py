"""What a subscriber asks of the event bridge."""

from datetime import timedelta

import pytest

from purista import Context, Service
from purista.errors import ContractError
from purista.subscribing import DEFAULT, SubscriptionOptions


def test_every_mistake_is_told_at_once() -> None:
    wrong = {"concurrency": 0, "max_attempts": True, "lease": timedelta(0), "backoff": 3}
    with pytest.raises(ContractError) as raised:
        SubscriptionOptions(**wrong)  # type: ignore[arg-type]
    places = [problem.place for problem in raised.value.problems]
    assert places == [f"subscription: {name}" for name in wrong]


def test_a_subscription_keeps_its_options() -> None:
    shop = Service("Shop")
    paid = shop.event("paid", int)

    @shop.subscription(paid, ordered=True, max_attempts=2)
    async def on_paid(amount: int, ctx: Context) -> None: ...

    assert shop.subscriptions["on_paid"].options == SubscriptionOptions(
        ordered=True, max_attempts=2
    )


def test_a_subscription_that_asks_for_nothing_has_the_defaults() -> None:
    shop = Service("Shop")

    @shop.subscription(shop.event("paid", int))
    async def on_paid(amount: int, ctx: Context) -> None: ...

    assert shop.subscriptions["on_paid"].options == DEFAULT
