import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zoneinfo
from pathlib import Path
from typing import Any

import pytest
import tzdata

from purista.cli import diffmarkdown
from purista.cli.app import run
from purista.cli.output import out as console

OLD = """
from purista import Cron, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", dict)

shop.schedule("monthly", "bill").emit_event(
    due, expression=Cron("0 2 1 * *"), timezone="Europe/Berlin", payload={"a": {"b": 1}},
)
shop.schedule("gone").emit_event(due, expression=Cron("0 4 * * MON"))
shop.schedule("before").emit_event(due, expression=Cron("0 5 * * *"))
shop.schedule("words", "old words").emit_event(due, expression=Cron("0 6 * * *"))
shop.schedule("same").emit_event(due, expression=Cron("30 5 * * *"), timezone="Africa/Casablanca")
"""
NEW = """
from purista import Cron, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", dict)

shop.schedule("monthly", "bill").emit_event(
    due, expression=Cron("0 3 1 * *"), timezone="Europe/Berlin", payload={"a": {"b": None}},
)
shop.schedule("new").emit_event(due, expression=Cron("0 0 29 2 *"), enabled=False)
shop.schedule("after").emit_event(due, expression=Cron("0 5 * * *"))
shop.schedule("words", "new words").emit_event(due, expression=Cron("0 6 * * *"))
shop.schedule("same").emit_event(due, expression=Cron("30 5 * * *"), timezone="Africa/Casablanca")
other = Service("Other")
"""
YEAR = ("--from", "2027-01-01T00:00:00Z", "--until", "2027-12-31T00:00:00Z")
BOTH = ("old_app:shop", "new_app:shop")
ZONES = Path(tzdata.__file__).parent / "zoneinfo"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old_app.py").write_text(OLD)
    (tmp_path / "new_app.py").write_text(NEW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("old_app", "new_app"):
        sys.modules.pop(name, None)


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["diff", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: Capture, *arguments: str) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    return code, json.loads(out)


def exported(capsys: Capture, service: str, file: str) -> dict[str, Any]:
    assert run(["manifest", service, "-o", file]) == 0
    capsys.readouterr()
    return json.loads(Path(file).read_text())


def written(file: str, document: object) -> str:
    Path(file).write_text(json.dumps(document))
    return file


def database(folder: str, **zones: str) -> str:
    """Make a small time-zone database: each zone under its name gets another one's file."""
    for name, other in zones.items():
        target = Path(folder, name.replace("__", "/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ZONES / other, target)
    return folder


def test_a_person_reads_what_changed_and_which_times_move(capsys: Capture):
    code, out, _ = call(capsys, *BOTH, *YEAR)
    assert code == 1
    assert out.splitlines() == [
        "old_app:shop -> new_app:shop",
        "1 added, 1 removed, 1 renamed, 2 changed, 1 unchanged; "
        "nominal times: 64 disappear, 12 appear",
        "from 2027-01-01T00:00:00Z to 2027-12-31T00:00:00Z",
        "",
        "+ Shop.v1.new added: 0 0 29 2 * UTC, event shop.due",
        "    nothing is due while it is disabled",
        "",
        "- Shop.v1.gone removed: 0 4 * * MON UTC, event shop.due",
        "    52 disappear",
        "      - Mon 2027-01-04 04:00 +00:00  2027-01-04T04:00:00Z  UTC",
        "      - Mon 2027-01-11 04:00 +00:00  2027-01-11T04:00:00Z  UTC",
        "      - Mon 2027-01-18 04:00 +00:00  2027-01-18T04:00:00Z  UTC",
        "        ... 48 more",
        "      - Mon 2027-12-27 04:00 +00:00  2027-12-27T04:00:00Z  UTC",
        "",
        "= Shop.v1.before renamed to Shop.v1.after, nothing else changed",
        "",
        "~ Shop.v1.monthly changed",
        '    expression.value: "0 2 1 * *" -> "0 3 1 * *"',
        "    payload.a.b: 1 -> null",
        "    12 disappear",
        "      - Fri 2027-01-01 02:00 +01:00  2027-01-01T01:00:00Z  Europe/Berlin",
        "      - Mon 2027-02-01 02:00 +01:00  2027-02-01T01:00:00Z  Europe/Berlin",
        "      - Mon 2027-03-01 02:00 +01:00  2027-03-01T01:00:00Z  Europe/Berlin",
        "        ... 8 more",
        "      - Wed 2027-12-01 02:00 +01:00  2027-12-01T01:00:00Z  Europe/Berlin",
        "    12 appear",
        "      + Fri 2027-01-01 03:00 +01:00  2027-01-01T02:00:00Z  Europe/Berlin",
        "      + Mon 2027-02-01 03:00 +01:00  2027-02-01T02:00:00Z  Europe/Berlin",
        "      + Mon 2027-03-01 03:00 +01:00  2027-03-01T02:00:00Z  Europe/Berlin",
        "        ... 8 more",
        "      + Wed 2027-12-01 03:00 +01:00  2027-12-01T02:00:00Z  Europe/Berlin",
        "",
        "~ Shop.v1.words changed, its meaning stays",
        '    description: "old words" -> "new words"',
    ]


def test_the_json_has_every_instant_in_local_time_and_utc(capsys: Capture):
    code, found = call_json(capsys, *BOTH, *YEAR)
    assert code == 1
    assert (found["disappear"], found["appear"], found["unchanged"]) == (64, 12, 1)
    assert (found["from"], found["until"]) == ("2027-01-01T00:00:00Z", "2027-12-31T00:00:00Z")
    assert found["movesTimes"] is True
    assert found["renamed"] == [{"id": "Shop.v1.after", "oldId": "Shop.v1.before"}]
    assert found["added"][0]["schedule"]["enabledByDefault"] is False
    assert found["removed"][0]["disappear"]["count"] == 52
    monthly, words = found["changed"]
    assert [each["field"] for each in monthly["fields"]] == ["expression", "payload"]
    assert monthly["fields"][1]["old"] == {"a": {"b": 1}}
    appear = monthly["appear"]
    assert (appear["count"], len(appear["times"]), appear["timezone"]) == (12, 12, "Europe/Berlin")
    assert appear["times"][6] == {
        "local": "2027-07-01T03:00:00+02:00",
        "utc": "2027-07-01T01:00:00Z",
    }
    assert (words["changesMeaning"], words["appear"]["times"]) == (False, [])


def test_a_change_without_another_time_ends_with_0(capsys: Capture):
    text = OLD.replace("payload={", "concurrency_policy='forbid', payload={")
    Path("policy_app.py").write_text(text)
    code, out, _ = call(capsys, "old_app:shop", "policy_app:shop")
    assert code == 0
    assert "1 changed, 4 unchanged; no nominal time changes" in out
    assert "~ Shop.v1.monthly changed, its nominal times stay" in out
    assert 'concurrencyPolicy: "allow" -> "forbid"' in out


def test_a_renamed_schedule_alone_ends_with_0(capsys: Capture):
    Path("renamed_app.py").write_text(OLD.replace('"gone"', '"still_there"'))
    code, found = call_json(capsys, "old_app:shop", "renamed_app:shop")
    assert code == 0
    assert [each["id"] for each in found["renamed"]] == ["Shop.v1.still_there"]
    assert found["added"] == found["removed"] == found["changed"] == []


def test_a_year_from_now_is_looked_at_unless_the_options_say_otherwise(capsys: Capture):
    _, found = call_json(capsys, "old_app:shop", "new_app:other", "--from", "2028-02-29T12:00:00Z")
    assert found["until"] == "2029-03-01T12:00:00Z"
    start = ("--from", "2027-03-27T00:00:00+01:00")
    for length, end in (("36h", "03-28T11"), ("2w", "04-09T23"), ("90d", "06-24T23")):
        _, found = call_json(capsys, *BOTH, *start, "--horizon", length)
        assert found["until"] == f"2027-{end}:00:00Z"
    _, found = call_json(capsys, *BOTH, *start, "--horizon", "1y")
    assert found["until"] == "2028-03-26T23:00:00Z"
    _, found = call_json(capsys, "old_app:shop", "old_app:shop", "--horizon", "9999y")
    assert found["until"].startswith("2200-")
    _, found = call_json(capsys, "old_app:shop", "old_app:shop")
    assert found["movesTimes"] is False


def test_a_manifest_file_and_the_code_it_came_from_do_not_differ(capsys: Capture):
    exported(capsys, "old_app:shop", "old.json")
    code, out, _ = call(capsys, "old.json", "old_app:shop")
    assert (code, out.splitlines()[1]) == (0, "5 unchanged; no nominal time changes")
    shutil.copyfile("old.json", "copy.json")
    assert call(capsys, "old.json", "copy.json")[0] == 0
    code, out, _ = call(capsys, "old.json", "new_app:shop", *YEAR)
    assert (code, "64 disappear" in out) == (1, True)


def test_manifests_of_two_time_zone_databases_are_remarked(capsys: Capture):
    document = exported(capsys, "old_app:shop", "old.json")
    newer = written("newer.json", document | {"tzdata": "2099z"})
    code, found = call_json(capsys, "old.json", newer)
    assert code == 0
    assert f"databases {document['tzdata']} and 2099z" in found["remarks"][0]
    assert found["new"] == {"name": "newer.json", "tzdata": "2099z"}


def test_a_newer_minor_version_is_compared_with_a_remark(capsys: Capture):
    document = exported(capsys, "old_app:shop", "old.json")
    document["manifestVersion"] = "1.7"
    document["schedules"][0]["moonPhase"] = "full"
    code, out, _ = call(capsys, "old.json", written("newer.json", document))
    assert code == 0
    assert "'newer.json' has the form 1.7, which is newer than 1.0" in out
    assert 'moonPhase: (none) -> "full"' in out


def git(*arguments: str) -> None:
    names = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(capsys: Capture) -> None:
    """A repository with two revisions of a manifest, one in a folder of an odd name."""
    git("init", "-q", "-b", "main")
    Path("a folder").mkdir()
    for service in ("old_app:shop", "new_app:shop"):
        exported(capsys, service, "a folder/manifest.json")
        git("add", "a folder")
        git("commit", "-q", "-m", service)
    git("tag", "v2")


@pytest.mark.usefixtures("repository")
def test_two_revisions_are_compared(capsys: Capture):
    path = "a folder/manifest.json"
    code, out, _ = call(capsys, f"HEAD~1:{path}", f"v2:{path}", *YEAR)
    assert (code, "64 disappear, 12 appear" in out) == (1, True)
    assert call(capsys, f"main:{path}", "new_app:shop")[0] == 0
    assert call(capsys, f":{path}", f"HEAD:./{path}")[0] == 0


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere:a folder/manifest.json", "invalid object name 'nowhere'"),
        ("HEAD:missing.json", "path 'missing.json' does not exist in 'HEAD'"),
        ("--output=stolen:x.json", "--output=stolen:x.json"),
    ],
)
def test_what_git_does_not_have_is_one_message(capsys: Capture, name: str, part: str):
    code, out, err = call(capsys, "--", name, "new_app:shop")
    assert (code, out) == (2, "")
    assert f"cannot read '{name}' from git: " in err
    assert part in err
    assert err.count("\n") == 1
    assert not list(Path().glob("stolen*"))


def test_outside_of_a_repository_git_says_so(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    code, _, err = call(capsys, "HEAD:x.json", "new_app:shop")
    assert (code, "not a git repository" in err) == (2, True)


def test_without_git_the_message_says_so(capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    code, _, err = call(capsys, "HEAD:x.json", "new_app:shop")
    assert code == 2
    assert "cannot read 'HEAD:x.json': git does not run: No such file or directory" in err


def test_a_git_that_fails_without_a_word_is_said(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    silent = tmp_path / "git"
    silent.write_text("#!/bin/sh\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = call(capsys, "HEAD:x.json", "new_app:shop")
    assert (code, "it does not say why" in err) == (2, True)


def test_a_file_whose_name_has_a_colon_is_a_file(capsys: Capture):
    exported(capsys, "old_app:shop", "a:b.json")
    assert call(capsys, "a:b.json", "old_app:shop")[0] == 0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["'bad.json': manifest: line 1, column 2"]),
        ("[]", ["'bad.json': manifest: a list is no object"]),
        (
            '{"manifestVersion": "2.0", "schedules": []}',
            ["'bad.json': ", "install a newer purista"],
        ),
        (
            '{"manifestVersion": "1.0", "schedules": [{"name": "a"}]}',
            ["'bad.json': schedules[0].expression: missing"],
        ),
    ],
)
def test_a_bad_manifest_is_one_message_with_its_file(capsys: Capture, text: str, parts: list[str]):
    Path("bad.json").write_text(text)
    code, out, err = call(capsys, "bad.json", "new_app:shop")
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("place", "shown"), [((), ""), (("expression",), "expression.")])
def test_an_unknown_field_of_a_schedule_is_refused(
    capsys: Capture, place: tuple[str, ...], shown: str
):
    document = exported(capsys, "old_app:shop", "old.json")
    entry = document["schedules"][0]
    for name in place:
        entry = entry[name]
    entry |= {"moonPhase": "full", "x-mine": 1}
    code, _, err = call(capsys, "old.json", written("bad.json", document))
    assert code == 2
    assert f"'bad.json': schedule 'Shop.v1.before': {shown}moonPhase: unknown field" in err
    assert "call it 'x-moonPhase'" in err
    assert "x-mine" not in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["old_app:shop"], "1 names; give two, OLD and NEW"),
        (["a.json", "b.json", "c.json"], "3 names"),
        (["missing.json", "new_app:shop"], "cannot read 'missing.json': No such file"),
        (["old_app:shop", "nowhere:shop"], "there is no module 'nowhere'"),
        (["old_app:shop", "new_app"], "is not of the form"),
        ([*BOTH, "--json", "--markdown"], "--markdown and --json are two forms"),
        ([*BOTH, "--horizon", "90"], "--horizon '90' is no length; write it as"),
        ([*BOTH, "--horizon", "0d"], "--horizon '0d' is no length"),
        ([*BOTH, "--horizon", "1d", "--until", "2027-01-01T00:00:00Z"], "give one of them"),
        ([*BOTH, "--from", "soon"], "--from 'soon' is no instant"),
        ([*BOTH, *YEAR[:2], "--until", "2026-01-01T00:00:00Z"], "is before 2027-01-01"),
        (["old_app:shop", "--tzdata", "nowhere"], "cannot read 'nowhere': No such file"),
        (
            ["old_app:shop", "--tzdata", "old_app.py"],
            "'old_app.py' is no folder, wheel or zip file",
        ),
        (["old_app:shop", "--tzdata", "."], "'.' holds none of the zones that are needed"),
    ],
)
def test_misuse_is_one_message_and_exit_code_2(capsys: Capture, arguments: list[str], part: str):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert "Traceback" not in err


