from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista import ContractError, Cron, Every, ExpressionError, Once
from purista.sentence import duration_words, joined, sentence

SENTENCES = {
    "* * * * *": "Every minute",
    "*/15 * * * *": "Every 15 minutes",
    "@hourly": "Every hour",
    "1 * * * *": "At 1 minute past every hour",
    "5 * * * MON-FRI": "At 5 minutes past every hour, Monday to Friday",
    "*/7 * * * *": "Every 7 minutes from minute 0 to minute 56 of every hour",
    "5-59/15 * * * *": "Every 15 minutes from 00:05 to 23:50 every day",
    "0-59 0-23 * * *": "Every minute from 00:00 to 23:59 every day",
    "0 0-23 * * *": "Every hour from 00:00 to 23:00 every day",
    "3,9-11 * * * *": "At minutes 3 and 9 to 11 of every hour",
    "30 2 * * *": "At 02:30 every day",
    "0,30 2 * * *": "At 02:00 and 02:30 every day",
    "0 8,9,20,21 * * *": "At 08:00, 09:00, 20:00 and 21:00 every day",
    "0 22-2 * * *": "At 00:00, 01:00, 02:00, 22:00 and 23:00 every day",
    "0 */6 * * *": "Every 6 hours from 00:00 to 18:00 every day",
    "0 */5 * * *": "Every 5 hours from 00:00 to 20:00 every day",
    "*/15 8-17 * * MON-FRI": "Every 15 minutes from 08:00 to 17:45, Monday to Friday",
    "*/20 8-10,14-16 * * *": (
        "Every 20 minutes from 08:00 to 10:40 and from 14:00 to 16:40 every day"
    ),
    "*/30 1,3,5,7,9,14 * * *": "At minutes 0 and 30 of hours 1, 3, 5, 7, 9 and 14 every day",
    "3,9-11,40 1-9/2 * * *": (
        "At minutes 3, 9 to 11 and 40 of every 2nd hour from hour 1 to hour 9 every day"
    ),
    "0 2 1 * *": "At 02:00 on day 1 of every month",
    "0 2 1,15 * *": "At 02:00 on days 1 and 15 of every month",
    "0 2 1-7,20 * *": "At 02:00 on days 1 to 7 and 20 of every month",
    "0 2 */2 * *": "At 02:00 on every 2nd day from day 1 to day 31 of every month",
    "0 2 29 * *": "At 02:00 on day 29 of every month that has one",
    "0 2 31 6-8 *": "At 02:00 on day 31 of each month from June to August that has one",
    "0 2 31 1,6 *": "At 02:00 on day 31 of January and June",
    "0 2 29 2 *": "At 02:00 on day 29 of February in leap years",
    "0 2 L * *": "At 02:00 on the last day of every month",
    "0 2 L-1 * *": "At 02:00 on the day 1 day before the last day of every month",
    "0 2 L-30 * *": "At 02:00 on the day 30 days before the last day of every month that has one",
    "0 2 1,L * *": "At 02:00 on day 1 and on the last day of every month",
    "0 2 15W 6 *": "At 02:00 on the weekday (Monday to Friday) nearest to day 15 of June",
    "0 2 LW * *": "At 02:00 on the last weekday (Monday to Friday) of every month",
    "0 2 * * 0": "At 02:00 on Sundays",
    "0 2 * * 1,3,5": "At 02:00 on Mondays, Wednesdays and Fridays",
    "0 2 * * FRI-MON": "At 02:00, Friday to Monday",
    "0 2 * 6,7 1-5": "At 02:00, Monday to Friday, in June and July",
    "0 2 * * MON#2": "At 02:00 on the second Monday of every month",
    "0 2 * 11-2 FRI#L": "At 02:00 on the last Friday of each month from November to February",
    "0 2 * * FRI#5": "At 02:00 on the fifth Friday of every month that has one",
    "0 2 * * MON,FRI#L": "At 02:00 on Mondays and on the last Friday of every month",
    "0 2 * 6 1-3,FRI#L": (
        "At 02:00 in June, from Monday to Wednesday and on the last Friday of the month"
    ),
    "0 2 * 6-8 *": "At 02:00 every day from June to August",
    "* * * 1,7 *": "Every minute in January and July",
    "0 0 13 * 5": "At 00:00 on day 13 of the month or on a Friday",
    "0 0 13 6 1,3": "At 00:00 on day 13 of June or on a Monday or Wednesday in June",
    "0 0 13 * 1-5": "At 00:00 on day 13 of the month or on a day from Monday to Friday",
    "0 0 1 6 MON-WED,FRI#2": (
        "At 00:00 on day 1 of June or on a day from Monday to Wednesday in June"
        " or on the second Friday of June"
    ),
}

