"""The report as a page: everything that there is to say, and nothing that a text could smuggle in."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from tests.test_compiling import BELLS, HORIZON, REQUEST, due

from purista import Cron, Every, Schedule
from purista.compiling import request_for
from purista.report import report
from purista.reportpage import report_page
from purista.schedulers import scheduler_named


class Texts(HTMLParser):
    """Collects the tags and the texts of a page, and fails where tags do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(*schedules: Schedule, accepted: tuple[str, ...] = ()) -> Texts:
    kubernetes = scheduler_named("kubernetes")
    requests = {
        "kubernetes": request_for(kubernetes, {"kubernetes": kubernetes.sample}, HORIZON),
        BELLS.name: replace(REQUEST, accepted=frozenset(accepted)),
    }
    found = Texts()
    made = report(schedules, [kubernetes, BELLS], requests, HORIZON)
    found.feed(report_page(made, title="Shop <v1>"))
    assert found.open == []
    return found


def test_a_finding_is_shown_with_its_example_and_remedy():
    texts = page(due("often", Every(timedelta(seconds=90)))).texts
    assert "interval" in texts
    assert "2027-01-01T00:01:30Z is due, and no line fires then" in texts
    assert any(text.startswith("Remedy: accepting it leaves the schedule out") for text in texts)


def test_an_accepted_finding_is_shown_as_accepted():
    jittery = due("jittery", jitter=timedelta(minutes=1))
    assert "1 finding" in page(jittery).texts
    assert "accepted" in page(jittery, accepted=("jitter",)).texts


def test_notes_tell_what_is_dropped_and_until_when_a_line_is_exact():
    nightly = due("nightly", Cron("30 2 * * *"), timezone="Europe/Berlin")
    seldom = due("seldom", Cron("30 1 1 11 *"), timezone="America/New_York")
    texts = " ".join(page(nightly, seldom).texts)
    assert "1 trigger a year is sent only to be dropped, first at 2027-10-31T01:30:00Z" in texts
    assert "Exact until 2037-11-01T06:00:00Z" in texts
    assert "Copied as it stands: at 2027-10-31T01:30:00Z Kubernetes fires" in texts


def test_what_holds_for_all_schedules_together_is_shown_above():
    texts = page(*(due(f"s{number:02}") for number in range(21))).texts
    assert any("21 objects are needed; it holds 20 bells in a tower" in text for text in texts)


@pytest.mark.parametrize("about", ["<script>alert(1)</script>", "</style><b>", "&amp;"])
def test_texts_stay_texts(about: str):
    found = page(due("s", about=about))
    assert about in found.texts
    assert "script" not in found.tags
    assert "Shop <v1>" in found.texts


def test_each_schedule_is_found_by_a_link_of_the_table():
    assert page(due("a"), due("b")).tags.count("a") == 2
