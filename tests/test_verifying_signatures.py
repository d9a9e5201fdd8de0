import base64
import logging
import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from purista.errors import LedgerError, SettingsError, VerificationError
from purista.ledgers.memory import MemoryLedger
from purista.testing import ManualClock
from purista.verifying import Caller, Incoming, verified
from purista.verifying.secret import Secret
from purista.verifying.signatures import Nonces, SignatureVerifier, Signer

SECOND = timedelta(seconds=1)
TOLERANCE = timedelta(minutes=5)
BODY = b'{"specversion":"1.0","id":"1"}'

# The examples of the reference libraries:
# https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/javascript/src/webhook.test.ts
# https://github.com/standard-webhooks/standard-webhooks/blob/main/libraries/go/webhook_asymmetric_test.go
REFERENCE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
REFERENCE_AT = datetime.fromtimestamp(1614265330, UTC)
REFERENCE_BODY = b'{"test": 2432232314}'
REFERENCE = [
    (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    (
        "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
        "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
    ),
]


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def public_of(private: str) -> str:
    seed = base64.b64decode(private.removeprefix("whsk_"))[:32]
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return "whpk_" + encoded(key.public_key().public_bytes_raw())


SHARED, SHARED_NEXT = ("whsec_" + encoded(bytes(range(n, n + 32))) for n in (1, 101))
PRIVATE, PRIVATE_NEXT = ("whsk_" + encoded(bytes(range(n, n + 32))) for n in (1, 101))
PUBLIC, PUBLIC_NEXT = public_of(PRIVATE), public_of(PRIVATE_NEXT)
PAIRS = [(SHARED, SHARED), (PRIVATE, PUBLIC)]


def signer(*keys: str) -> Signer:
    return Signer([Secret.inline(key) for key in keys])


class Bench:
    """A verifier on a manual clock, with what it remembers."""

    def __init__(self, *keys: str, nonces: Nonces | None = None) -> None:
        self.clock = ManualClock()
        self.nonces = nonces or MemoryLedger()
        self.verifier = SignatureVerifier(
            [Secret.inline(key) for key in keys], nonces=self.nonces, clock=self.clock
        )

    def signed(self, *keys: str, message_id: str = "msg_1", ahead: timedelta = timedelta(0)):
        return signer(*keys).sign(BODY, message_id, self.clock.now() + ahead)

    async def take(self, headers: dict[str, str], body: bytes = BODY) -> Caller:
        caller, _ = await verified([self.verifier], Incoming([*headers.items()], body))
        return caller

    async def reason(self, headers: dict[str, str], body: bytes = BODY) -> str:
        with pytest.raises(VerificationError) as raised:
            await self.take(headers, body)
        return raised.value.reason


@pytest.mark.parametrize(("key", "signature"), REFERENCE)
def test_the_examples_of_the_reference_libraries_are_signed_alike(key: str, signature: str):
    headers = signer(key).sign(REFERENCE_BODY, REFERENCE_ID, REFERENCE_AT)
    assert headers == {
        "webhook-id": REFERENCE_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": signature,
    }


@pytest.mark.parametrize(("key", "signature"), REFERENCE)
async def test_the_examples_of_the_reference_libraries_are_taken(key: str, signature: str):
    verifying = public_of(key) if key.startswith("whsk_") else key
    verifier = SignatureVerifier(
        [Secret.inline(verifying)], nonces=MemoryLedger(), clock=ManualClock(REFERENCE_AT)
    )
    headers = {"webhook-id": REFERENCE_ID, "webhook-timestamp": "1614265330"}
    sent = Incoming([*headers.items(), ("webhook-signature", signature)], REFERENCE_BODY)
    assert (await verifier.verify(sent)).method == "signature"


def test_the_reference_library_takes_what_is_signed():
    now = datetime.now(UTC)
    headers = signer(SHARED_NEXT, SHARED).sign(BODY, "msg_1", now)
    assert standardwebhooks.Webhook(SHARED).verify(BODY, headers) == {
        "specversion": "1.0",
        "id": "1",
    }


@given(
    key=st.binary(min_size=24, max_size=64).filter(lambda raw: len(set(raw)) > 7), body=st.text()
)
def test_any_text_is_signed_as_the_reference_library_signs_it(key: bytes, body: str):
    headers = signer("whsec_" + encoded(key)).sign(body.encode(), "msg_1", REFERENCE_AT)
    reference = standardwebhooks.Webhook(key).sign("msg_1", REFERENCE_AT, body)
    assert headers["webhook-signature"] == reference


@pytest.mark.parametrize(("signs", "verifies"), PAIRS)
@pytest.mark.parametrize("body", [b"", BODY, bytes(range(256)), b"1.2.3", b"x" * 100_000])
async def test_any_body_is_taken_byte_for_byte(signs: str, verifies: str, body: bytes):
    bench = Bench(verifies)
    headers = signer(signs).sign(body, "msg_1", bench.clock.now())
    assert await bench.take(headers, body)


@pytest.mark.parametrize(("signs", "verifies"), PAIRS)
@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, BODY + b" "),
        ({}, b""),
        ({}, BODY.replace(b"1.0", b"1.1")),
        ({"webhook-id": "msg_2"}, BODY),
        ({"webhook-timestamp": "1798761601"}, BODY),
    ],
)
async def test_nothing_that_is_signed_can_be_changed(
    signs: str, verifies: str, changes: dict[str, str], body: bytes
):
    bench = Bench(verifies)
    assert await bench.reason(bench.signed(signs) | changes, body) == "wrong_signature"


