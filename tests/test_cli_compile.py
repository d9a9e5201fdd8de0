import json
import sys
from pathlib import Path

import pytest

from purista.cli.app import run

APP = """
from datetime import timedelta
from purista import Cron, Every, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", dict)
shop.schedule("nightly").emit_event(
    due, expression=Cron("30 2 * * *"), timezone="Europe/Berlin", missed_run_policy="skip"
)
shop.schedule("friday13").emit_event(
    due, expression=Cron("0 0 13 * FRI"), missed_run_policy="skip"
)
odd = Service("Odd", version="1")
odd.schedule("often").emit_event("shop.due", payload_schema=dict, expression=Every(timedelta(seconds=90)))
odd.schedule("daily").emit_event("shop.due", payload_schema=dict, expression=Cron("0 4 * * *"))
both = [shop, odd]
"""
SETTINGS = """
[ingress]
url = "https://triggers.example.com"
[kubernetes]
namespace = "shop"
image = "curlimages/curl:8.17.0"
"""
FROM = ["--from", "2027-01-01T00:00:00Z"]
COMPILE = ["compile", "kubernetes"]


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_app.py").write_text(APP)
    (tmp_path / "purista.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("shop_app", None)


def test_compiling_writes_the_artifacts_and_says_how_many(capsys: pytest.CaptureFixture[str]):
    assert run([*COMPILE, "shop_app:shop", "-o", "out", *FROM]) == 0
    assert capsys.readouterr().out == "kubernetes: 2 schedules in 2 files in out\n"
    assert sorted(path.name for path in Path("out").glob("*.yaml")) == [
        "shop-v1-friday13.yaml",
        "shop-v1-nightly.yaml",
    ]


def test_compiling_twice_writes_the_same_bytes():
    for folder in ("one", "two"):
        run([*COMPILE, "shop_app:shop", "-o", folder, *FROM])
    files = [
        sorted((path.name, path.read_bytes()) for path in Path(folder).iterdir())
        for folder in ("one", "two")
    ]
    assert files[0] == files[1]


def test_what_an_earlier_compilation_wrote_and_is_not_needed_is_removed():
    run([*COMPILE, "shop_app:shop", "-o", "out", *FROM])
    Path("out/mine.yaml").write_text("a person's")
    accept = ["--accept", "interval"]
    assert run([*COMPILE, "shop_app:odd", "-o", "out", *accept, *FROM]) == 0
    assert sorted(path.name for path in Path("out").glob("*.yaml")) == [
        "mine.yaml",
        "odd-v1-daily.yaml",
    ]


def test_a_list_of_files_cannot_lead_out_of_the_folder():
    Path("precious.yaml").write_text("keep")
    Path("out").mkdir()
    Path("out/.purista-files").write_text("../precious.yaml\n/etc/hostname\n")
    assert run([*COMPILE, "shop_app:shop", "-o", "out", *FROM]) == 0
    assert Path("precious.yaml").read_text() == "keep"
    assert Path("/etc/hostname").exists()


def test_a_finding_refuses_and_nothing_is_written(capsys: pytest.CaptureFixture[str]):
    assert run([*COMPILE, "shop_app:odd", "-o", "out", *FROM]) == 1
    said = capsys.readouterr().err
    assert "finding: schedule 'Odd.v1.often': interval:" in said
    assert "2027-01-01T00:01:30Z is due" in said
    assert "--accept interval" in said
    assert not Path("out").exists()


def test_an_accepted_finding_is_told_and_what_is_left_out_too(capsys: pytest.CaptureFixture[str]):
    arguments = ["--accept", "interval@Odd.v1.often", "--json"]
    assert run([*COMPILE, "shop_app:odd", "-o", "out", *arguments, *FROM]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["leftOut"] == ["Odd.v1.often"]
    assert [each["code"] for each in told["accepted"]] == ["interval"]


def test_an_acceptance_of_nothing_is_told(capsys: pytest.CaptureFixture[str]):
    assert run([*COMPILE, "shop_app:shop", "-o", "out", "--accept", "jiter", *FROM]) == 0
    assert "--accept jiter: there is no such finding" in capsys.readouterr().err


def test_exact_native_refuses_a_superset(capsys: pytest.CaptureFixture[str]):
    assert run([*COMPILE, "shop_app:shop", "-o", "out", "--exact-native", *FROM]) == 1
    assert "'Shop.v1.nightly': exact-native" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kubernetes]\n", "purista.toml: kubernetes.namespace: it is missing"),
        ("[kubernetes]\nimagee = 1\n", "did you mean 'image'?"),
        ("[kubernets]\n", "purista.toml: kubernets: no such table; did you mean 'kubernetes'?"),
        ("kubernetes = 1\n", "purista.toml: kubernetes: it is no table"),
        ("[kubernetes\n", "is no TOML"),
        ('[ingress]\nurl = "https://u:s3cret@x"\n', "purista.toml: ingress.url"),
    ],
)
def test_wrong_settings_are_one_error_with_place_and_remedy(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
):
    Path("purista.toml").write_text(text)
    assert run([*COMPILE, "shop_app:shop", "-o", "out"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "s3cret" not in error


def test_a_settings_file_that_was_named_must_be_there(capsys: pytest.CaptureFixture[str]):
    assert run([*COMPILE, "shop_app:shop", "-o", "out", "--settings", "no.toml"]) == 2
    assert "there is no settings file 'no.toml'" in capsys.readouterr().err


def test_an_unknown_scheduler_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert run(["compile", "kubernets", "shop_app:shop", "-o", "out"]) == 2
    assert "no scheduler 'kubernets'; did you mean 'kubernetes'?" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]):
    Path("out").write_text("a file")
    assert run([*COMPILE, "shop_app:shop", "-o", "out", *FROM]) == 2
    assert "cannot write into 'out'" in capsys.readouterr().err


