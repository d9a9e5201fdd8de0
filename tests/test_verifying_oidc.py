import base64
import functools
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import RSAKey
from tests.engines.issuer import ACCOUNT, AUDIENCE, SUBJECT, Issuer, issuer

from purista.errors import SettingsError, VerificationError
from purista.testing import ManualClock
from purista.verifying import Caller, Incoming, verified
from purista.verifying.bearer import BearerVerifier
from purista.verifying.oidc import GOOGLE, LEEWAY, OidcVerifier
from purista.verifying.secret import Secret

CLOCK = ManualClock()
NOW = int(CLOCK.now().timestamp())
HOUR = 3600
SKEW = int(LEEWAY.total_seconds())
OTHER = "someone@else.iam.gserviceaccount.com"


@pytest.fixture(scope="module")
def google() -> Iterator[Issuer]:
    with issuer(CLOCK.now) as running:
        running.keys.insert(0, running.new_key("EC"))
        running.publish()
        yield running


def verifier(google: Issuer, **options: Any) -> OidcVerifier:
    options = {"audience": AUDIENCE, "service_accounts": [ACCOUNT], "clock": CLOCK} | options
    return OidcVerifier(google.url, **options)


def request(token: str) -> Incoming:
    return Incoming([("authorization", f"Bearer {token}")], b"{}")


@functools.cache
def settled(google: Issuer) -> OidcVerifier:
    """Return a verifier that has its keys since its first use: the clock stands still."""
    return verifier(google)


async def take(google: Issuer, token: str, **options: Any) -> Caller:
    oidc = verifier(google, **options) if options else settled(google)
    try:
        caller, _ = await verified([oidc], request(token))
    finally:
        await oidc.close()
    return caller


async def reason(google: Issuer, token: str, **options: Any) -> str:
    with pytest.raises(VerificationError) as raised:
        await take(google, token, **options)
    return raised.value.reason


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def parts(token: str) -> tuple[str, str, str]:
    header, payload, signature = token.split(".")
    return header, payload, signature


async def test_a_token_as_google_signs_it_is_taken(google: Issuer):
    assert await take(google, google.token()) == Caller("oidc", ACCOUNT)


async def test_a_token_of_an_elliptic_curve_is_taken(google: Issuer):
    assert await take(google, google.token(key=google.keys[0]))