@pytest.mark.parametrize(("signs", "verifies"), PAIRS)
async def test_every_bit_of_a_signature_counts(signs: str, verifies: str):
    bench = Bench(verifies)
    headers = bench.signed(signs)
    version, _, signature = headers["webhook-signature"].partition(",")
    raw = base64.b64decode(signature)
    for place in range(0, len(raw) * 8, 7):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        changed = headers | {"webhook-signature": f"{version},{encoded(bytes(flipped))}"}
        assert await bench.reason(changed) == "wrong_signature"


@pytest.mark.parametrize(("signs", "verifies"), PAIRS)
async def test_the_caller_is_named_without_the_key(signs: str, verifies: str):
    bench = Bench(verifies)
    caller = await bench.take(bench.signed(signs))
    assert caller.name.startswith("key-")
    assert len(caller.name) == len("key-12345678")


@pytest.mark.parametrize(
    ("keys", "signs"),
    [
        ([SHARED, SHARED_NEXT], [SHARED]),
        ([SHARED, SHARED_NEXT], [SHARED_NEXT]),
        ([SHARED], [SHARED_NEXT, SHARED]),
        ([PUBLIC, PUBLIC_NEXT], [PRIVATE_NEXT]),
        ([SHARED, PUBLIC], [PRIVATE]),
        ([PUBLIC, SHARED], [SHARED, PRIVATE_NEXT]),
    ],
)
async def test_keys_are_rotated_on_either_side_first(keys: list[str], signs: list[str]):
    bench = Bench(*keys)
    assert await bench.take(bench.signed(*signs))


@pytest.mark.parametrize(
    ("keys", "signs"),
    [
        ([SHARED], [SHARED_NEXT]),
        ([PUBLIC], [PRIVATE_NEXT]),
        ([PUBLIC], [SHARED]),
        ([SHARED], [PRIVATE]),
        # The public key, which everybody may know, taken for a shared secret:
        ([PUBLIC], ["whsec_" + PUBLIC.removeprefix("whpk_")]),
    ],
)
async def test_a_signature_of_another_key_is_refused(keys: list[str], signs: list[str]):
    bench = Bench(*keys)
    assert await bench.reason(bench.signed(*signs)) == "wrong_signature"