WITH_SECONDS = {
    "0 30 2 * * *": "At 02:30 every day",
    "15 30 2 * * *": "At 02:30:15 every day",
    "* * * * * *": "Every second",
    "*/10 * * * * *": "Every 10 seconds",
    "30 * * * * *": "At second 30 of every minute",
    "*/7 * * * * *": "Every 7 seconds from second 0 to second 56 of every minute",
    "*/10 */15 8-17 * * 1-5": (
        "Every 10 seconds of the minute, every 15 minutes from 08:00 to 17:45, Monday to Friday"
    ),
    "1,2,3,9 0 2 1 * *": (
        "At seconds 1 to 3 and 9 of the minute, at 02:00 on day 1 of every month"
    ),
}


@pytest.mark.parametrize("text", SENTENCES)
def test_a_cron_text_is_said_in_one_sentence(text: str):
    assert sentence(Cron(text)) == SENTENCES[text]


@pytest.mark.parametrize("text", WITH_SECONDS)
def test_seconds_are_said_where_there_are_some(text: str):
    assert sentence(Cron(text, seconds=True)) == WITH_SECONDS[text]


def test_both_days_at_once_are_said_as_such():
    assert sentence(Cron("0 0 8-14 * FRI", day_rule="and")) == (
        "At 00:00 on days 8 to 14 of every month, but only on a Friday"
    )
    assert sentence(Cron("0 0 1-9 6 FRI#1", day_rule="and")) == (
        "At 00:00 on days 1 to 9 of June, but only on the first Friday of the month"
    )
    assert sentence(Cron("0 0 */2 * FRI", day_rule="or")).endswith("of the month or on a Friday")
    assert sentence(Cron("0 0 1-31 * FRI", day_rule="and")) == "At 00:00 on Fridays"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(hours=6), "Every 6 hours"),
        (timedelta(hours=1), "Every hour"),
        (timedelta(days=1), "Every day"),
        (timedelta(minutes=90), "Every 90 minutes"),
        (timedelta(seconds=1.5), "Every 1.5 seconds"),
        (timedelta(days=1, hours=6, seconds=2), "Every 1 day, 6 hours and 2 seconds"),
    ],
)
def test_an_interval_says_how_long_and_from_when_on(interval: timedelta, words: str):
    assert sentence(Every(interval)) == f"{words}, counted from Thursday 1970-01-01 at 00:00 UTC"
    anchor = datetime(2027, 1, 4, 6, tzinfo=UTC)
    assert sentence(Every(interval, anchor), "Europe/Berlin") == (
        f"{words}, counted from Monday 2027-01-04 at 06:00 UTC"
    )


def test_a_one_shot_says_its_moment_in_its_zone():
    once = Once(datetime(2027, 10, 31, 1, 30, tzinfo=UTC))
    assert sentence(once) == "Once, on Sunday 2027-10-31 at 01:30 UTC"
    assert sentence(once, "Europe/Berlin") == (
        "Once, on Sunday 2027-10-31 at 02:30 +01:00, Europe/Berlin"
    )
    exact = Once(datetime(1970, 1, 1, 0, 44, 30, 5, tzinfo=UTC))
    assert sentence(exact, "Africa/Monrovia") == (
        "Once, on Thursday 1970-01-01 at 00:00:00.000005 -00:44:30, Africa/Monrovia"
    )


def test_the_zone_is_named_where_it_is_given_and_has_to_be_one():
    cron = Cron("0 2 1 * *")
    named = "At 02:00 on day 1 of every month, Europe/Berlin"
    assert sentence(cron, "Europe/Berlin") == named
    assert sentence(cron, ZoneInfo("Europe/Berlin")) == named
    with pytest.raises(ContractError, match="did you mean 'Europe/Berlin'"):
        sentence(cron, "Europe/Berln")


def meaning(cron: Cron) -> Any:
    """Return what decides the local times of an expression."""
    rule = cron.day_rule if cron.restricts_both_days else ""
    times = cron.second.values, cron.minute.values, cron.hour.values
    return times, cron.canonical.split()[-3:], rule