async def test_the_keys_may_be_named_instead_of_discovered(google: Issuer):
    asked = len(google.asked)
    assert await take(google, google.token(), jwks_url=f"{google.url}/keys")
    assert google.asked[asked:] == ["/keys"]


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [AUDIENCE]},
        {"iat": NOW + SKEW},
        {"exp": NOW - SKEW + 1},
        {"nbf": NOW + SKEW},
        {"nbf": NOW - HOUR},
        {"exp": NOW + 0.5},
        {"iat": NOW - 30 * 24 * HOUR},
        {"azp": None},
        {"anything": {"else": [1, 2, None]}},
    ],
    ids=str,
)
async def test_what_is_still_right_is_taken(google: Issuer, claims: dict[str, Any]):
    assert await take(google, google.token(**claims))


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_the_types_of_tokens_for_callers_are_taken(google: Issuer, typ: str | None):
    assert await take(google, google.token(headers={"typ": typ}))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"aud": "https://other.example.com"}, "wrong_audience"),
        ({"aud": AUDIENCE + "/"}, "wrong_audience"),
        ({"aud": AUDIENCE.upper()}, "wrong_audience"),
        ({"aud": AUDIENCE + "\0"}, "wrong_audience"),
        ({"aud": [AUDIENCE, "https://other.example.com"]}, "wrong_audience"),
        ({"aud": [AUDIENCE, AUDIENCE]}, "wrong_audience"),
        ({"aud": [[AUDIENCE]]}, "wrong_audience"),
        ({"aud": {AUDIENCE: True}}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": ""}, "wrong_audience"),
        ({"aud": True}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"iss": "https://evil.example.com"}, "wrong_issuer"),
        ({"iss": GOOGLE}, "wrong_issuer"),
        ({"iss": ""}, "wrong_issuer"),
        ({"iss": None}, "wrong_issuer"),
        ({"iss": [GOOGLE]}, "wrong_issuer"),
        ({"exp": NOW - SKEW}, "expired"),
        ({"exp": NOW - HOUR}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1}, "expired"),
        ({"exp": None}, "malformed_claims"),
        ({"exp": str(NOW + HOUR)}, "malformed_claims"),
        ({"exp": True}, "malformed_claims"),
        ({"exp": [NOW + HOUR]}, "malformed_claims"),
        ({"nbf": NOW + SKEW + 1}, "not_yet_valid"),
        ({"nbf": "now"}, "not_yet_valid"),
        ({"iat": NOW + SKEW + 1}, "not_yet_valid"),
        ({"iat": NOW + 10**12}, "not_yet_valid"),
        ({"iat": 10**400}, "not_yet_valid"),
        ({"iat": False}, "not_yet_valid"),
        ({"iat": None}, "malformed_claims"),
        ({"email": OTHER}, "unknown_caller"),
        ({"email": ACCOUNT.upper()}, "unknown_caller"),
        ({"email": f" {ACCOUNT}"}, "unknown_caller"),
        ({"email": f"{ACCOUNT}.evil.example.com"}, "unknown_caller"),
        ({"email": [ACCOUNT]}, "unknown_caller"),
        ({"email": {ACCOUNT: 1}}, "unknown_caller"),
        ({"email": None}, "unknown_caller"),
        ({"email": None, "sub": ACCOUNT}, "unknown_caller"),
        ({"email_verified": False}, "unknown_caller"),
        ({"email_verified": None}, "unknown_caller"),
        ({"email_verified": "true"}, "unknown_caller"),
        ({"email_verified": 1}, "unknown_caller"),
        ({"email_verified": [True]}, "unknown_caller"),
    ],
    ids=str,
)
async def test_wrong_claims_are_refused(google: Issuer, claims: dict[str, Any], expected: str):
    assert await reason(google, google.token(**claims)) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"kid": "unknown"}, "unknown_key"),
        ({"kid": "../../key-1"}, "unknown_key"),
        ({"kid": ""}, "unknown_key"),
        ({"kid": None}, "malformed_token"),
        ({"typ": "logout+jwt"}, "type_refused"),
        ({"typ": "dpop+jwt"}, "type_refused"),
        ({"typ": "secevent+jwt"}, "type_refused"),
        ({"typ": ""}, "type_refused"),
        ({"cty": "JWT"}, "header_refused"),
        ({"jku": "https://evil.example.com/keys"}, "header_refused"),
        ({"x5u": "https://evil.example.com/chain"}, "header_refused"),
        ({"x5c": ["MIIB"]}, "header_refused"),
        ({"zip": "DEF"}, "header_refused"),
    ],
    ids=str,
)
async def test_wrong_headers_are_refused(google: Issuer, headers: dict[str, Any], expected: str):
    assert await reason(google, google.token(headers=headers)) == expected


def unsigned(google: Issuer, **header: Any) -> str:
    """Return a token with any header and the signature of another."""
    _, payload, signature = parts(google.token())
    return f"{part({'alg': 'RS256', 'kid': google.key.kid} | header)}.{payload}.{signature}"


def by_public_key(google: Issuer, algorithm: str) -> str:
    """Return a token whose HMAC has the RSA key that everybody knows as its secret."""
    start = f"{part({'alg': algorithm, 'kid': google.key.kid})}.{part(google.claims())}"
    public = google.key.as_pem(private=False)
    return f"{start}.{part(hmac.digest(public, start.encode(), 'sha' + algorithm[2:]))}"


def by_own_key(google: Issuer) -> str:
    """Return a token that brings the key that signed it."""
    own = google.new_key(kid=google.key.kid)
    return google.token(headers={"jwk": own.as_dict(private=False)}, key=own)


def tampered(google: Issuer) -> str:
    header, _, signature = parts(google.token(email=OTHER))
    return f"{header}.{part(google.claims())}.{signature}"


def encrypted(google: Issuer) -> str:
    header = {"alg": "RSA-OAEP-256", "enc": "A128CBC-HS256", "kid": google.key.kid}
    algorithms = ["RSA-OAEP-256", "A128CBC-HS256"]
    key = google.new_key("RSA").as_dict(private=True) | {"use": "enc"}
    token = google.token().encode()
    return jwe.encrypt_compact(header, token, RSAKey.import_key(key), algorithms)


ALG_TWICE = b'{"alg":"RS256","alg":"none"}'