async def test_a_signature_under_the_other_version_is_refused():
    bench = Bench(PUBLIC, SHARED)
    headers = bench.signed(SHARED)
    changed = headers["webhook-signature"].replace("v1,", "v1a,")
    assert await bench.reason(headers | {"webhook-signature": changed}) == "wrong_signature"


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [
        (-TOLERANCE - SECOND, "stale_signature"),
        (timedelta(days=-30_000), "malformed_header"),
        (timedelta(days=-20_000), "stale_signature"),
        (TOLERANCE + SECOND, "early_signature"),
        (timedelta(days=300_000), "early_signature"),
    ],
)
async def test_a_time_of_signing_that_is_too_far_is_refused(ahead: timedelta, expected: str):
    bench = Bench(SHARED)
    assert await bench.reason(bench.signed(SHARED, ahead=ahead)) == expected


@pytest.mark.parametrize("ahead", [-TOLERANCE, timedelta(0), TOLERANCE])
async def test_a_time_of_signing_within_the_tolerance_is_taken(ahead: timedelta):
    bench = Bench(SHARED)
    assert await bench.take(bench.signed(SHARED, ahead=ahead))


async def test_how_old_the_trigger_is_does_not_matter():
    bench = Bench(SHARED)
    body = b'{"time":"1999-01-01T00:00:00Z"}'
    headers = signer(SHARED).sign(body, "msg_1", bench.clock.now())
    assert await bench.take(headers, body)


@pytest.mark.parametrize("ahead", [-TOLERANCE, timedelta(0), TOLERANCE])
async def test_the_very_same_message_is_refused_as_long_as_it_is_fresh(ahead: timedelta):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED, ahead=ahead)
    await bench.take(headers)
    for _ in range(41):
        assert await bench.reason(headers) in ("replayed", "stale_signature")
        await bench.clock.advance(timedelta(seconds=15))
    assert await bench.reason(headers) == "stale_signature"


async def test_a_copy_is_refused_by_a_process_whose_clock_is_behind():
    store = MemoryLedger()
    behind, ahead = Bench(SHARED, nonces=store), Bench(SHARED, nonces=store)
    headers = behind.signed(SHARED)
    await behind.take(headers)
    await behind.clock.advance(TOLERANCE)
    await ahead.clock.advance(TOLERANCE + 59 * SECOND)
    await ahead.take(ahead.signed(SHARED))  # The store forgets what is over by its clock.
    assert await behind.reason(headers) == "replayed"


async def test_a_copy_is_refused_by_every_process_that_shares_the_store():
    one, shared = Bench(SHARED), MemoryLedger()
    first, second = (Bench(SHARED, nonces=shared) for _ in range(2))
    headers = one.signed(SHARED)
    await first.take(headers)
    assert await second.reason(headers) == "replayed"


async def test_a_copy_with_one_of_two_signatures_is_refused():
    bench = Bench(SHARED, SHARED_NEXT)
    headers = bench.signed(SHARED, SHARED_NEXT)
    await bench.take(headers)
    for signature in headers["webhook-signature"].split(" "):
        assert await bench.reason(headers | {"webhook-signature": signature}) == "replayed"


async def test_what_is_signed_anew_under_the_same_id_is_let_in():
    """A sender that had no answer tries again; the ledger tells it that it is a duplicate."""
    bench = Bench(SHARED)
    await bench.take(bench.signed(SHARED))
    await bench.clock.advance(SECOND)
    assert await bench.take(bench.signed(SHARED))


async def test_the_very_same_message_is_let_in_after_its_use_was_undone():
    bench = Bench(SHARED)
    headers = bench.signed(SHARED)
    await bench.verifier.undo(await bench.take(headers))
    assert await bench.take(headers)
    assert await bench.reason(headers) == "replayed"


