"""Business time in SQL against the oracle, to the microsecond, at every kind of edge.

The same random stays go through the functions of schema raw and, as transitions,
through the macros of dbt. `make nightly` makes many more, and others each time.
"""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import business_time_oracle as business_time
import pytest
from business_time_oracle import DAY, WEEKDAYS, Calendar, openings, span
from facts import apply, at, calendar
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from nights import NIGHTLY, tries
from oracle import Row
from stays import Decided, Stay, append_stays, by_function, by_table

from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
CALENDARS_A_PLACE = tries(4, 30)
STAYS_EACH = 24
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)
# Six decimals of an hour.
SMALLEST_HOURS = timedelta(microseconds=3600)
YEARS = 3
# Zones, and the first of some years in which their clocks do something worth a test;
# all in the past, because no transition is appended ahead of the clock.
PLACES = (
    ("America/New_York", 2022),
    ("America/St_Johns", 2009),  # at one minute past midnight, later at two
    ("America/Havana", 2011),  # at midnight
    ("America/Sao_Paulo", 2017),  # at midnight, and then no more
    ("America/Caracas", 2015),  # half an hour, for good
    ("Europe/Berlin", 2022),
    ("Europe/Moscow", 2010),  # three offsets
    ("Africa/Casablanca", 2017),  # back for Ramadan
    ("Africa/Monrovia", 1970),  # from an offset of 44 minutes and 30 seconds
    ("Asia/Tehran", 2021),  # at midnight, and then no more
    ("Asia/Kathmandu", 1985),  # a quarter of an hour, at New Year
    ("Asia/Pyongyang", 2015),  # half an hour there and back
    ("Antarctica/Troll", 2022),  # two hours
    ("Australia/Lord_Howe", 2022),  # half an hour, twice a year
    ("Australia/Sydney", 2022),
    ("Pacific/Apia", 2010),  # no 30 December 2011
    ("Pacific/Kwajalein", 1992),  # no 21 August 1993
    ("Pacific/Kiritimati", 1994),  # no 31 December 1994
    ("Pacific/Kiritimati", 1995),
    ("UTC", 2022),
)
DAYS = (
    ("09:00-17:00",),
    ("09:00-12:00", "13:00-17:00"),
    ("08:00-12:00", "12:00-16:00"),
    ("22:00-06:00",),
    ("00:00-24:00",),
    ("00:00-02:30", "02:30-03:00", "23:30-24:00"),
    ("01:30-02:15", "02:45-03:30"),
    ("00:30-00:00",),
    ("23:59:59-00:00:01", "12:00-12:00:09"),
)
SPECIAL_DAYS = ((), ("08:00-12:00",), ("00:00-24:00",), ("20:00-04:00",), *DAYS[5:7])


