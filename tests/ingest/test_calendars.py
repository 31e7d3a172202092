"""Opening windows of calendars against instants written by hand (S12); no database."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest

from ingest.configuration.calendars import (
    WEEKDAYS,
    Calendar,
    LocalWindow,
    Opening,
    overlapping,
    parse_window,
)

NEW_YORK = "America/New_York"
AMSTERDAM = "Europe/Amsterdam"
SAO_PAULO = "America/Sao_Paulo"
APIA = "Pacific/Apia"
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
NIGHTS = ("22:00-06:00",)
NEVER: dict[str, Sequence[str]] = {}


def _at(text: str) -> datetime:
    """In UTC, without a zone, as windows have it."""
    return datetime.fromisoformat(text)


def _local(text: str) -> LocalWindow:
    window = parse_window(text)
    assert window is not None
    return window


def _opening(
    timezone: str,
    windows: Sequence[str] | Mapping[str, Sequence[str]],
    covers: tuple[str, str],
    closed: Sequence[str] = (),
    special: Mapping[str, Sequence[str]] | None = None,
) -> Opening:
    """A calendar with windows by weekday, or the same every day."""
    by_day = windows if isinstance(windows, Mapping) else None
    week = [windows if by_day is None else by_day.get(day, ()) for day in WEEKDAYS]
    calendar = Calendar(
        "any",
        timezone,
        tuple(tuple(map(_local, texts)) for texts in week),
        {date.fromisoformat(day): "closed" for day in closed},
        {
            date.fromisoformat(day): tuple(map(_local, texts))
            for day, texts in (special or {}).items()
        },
        *map(date.fromisoformat, covers),
    )
    return Opening(calendar)


def _utc(opening: Opening) -> list[str]:
    """Windows that have a length, in UTC, as 03-08 03:00/03-08 10:00."""
    return [
        f"{w.opens_at:%m-%d %H:%M}/{w.closes_at:%m-%d %H:%M}"
        for w in opening.windows
        if w.closes_at > w.opens_at
    ]


def test_windows_around_lunch_are_two() -> None:
    day = ("2026-01-05", "2026-01-05")
    opening = _opening(AMSTERDAM, ["09:00-12:00", "13:00-17:30:15"], day)
    assert [tuple(window) for window in opening.windows] == [
        # Where it begins to cover.
        (_at("2026-01-04 23:00"), _at("2026-01-04 23:00"), _at("2000-01-01")),
        (_at("2026-01-05 08:00"), _at("2026-01-05 11:00"), _at("2000-01-01")),
        (
            _at("2026-01-05 12:00"),
            _at("2026-01-05 16:30:15"),
            _at("2000-01-01 03:00"),
        ),
        # Where it ends.
        (
            _at("2026-01-05 23:00"),
            _at("2026-01-05 23:00"),
            _at("2000-01-01 07:30:15"),
        ),
    ]


def test_touching_windows_are_one() -> None:
    week = {
        "monday": ["09:00-12:00", "12:00-17:00", "20:00-24:00"],
        "tuesday": ["00:00-02:00"],
    }
    opening = _opening(AMSTERDAM, week, ("2026-01-05", "2026-01-06"))
    assert _utc(opening) == ["01-05 08:00/01-05 16:00", "01-05 19:00/01-06 01:00"]


def test_windows_that_give_the_same_opening_have_the_same_sum() -> None:
    days = ("2026-01-05", "2026-01-06")
    sums = [
        _opening(AMSTERDAM, windows, days).sha256
        for windows in (
            ["09:00-12:00", "12:00-17:00"],
            ["09:00-17:00"],
            ["09:00-16:00"],
        )
    ]
    assert sums[0] == sums[1] != sums[2]


def test_whole_days_have_no_seam_at_midnight() -> None:
    year = ("2026-01-01", "2026-12-31")
    opening = _opening(AMSTERDAM, ["00:00-24:00"], year)
    begin, end = _at("2025-12-31 23:00"), _at("2026-12-31 23:00")
    clock = _at("2000-01-01")
    assert [tuple(window) for window in opening.windows] == [
        (begin, end, clock),
        (end, end, clock + timedelta(days=365)),
    ]


@pytest.mark.parametrize(
    ("zone", "day", "local", "utc"),
    [
        # 02:00 EST became 03:00 EDT: 02:30 is 03:30 EDT.
        (NEW_YORK, "2026-03-08", "01:59:59", "2026-03-08 06:59:59"),
        (NEW_YORK, "2026-03-08", "02:00", "2026-03-08 07:00"),
        (NEW_YORK, "2026-03-08", "02:30", "2026-03-08 07:30"),
        (NEW_YORK, "2026-03-08", "03:00", "2026-03-08 07:00"),
        (NEW_YORK, "2026-03-08", "03:30", "2026-03-08 07:30"),
        # 02:00 EDT became 01:00 EST: 01:30 EST is the later one.
        (NEW_YORK, "2026-11-01", "00:59:59", "2026-11-01 04:59:59"),
        (NEW_YORK, "2026-11-01", "01:00", "2026-11-01 06:00"),
        (NEW_YORK, "2026-11-01", "01:30", "2026-11-01 06:30"),
        (NEW_YORK, "2026-11-01", "02:00", "2026-11-01 07:00"),
        # Midnight became 01:00, of -03 and of -02.
        (SAO_PAULO, "2017-10-15", "00:00", "2017-10-15 03:00"),
        (SAO_PAULO, "2017-10-15", "00:30", "2017-10-15 03:30"),
        (SAO_PAULO, "2017-10-15", "01:00", "2017-10-15 03:00"),
    ],
)
def test_edge_in_a_gap_has_the_offset_before_it_and_in_a_fold_is_the_later(
    zone: str, day: str, local: str, utc: str
) -> None:
    at = _at(f"{day} {local}")
    since_midnight = at - _at(day)
    opening = _opening(zone, NEVER, (day, day))
    instant = opening.instant(at.date(), since_midnight)
    assert instant == _at(utc)
    # A night that closes then began a day earlier.
    night = opening.instant(at.date() - timedelta(days=1), since_midnight + 24 * HOUR)
    assert night == instant


@pytest.mark.parametrize(
    ("covers", "expected"),
    [
        (
            ("2026-03-07", "2026-03-09"),
            [
                "03-07 05:00/03-07 11:00",
                "03-08 03:00/03-08 10:00",  # 7 hours
                "03-09 02:00/03-09 10:00",
                "03-10 02:00/03-10 04:00",
            ],
        ),
        (
            ("2026-10-31", "2026-11-02"),
            [
                "10-31 04:00/10-31 10:00",
                "11-01 02:00/11-01 11:00",  # 9 hours
                "11-02 03:00/11-02 11:00",
                "11-03 03:00/11-03 05:00",
            ],
        ),
    ],
)
def test_a_night_is_shorter_or_longer_by_a_change_of_the_clocks(
    covers: tuple[str, str], expected: list[str]
) -> None:
    """The first and the last reach into what is covered only in part."""
    assert _utc(_opening(NEW_YORK, NIGHTS, covers)) == expected


def test_length_of_every_night_of_a_year_in_new_york() -> None:
    """Of the first and the last, six and two hours are within what is covered."""
    opening = _opening(NEW_YORK, NIGHTS, ("2026-01-01", "2026-12-31"))
    nights = [w for w in opening.windows if w.closes_at > w.opens_at]
    hours = {
        f"{w.closes_at:%Y-%m-%d}": (w.closes_at - w.opens_at) / HOUR for w in nights
    }
    others = {day: h for day, h in hours.items() if h != 8}
    assert others == {
        "2026-01-01": 6,
        "2026-03-08": 7,
        "2026-11-01": 9,
        "2027-01-01": 2,
    }
    assert len(nights) == 366


@pytest.mark.parametrize(
    "zone",
    [
        NEW_YORK,
        APIA,
        # Half an hour; twice a year and around Ramadan; offsets in seconds.
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Africa/Monrovia",
        "Europe/Dublin",
        "UTC",
    ],
)
@pytest.mark.parametrize(
    "windows",
    [NIGHTS, ("00:00-24:00",), ("23:30-23:15",), ("01:00-02:30", "03:00-04:00")],
)
def test_windows_are_those_that_each_edge_gives_by_itself(
    zone: str, windows: Sequence[str]
) -> None:
    """Over years in which the zones changed their clocks, and one of a rule alone."""
    for year in (1972, 2011, 2026, 2090):
        opening = _opening(zone, windows, (f"{year}-01-01", f"{year + 1}-12-31"))
        begin, end = opening.windows[0].opens_at, opening.windows[-1].closes_at
        assert [(w.opens_at, w.closes_at) for w in opening.windows if w[0] < w[1]] == (
            _union(_each(opening, windows), begin, end)
        )


def _each(opening: Opening, windows: Sequence[str]) -> Iterator[tuple[datetime, ...]]:
    days = (opening.calendar.covers_until - opening.calendar.covers_from).days + 1
    for number in range(-2, days):
        day = opening.calendar.covers_from + timedelta(days=number)
        ends = (timedelta(0), timedelta(days=1))
        begins_at, ends_at = (opening.instant(day, edge) for edge in ends)
        if begins_at < ends_at:
            for window in map(_local, windows):
                yield tuple(opening.instant(day, edge) for edge in window)


def _union(
    windows: Iterator[tuple[datetime, ...]], begin: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """By counting at every edge how many are open there."""
    edges: list[tuple[datetime, int]] = []
    for opens_at, closes_at in windows:
        opened, closed = max(opens_at, begin), min(closes_at, end)
        edges += [(opened, 1), (closed, -1)] if opened < closed else []
    found, count, since = [], 0, begin
    for instant, change in sorted(edges, key=lambda edge: (edge[0], -edge[1])):
        since = since if count else instant
        count += change
        found += [] if count else [(since, instant)]
    return found


def test_windows_of_a_day_whose_midnight_was_skipped() -> None:
    day = ("2017-10-15", "2017-10-15")
    assert _utc(_opening(SAO_PAULO, ["00:00-24:00"], day)) == [
        "10-15 03:00/10-16 02:00"
    ]
    assert _utc(_opening(SAO_PAULO, ["00:00-04:00"], day)) == [
        "10-15 03:00/10-15 06:00"
    ]
    night = ("2017-10-14", "2017-10-15")
    week = {"saturday": ["22:00-02:00"]}
    assert _utc(_opening(SAO_PAULO, week, night)) == ["10-15 01:00/10-15 04:00"]


def test_a_skipped_date_has_no_windows() -> None:
    """Samoa went from the 29th of December, UTC-10, to the 31st, UTC+14."""
    days = ("2011-12-29", "2011-12-31")
    assert _utc(_opening(APIA, ["09:00-17:00"], days)) == [
        "12-29 19:00/12-30 03:00",
        "12-30 19:00/12-31 03:00",
    ]
    special = {"2011-12-30": ["09:00-17:00"]}
    assert not _opening(APIA, NEVER, days, special=special).ever_opens


def test_a_night_ends_on_the_date_after_a_skipped_one() -> None:
    days = ("2011-12-30", "2011-12-31")
    assert _utc(_opening(APIA, NIGHTS, ("2011-12-29", "2011-12-31"))) == [
        "12-29 10:00/12-29 16:00",
        "12-30 08:00/12-30 16:00",
        "12-31 08:00/12-31 10:00",
    ]
    # The span begins with the 31st, and the night of the 29th reaches into it.
    for covers in (days, ("2011-12-31", "2011-12-31")):
        assert _utc(_opening(APIA, NIGHTS, covers)) == [
            "12-30 10:00/12-30 16:00",
            "12-31 08:00/12-31 10:00",
        ]


def test_an_inverted_window_is_empty() -> None:
    """02:30 is 03:30 on that day, after 03:00 and 03:15."""
    days = ("2026-03-07", "2026-03-09")
    assert _utc(_opening(NEW_YORK, ["02:30-03:00"], days)) == [
        "03-07 07:30/03-07 08:00",
        "03-09 06:30/03-09 07:00",
    ]
    only = ("2026-03-08", "2026-03-08")
    assert not _opening(NEW_YORK, ["02:30-03:15"], only).ever_opens
    assert not _opening(NEW_YORK, ["02:30-03:30"], only).ever_opens
    assert _utc(_opening(NEW_YORK, ["02:30-03:31"], only)) == [
        "03-08 07:30/03-08 07:31"
    ]
    inverted = _opening(NEW_YORK, ["01:00-02:00", "02:30-03:00", "05:00-06:00"], only)
    assert _utc(inverted) == ["03-08 06:00/03-08 07:00", "03-08 09:00/03-08 10:00"]


def test_time_in_two_windows_because_of_a_change_counts_once() -> None:
    """01:00 to 02:30, which is 03:30, and 03:00 to 04:00: two hours in all."""
    day = ("2026-03-08", "2026-03-08")
    opening = _opening(NEW_YORK, ["01:00-02:30", "03:00-04:00"], day)
    assert _utc(opening) == ["03-08 06:00/03-08 08:00"]
    assert opening.windows[-1].business_clock == _at("2000-01-01 02:00")
    # The later one ends first.
    within = _opening(NEW_YORK, ["01:00-02:45", "03:00-03:15"], day)
    assert _utc(within) == ["03-08 06:00/03-08 07:45"]


def test_a_closed_date_removes_what_opens_on_it_and_not_the_night_before() -> None:
    days = ("2026-07-02", "2026-07-04")
    closed = ["2026-07-03"]
    assert _utc(_opening(NEW_YORK, ["09:00-17:00"], days, closed)) == [
        "07-02 13:00/07-02 21:00",
        "07-04 13:00/07-04 21:00",
    ]
    assert _utc(_opening(NEW_YORK, NIGHTS, days, closed)) == [
        "07-02 04:00/07-02 10:00",
        "07-03 02:00/07-03 10:00",
        "07-05 02:00/07-05 04:00",
    ]


def test_a_closed_date_is_of_the_zone_of_its_calendar() -> None:
    """The third of July in Auckland begins at noon of the second in UTC."""
    days = ("2026-07-02", "2026-07-04")
    opening = _opening("Pacific/Auckland", ["00:00-24:00"], days, ["2026-07-03"])
    assert _utc(opening) == ["07-01 12:00/07-02 12:00", "07-03 12:00/07-04 12:00"]


def test_special_dates_have_hours_of_their_own() -> None:
    special = {"2026-07-03": ["10:00-12:00", "22:00-02:00"], "2026-07-04": []}
    week = {day: ["09:00-17:00"] for day in WEEKDAYS}
    opening = _opening(NEW_YORK, week, ("2026-07-02", "2026-07-05"), special=special)
    assert _utc(opening) == [
        "07-02 13:00/07-02 21:00",
        "07-03 14:00/07-03 16:00",
        "07-04 02:00/07-04 06:00",
        "07-05 13:00/07-05 21:00",
    ]


def test_the_night_before_the_first_day_counts_as_far_as_it_reaches_in() -> None:
    days = ("2026-07-02", "2026-07-02")
    week = {"wednesday": NIGHTS}
    opening = _opening(NEW_YORK, week, days)
    assert _utc(opening) == ["07-02 04:00/07-02 10:00"]
    # It stands for where the calendar begins to cover.
    assert opening.windows[0].opens_at == _at("2026-07-02 04:00")
    assert opening.windows[0].closes_at == _at("2026-07-02 10:00")
    assert not _opening(NEW_YORK, week, days, ["2026-07-01"]).ever_opens
    assert not _opening(NEW_YORK, {"wednesday": ["22:00-24:00"]}, days).ever_opens
    assert not _opening(NEW_YORK, {"tuesday": NIGHTS}, days).ever_opens


def test_a_calendar_that_never_opens_says_what_it_covers() -> None:
    begin, end = _at("2026-01-01"), _at("2026-01-02")
    clock = _at("2000-01-01")
    never = _opening("UTC", NEVER, ("2026-01-01", "2026-01-01"))
    assert not never.ever_opens
    expected = [(begin, begin, clock), (end, end, clock)]
    assert [tuple(window) for window in never.windows] == expected
    pages = [(p.number, p.is_by_clock, len(p.windows)) for p in never.pages()]
    assert pages == [(593, False, 2), (0, True, 1)]
    closed = _opening("UTC", ["09:00-17:00"], ("2026-01-01",) * 2, ["2026-01-01"])
    assert not closed.ever_opens


@pytest.mark.parametrize(
    ("text", "opens", "closes", "shown"),
    [
        ("09:00-17:00", 9, 17, "09:00-17:00"),
        ("22:00-06:00", 22, 30, "22:00-06:00"),
        ("00:00-24:00", 0, 24, "00:00-24:00"),
        ("18:00-24:00:00", 18, 24, "18:00-24:00"),
        ("18:00-00:00", 18, 24, "18:00-24:00"),
        ("23:30-23:15", 23.5, 47.25, "23:30-23:15"),
        ("09:00:00-09:00:36", 9, 9.01, "09:00-09:00:36"),
    ],
)
def test_window_is_read_and_shown(
    text: str, opens: float, closes: float, shown: str
) -> None:
    window = parse_window(text)
    assert window == (timedelta(hours=opens), timedelta(hours=closes))
    assert str(window) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "09:00",
        "9:00-17:00",
        "09:00-25:00",
        "25:00-26:00",
        "09:00-24:01",
        "09:00-24:00:01",
        "09:60-17:00",
        "09:00-17:00:60",
        "09:00-09:00",
        "00:00-00:00",
        "24:00-06:00",
        "09:00 - 17:00",
        "09:00-17:00\n",
        "09:00-17:00, 18:00-19:00",
        "09.00-17.00",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    assert parse_window(text) is None


def _overlaps(**days: Sequence[str]) -> list[str]:
    week = [[_local(text) for text in days.get(day, ())] for day in WEEKDAYS]
    return [
        f"{WEEKDAYS[day]} {window}, {WEEKDAYS[other_day]} {other}"
        for day, window, other_day, other in overlapping(week)
    ]


def test_overlapping_windows_of_a_week_are_told_in_pairs() -> None:
    assert _overlaps() == []
    assert _overlaps(monday=["09:00-12:00", "12:00-17:00"]) == []
    assert _overlaps(monday=["12:00-17:00", "09:00-12:00:01"]) == [
        "monday 09:00-12:00:01, monday 12:00-17:00"
    ]
    assert _overlaps(monday=["22:00-06:00"], tuesday=["05:00-09:00"]) == [
        "monday 22:00-06:00, tuesday 05:00-09:00"
    ]
    assert _overlaps(monday=["22:00-06:00"], tuesday=["06:00-09:00"]) == []
    assert _overlaps(**dict.fromkeys(WEEKDAYS, ("00:00-24:00",))) == []


def test_the_night_of_sunday_runs_into_monday() -> None:
    assert _overlaps(sunday=["22:00-06:00"], monday=["05:00-09:00"]) == [
        "sunday 22:00-06:00, monday 05:00-09:00"
    ]
    assert _overlaps(sunday=["22:00-06:00"], monday=["06:00-09:00"]) == []
    assert _overlaps(sunday=["22:00-06:00"]) == []
    # The same on any other day is no such thing.
    assert _overlaps(saturday=["22:00-06:00"], monday=["05:00-09:00"]) == []


def test_pages_hold_the_windows_that_begin_in_them_after_the_one_before() -> None:
    """Page 594 begins 9,504 days after 2000-01-01, on the 8th of January 2026."""
    week = {"monday": ["09:00-17:00"]}
    opening = _opening("UTC", week, ("2026-01-01", "2026-01-31"))
    pages = [
        (
            page.number,
            page.is_by_clock,
            [f"{window.opens_at:%m-%d}" for window in page.windows],
        )
        for page in opening.pages()
    ]
    mondays = ["01-05", "01-12", "01-19", "01-26"]
    assert pages == [
        (593, False, ["01-01", "01-05"]),
        (594, False, ["01-05", "01-12", "01-19"]),
        (595, False, ["01-19", "01-26", "02-01"]),
        # The clock stands still until the first Monday.
        (0, True, [*mondays, "02-01"]),
    ]
    clocks = [f"{window.business_clock:%d %H}" for window in opening.windows]
    assert clocks == ["01 00", "01 00", "01 08", "01 16", "02 00", "02 08"]


def test_a_window_that_begins_with_a_page_is_in_it() -> None:
    """And the microsecond before is found in the one before."""
    week = {"thursday": ["00:00-24:00"], "friday": ["00:00-00:01"]}
    opening = _opening("UTC", week, ("2026-01-02", "2026-01-31"))
    first, second, *_ = opening.pages()
    eighth = _at("2026-01-08")
    assert [window.opens_at for window in first.windows] == [_at("2026-01-02")]
    assert [window.opens_at for window in second.windows] == [
        eighth,
        _at("2026-01-15"),
        _at("2026-01-22"),
    ]


def _grid(begin: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """Instants between, with those around each; both ends are among them."""
    while begin < end:
        yield from (begin, begin + MICROSECOND)
        begin += step
        yield begin - MICROSECOND
    yield end


@pytest.mark.parametrize(
    ("zone", "windows"),
    [
        (NEW_YORK, NIGHTS),
        (AMSTERDAM, ("08:00-12:00", "12:30-17:00")),
        (AMSTERDAM, ("00:00-24:00",)),
        ("Australia/Lord_Howe", {"monday": ["09:00-17:00"], "sunday": NIGHTS}),
        ("Asia/Kathmandu", {"thursday": ["00:00-00:00:01"]}),
        ("UTC", NEVER),
    ],
)
def test_every_instant_finds_in_its_page_the_window_that_all_windows_give(
    zone: str, windows: Sequence[str] | Mapping[str, Sequence[str]]
) -> None:
    covers = ("2026-01-01", "2026-12-31")
    closed = [f"2026-05-{day:02}" for day in range(1, 32)]
    opening = _opening(zone, windows, covers, closed)
    everything = opening.windows
    pages = {(page.is_by_clock, page.number): page.windows for page in opening.pages()}
    epoch = _at("2000-01-01")
    for is_by_clock, days, key in (
        (False, 16, lambda window: window.opens_at),
        (True, 8, lambda window: window.business_clock),
    ):
        numbers = [number for by_clock, number in pages if by_clock == is_by_clock]
        assert all(later - earlier == 1 for earlier, later in pairwise(numbers))
        keys = list(map(key, everything))
        step = timedelta(hours=6) if is_by_clock else timedelta(hours=11)
        for instant in {*_grid(keys[0], keys[-1], step), *keys}:
            page = pages[is_by_clock, (instant - epoch) // timedelta(days=days)]
            found = page[bisect_right(list(map(key, page)), instant) - 1]
            assert found == everything[bisect_right(keys, instant) - 1]