async def test_a_wrong_signature_does_not_use_up_the_right_one():
    bench = Bench(SHARED)
    headers = bench.signed(SHARED)
    await bench.reason(headers, b"tampered")
    assert await bench.take(headers)


class Away:
    """A store of nonces that does not answer."""

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        raise LedgerError("ledger 'runs': it is away")

    async def drop_nonce(self, nonce: str) -> None:
        raise LedgerError("ledger 'runs': it is away")


async def test_nothing_is_taken_while_the_store_of_nonces_is_away():
    bench = Bench(SHARED, nonces=Away())
    assert await bench.reason(bench.signed(SHARED)) == "keys_unavailable"


async def test_what_cannot_be_undone_is_logged(caplog: pytest.LogCaptureFixture):
    bench = Bench(SHARED, nonces=Away())
    await bench.verifier.undo(Caller("signature", "key-12345678", "signature:1:msg_1"))
    assert caplog.messages == ["a used signature could not be given back"]


async def test_undoing_what_used_up_nothing_is_harmless():
    await Bench(SHARED, nonces=Away()).verifier.undo(Caller("bearer", "token-1"))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_each_header_is_needed_once(name: str):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED)
    twice = Incoming([*headers.items(), (name, headers[name])], BODY)
    with pytest.raises(VerificationError) as raised:
        await verified([bench.verifier], twice)
    assert raised.value.reason == "duplicate_header"
    assert await bench.reason({key: headers[key] for key in headers if key != name}) == (
        "missing_header"
    )
    assert await bench.reason(headers | {name: ""}) in ("malformed_header", "wrong_signature")


async def test_a_request_without_any_of_the_headers_brings_no_credentials():
    assert await Bench(SHARED).reason({"authorization": "Bearer x"}) == "no_credentials"


@pytest.mark.parametrize(
    "seconds",
    [
        "NaN",
        "nan",
        "inf",
        "-inf",
        "1e9",
        "1798761600.0",
        "1798761600.5",
        "+1798761600",
        "-1798761600",
        "01798761600",
        "0x6b36ec80",
        "1_798_761_600",
        " 1798761600",
        "1798761600 ",
        "1798761600\n",
        "\u0661\u0667\u0669\u0668\u0667\u0666\u0661\u0666\u0660\u0660",
        "1798761600000000000000",
        "9" * 5000,
        "2027-01-01T00:00:00Z",
        "0",
        "",
    ],
)
async def test_a_time_that_is_no_whole_number_of_seconds_is_refused(seconds: str):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED) | {"webhook-timestamp": seconds}
    assert await bench.reason(headers) == "malformed_header"


@pytest.mark.parametrize("seconds", ["999999999999", "253402300800", "1"])
async def test_any_number_of_seconds_is_compared(seconds: str):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED) | {"webhook-timestamp": seconds}
    assert (await bench.reason(headers)).endswith("_signature")


@pytest.mark.parametrize(
    "message_id", ["", "a.b", ".", "a b", "a\n", "\u00fc", "a\x7f", "\udc80", "a" * 257, "\0"]
)
async def test_an_id_that_is_no_plain_word_is_refused_and_never_signed(message_id: str):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED) | {"webhook-id": message_id}
    assert await bench.reason(headers) == "malformed_header"
    with pytest.raises(ValueError, match="visible ASCII without a dot"):
        signer(SHARED).sign(BODY, message_id, bench.clock.now())


async def test_text_cannot_be_shifted_between_id_time_and_body():
    bench = Bench(SHARED)
    seconds = str(int(bench.clock.now().timestamp()))
    headers = signer(SHARED).sign(f"{seconds}.{{}}".encode(), "msg_1", bench.clock.now())
    shifted = headers | {"webhook-id": f"msg_1.{seconds}", "webhook-timestamp": seconds}
    assert await bench.reason(shifted, b"{}") == "malformed_header"


