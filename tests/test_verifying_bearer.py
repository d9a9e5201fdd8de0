import hashlib
import hmac
import logging
from pathlib import Path

import pytest

from purista.errors import SettingsError, VerificationError
from purista.verifying import Caller, Incoming, verified
from purista.verifying.bearer import BearerVerifier
from purista.verifying.secret import Secret

TOKENS = [
    "3f9ad01c77e24b58a6d2c0195eb8f463",
    "pM4-tq_7Zk~Xw+9/Lr2sVbN8==",
    "0" * 8 + "fedcba98" * 3,
]


def verifier(*tokens: str) -> BearerVerifier:
    return BearerVerifier([Secret.inline(token) for token in tokens])


def request(*authorization: str) -> Incoming:
    return Incoming([("authorization", value) for value in authorization], b"{}")


async def reason(sent: Incoming, *tokens: str) -> str:
    with pytest.raises(VerificationError) as raised:
        await verified([verifier(*(tokens or TOKENS[:1]))], sent)
    return raised.value.reason


@pytest.mark.parametrize("token", TOKENS)
async def test_each_token_lets_in(token: str):
    caller = await verifier(*TOKENS).verify(request(f"Bearer {token}"))
    name = hashlib.sha256(token.encode()).hexdigest()[:8]
    assert caller == Caller("bearer", f"token-{name}")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
async def test_the_scheme_is_read_as_http_reads_it(scheme: str):
    assert await verifier(TOKENS[0]).verify(request(f"{scheme} {TOKENS[0]}"))


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {TOKENS[1]}", "unknown_token"),
        (f"Bearer {TOKENS[0][:-1]}", "unknown_token"),
        (f"Bearer {TOKENS[0]}0", "unknown_token"),
        (f"Bearer {TOKENS[0].upper()}", "unknown_token"),
        (f"Bearer {hashlib.sha256(TOKENS[0].encode()).hexdigest()}", "unknown_token"),
        ("Bearer " + "a" * 100_000, "unknown_token"),
        ("Bearer", "malformed_token"),
        ("Bearer ", "malformed_token"),
        (f"Bearer {TOKENS[0]} {TOKENS[0]}", "malformed_token"),
        (f"Bearer {TOKENS[0]},{TOKENS[0]}", "malformed_token"),
        (f'Bearer "{TOKENS[0]}"', "malformed_token"),
        (f"Bearer {TOKENS[0]}\n", "malformed_token"),
        (f"Bearer\t{TOKENS[0]}", "no_credentials"),
        (f"Bearer {TOKENS[0]}\u00fc", "malformed_token"),
        (f"Bearer {TOKENS[0]}\udcff", "malformed_token"),
        ("Bearer \uff21\uff22", "malformed_token"),
        (f"Basic {TOKENS[0]}", "no_credentials"),
        (f"{TOKENS[0]}", "no_credentials"),
        (f"Bearer{TOKENS[0]}", "no_credentials"),
        ("", "no_credentials"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "no_credentials"),
    ],
)
async def test_anything_else_is_refused(authorization: str, expected: str):
    assert await reason(request(authorization)) == expected


async def test_a_request_without_the_header_is_refused():
    assert await reason(request()) == "no_credentials"


async def test_the_right_header_twice_is_refused():
    right = f"Bearer {TOKENS[0]}"
    assert await reason(request(right, right)) == "duplicate_header"
    assert await reason(request("Bearer x", right)) == "duplicate_header"


@pytest.mark.parametrize("position", [0, 1, 2, None])
async def test_every_token_is_compared_by_its_hash_in_constant_time(
    position: int | None, monkeypatch: pytest.MonkeyPatch
):
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    sent = "f" * 30 if position is None else TOKENS[position]
    try:
        await verifier(*TOKENS).verify(request(f"Bearer {sent}"))
    except VerificationError:
        assert position is None
    given = hashlib.sha256(sent.encode()).digest()
    assert compared == [(hashlib.sha256(each.encode()).digest(), given) for each in TOKENS]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("3f9ad01c77e24b58a6d2c", "it is shorter than 22 characters"),
        ("secret", "it is shorter than 22 characters"),
        ("x" * 40, "it repeats a few characters"),
        ("${PURISTA_TOKEN_FROM_SOMEWHERE}", "it has characters that no token may have"),
        ("3f9ad01c77e24b58 a6d2c0195eb8f463", "it has characters that no token may have"),
        ("3f9ad01c77e24b58a6d2c0195eb8f463 ", "it has characters that no token may have"),
        ("\ufeff3f9ad01c77e24b58a6d2c0195eb8f463", "it has characters that no token may have"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln", "it has characters that no token may have"),
    ],
)
def test_a_token_that_protects_nothing_is_a_refusal_to_start(token: str, expected: str):
    with pytest.raises(SettingsError) as raised:
        verifier(TOKENS[0], token)
    (problem,) = raised.value.problems
    assert (problem.place, problem.message) == ("bearer tokens.1: inline", expected)
    assert not token.strip() or token.strip() not in str(raised.value)


@pytest.mark.parametrize("tokens", [[], (), ""])
def test_no_token_is_a_refusal_to_start(tokens: list[str]):
    with pytest.raises(SettingsError):
        BearerVerifier(tokens)


async def test_a_token_in_a_file_is_rotated_without_a_restart(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(TOKENS[0] + "\n")
    bearer = BearerVerifier([f"file:{path}"])
    assert await bearer.verify(request(f"Bearer {TOKENS[0]}"))
    path.write_text(TOKENS[1] + "\n")
    assert await bearer.verify(request(f"Bearer {TOKENS[1]}"))
    with pytest.raises(VerificationError, match="none of ours"):
        await bearer.verify(request(f"Bearer {TOKENS[0]}"))


@pytest.mark.parametrize("content", [None, "", "short", "x" * 40])
async def test_a_file_that_is_spoilt_later_lets_nobody_in(tmp_path: Path, content: str | None):
    path = tmp_path / "token"
    path.write_text(TOKENS[0])
    bearer = BearerVerifier(f"file:{path}")
    path.unlink() if content is None else path.write_text(content)
    for sent in (TOKENS[0], content or "none"):
        with pytest.raises(VerificationError) as raised:
            await bearer.verify(request(f"Bearer {sent}"))
        assert raised.value.reason == "keys_unavailable"


async def test_the_other_token_still_lets_in_when_one_is_spoilt(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(TOKENS[0])
    bearer = BearerVerifier([f"file:{path}", Secret.inline(TOKENS[1])])
    path.unlink()
    assert await bearer.verify(request(f"Bearer {TOKENS[1]}"))


async def test_no_token_is_ever_shown(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    bearer = verifier(TOKENS[0])
    shown = [repr(bearer), str(vars(bearer))]
    for sent in (TOKENS[0], TOKENS[1], TOKENS[0] + "!"):
        try:
            shown.append(repr(await bearer.verify(request(f"Bearer {sent}"))))
        except VerificationError as error:
            shown.append(repr(error))
    assert not [each for each in [*shown, caplog.text] for token in TOKENS if token in each]


async def test_a_token_can_be_used_again():
    bearer = verifier(TOKENS[0])
    caller = await bearer.verify(request(f"Bearer {TOKENS[0]}"))
    await bearer.undo(caller)
    assert caller.nonce is None
    assert await bearer.verify(request(f"Bearer {TOKENS[0]}")) == caller
    await bearer.close()
