"""The proxy and the effect log of the fault suites: what they would not see, no suite could find."""

import socket
import threading

import pytest
from tests.engines.proxy import proxy
from tests.faults.effects import Effects


class Echo:
    """A server that answers `re:` and what it got."""

    def __init__(self):
        self.got = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                try:
                    while data := connection.recv(1000):
                        if data == b"end":
                            return
                        self.got += data
                        connection.sendall(b"re:" + data)
                except ConnectionResetError:
                    self.got += b"!"

    def close(self):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"end")
        self.thread.join(5)
        self.listener.close()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def way(echo):
    with proxy(echo.port) as started:
        yield started


@pytest.fixture
def client(way):
    with socket.create_connection(("127.0.0.1", way.port), 5) as connection:
        yield connection


def asked(client, request=b"hello"):
    client.sendall(request)
    return client.recv(100)


def test_a_proxy_passes_on_what_it_gets(client, way):
    assert asked(client) == b"re:hello"
    assert way.through(f"x://y:{way.server_port}/z") == f"x://y:{way.port}/z"


def test_a_cut_resets_the_connection_and_the_next_one_works(client, way):
    asked(client)
    assert way.cut() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    with socket.create_connection(("127.0.0.1", way.port), 5) as another:
        assert asked(another) == b"re:hello"


def test_a_request_that_is_dropped_reaches_the_server_by_half(client, way, echo):
    trap = way.drop_request(b"mark")
    assert asked(client) == b"re:hello"
    client.sendall(b"a mark b")
    assert trap.sprung.wait(5)
    assert echo.got.rstrip(b"!") == b"helloa ma"


def test_an_answer_that_is_dropped_was_given(client, way, echo):
    trap = way.drop_answer_to(b"mark")
    with pytest.raises(ConnectionResetError):
        asked(client, b"mark")
    assert trap.sprung.wait(5)
    assert echo.got.startswith(b"mark")


def test_an_answer_can_be_dropped_by_what_it_holds(client, way):
    way.drop_answer(b"re:mark")
    assert asked(client) == b"re:hello"
    with pytest.raises(ConnectionResetError):
        asked(client, b"mark")


@pytest.mark.parametrize(("stalled", "reached"), [("requests", b""), ("answers", b"hello")])
def test_a_stalled_way_passes_on_later_what_it_kept(client, way, echo, stalled, reached):
    way.stall(stalled)
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        asked(client)
    assert echo.got == reached
    way.resume()
    client.settimeout(5)
    assert client.recv(100) == b"re:hello"


def test_refused_connections_leave_the_others_alone(client, way):
    asked(client)
    way.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", way.port), 5)
    assert asked(client) == b"re:hello"
    client.close()
    way.accept()
    with socket.create_connection(("127.0.0.1", way.port), 5) as another:
        assert asked(another) == b"re:hello"


def noted(path, text):
    """Note effects that are written as `begun 1 a`: what, which attempt, who."""
    effects = Effects(path)
    for each in text.split(", "):
        what, attempt, who = each.split()
        effects.note(what, "id", int(attempt), who)
    return effects


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("begun 1 a, extended 1 a, ended 1 a, settled 1 a", 0),
        ("begun 1 a, begun 2 b, ended 1 a, lost 1 a, settled 2 b", 0),
        ("begun 1 a, begun 2 b, settled 1 a", 1),
        ("begun 1 a, begun 2 b, extended 1 a, lost 1 a", 1),
        ("begun 1 a, settled 1 a, begun 2 b", 1),
    ],
)
def test_an_effect_log_tells_whose_job_was_anothers(tmp_path, text, wrong):
    assert len(noted(tmp_path / "log", text).wrongly_doubled()) == wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("begun 1 a, ended 1 a, begun 2 b, ended 2 b", 0),
        ("begun 1 a, cancelled 1 a, begun 2 a, ended 2 a", 0),
        ("begun 1 a, begun 2 b, ended 2 b, ended 1 a", 1),
    ],
)
def test_an_effect_log_tells_what_was_at_work_twice(tmp_path, text, wrong):
    effects = noted(tmp_path / "log", text)
    assert len(effects.at_once(60)) == wrong
    assert effects.at_once(0) == []


def test_an_effect_log_counts_what_is_missing_and_doubled(tmp_path):
    effects = noted(tmp_path / "log", "begun 1 a, ended 1 a, ended 2 b, begun 3 c")
    assert effects.missing(["id", "other"]) == {"other"}
    assert effects.duplicates() == 1