@pytest.mark.parametrize("message_id", ["m", "a" * 256, "2KWPBgLlAfxdpx2AI54pPJ85f4W", "!/~-_%'\""])
async def test_an_odd_id_is_a_word_all_the_same(message_id: str):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED, message_id=message_id)
    await bench.take(headers)
    assert await bench.reason(headers) == "replayed"


def spoilt(signature: str) -> list[str]:
    text = signature.removeprefix("v1,")
    raw = base64.b64decode(text)
    return [
        "v1",
        "v1,",
        ",",
        f",{text}",
        text,
        f"v1 {text}",
        f"v1,,{text}",
        f"v1, {text}",
        f"V1,{text}",
        f"v1;{text}",
        f"v2,{text}",
        f"v1,{text},{text}",
        f"v1,{text}\n",
        f"v1,{text.rstrip('=')}",
        f"v1,{text}=",
        f"v1,{text[:8]}",
        f"v1,{raw.hex()}",
        f"v1,{encoded(raw + raw)}",
        f"v1,{encoded(raw[:-1])}",
        f"v1,{base64.urlsafe_b64encode(raw + bytes([255])).decode()}",
        "v1,\u00fc",
        "v1,\ud800",
        "v1," + "A" * 5000,
    ]


@pytest.mark.parametrize("index", range(len(spoilt("v1,AAAA"))))
async def test_a_spoilt_signature_is_refused(index: int):
    bench = Bench(SHARED)
    headers = bench.signed(SHARED)
    changed = headers | {"webhook-signature": spoilt(headers["webhook-signature"])[index]}
    assert await bench.reason(changed) == "wrong_signature"


async def test_a_right_signature_among_wrong_ones_and_later_versions_is_found():
    bench = Bench(SHARED)
    headers = bench.signed(SHARED)
    wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    right = headers["webhook-signature"]
    changed = {"webhook-signature": f"{wrong} v2,AAAA v1 {right}  {wrong}"}
    assert await bench.take(headers | changed)


async def test_a_header_of_many_signatures_is_refused():
    bench = Bench(SHARED)
    headers = bench.signed(SHARED)
    changed = {"webhook-signature": " ".join([headers["webhook-signature"]] * 11)}
    assert await bench.reason(headers | changed) == "malformed_header"


@given(
    values=st.lists(st.text(), min_size=3, max_size=3),
    body=st.binary(),
)
async def test_whatever_is_sent_is_refused_with_a_verification_error(
    values: list[str], body: bytes
):
    bench = Bench(SHARED, PUBLIC)
    names = ["webhook-id", "webhook-timestamp", "webhook-signature"]
    assert await bench.reason(dict(zip(names, values, strict=True)), body)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "it is empty"),
        ("whsec_", "it has 0 bytes, not 24 to 64 bytes"),
        ("whsec_" + encoded(bytes(range(23))), "it has 23 bytes, not 24 to 64 bytes"),
        ("whsec_" + encoded(bytes(range(65))), "it has 65 bytes, not 24 to 64 bytes"),
        ("whsec_" + encoded(bytes(32)), "it repeats a few bytes"),
        ("whsec_not base64 at all, sorry", "it is no base64 behind its prefix"),
        (SHARED + "\n", "it is no base64 behind its prefix"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "it is no key of Standard Webhooks"),
        ("a long enough password of somebody", "it is no key of Standard Webhooks"),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "it is no key of Standard Webhooks"),
        ("whpk_", "it has 0 bytes; a public ed25519 key has 32"),
        ("whpk_" + encoded(bytes(32)), "it repeats a few bytes"),
        ("whpk_" + encoded(bytes(range(31))), "it has 31 bytes; a public ed25519 key has 32"),
        (PRIVATE, "it is a private key"),
    ],
)
def test_a_key_that_protects_nothing_is_a_refusal_to_start(key: str, expected: str):
    with pytest.raises(SettingsError) as raised:
        Bench(SHARED, key)
    (problem,) = raised.value.problems
    assert (problem.place, problem.message) == ("signature keys.1: inline", expected)
    assert key[6:] == "" or key[6:] not in str(raised.value)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (PUBLIC, "it is a public key"),
        ("whsk_" + encoded(bytes(range(33))), "it has 33 bytes; a private ed25519 key has 32"),
        ("x", "it is no key of Standard Webhooks"),
    ],
)
def test_what_cannot_sign_is_refused(key: str, expected: str):
    with pytest.raises(SettingsError) as raised:
        signer(key)
    assert raised.value.problems[0].message == expected


