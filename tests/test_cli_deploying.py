"""What a deployment of the settings refuses, and what an operator misspells: nothing is connected to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.planned import DAILY, HOURLY, Capture, Planned, in_folder, make_plan

from purista.cli.deploying import Wish, asked_for
from purista.cli.planview import Shown, print_plan
from purista.plan import Desired, Observed, Owner, Plan, digests


@pytest.fixture
def shop(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planned]:
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    with in_folder(tmp_path, monkeypatch):
        shop = Planned("staging", tmp_path, capsys)
        shop.write(DAILY, HOURLY)
        yield shop


def refused(shop: Planned, table: str, *options: str) -> str:
    """Return why a plan is refused with a table of a deployment."""
    (shop.folder / "purista.toml").write_text(
        f'[deployments.staging]\nscheduler = "nats"\n{table}\n'
    )
    code, _, err = shop.call("plan", *options)
    assert code == 2, err
    return " ".join(err.split())


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('disabled = ["*.dayly"]', "purista.toml: disabled: '*.dayly' matches none"),
        ('disabled = ["Shop.v1.dayli"]', "did you mean 'Shop.v1.daily'?"),
        (
            'services = ["Shop.v1", "Bilingg.*"]',
            "services: 'Bilingg.*' matches none; use one of: Shop",
        ),
        ('schedules = ["Shopp.*"]', "schedules: 'Shopp.*' matches none"),
        ('tags = ["nigthly"]', "tags: 'nigthly' matches none"),
        ('slower = { "*.hourlyy" = "6h" }', "slower: '*.hourlyy' matches none"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(shop: Planned, table: str, told: str) -> None:
    assert told in refused(shop, table)


@pytest.mark.parametrize(
    ("policy", "recovery", "told"),
    [
        ("runOnce", "scheduler", "so that a late trigger is coalesced"),
        ("runOnce", "ingress", "and recovers them"),
        ("catchUp", "ingress", "and recovers them"),
        ("skip", "ingress", "and recovers them"),
    ],
)
def test_a_slower_schedule_whose_missed_times_the_ingress_would_take_is_refused(
    shop: Planned, policy: str, recovery: str, told: str
) -> None:
    shop.write(HOURLY.replace("**options", f"**options | {{'missed_run_policy': '{policy}'}}"))
    table = f'slower = {{ "*" = "6h" }}\ningress = {{ recovery = "{recovery}" }}'
    found = refused(shop, table, "--accept", f"missed-run-policy-{policy.lower()}")
    assert found.startswith("purista: purista.toml: slower: schedule 'Shop.v1.hourly': "), found
    assert told in found


def test_the_name_of_a_deployment_of_the_settings_is_not_used_without_its_table(
    shop: Planned,
) -> None:
    shop.scheduler, shop.deployment = "nats", "staging"
    found = refused(shop, 'disabled = ["*.daily"]')
    assert "'staging' is a deployment of the settings; say it in place of 'nats'" in found


@pytest.mark.parametrize("table", ["nats = 3\n", 'ingress = "x"\n'])
def test_what_is_no_table_is_refused(shop: Planned, table: str) -> None:
    (shop.folder / "purista.toml").write_text(
        f'{table}[deployments.staging]\nscheduler = "nats"\nsettings = {{ stream = "A" }}\n'
    )
    code, _, err = shop.call("plan")
    assert (code, "purista.toml: " in err, "Traceback" in err) == (2, True, False)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dayly:paused", "no schedule 'dayly'; did you mean 'daily'?"),
        ("Shop.v1.daly", "no schedule 'Shop.v1.daly'"),
    ],
)
def test_an_override_of_no_schedule_is_refused(shop: Planned, override: str, told: str) -> None:
    assert told in refused(shop, "", "--override", override)


def test_an_override_may_say_the_name_alone(shop: Planned) -> None:
    shop.write(DAILY)
    asked = asked_for(Wish("nats", ("shop:shop",), override=("daily:Nats-Schedule",)))
    assert asked is not None
    assert asked.overrides == {"Shop.v1.daily:Nats-Schedule"}


def test_what_is_left_out_cannot_be_paused_and_says_so(shop: Planned) -> None:
    (shop.folder / "purista.toml").write_text(
        '[deployments.staging]\nscheduler = "temporal"\nschedules = ["*.hourly"]\n'
    )
    code, _, err = shop.call("pause", "-s", "daily", "--reason", "x")
    assert code == 2
    assert "schedule 'Shop.v1.daily' does not go to temporal, deployment 'staging'" in err


def test_a_pause_without_a_reason_is_refused(shop: Planned) -> None:
    shop.scheduler = "temporal"
    for command in ("pause", "resume"):
        code, _, err = shop.call(command, "-s", "daily", "--reason", " ")
        assert (code, f"--reason is empty; say why it is {command}d" in err) == (2, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"wish": {"scheduler": "nats", "services": [1]}},
        {"wish": {"scheduler": "nats", "services": ["shop:shop"], "accept": None}},
        {"wish": {"scheduler": "nats", "services": ["shop:shop"], "from_": 5}},
        {"changes": None},
        {"changes": [1]},
        {"changes": "abc"},
    ],
)
def test_a_plan_that_somebody_edited_badly_is_no_plan(
    shop: Planned, changed: dict[str, Any]
) -> None:
    good = {"wish": {"scheduler": "nats", "services": ["shop:shop"]}, "changes": [], "state": ""}
    Path("plan.json").write_text(json.dumps(good | changed))
    code, _, err = shop.run("apply", "plan.json")
    assert (code, "'plan.json' is no plan; write one with" in err) == (2, True)


def planned(before: Any, after: Any) -> Plan:
    owner = Owner("default", "x", "1")
    there = Observed("x", {"words": before}, owner, digests({"words": before}))
    return make_plan("fake", "default", [Desired("x", owner, {"words": after})], [there])


@pytest.mark.parametrize(
    "text", ["see [/ops/42]", "Close [eu]", ":tada:", "\udcff", "[red]x[/red]"]
)
def test_values_are_printed_as_they_are(capsys: Capture, text: str) -> None:
    print_plan(Shown(planned("old", text), {}))
    out = capsys.readouterr().out
    assert f'words: "old" -> "{text.replace(chr(0xDCFF), chr(92) + "udcff")}"' in out
