"""``purista next``: what is due, as a table, as JSON, as a calendar file, as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Annotated, Final

import typer

from purista.agenda import Row, agenda
from purista.cli.agendaview import print_json_rows, print_table
from purista.cli.loading import load_services
from purista.cli.output import print_json, say
from purista.cli.outputfile import STDOUT, check_paths, write_file
from purista.cli.window import MOST_DAYS, Window, read_window
from purista.clock import SystemClock
from purista.contract import Schedule
from purista.errors import LoadError
from purista.firetimes import zone_problems
from purista.icalendar import calendar
from purista.load import MOST_DAYS as MOST_DAYS_OF_PICTURE
from purista.load import Days, days_between, load
from purista.local import find_schedule
from purista.page import page
from purista.picture import picture
from purista.service import Service

ROWS: Final = 10
"""How many rows the table has where nobody said when it ends."""

CALENDAR: Final = timedelta(days=90)
PICTURE: Final = timedelta(days=365)


def upcoming(
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
        ),
    ],
    schedule: Annotated[
        str | None, typer.Option("--schedule", "-s", help="One schedule, by name or id.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="How many rows; 10 where no end is said."),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="Start here instead of now.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="End here, inclusive; RFC 3339.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=MOST_DAYS, help="End so many times 24 hours later.")
    ] = None,
    ics: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write a calendar file; of 90 days where no end is said."
        ),
    ] = None,
    svg: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a picture; of a year where no end is said."),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a page with the picture and its numbers."),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="The picture's zone; else the schedules', if one, or UTC."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show the upcoming nominal times of one schedule, or of all.

    FILE may be - for stdout. --from and --until are instants such as 2027-03-01T01:00:00Z.

    Example: purista next billing.app:billing --schedule monthlyBillingCycle --count 3

    Example: purista next billing.app:billing --days 365 --html year.html
    """
    paths = {"--ics": ics, "--svg": svg, "--html": html}
    files = {option: path for option, path in paths.items() if path is not None}
    _check(files, count=count, timezone=timezone, as_json=as_json)
    window = read_window(from_, until, days, SystemClock())
    loaded = load_services(services)
    chosen = [find_schedule(loaded, schedule)] if schedule else _schedules(loaded)
    asked = _Asked(tuple(one for one in chosen if one.enabled), window, count, _title(loaded))
    if not files:
        return _show(asked, as_json=as_json)
    made = [(path, _chunks(option, asked, timezone)) for option, path in files.items()]
    for path, chunks in made:
        write_file(path, chunks)
    _say_written(files, as_json=as_json)
    return 0


@dataclass(frozen=True, slots=True)
class _Asked:
    schedules: tuple[Schedule, ...]
    window: Window
    count: int | None
    title: str

    def rows(self, *, count: int | None = None, length: timedelta | None = None) -> Iterator[Row]:
        """Yield the rows; ``count`` and ``length`` hold where nobody said how many or until when."""
        wanted = self.count
        if wanted is None and self.window.end is None:
            wanted = count
        end = self.window.until(None if self.count else length)
        return islice(agenda(self.schedules, self.window.start, end), wanted)


def _check(
    files: dict[str, str], *, count: int | None, timezone: str | None, as_json: bool
) -> None:
    """Raise ``LoadError`` for options that do not go together."""
    check_paths(files)
    pictures = [option for option in files if option != "--ics"]
    if count is not None and pictures:
        raise LoadError(f"{pictures[0]} shows whole days; give --days or --until, not --count")
    if timezone is not None and not pictures:
        raise LoadError("--timezone is a picture's zone; give --svg or --html too, or leave it out")
    if as_json and STDOUT in files.values():
        raise LoadError("--json and a file on stdout ('-') do not go together; give one of them")
    if timezone is not None:
        wrong = zone_problems(timezone)
        if wrong:
            raise LoadError(f"--timezone: {wrong[0].message}; {wrong[0].remedy}")


def _schedules(services: Iterable[Service]) -> list[Schedule]:
    return [one for service in services for one in service.schedules.values()]


def _title(services: Sequence[Service]) -> str:
    names = [one.id for one in services]
    if len(names) > _NAMES:
        names = [*names[:_NAMES], f"and {len(names) - _NAMES} more services"]
    return ", ".join(names)


_NAMES: Final = 4


def _show(asked: _Asked, *, as_json: bool) -> int:
    start, rows = asked.window.start, asked.rows(count=ROWS)
    if as_json:
        print_json_rows(rows, start)
    elif not print_table(rows, asked.schedules, start):
        say("nothing is due" if asked.window.end else "nothing is due any more", "yellow")
    return 0


def _chunks(option: str, asked: _Asked, timezone: str | None) -> Iterable[str]:
    if option == "--ics":
        return calendar(asked.rows(length=CALENDAR), name=asked.title)
    drawn = load(asked.schedules, _days(option, asked, timezone))
    draw = picture if option == "--svg" else page
    return [draw(drawn, title=asked.title)]


def _days(option: str, asked: _Asked, timezone: str | None) -> Days:
    zone, window = timezone or _common_zone(asked.schedules), asked.window
    if window.end is None:
        return replace(days_between(zone, window.start, window.start), count=PICTURE.days)
    days = days_between(zone, window.start, window.end)
    if days.count > MOST_DAYS_OF_PICTURE:
        raise LoadError(
            f"{option} shows at most {MOST_DAYS_OF_PICTURE} days, not {days.count}; "
            "give --days 365, or an earlier --until"
        )
    return days


def _common_zone(schedules: Iterable[Schedule]) -> str:
    zones = {one.timezone for one in schedules}
    return zones.pop() if len(zones) == 1 else "UTC"


def _say_written(files: dict[str, str], *, as_json: bool) -> None:
    paths = [path for path in files.values() if path != STDOUT]
    if as_json:
        print_json({"written": paths})
        return
    for path in paths:
        say(f"wrote {path}")