HOSTILE: list[tuple[str, Callable[[Issuer], str], str]] = [
    ("alg none", lambda g: ".".join(parts(unsigned(g, alg="none"))[:2]) + ".", "malformed_token"),
    ("alg none, signed", lambda g: unsigned(g, alg="none"), "algorithm_refused"),
    ("alg None", lambda g: unsigned(g, alg="None"), "algorithm_refused"),
    ("alg NONE", lambda g: unsigned(g, alg="NONE"), "algorithm_refused"),
    ("alg null", lambda g: unsigned(g, alg=None), "algorithm_refused"),
    ("alg a list", lambda g: unsigned(g, alg=["RS256"]), "algorithm_refused"),
    ("alg rs256", lambda g: unsigned(g, alg="rs256"), "algorithm_refused"),
    ("alg RS384", lambda g: unsigned(g, alg="RS384"), "algorithm_refused"),
    ("alg of another kind", lambda g: unsigned(g, alg="ES256"), "wrong_signature"),
    ("HS256 by the public key", lambda g: by_public_key(g, "HS256"), "algorithm_refused"),
    ("HS512 by the public key", lambda g: by_public_key(g, "HS512"), "algorithm_refused"),
    ("a key of its own", by_own_key, "header_refused"),
    ("another key", lambda g: g.token(key=g.new_key(kid=g.key.kid)), "wrong_signature"),
    ("kid of another", lambda g: g.token(headers={"kid": g.keys[0].kid}), "wrong_signature"),
    ("kid a number", lambda g: unsigned(g, kid=1), "malformed_token"),
    ("kid a list", lambda g: unsigned(g, kid=["key-1"]), "malformed_token"),
    ("crit a number", lambda g: unsigned(g, crit=5), "header_refused"),
    ("crit", lambda g: unsigned(g, crit=["exp"], exp=1), "header_refused"),
    ("b64 false", lambda g: unsigned(g, b64=False, crit=["b64"]), "header_refused"),
    ("b64 alone", lambda g: unsigned(g, b64=False), "header_refused"),
    ("typ a number", lambda g: unsigned(g, typ=1), "type_refused"),
    ("more headers", lambda g: unsigned(g, other=1), "wrong_signature"),
    ("tampered payload", tampered, "wrong_signature"),
    ("signature empty", lambda g: g.token().rpartition(".")[0] + ".", "malformed_token"),
    ("signature away", lambda g: g.token().rpartition(".")[0], "malformed_token"),
    ("signature cut", lambda g: g.token()[:-4], "wrong_signature"),
    ("signature longer", lambda g: g.token() + "AAAA", "wrong_signature"),
    ("signature of nothing", lambda g: g.token().rpartition(".")[0] + ".AAAA", "wrong_signature"),
    ("padded", lambda g: g.token() + "==", "malformed_token"),
    ("blank inside", lambda g: g.token().replace(".", ". ", 1), "malformed_token"),
    ("two in one", lambda g: f"{g.token()},{g.token()}", "malformed_token"),
    ("encrypted", encrypted, "malformed_token"),
    ("nested", lambda g: g.signed(json.dumps(g.token()).encode()), "malformed_token"),
    ("nested bare", lambda g: g.signed(g.token().encode()), "malformed_token"),
    ("a list", lambda g: g.signed(json.dumps([g.claims()]).encode()), "malformed_token"),
    ("no JSON", lambda g: g.signed(b"\xff\xfe"), "malformed_token"),
    ("a NaN", lambda g: g.signed(b'{"exp":NaN}'), "malformed_token"),
    ("never ends", lambda g: g.signed(body(g, '"exp":1e999')), "malformed_claims"),
    ("too deep", lambda g: g.signed(b"[" * 4000), "malformed_token"),
    ("aud twice", lambda g: g.signed(body(g, f'"aud":"{AUDIENCE}"')), "malformed_token"),
    ("aud twice, wrong first", lambda g: g.signed(body(g, '"aud":"x"')), "malformed_token"),
    ("huge", lambda g: g.token(more="x" * 10_000), "token_too_large"),
    ("huge and no token", lambda g: "a." * 1_000_000, "token_too_large"),
    ("header no JSON", lambda g: "AAAA." + g.token().partition(".")[2], "malformed_token"),
    ("header a text", lambda g: f"{part('alg')}.e30.AAAA", "malformed_token"),
    ("header too deep", lambda g: f"{part(b'[' * 4000)}.e30.AAAA", "malformed_token"),
    ("alg twice", lambda g: f"{part(ALG_TWICE)}.e30.AAAA", "malformed_token"),
    ("one letter", lambda g: "a.b.c", "malformed_token"),
    ("dots", lambda g: "..", "malformed_token"),
    ("five parts", lambda g: g.token() + ".a.b", "malformed_token"),
    ("not ASCII", lambda g: "\u00fc.\u00fc.\u00fc", "malformed_token"),
    ("half a character", lambda g: "\ud800.a.b", "malformed_token"),
]