def test_what_a_manifest_cannot_say_names_the_side(capsys: Capture):
    Path("tiny_app.py").write_text(
        OLD.replace("from purista", "from datetime import timedelta\nfrom purista", 1).replace(
            "payload={", "jitter=timedelta(microseconds=1), payload={"
        )
    )
    code, _, err = call(capsys, "tiny_app:shop", "new_app:shop")
    assert (code, "'tiny_app:shop': schedule 'Shop.v1.monthly': jitter" in err) == (2, True)


def test_another_time_zone_database_moves_the_times_of_its_zone(capsys: Capture):
    path = database("other", Africa__Casablanca="Europe/Berlin", Europe__Berlin="Europe/Berlin")
    code, out, _ = call(capsys, "old_app:shop", "--tzdata", path, *YEAR)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "old_app:shop -> old_app:shop with other"
    assert lines[1].startswith("1 changed, 4 unchanged; nominal times: ")
    assert lines[3].endswith("the other one is of unknown version")
    assert "~ Shop.v1.same changed" in lines
    assert (
        "      + Sun 2027-08-01 05:30 +02:00  2027-08-01T03:30:00Z  Africa/Casablanca" not in lines
    )
    _, found = call_json(capsys, "old_app:shop", "--tzdata", path, *YEAR)
    (changed,) = found["changed"]
    assert changed["fields"] == []
    july = {"local": "2027-07-01T05:30:00+02:00", "utc": "2027-07-01T03:30:00Z"}
    assert july in changed["appear"]["times"]
    assert july not in changed["disappear"]["times"]