def test_a_report_shows_every_scheduler_without_any_settings(capsys: pytest.CaptureFixture[str]):
    Path("purista.toml").unlink()
    run(["report", "shop_app:shop", *FROM])
    head = capsys.readouterr().out.splitlines()[0].split()
    assert head == [
        *("schedule", "when", "zone", "cron", "systemd", "kubernetes", "airflow"),
        *("eventbridge", "cloud-scheduler", "temporal", "nats"),
    ]


def test_a_report_ends_with_1_where_something_differs(capsys: pytest.CaptureFixture[str]):
    chosen = ["--scheduler", "kubernetes"]
    assert run(["report", "shop_app:shop", *chosen, *FROM]) == 0
    assert run(["report", "shop_app:both", *chosen, *FROM]) == 1
    assert "interval" in capsys.readouterr().out


def test_details_show_what_is_dropped_and_what_a_copy_would_do(capsys: pytest.CaptureFixture[str]):
    arguments = ["--scheduler", "kubernetes", "--scheduler", "temporal", "--details", *FROM]
    run(["report", "shop_app:shop", *arguments])
    said = " ".join(capsys.readouterr().out.split())
    assert "1 trigger a year is sent only to be dropped, first at 2027-10-31T01:30:00Z" in said
    assert "Temporal, copied as it stands: at 2027-01-01T00:00:00Z it is due" in said


def test_a_report_as_json_has_every_schedule_on_every_scheduler(capsys: pytest.CaptureFixture[str]):
    run(["report", "shop_app:shop", "--json", *FROM])
    told = json.loads(capsys.readouterr().out)
    friday = told["schedules"][0]
    assert friday["id"] == "Shop.v1.friday13"
    assert set(friday["on"]) == set(told["schedulers"])
    assert friday["on"]["temporal"]["copied"].startswith("at 2027-01-01T00:00:00Z it is due")


def test_a_report_as_a_page_has_no_script_and_shows_texts_as_texts():
    app = APP.replace('"nightly"', '"nightly", "<script>alert(1)</script>"')
    Path("shop_app.py").write_text(app)
    run(["report", "shop_app:both", "--html", "report.html", *FROM])
    page = Path("report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Odd.v1.often" in page


def test_markdown_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]):
    run(["report", "shop_app:shop", "--markdown", "-", *FROM])
    assert capsys.readouterr().out.startswith("| schedule | when | zone |")


def test_markdown_tells_findings_and_what_was_accepted(capsys: pytest.CaptureFixture[str]):
    arguments = ["--scheduler", "kubernetes", "--markdown", "-", *FROM]
    assert run(["report", "shop_app:odd", *arguments]) == 1
    said = capsys.readouterr().out
    assert "| UTC | **interval** |" in said
    assert "- Kubernetes: `interval`: its lines fire on whole minutes" in said
    assert run(["report", "shop_app:odd", *arguments, "--accept", "interval"]) == 0
    assert "- Kubernetes: accepted `interval`: its lines" in capsys.readouterr().out


def test_the_schedulers_are_listed_and_one_shows_its_table(capsys: pytest.CaptureFixture[str]):
    assert run(["schedulers"]) == 0
    assert "kubernetes" in capsys.readouterr().out
    assert run(["schedulers", "kubernetes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kubernetes"]["options"]["dst_gap=skip"]["support"] == "native"


def test_a_report_tells_what_holds_for_all_schedules_together(capsys: pytest.CaptureFixture[str]):
    many = "\n".join(
        f"odd.schedule('n{number}').emit_event('shop.due', payload_schema=dict, "
        "expression=Cron('0 4 * * *'), missed_run_policy='skip')"
        for number in range(1001)
    )
    Path("shop_app.py").write_text(f"{APP}\n{many}\n")
    chosen = ["--scheduler", "cloud-scheduler", "--accept", "interval", *FROM]
    assert run(["report", "shop_app:odd", *chosen]) == 1
    told = "all schedules: limit-number: 1,002 objects are needed; it holds 1,000 jobs"
    assert told in capsys.readouterr().out
    run(["report", "shop_app:odd", "--markdown", "-", *chosen])
    assert "limit-number" in capsys.readouterr().out
    run(["report", "shop_app:odd", "--json", *chosen])
    limits = json.loads(capsys.readouterr().out)["limits"]
    assert [each["code"] for each in limits["cloud-scheduler"]] == ["limit-number"]