def body(google: Issuer, more: str) -> bytes:
    """Return claims as JSON, one of them once more or in the place of another."""
    claims = google.claims(exp=None) if "exp" in more else google.claims()
    return b"{" + more.encode() + b"," + json.dumps(claims).encode()[1:]


@pytest.mark.parametrize(
    ("make", "expected"),
    [(make, expected) for _, make, expected in HOSTILE],
    ids=[name for name, _, _ in HOSTILE],
)
async def test_hostile_tokens_are_refused(
    google: Issuer, make: Callable[[Issuer], str], expected: str
):
    assert await reason(google, make(google)) == expected


async def test_every_part_of_a_signature_counts(google: Issuer):
    oidc = verifier(google)
    start, _, signature = google.token().rpartition(".")
    for place in range(0, len(signature), 11):
        other = "A" if signature[place] != "A" else "B"
        changed = f"{start}.{signature[:place]}{other}{signature[place + 1 :]}"
        with pytest.raises(VerificationError, match="not its issuer's"):
            await oidc.verify(request(changed))
    await oidc.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(token=st.text(st.sampled_from(". =-_aAeEyY0{}\u00fc")) | st.text())
async def test_whatever_is_sent_is_refused_with_a_verification_error(google: Issuer, token: str):
    assert await reason(google, token)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "cty"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from(["RS256", "key-1", "JWT"])
        | st.lists(st.sampled_from(["b64", "exp", "kid"]), max_size=2),
    )
)
async def test_whatever_a_header_says_nothing_is_taken_unsigned(
    google: Issuer, header: dict[str, Any]
):
    token = f"{part(header)}.{part(google.claims())}.{'A' * 342}"
    assert await reason(google, token)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [({"email": None, "email_verified": None}, SUBJECT), ({"email": OTHER}, SUBJECT)],
)
async def test_a_subject_on_the_list_needs_no_email(
    google: Issuer, claims: dict[str, Any], expected: str
):
    options = {"service_accounts": [], "subjects": [SUBJECT]}
    assert (await take(google, google.token(**claims), **options)).name == expected


@pytest.mark.parametrize("subject", [None, "", SUBJECT + "0", [SUBJECT], int(SUBJECT)])
async def test_another_subject_is_refused(google: Issuer, subject: Any):
    token = google.token(sub=subject)
    options = {"service_accounts": [], "subjects": [SUBJECT]}
    assert await reason(google, token, **options) == "unknown_caller"


async def test_one_of_several_audiences_and_accounts_is_enough(google: Issuer):
    options = {"audience": ["a", AUDIENCE], "service_accounts": {OTHER, ACCOUNT}}
    assert await take(google, google.token(), **options)


@pytest.mark.parametrize("iss", [GOOGLE, "accounts.google.com"])
async def test_google_is_known_by_its_legacy_name_too(google: Issuer, iss: str):
    """https://developers.google.com/identity/openid-connect/reference"""
    pages = {
        "https://accounts.google.com/.well-known/openid-configuration": json.dumps(
            {"issuer": GOOGLE, "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs"}
        ).encode(),
        "https://www.googleapis.com/oauth2/v3/certs": google.pages["/keys"][1],
    }
    transport = httpx.MockTransport(
        lambda asked: httpx.Response(200, content=pages[str(asked.url)])
    )
    async with httpx.AsyncClient(transport=transport) as client:
        oidc = OidcVerifier(GOOGLE, AUDIENCE, service_accounts=ACCOUNT, clock=CLOCK, client=client)
        assert await oidc.verify(request(google.token(iss=iss)))
        await oidc.close()
        assert not client.is_closed


async def test_algorithms_can_be_allowed_and_are_then_the_only_ones(google: Issuer):
    assert await reason(google, google.token(), algorithms=["ES256"]) == "algorithm_refused"
    token = google.token(headers={"alg": "PS256"})
    assert await take(google, token, algorithms="PS256")


