from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.strftime import DIRECTIVES, problems, written

instants = st.datetimes(
    min_value=datetime(1970, 1, 1),
    max_value=datetime(2200, 12, 31),
    timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")]),
)


@given(instants)
def test_every_directive_writes_what_python_writes_in_the_c_locale(at: datetime):
    for name in DIRECTIVES:
        assert written(at, f"%{name}") == at.strftime(f"%{name}"), name


@pytest.mark.parametrize("year", range(1970, 2200, 7))
def test_week_numbers_agree_around_every_new_year(year: int):
    for days in range(-8, 9):
        at = datetime(year, 1, 5, tzinfo=UTC) + timedelta(days=days)
        assert written(at, "%U %W %G-%V-%u %w %j") == at.strftime("%U %W %G-%V-%u %w %j")


def test_text_between_directives_stays():
    at = datetime(2027, 3, 1, tzinfo=UTC)
    assert problems_of("week %G-W%V, 100%%\n") == []
    assert written(at, "week %G-W%V, 100%%\n") == "week 2027-W09, 100%\n"


def test_an_offset_with_seconds_is_written_in_full():
    at = datetime(2027, 3, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28)))
    assert written(at, "%z") == "+005328"


def problems_of(form: str) -> list[tuple[str, str]]:
    return list(problems(form))


@pytest.mark.parametrize(
    ("form", "message", "remedy"),
    [
        ("%s", "'%s' differs between platforms", "use the placeholder without a format"),
        ("%-d", "'%-d' differs between platforms", "use %d"),
        ("%c", "'%c' differs between platforms", "use %a %b %d"),
        ("%", "'%' differs between platforms", "write %% for a percent sign"),
        ("%Y-%", "'%' differs between platforms", "write %% for a percent sign"),
        ("%:z", "unknown directive '%:'", "use one of %%, %A"),
        ("%é", "unknown directive '%é'", "use one of"),
        ("YYYY", "the format 'YYYY' has no directive", "write it as in %Y-%m-%d"),
        ("%Y{", "a brace inside a format", "put it outside"),
    ],
)
def test_a_format_that_platforms_read_differently_is_refused(form: str, message: str, remedy: str):
    found = problems_of(form)
    assert len(found) == 1
    assert found[0][0] == message
    assert found[0][1].startswith(remedy)