def test_the_same_time_zone_database_moves_nothing_and_says_so(capsys: Capture):
    wanted = {"Africa/Casablanca", "Europe/Berlin"}
    folders = [*map(Path, zoneinfo.TZPATH), ZONES]
    own = next(each for each in folders if all((each / name).is_file() for name in wanted))
    code, out, _ = call(capsys, "old_app:shop", "--tzdata", str(own))
    assert (code, out.splitlines()[1]) == (0, "5 unchanged; no nominal time changes")
    assert re.search(r"^both time-zone databases are version 20\d\d[a-z]+$", out, re.MULTILINE)


def test_of_a_zone_that_is_not_in_the_database_nothing_is_claimed(capsys: Capture):
    path = database("other", Europe__Berlin="Europe/Berlin")
    code, out, _ = call(capsys, "old_app:shop", "--tzdata", path)
    assert code == 1
    assert "1 unknown, 4 unchanged; no nominal time is known to change" in out
    assert "'Africa/Casablanca' is not in that database" in out
    assert "? Shop.v1.same is in a zone that the other database does not have" in out
    _, out, _ = call(capsys, "old_app:shop", "--tzdata", path, "--markdown")
    assert "| unknown | `Shop.v1.same` | | ? | ? |" in out
    _, found = call_json(capsys, "old_app:shop", "--tzdata", path)
    assert found["unknown"] == ["Shop.v1.same"]


