"""The table ``[ingress]``: secrets are referred to, and every mistake comes at once."""

from __future__ import annotations

from typing import Any

import pytest

from purista.errors import SettingsError
from purista.settings import IngressSettings, read_settings

SECRET = "hunter2"


def read(**values: Any) -> IngressSettings:
    found = read_settings({"ingress": values}, {})["ingress"]
    assert isinstance(found, IngressSettings)
    return found


def problems(**values: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(**values)
    assert SECRET not in str(caught.value)
    return [str(each).removeprefix("purista.toml: ingress.") for each in caught.value.problems]


def test_nothing_need_be_said():
    found = read()
    assert (found.host, found.port, found.bridge, found.queues) == ("127.0.0.1", 8080, None, None)
    assert (found.bearer, found.signatures, found.oidc, found.ledger) == (None, None, None, None)
    assert (found.retention_days, found.grace_seconds) == (30, 30)


def test_one_text_stands_for_a_list_of_one():
    found = read(
        bearer={"tokens": "env:A"},
        signatures={"keys": ["env:A", "file:/run/secrets/b"]},
        oidc={"issuer": "https://i", "audience": "https://a", "service_accounts": "a@b"},
    )
    assert found.bearer is not None
    assert found.bearer.tokens == ["env:A"]
    assert found.signatures is not None
    assert found.signatures.keys == ["env:A", "file:/run/secrets/b"]
    assert found.oidc is not None
    assert (found.oidc.audience, found.oidc.service_accounts) == (["https://a"], ["a@b"])


@pytest.mark.parametrize(
    "url",
    ["sqlite:///x", "env:URL", "file:/run/url", "postgresql://user@db/x", "redis://cache"],
)
def test_the_address_of_a_store_or_a_reference_to_it(url: str):
    assert read(ledger=url, queues=url).ledger == url


REFER = "refer to the secret, as env:NAME or file:PATH, and keep it out of this file"
WHOLE = "it holds a password; refer to the whole address, as env:NAME or file:PATH"
ADDRESS = "write an address such as sqlite:///runs.sqlite, or env:NAME"


def test_an_inline_secret_is_a_mistake():
    assert problems(
        ledger=f"postgresql://a:{SECRET}@db/x",
        queues=f"postgresql://db/x?password={SECRET}",
        bearer={"tokens": [SECRET, f"env:{SECRET}!"]},
        signatures={"keys": f"whsec_{SECRET}"},
        client={"bearer": SECRET, "sign": "file:"},
    ) == [
        f'ledger: {WHOLE}; such as ledger = "sqlite:///runs.sqlite"',
        f'queues: {WHOLE}; such as queues = "sqlite:///runs.sqlite"',
        f"bearer.tokens.0: {REFER}",
        f"bearer.tokens.1: {REFER}",
        f"signatures.keys.0: {REFER}",
        f'client.bearer: {REFER}; such as bearer = "env:PURISTA_BEARER"',
        f'client.sign: {REFER}; such as sign = "env:PURISTA_SIGNING_KEY"',
    ]


@pytest.mark.parametrize("url", [SECRET, "", "runs.sqlite", "env:", "file:\x00"])
def test_what_is_no_address_is_a_mistake(url: str):
    [problem] = problems(ledger=url)
    assert problem.startswith(f"ledger: {ADDRESS}")


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"port": 65_536}, "port"),
        ({"retention_days": 0}, "retention_days"),
        ({"grace_seconds": -1}, "grace_seconds"),
        ({"bearer": {"tokens": []}}, "bearer.tokens"),
        ({"bearer": {}}, "bearer.tokens"),
        ({"signatures": {"keys": "env:A", "tolerance_seconds": 0}}, "signatures.tolerance_seconds"),
        ({"oidc": {"issuer": "x", "audience": []}}, "oidc.audience"),
        ({"limits": {"seconds": 0}}, "limits.seconds"),
        ({"unknown_contract": SECRET}, "unknown_contract"),
        (
            {"oidc": {"issuer": "x", "audience": "a", "service_acounts": "b"}},
            "oidc.service_acounts",
        ),
    ],
)
def test_a_value_out_of_bounds_is_a_mistake(values: dict[str, Any], place: str):
    [problem] = problems(**values)
    assert problem.startswith(f"{place}: ")