async def test_a_token_is_refused_once_it_has_expired(google: Issuer):
    clock = ManualClock(CLOCK.now())
    oidc = verifier(google, clock=clock)
    token = google.token()
    assert await oidc.verify(request(token))
    await clock.advance(timedelta(hours=1) + LEEWAY)
    with pytest.raises(VerificationError, match="expired"):
        await oidc.verify(request(token))
    await oidc.close()


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"audience": ""}, ["audience"]),
        ({"audience": []}, ["audience"]),
        ({"audience": [AUDIENCE, " "]}, ["audience"]),
        ({"service_accounts": []}, ["service_accounts"]),
        ({"service_accounts": [""]}, ["service_accounts"]),
        ({"service_accounts": [], "subjects": ["\n"]}, ["subjects"]),
        ({"algorithms": []}, ["algorithms"]),
        ({"algorithms": ["none"]}, ["algorithms"]),
        ({"algorithms": ["RS256", "HS256"]}, ["algorithms"]),
        ({"leeway": timedelta(seconds=-1)}, ["leeway"]),
        ({"leeway": timedelta(hours=1)}, ["leeway"]),
        ({"jwks_url": "http://keys.example.com/"}, ["jwks_url"]),
        ({"jwks_url": ""}, ["jwks_url"]),
        ({"audience": [], "service_accounts": []}, ["audience", "service_accounts"]),
    ],
    ids=str,
)
def test_settings_that_check_nothing_are_a_refusal_to_start(
    google: Issuer, options: dict[str, Any], places: list[str]
):
    with pytest.raises(SettingsError) as raised:
        verifier(google, **options)
    assert [problem.place for problem in raised.value.problems] == [f"oidc: {p}" for p in places]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "accounts.google.com",
        "http://accounts.google.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "https://",
        "https://user:hunter2@issuer.example.com",
        "https://issuer.example.com/#a",
        "https://issuer.example.com/a b",
        "https://issuer.example.com:99999999",
        "https://[::1",
        "https://issuer.example.com\n",
    ],
)
def test_an_issuer_without_https_is_refused(address: str):
    with pytest.raises(SettingsError) as raised:
        OidcVerifier(address, AUDIENCE, service_accounts=ACCOUNT)
    assert [problem.place for problem in raised.value.problems] == ["oidc: issuer"]
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("host", ["localhost:1", "127.8.0.1", "[::1]:80"])
def test_an_issuer_on_this_machine_needs_no_https(host: str):
    assert OidcVerifier(f"http://{host}", AUDIENCE, service_accounts=ACCOUNT)


def test_keys_in_plain_of_an_issuer_with_https_are_refused():
    with pytest.raises(SettingsError, match="jwks_url: it is not https"):
        OidcVerifier(GOOGLE, AUDIENCE, service_accounts=ACCOUNT, jwks_url="http://127.0.0.1/")


async def test_static_tokens_and_oidc_do_not_get_into_each_others_way(google: Issuer):
    static = "3f9ad01c77e24b58a6d2c0195eb8f463"
    both = [BearerVerifier(Secret.inline(static)), verifier(google)]
    for verifiers in (both, both[::-1]):
        assert (await verified(verifiers, request(static)))[0].method == "bearer"
        assert (await verified(verifiers, request(google.token())))[0].method == "oidc"
        for sent, expected in ((google.token(exp=1), "expired"), ("f" * 30, "unknown_token")):
            with pytest.raises(VerificationError) as raised:
                await verified(verifiers, request(sent))
            assert raised.value.reason == expected
    for each in both:
        await each.close()


@pytest.mark.parametrize("value", ["Basic a.b.c", "a.b.c", "", "Bearer", "Bearer opaque"])
async def test_what_is_no_json_web_token_is_not_its_concern(google: Issuer, value: str):
    assert not verifier(google).concerns(Incoming([("authorization", value)], b""))


async def test_no_token_is_ever_shown(google: Issuer, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    oidc = verifier(google)
    tokens = [google.token(), google.token(exp=1), *(make(google) for _, make, _ in HOSTILE)]
    shown = [repr(oidc)]
    for token in tokens:
        try:
            shown.append(repr(await oidc.verify(request(token))))
        except VerificationError as error:
            shown.extend([repr(error), repr(error.__cause__)])
    await oidc.close()
    secrets = [each for token in tokens for each in token.split(".") if len(each) > 20]
    assert not [each for each in [*shown, caplog.text] for secret in secrets if secret in each]


async def test_a_token_can_be_used_again(google: Issuer):
    oidc = verifier(google)
    caller = await oidc.verify(request(google.token()))
    await oidc.undo(caller)
    assert caller.nonce is None
    await oidc.close()
    await oidc.close()
