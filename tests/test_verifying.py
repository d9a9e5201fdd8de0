import base64
import itertools
import subprocess
import sys
from typing import Any

import pytest

from purista.errors import MissingExtraError, VerificationError
from purista.ledgers.memory import MemoryLedger
from purista.testing import ManualClock
from purista.verifying import Incoming, Verifier, verified
from purista.verifying.bearer import BearerVerifier
from purista.verifying.oidc import OidcVerifier
from purista.verifying.secret import Secret
from purista.verifying.signatures import SignatureVerifier, Signer

TOKEN = "3f9ad01c77e24b58a6d2c0195eb8f463"
KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PUBLIC = "whpk_" + base64.b64encode(bytes(range(32))).decode()
CLOCK = ManualClock()


def verifiers() -> list[Verifier]:
    return [
        BearerVerifier(Secret.inline(TOKEN)),
        SignatureVerifier(Secret.inline(KEY), nonces=MemoryLedger(), clock=CLOCK),
        OidcVerifier("https://issuer.example.com", "here", subjects="me", clock=CLOCK),
    ]


def signed(body: bytes = b"{}") -> list[tuple[str, str]]:
    return [*Signer(Secret.inline(KEY)).sign(body, "msg_1", CLOCK.now()).items()]


async def reason(headers: list[tuple[str, str]], given: list[Verifier]) -> str:
    with pytest.raises(VerificationError) as raised:
        await verified(given, Incoming(headers, b"{}"))
    return raised.value.reason


def test_a_header_is_found_by_its_name():
    incoming = Incoming([("a", "1"), ("b", "2")], b"")
    assert [incoming.header(name) for name in ("a", "b", "c")] == ["1", "2", None]


def test_a_header_that_is_there_twice_is_refused():
    with pytest.raises(VerificationError, match="header 'a' is there twice") as raised:
        Incoming([("a", "1"), ("b", "2"), ("a", "1")], b"").header("a")
    assert raised.value.reason == "duplicate_header"


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
async def test_the_order_of_verifiers_does_not_matter(order: tuple[int, ...]):
    given = [verifiers()[number] for number in order]
    for headers, method in (
        ([("authorization", f"Bearer {TOKEN}")], "bearer"),
        (signed(), "signature"),
    ):
        caller, verifier = await verified(given, Incoming(headers, b"{}"))
        assert caller.method == method
        assert verifier.concerns(Incoming(headers, b"{}"))


@pytest.mark.parametrize("given", [[], [BearerVerifier(Secret.inline(TOKEN))], verifiers()])
@pytest.mark.parametrize(
    "headers", [[], [("x-forwarded-client-cert", "Hash=1")], [("cookie", "a")]]
)
async def test_without_credentials_nobody_is_let_in(
    headers: list[tuple[str, str]], given: list[Verifier]
):
    assert await reason(headers, given) == "no_credentials"


async def test_without_a_verifier_nobody_is_let_in():
    assert await reason([("authorization", f"Bearer {TOKEN}"), *signed()], []) == "no_credentials"


async def test_one_kind_of_right_credentials_is_enough_beside_wrong_ones():
    headers = [("authorization", "Bearer wrong"), *signed()]
    caller, _ = await verified(verifiers(), Incoming(headers, b"{}"))
    assert caller.method == "signature"


async def test_two_kinds_of_wrong_credentials_are_refused():
    headers = [("authorization", "Bearer wrong"), *signed(b"other")]
    assert await reason(headers, verifiers()) == "wrong_signature"


async def test_a_header_of_both_kinds_that_is_there_twice_is_refused():
    headers = [("authorization", f"Bearer {TOKEN}")] * 2
    assert await reason(headers, verifiers()) == "duplicate_header"


def test_each_challenge_is_one_word():
    assert [each.scheme for each in verifiers()] == ["Bearer", "StandardWebhooks", "Bearer"]


@pytest.mark.parametrize(
    ("missing", "make", "extra"),
    [
        ("joserfc.jws", lambda: OidcVerifier("https://a", "b", subjects="c"), "oidc"),
        ("httpx", lambda: OidcVerifier("https://a", "b", subjects="c"), "oidc"),
        (
            "cryptography.exceptions",
            lambda: SignatureVerifier(Secret.inline(PUBLIC), nonces=MemoryLedger()),
            "signatures",
        ),
    ],
)
def test_a_package_that_is_missing_is_told_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, missing: str, make: Any, extra: str
):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=rf"purista\[{extra}\]"):
        make()


def test_static_tokens_and_shared_secrets_need_no_package():
    program = f"""
import sys
for name in ("joserfc", "httpx", "cryptography", "standardwebhooks"):
    sys.modules[name] = None
from purista.verifying.bearer import BearerVerifier
from purista.verifying.oidc import OidcVerifier
from purista.verifying.secret import Secret
from purista.verifying.signatures import Signer
BearerVerifier(Secret.inline("{TOKEN}"))
Signer(Secret.inline("{KEY}"))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


async def test_a_copy_is_told_from_a_retry_of_a_request_that_failed():
    verifier = verifiers()[1]
    incoming = Incoming(signed(), b"{}")
    caller, by = await verified([verifier], incoming)
    assert await reason(signed(), [verifier]) == "replayed"
    await by.undo(caller)
    assert (await verified([verifier], incoming))[0] == caller


async def test_everything_closes_more_than_once():
    for each in verifiers():
        await each.close()
        await each.close()