def test_several_services_are_run_with_another_database_at_once(capsys: Capture):
    path = database("other", Africa__Casablanca="Asia/Tokyo", Europe__Berlin="Asia/Tokyo")
    exported(capsys, "old_app:shop", "old.json")
    code, found = call_json(capsys, "old.json", "new_app:other", "--tzdata", path)
    assert code == 1
    assert found["old"]["name"] == "old.json, new_app:other"
    assert [each["id"] for each in found["changed"]] == ["Shop.v1.monthly", "Shop.v1.same"]


def test_services_that_name_one_schedule_twice_have_to_agree(capsys: Capture):
    path = database("other", Africa__Casablanca="Asia/Tokyo", Europe__Berlin="Asia/Tokyo")
    _, found = call_json(capsys, "old_app:shop", "old_app:shop", "--tzdata", path)
    assert found["unchanged"] + len(found["changed"]) == 5
    code, _, err = call(capsys, *BOTH, "--tzdata", path)
    assert code == 2
    assert "'new_app:shop': schedule 'Shop.v1.monthly': is another one" in err


def test_a_wheel_is_a_database_with_its_version(capsys: Capture, tmp_path: Path):
    wheel = tmp_path / "tzdata-2099.1-py2.py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tzdata/__init__.py", '__version__ = "2099.1"\nIANA_VERSION = "2099a"\n')
        for name in ("Africa/Casablanca", "Europe/Berlin"):
            archive.write(ZONES / "Asia/Tokyo", f"tzdata/zoneinfo/{name}")
    code, found = call_json(capsys, "old_app:shop", "--tzdata", str(wheel))
    assert (code, found["new"]["tzdata"], found["unchanged"]) == (1, "2099a", 3)