def assert_told_apart(crons: list[Cron]) -> None:
    known: dict[str, Cron] = {}
    for cron in crons:
        other = known.setdefault(sentence(cron), cron)
        assert meaning(other) == meaning(cron), (sentence(cron), cron, other)


MINUTES = [
    "*",
    "0",
    "1",
    "5",
    "59",
    "0,30",
    "15,45",
    "*/2",
    "*/7",
    "*/15",
    "5-59/15",
    "0-30",
    "0-30/10",
    "1,2,3,9",
    "5,6,8",
    "0,1,2,30",
]
HOURS = [
    "*",
    "0",
    "2",
    "23",
    "2,3",
    "2,14",
    "9-17",
    "22-2",
    "*/2",
    "*/5",
    "*/6",
    "1-23/2",
    "8-10,14-16",
    "1,3,5,7,9,14",
    "0-23/3",
]
DAYS = [
    "*",
    "1",
    "29",
    "30",
    "31",
    "1,15",
    "1-7",
    "1-15/2",
    "*/2",
    "1-30",
    "L",
    "L-1",
    "L-30",
    "15W",
    "31W",
    "LW",
    "L,1",
    "L,LW",
    "1-7,L-2",
    "15W,16",
]
MONTHS = ["*", "1", "2", "1,2,12", "6-8", "11-2", "*/3", "1,7", "1-11"]
WEEK = [
    "*",
    "0",
    "1-5",
    "1,3,5",
    "FRI-MON",
    "MON#1",
    "MON#5",
    "FRI#L",
    "MON,FRI#L",
    "1-3,FRI#2",
    "MON#1,MON#2",
    "1-6",
    "6",
]


def test_different_times_of_day_have_different_sentences():
    days = ("* * *", "* 6 *", "1 * *", "* * 1-5", "1 * 5")
    assert_told_apart([Cron(f"{m} {h} {day}") for m, h in product(MINUTES, HOURS) for day in days])


def test_different_seconds_have_different_sentences():
    times = product(MINUTES, ("* *", "*/15 *", "0 2", "0,30 2", "*/7 8-17"), ("* * *", "* 6 *"))
    assert_told_apart([Cron(" ".join(one), seconds=True) for one in times])


@pytest.mark.parametrize("rule", ["or", "and"])
def test_different_days_have_different_sentences(rule: Any):
    crons = []
    for day, month, week in product(DAYS, MONTHS, WEEK):
        for time in ("0 2", "* *"):
            try:
                crons.append(Cron(f"{time} {day} {month} {week}", day_rule=rule))
            except ExpressionError:  # a day that never comes
                continue
    assert len(crons) > 3000
    assert_told_apart(crons)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    item = st.one_of(
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}"),
        st.integers(1, high).map(lambda step: f"*/{step}"),
    )
    return st.lists(item, min_size=1, max_size=3).map(",".join)


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    texts = [draw(st.just("*") | field(0, 59)), draw(field(0, 59)), draw(field(0, 23))]
    day = field(1, 28) | st.sampled_from(DAYS)
    week = st.just("*") | field(0, 6) | st.sampled_from(WEEK)
    texts += [draw(day), draw(st.just("*") | field(1, 12)), draw(week)]
    try:
        return Cron(" ".join(texts), day_rule=draw(st.sampled_from(["or", "and"])), seconds=True)
    except ExpressionError:
        return Cron("0 2 * * *")


@given(st.lists(crons(), min_size=1, max_size=8))
def test_a_sentence_stands_for_one_meaning(found: list[Cron]):
    assert_told_apart(found)
    for cron in found:
        again = Cron(cron.canonical, cron.day_rule, cron.seconds)
        assert sentence(again) == sentence(cron) != ""


@given(st.timedeltas(timedelta(0), timedelta(days=99999)))
def test_a_duration_is_said_exactly(duration: timedelta):
    found = timedelta(0)
    for part in duration_words(duration).replace(" and ", ", ").split(", "):
        number, unit = part.split()
        microseconds = round(float(number) * 1_000_000)
        scale = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}[unit.removesuffix("s")]
        found += timedelta(microseconds=microseconds) * scale
    assert found == duration


def test_words_are_joined_as_a_list():
    assert joined(["a"]) == "a"
    assert joined(["a", "b"], "or") == "a or b"
    assert joined(["a", "b", "c"]) == "a, b and c"