SETTINGS = settings(
    max_examples=CALENDARS_A_PLACE,
    deadline=None,
    database=None,
    # Shrinking applies a calendar a try, for minutes.
    phases=[Phase.generate],
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class World(NamedTuple):
    """A calendar file, and stays: entered_at, left_at, hours."""

    file: Row
    stays: list[tuple[datetime, datetime, Decimal]]


@cache
def changes(zone: str, first_year: int) -> list[datetime]:
    """Instants in YEARS years at which the clocks of a zone change."""
    found = []
    begin = datetime(first_year, 1, 1, tzinfo=UTC) - DAY
    while begin.year < first_year + YEARS:
        before, after = begin, begin + DAY
        offset = _offset(zone, before)
        if _offset(zone, after) != offset:
            while after - before > timedelta(seconds=1):
                middle = before + (after - before) // timedelta(seconds=2) * SECOND
                if _offset(zone, middle) == offset:
                    before = middle
                else:
                    after = middle
            found.append(after)
        begin += DAY
    return found


def _offset(zone: str, instant: datetime) -> timedelta | None:
    return instant.astimezone(ZoneInfo(zone)).utcoffset()


@st.composite
def weeks(draw: st.DrawFn) -> dict[str, list[str]]:
    """Windows that may touch, none overlapping: the same each day, or cut at random."""
    if draw(st.booleans()):
        texts = list(draw(st.sampled_from(DAYS)))
        days = draw(st.sampled_from([WEEKDAYS[:5], WEEKDAYS, WEEKDAYS[6:]]))
        return {day: texts for day in days}
    unit = draw(st.sampled_from([15, 3, 1]))
    numbers = st.integers(0, 7 * 1440 // unit - 1)
    cuts = sorted(draw(st.lists(numbers, max_size=24, unique=True)))
    week: dict[str, list[str]] = {}
    for opens, closes in pairwise(cuts):
        # A window is shorter than a day; every third cut or so closes.
        if (closes - opens) * unit < 1440 and draw(st.integers(0, 2)):
            text = f"{_clock(opens * unit)}-{_clock(closes * unit)}"
            week.setdefault(WEEKDAYS[opens * unit // 1440], []).append(text)
    return week


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"


@st.composite
def files(draw: st.DrawFn, zone: str, first: int) -> Row:
    """Calendar files over YEARS years."""
    last = first + YEARS - 1
    begin, end = date(first, 1, 1), date(last, 12, 31)
    edges = [begin, end, *(change.date() for change in changes(zone, first))]
    near = [edge + days * DAY for edge in edges for days in (-1, 0, 1)]
    dates = st.sampled_from(near) | st.dates(begin, end)
    special = draw(st.dictionaries(dates, st.sampled_from(SPECIAL_DAYS), max_size=8))
    closed = draw(st.sets(dates, max_size=8)) - special.keys()
    return calendar(
        "random",
        zone,
        draw(weeks()),
        covers=[first, last],
        closed_dates=sorted(map(str, closed)),
        special_dates={str(day): list(texts) for day, texts in special.items()},
    )


def calendar_of(file: Row) -> Calendar:
    """What the oracle reads in a calendar file."""
    first, last = file["covers"]
    return business_time.calendar(
        file["timezone"],
        file["windows"],
        date(first, 1, 1),
        date(last, 12, 31),
        file.get("closed_dates", []),
        file.get("special_dates", {}),
    )


@st.composite
def worlds(draw: st.DrawFn, zone: str, first: int) -> World:
    """Stays that begin, end and run out around every edge of a calendar."""
    file = draw(files(zone, first))
    opening = calendar_of(file)
    jitter = st.sampled_from([timedelta(0), MICROSECOND, -MICROSECOND])
    instants = _instants(file, opening)
    stays = []
    for _ in range(STAYS_EACH):
        early, late = sorted((draw(instants), draw(instants)))
        entered_at = early + draw(jitter)
        hours = draw(_hours(business_time.business_time(opening, early, late)))
        due = business_time.deadline(opening, entered_at, hours)
        left_at = late if due is None or draw(st.booleans()) else due
        stays.append((entered_at, max(entered_at, left_at + draw(jitter)), hours))
    return World(file, stays)


def _instants(file: Row, opening: Calendar) -> st.SearchStrategy[datetime]:
    """Edges, those around changes and odd dates for the most part; and any instant."""
    first, last = span(opening)
    odd = [first, last, *changes(file["timezone"], file["covers"][0])]
    for text in (*file["closed_dates"], *file["special_dates"]):
        odd.append(datetime.combine(date.fromisoformat(text), time(12), UTC))
    edges = sorted(
        {first, last, *(edge for pair in openings(opening) for edge in pair)}
    )
    near = [e for e in edges if any(abs(e - other) < 2 * DAY for other in odd)]
    anywhere = st.integers(-5 * 10**6, (last - first) // SECOND + 5 * 10**6).map(
        lambda seconds: first + seconds * SECOND
    )
    return st.one_of(st.sampled_from([*odd, *near]), st.sampled_from(edges), anywhere)


def _hours(taken: timedelta | None) -> st.SearchStrategy[Decimal]:
    """Some time, or just more or less; or any hours up to 5,000."""
    count = min((taken or timedelta(0)) // SMALLEST_HOURS, 5000 * 10**6 - 1)
    counts = st.one_of(
        st.sampled_from([count, count, count + 1, max(count - 1, 0)]),
        st.sampled_from([0, 1, 8 * 10**6, 24 * 10**6]),
        st.integers(0, 5000 * 10**6),
    )
    return counts.map(lambda count: Decimal(count).scaleb(-6))


def said_by_oracle(
    opening: Calendar | None, entered_at: datetime, left_at: datetime, hours: Decimal
) -> Decided:
    taken = business_time.business_time(opening, entered_at, left_at)
    seconds = None if taken is None else Decimal(taken // MICROSECOND).scaleb(-6)
    return Decided(business_time.deadline(opening, entered_at, hours), seconds)


def test_sql_equals_the_oracle(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    """S11, S12; first by the functions, then all stays in one build of the tables."""
    stays: list[Stay] = []
    expected: list[Decided] = []

    def decide(world: World) -> None:
        name = f"calendar {len(stays)}"
        apply(connection, tmp_path, at(0), world.file | {"calendar_name": name})
        opening = calendar_of(world.file)
        own = [Stay(name, *stay) for stay in world.stays]
        said = [said_by_oracle(opening, *stay) for stay in world.stays]
        assert _differing(own, by_function(connection, own), said) == []
        stays.extend(own)
        expected.extend(said)

    for number, place in enumerate(PLACES):

        @SETTINGS
        @seed(random.randrange(2**32) if NIGHTLY else number)
        @given(worlds(*place))
        def functions_equal_the_oracle(world: World) -> None:
            decide(world)

        functions_equal_the_oracle()
    assert len(set(stays)) >= tries(500, 10_000)
    append_stays(connection, tmp_path, stays)
    build(database_url, at(0))
    whole = [row._replace(seconds=row.seconds and row.seconds // 1) for row in expected]
    assert _differing(stays, by_table(connection), whole) == []


@pytest.mark.parametrize(
    ("zone", "year", "windows", "entered_at", "hours", "due"),
    [
        # A gap, 02:00 to 03:00: 02:30 is 03:30, and 02:30-03:15 is no window.
        (
            "America/New_York",
            2022,
            "02:30-04:00",
            "2022-03-13T00Z",
            "0.5",
            "2022-03-13T08Z",
        ),
        (
            "America/New_York",
            2022,
            "02:30-03:15",
            "2022-03-13T00Z",
            "0.75",
            "2022-03-14T07:15Z",
        ),
        # A fold, 01:00 to 02:00 twice: the later 01:30.
        (
            "America/New_York",
            2022,
            "01:30-02:30",
            "2022-11-06T00Z",
            "1",
            "2022-11-06T07:30Z",
        ),
        # After Thursday the 29th it was Saturday, for whoever worked through the night.
        ("Pacific/Apia", 2011, "09:00-10:00", "2011-12-29T20Z", "1", "2011-12-30T20Z"),
        ("Pacific/Apia", 2011, "22:00-06:00", "2011-12-30T10Z", "6", "2011-12-30T16Z"),
        (
            "Pacific/Kiritimati",
            1995,
            "22:00-06:00",
            "1994-12-31T10Z",
            "6",
            "1994-12-31T16Z",
        ),
        # No seam at midnight; nothing beyond what is covered.
        (
            "Australia/Lord_Howe",
            2022,
            "00:00-24:00",
            "2022-04-01T00Z",
            "48",
            "2022-04-03T00Z",
        ),
        ("UTC", 2022, "00:00-24:00", "2022-12-31T00Z", "24", "2023-01-01T00Z"),
        ("UTC", 2022, "00:00-24:00", "2022-12-31T00Z", "24.000001", None),
        ("UTC", 2022, "00:00-24:00", "2021-12-31T23:59:59.999999Z", "1", None),
        ("UTC", 2022, None, "2022-01-01T00Z", "0.000001", None),
        ("UTC", 2022, None, "2030-01-01T00Z", "0", "2030-01-01T00Z"),
    ],
)
def test_edges_that_the_rules_name(
    connection: Connection,
    tmp_path: Path,
    zone: str,
    year: int,
    windows: str | None,
    entered_at: str,
    hours: str,
    due: str | None,
) -> None:
    """S11, S12, by hand: the oracle says so too."""
    week = {day: [windows] for day in WEEKDAYS if windows}
    file = calendar("edges", zone, week, covers=[year, year])
    apply(connection, tmp_path, at(0), file)
    begin = datetime.fromisoformat(entered_at)
    end = None if due is None else datetime.fromisoformat(due)
    stay = Stay("edges", begin, begin, Decimal(hours))
    (row,) = by_function(connection, [stay])
    assert row.deadline == end
    assert business_time.deadline(calendar_of(file), begin, stay.hours) == end


def _differing(
    stays: list[Stay], rows: list[Decided], said: list[Decided]
) -> list[tuple[Stay, Decided, Decided]]:
    return [
        found for found in zip(stays, rows, said, strict=True) if found[1] != found[2]
    ]


def test_a_function_asks_the_version_in_force_at_its_instant(
    connection: Connection, tmp_path: Path
) -> None:
    """S9: a calendar's first version also holds for the time before it."""
    for day, hours in ((40, "09:00-17:00"), (80, "06:00-10:00")):
        week = {weekday: [hours] for weekday in WEEKDAYS}
        apply(connection, tmp_path / f"{day}", at(day), calendar("office", "UTC", week))
    asked = "select raw.business_deadline('office', %s, 2)"
    told = {
        day: connection.execute(asked, [at(day)]).fetchone()
        for day in (5, 45, 79.99, 85)
    }
    morning, early = timedelta(hours=11), timedelta(hours=8)
    assert told == {
        5: (at(5) + morning,),
        45: (at(45) + morning,),
        79.99: (at(80) + morning,),
        85: (at(85) + early,),
    }