def test_markdown_has_a_summary_a_table_and_folded_details(capsys: Capture):
    code, out, _ = call(capsys, *BOTH, *YEAR, "--markdown")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == (
        "**Schedules: 1 added, 1 removed, 1 renamed, 2 changed, 1 unchanged; "
        "nominal times: 64 disappear, 12 appear**"
    )
    assert "| added | `Shop.v1.new` |  | 0 | 0 |" in lines
    assert "| renamed | `Shop.v1.before` to `Shop.v1.after` | | 0 | 0 |" in lines
    assert "| changed | `Shop.v1.monthly` | `expression`, `payload` | 12 | 12 |" in lines
    assert "<summary>Shop.v1.monthly: 12 disappear, 12 appear</summary>" in lines
    assert "<summary>Shop.v1.new: nothing is due</summary>" in lines
    assert '- `expression.value`: `"0 2 1 * *"` to `"0 3 1 * *"`' in lines
    assert (
        "| appears | Fri 2027-01-01 03:00 +01:00 | Europe/Berlin | 2027-01-01T02:00:00Z |" in lines
    )
    assert "| | ... 8 more | | |" in lines
    assert lines.count("<details>") == lines.count("</details>") == 4


def test_markdown_without_a_change_is_a_summary_only(capsys: Capture):
    code, out, _ = call(capsys, "old_app:shop", "old_app:shop", *YEAR, "--markdown")
    assert (code, len(out.splitlines())) == (0, 3)