def test_there_is_no_verifier_without_a_key():
    with pytest.raises(SettingsError, match="signature keys: there is no secret"):
        SignatureVerifier([], nonces=MemoryLedger())


@pytest.mark.parametrize("tolerance", [timedelta(0), timedelta(minutes=-5)])
def test_a_tolerance_that_is_not_positive_is_refused(tolerance: timedelta):
    with pytest.raises(SettingsError, match="tolerance: it is not positive"):
        SignatureVerifier(Secret.inline(SHARED), nonces=MemoryLedger(), tolerance=tolerance)


async def test_keys_without_padding_and_of_64_bytes_are_read():
    bench = Bench("whsec_" + encoded(bytes(range(64))).rstrip("="))
    assert await bench.take(bench.signed("whsec_" + encoded(bytes(range(64)))))


def test_a_private_key_with_its_public_half_behind_it_signs_alike():
    seed = base64.b64decode(PRIVATE.removeprefix("whsk_"))
    public = base64.b64decode(PUBLIC.removeprefix("whpk_"))
    both = signer("whsk_" + encoded(seed + public))
    assert both.sign(BODY, "m", REFERENCE_AT) == signer(PRIVATE).sign(BODY, "m", REFERENCE_AT)


async def test_a_key_in_a_file_is_rotated_without_a_restart(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text(SHARED)
    clock = ManualClock()
    verifier = SignatureVerifier(f"file:{path}", nonces=MemoryLedger(), clock=clock)
    sent = Incoming([*signer(SHARED_NEXT).sign(BODY, "m", clock.now()).items()], BODY)
    with pytest.raises(VerificationError, match="no signature is one of a key of ours"):
        await verifier.verify(sent)
    path.write_text(SHARED_NEXT)
    assert await verifier.verify(sent)
    path.unlink()
    with pytest.raises(VerificationError) as raised:
        await verifier.verify(sent)
    assert raised.value.reason == "keys_unavailable"


async def test_no_key_is_ever_shown(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    bench = Bench(SHARED, PUBLIC)
    signs = signer(SHARED, PRIVATE)
    shown = [repr(bench.verifier), repr(signs), str(vars(bench.verifier)), str(vars(signs))]
    headers = bench.signed(SHARED)
    shown.append(repr(await bench.take(headers)))
    for body in (BODY, b"else"):
        with pytest.raises(VerificationError) as raised:
            await bench.take(headers, body)
        shown.append(repr(raised.value))
    signature = headers["webhook-signature"]
    secrets = [SHARED, PRIVATE, SHARED[6:], PRIVATE[5:], signature]
    assert not [each for each in [*shown, caplog.text] for secret in secrets if secret in each]


def test_neither_verifier_nor_signer_is_pickled():
    for each in (Bench(SHARED).verifier, signer(SHARED), signer(PRIVATE)):
        with pytest.raises(TypeError):
            pickle.dumps(each)


async def test_ten_thousand_messages_are_told_apart():
    bench = Bench(SHARED)
    names = {
        (await bench.take(bench.signed(SHARED, message_id=f"m{n}"))).nonce for n in range(10_000)
    }
    assert len(names) == 10_000


def test_random_keys_are_taken():
    assert all(Bench("whsec_" + encoded(os.urandom(24))) for _ in range(100))
