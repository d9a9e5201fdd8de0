import copy
import os
import pickle
from pathlib import Path

import pytest

from purista.errors import SettingsError
from purista.verifying.secret import MAX_SIZE, Reading, Secret, is_monotonous, readings

VALUE = "9f2c4e7ab81d03566e1f"


def refusal(secret: Secret) -> str:
    with pytest.raises(SettingsError) as raised:
        secret.value()
    return str(raised.value)


def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PURISTA_TEST_SECRET", VALUE)
    assert Secret("env:PURISTA_TEST_SECRET").value() == VALUE


def test_a_variable_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PURISTA_TEST_SECRET", raising=False)
    text = refusal(Secret("env:PURISTA_TEST_SECRET"))
    assert text == "env:PURISTA_TEST_SECRET: it is not set; set it to a secret"


@pytest.mark.parametrize("value", ["", " ", "\t\n ", "\n", "\u2003"])
def test_nothing_but_blanks_is_refused(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("PURISTA_TEST_SECRET", value)
    text = refusal(Secret("env:PURISTA_TEST_SECRET"))
    assert text == "env:PURISTA_TEST_SECRET: it is empty; give it a secret"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_newline_at_the_end_of_a_file_is_cut_off(tmp_path: Path, end: str):
    path = tmp_path / "token"
    path.write_text(VALUE + end, newline="")
    assert Secret(f"file:{path}").value() == VALUE


def test_only_one_newline_is_cut_off(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(VALUE + "\n\n")
    assert Secret(f"file:{path}").value() == VALUE + "\n"


@pytest.mark.parametrize("name", ["a b", "it's", "geheim-ü-鍵", 'quo"te', "a:b", "%2F"])
def test_a_file_of_an_odd_name_is_read(tmp_path: Path, name: str):
    (tmp_path / name).write_text(VALUE)
    assert Secret(f"file:{tmp_path / name}").value() == VALUE


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    text = refusal(Secret(f"file:{tmp_path}/none"))
    assert text == f"file:{tmp_path}/none: it cannot be read: No such file or directory"


def test_a_path_through_a_file_is_refused(tmp_path: Path):
    (tmp_path / "token").write_text(VALUE)
    text = refusal(Secret(f"file:{tmp_path}/token/more"))
    assert text == f"file:{tmp_path}/token/more: it cannot be read: Not a directory"


def test_a_directory_is_refused(tmp_path: Path):
    assert refusal(Secret(f"file:{tmp_path}")).endswith("it is no file; name a file")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(Secret(f"file:{tmp_path}/pipe")).endswith("it is no file; name a file")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path):
    (tmp_path / "token").write_text("a" * (MAX_SIZE + 1))
    assert refusal(Secret(f"file:{tmp_path}/token")).endswith("it is too large for a secret")


def test_a_file_is_read_again_when_it_changed(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(VALUE)
    secret = Secret(f"file:{path}")
    before = secret.value()
    path.write_text("another, longer")
    assert (before, secret.value()) == (VALUE, "another, longer")


def test_a_file_that_is_replaced_by_one_of_the_same_size_is_read_again(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("one")
    secret = Secret(f"file:{path}")
    secret.value()
    (tmp_path / "next").write_text("two")
    (tmp_path / "next").replace(path)
    assert secret.value() == "two"


def test_a_link_that_is_turned_to_another_file_is_followed(tmp_path: Path):
    """As Kubernetes does with a Secret that is mounted."""
    for folder, text in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text(text)
    (tmp_path / "data").symlink_to("a")
    secret = Secret(f"file:{tmp_path}/data/token")
    secret.value()
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").replace(tmp_path / "data")
    assert secret.value() == "two"


def test_a_file_that_was_not_changed_is_not_read_again(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(VALUE)
    secret = Secret(f"file:{path}")
    assert secret.value() is secret.value()


def test_a_file_that_was_emptied_is_refused_until_it_is_filled(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text(VALUE)
    secret = Secret(f"file:{path}")
    secret.value()
    path.write_text("")
    assert refusal(secret).endswith("it is empty; give it a secret")
    path.write_text(VALUE)
    assert secret.value() == VALUE


@pytest.mark.parametrize(
    "text",
    ["", VALUE, "env:", "env:A-B", "env:9", "ENV:A", "file:", "file: ", "file:a\0b", "vault:a"],
)
def test_a_text_that_is_no_reference_is_refused_and_not_shown(text: str):
    with pytest.raises(SettingsError) as raised:
        Secret(text)
    assert str(raised.value) == ("it is no reference to a secret; write env:NAME or file:PATH")


def test_what_is_shown_is_the_reference(tmp_path: Path):
    (tmp_path / "token").write_text(VALUE)
    secret = Secret(f"file:{tmp_path}/token")
    secret.value()
    assert repr(secret) == str(secret) == f"Secret('file:{tmp_path}/token')"
    assert repr(Secret.inline(VALUE)) == "Secret('inline')"


@pytest.mark.parametrize("spread", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_neither_pickled_nor_copied(spread: object):
    assert callable(spread)
    with pytest.raises(TypeError) as raised:
        spread(Secret.inline(VALUE))
    assert VALUE not in str(raised.value)


def test_there_is_no_reading_without_a_secret():
    with pytest.raises(SettingsError, match="tokens: there is no secret; give at least one"):
        readings("tokens", [], str)


def test_a_text_alone_is_one_reference(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PURISTA_TEST_SECRET", VALUE)
    (reading,) = readings("tokens", "env:PURISTA_TEST_SECRET", str)
    assert reading.current() == VALUE


def test_every_problem_is_told_at_once_with_its_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PURISTA_TEST_SECRET", raising=False)
    with pytest.raises(SettingsError) as raised:
        readings("tokens", [VALUE, "env:PURISTA_TEST_SECRET", Secret.inline(" ")], str)
    assert [problem.place for problem in raised.value.problems] == [
        "tokens.0",
        "tokens.1: env:PURISTA_TEST_SECRET",
        "tokens.2: inline",
    ]
    assert VALUE not in str(raised.value)


def test_a_reading_is_made_anew_only_when_the_secret_changed(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("one")
    made: list[str] = []
    reading = Reading(Secret(f"file:{path}"), lambda text: made.append(text) or len(made))
    assert [reading.current(), reading.current()] == [1, 1]
    path.write_text("three")
    assert reading.current() == 2
    assert made == ["one", "three"]


def test_random_secrets_are_not_monotonous():
    assert not any(is_monotonous(os.urandom(16).hex()) for _ in range(1000))
    assert is_monotonous("ab" * 30)