HOSTILE = "`` | </details><script>alert(1)</script> @team \x1b[2J \u202e [x](http://e)\n# h"


def hostile(capsys: Capture) -> str:
    document = exported(capsys, "old_app:shop", "old.json")
    document["manifestVersion"] = "1.9"
    document["schedules"][0] |= {"description": HOSTILE, HOSTILE: HOSTILE}
    return written("hostile.json", document)


def test_nothing_from_a_manifest_acts_in_markdown(capsys: Capture):
    _, out, _ = call(capsys, "old_app:shop", hostile(capsys), "--markdown")
    rest = without_code(out)
    for part in ("<script>", "@team", "](http", "\x1b", "\u202e"):
        assert part not in rest
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert rest.count("</details>") == 1
    table = [line for line in out.splitlines() if line.startswith("| changed ")]
    assert [line.count("|") for line in table] == [6]
    assert not any(line.startswith("# ") for line in out.splitlines())


def without_code(text: str) -> str:
    """Return Markdown without its code spans: from a run of backticks to the next of that length."""
    return re.sub(r"(?<!`)(`+)(?!`)(?:.*?)(?<!`)\1(?!`)", "", text)


def test_nothing_from_a_manifest_acts_in_a_terminal(capsys: Capture):
    _, out, _ = call(capsys, "old_app:shop", hostile(capsys))
    assert "\\u001b[2J" in out
    assert all(each.isprintable() for each in out.replace("\n", ""))


def test_long_values_are_cut_for_people_and_whole_in_json(capsys: Capture):
    long = "long " * 100
    Path("long_app.py").write_text(OLD.replace("old words", f"{long}new"))
    Path("longer_app.py").write_text(OLD.replace("old words", f"{long}newer{long}"))
    _, out, _ = call(capsys, "long_app:shop", "longer_app:shop")
    (line,) = [line for line in out.splitlines() if "description: " in line]
    old, _, new = line.partition(" -> ")
    assert old == '    description: ...g long long long new"'
    assert new.startswith("...g long long long newerlong long")
    assert new.endswith("...")
    assert len(line) < 250
    _, found = call_json(capsys, "long_app:shop", "longer_app:shop")
    assert found["changed"][0]["fields"][0]["new"] == f"{long}newer{long}"


def test_markdown_fits_into_a_pull_request_and_says_what_is_left_out(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(diffmarkdown, "MOST_IN_TABLE", 150)
    monkeypatch.setattr(diffmarkdown, "MOST_IN_ALL", 450)
    _, out, _ = call(capsys, *BOTH, *YEAR, "--markdown")
    assert out.count("\n| added ") + out.count("\n| removed ") == 2
    assert out.splitlines()[-1] == "Too long for here: 2 rows and 3 details. The JSON has them all."


def test_colours_are_for_terminals(capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(console, "_force_terminal", True)
    code, out, _ = call(capsys, *BOTH, *YEAR)
    assert code == 1
    assert "Shop.v1.monthly changed" in out
    assert len(out.splitlines()) == 35


def test_a_pipe_that_is_closed_early_ends_quietly(tmp_path: Path):
    script = (
        "import sys; sys.path.insert(0, '.'); from purista.cli import main; "
        "sys.argv = ['purista', 'diff', 'old_app:shop', 'new_app:shop', '--json', "
        "'--horizon', '100y']; main()"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": ""},
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.readline()
    program.stdout.close()
    talk = program.stderr.read().decode()
    program.stderr.close()
    program.wait(timeout=60)
    assert "Traceback" not in talk


def test_the_help_has_an_example(capsys: Capture):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert "Example: purista diff main:manifest.json manifest.json" in out


def test_few_times_are_shown_without_a_gap(capsys: Capture):
    Path("short_app.py").write_text(OLD.replace("0 5 * * *", "0 7 * * *"))
    sides = ("old_app:shop", "short_app:shop", "--from", "2027-01-01T00:00:00Z", "--until")
    _, out, _ = call(capsys, *sides, "2027-01-04T12:00:00Z")
    assert "    4 disappear" in out
    assert out.count("  2027-01-04T05:00:00Z  UTC") == 1
    assert " more" not in out
    _, out, _ = call(capsys, *sides, "2027-01-01T06:00:00Z")
    assert "    1 disappears" in out
    assert "    1 appears" not in out
