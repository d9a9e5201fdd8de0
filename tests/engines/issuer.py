"""An OIDC issuer of the tests' own: real keys, real signatures, a real HTTP server on this machine.

`issuer` starts one in a thread, on a free port, and stops it. Its tokens are what Google signs for Cloud
Scheduler and Pub/Sub push (https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions).
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

AUDIENCE = "https://triggers.example.com"
ACCOUNT = "scheduler@shop-123456.iam.gserviceaccount.com"
SUBJECT = "113774264463038321964"
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


class Issuer:
    """A running issuer. What it serves at a path can be replaced in ``pages``."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.asked: list[str] = []
        """The paths that were asked for, in order."""
        self.pages: dict[str, tuple[int, bytes]] = {}
        self.headers: dict[str, str] = {}
        """What is sent along with every page."""
        self.lets_through = threading.Event()
        """Cleared, answers wait until it is set."""
        self.lets_through.set()
        self._numbers = 0
        self.keys: list[Key] = [self.new_key()]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.publish()
        self._thread.start()

    @property
    def key(self) -> Key:
        """The key that signs."""
        return self.keys[-1]

    def new_key(self, kind: str = "RSA", kid: str | None = None) -> Key:
        self._numbers += 1
        parameters: Any = {"kid": kid or f"key-{self._numbers}", "use": "sig"}
        if kind == "EC":
            return ECKey.generate_key("P-256", parameters=parameters)
        return RSAKey.import_key(_rsa_key(self._numbers), parameters)

    def publish(self, **discovery: Any) -> None:
        """Serve the discovery document and the public keys as they are now."""
        document = {"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}", **discovery}
        keys = {"keys": [key.as_dict(private=False) for key in self.keys]}
        self.pages = {DISCOVERY: (200, json.dumps(document).encode())}
        self.pages[KEYS] = (200, json.dumps(keys).encode())

    def rotate(self, *, keep: bool = True) -> None:
        """Sign with a new key from now on; ``keep``: the old ones stay published."""
        self.keys = [*(self.keys if keep else []), self.new_key()]
        self.publish()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return a token's claims; ``None`` leaves one out."""
        now = int(self.now().timestamp())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "azp": SUBJECT,
            "sub": SUBJECT,
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now,
            "exp": now + int(timedelta(hours=1).total_seconds()),
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, *, headers: dict[str, Any] | None = None, key: Key | None = None, **claims: Any
    ) -> str:
        """Return a signed token; ``headers`` and claims replace its own, ``None`` leaves one out."""
        return self.signed(json.dumps(self.claims(**claims)).encode(), headers=headers, key=key)

    def signed(
        self, payload: bytes, *, headers: dict[str, Any] | None = None, key: Key | None = None
    ) -> str:
        """Return a token whose payload is any bytes."""
        key = key or self.key
        algorithm = {"RSA": "RS256", "EC": "ES256", "oct": "HS256"}[key.key_type]
        header = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **(headers or {})}
        header = {name: value for name, value in header.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
        return jws.serialize_compact(header, payload, key, registry=registry)

    def stop(self) -> None:
        """Stop serving: nobody answers at the address any more. May be repeated."""
        self.lets_through.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@functools.cache
def _rsa_key(number: int) -> RSAPrivateKey:
    """Return the same key for the same number: making one takes long."""
    return rsa.generate_private_key(65537, 2048)


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            issuer.lets_through.wait(30)
            status, body = issuer.pages.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in issuer.headers.items():
                self.send_header(name, value)
            if 300 <= status < 400:
                self.send_header("Location", body.decode())
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # Whoever asked had read enough.

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
            pass

    return Handler


@contextmanager
def issuer(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Issuer]:
    """Run an issuer whose tokens are of the time that ``now`` tells."""
    running = Issuer(now)
    try:
        yield running
    finally:
        running.stop()
