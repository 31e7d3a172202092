"""Calendars: weekly windows and closed dates made into opening windows (S12).

Pure: what a file says belongs in workflows.py, which also appends what is made here;
how long something took belongs in dbt.
"""

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import cached_property
from itertools import accumulate, pairwise
from operator import sub
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

WEEKDAYS = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)
FIRST_YEAR, LAST_YEAR = 1990, 2100
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
DAY_SECONDS = DAY // SECOND
MIDNIGHT, MIDNIGHT_AGAIN = time(), time(fold=1)
# Where every business clock begins, and where pages are counted from.
CLOCK_START = datetime.combine(date(2000, 1, 1), MIDNIGHT)
FIRST_ORDINAL = CLOCK_START.toordinal()
PAGE_DAYS, CLOCK_PAGE_DAYS = 16, 8
# Windows are made so many days at once.
SPAN_DAYS = 366

_TIME = r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?"
WINDOW_PATTERN = rf"^{_TIME}-({_TIME}|24:00(:00)?)$"
_WINDOW = re.compile(r"(\d\d):(\d\d)(?::(\d\d))?-(\d\d):(\d\d)(?::(\d\d))?")


class LocalWindow(NamedTuple):
    """Opening hours of a day, from its midnight on; past 24 hours on the next day."""

    opens: timedelta
    closes: timedelta

    def __str__(self) -> str:
        """As a calendar file has it."""
        return f"{_time(self.opens)}-{_time(self.closes, is_end=True)}"


def _time(since_midnight: timedelta, *, is_end: bool = False) -> str:
    if since_midnight > DAY or (since_midnight == DAY and not is_end):
        since_midnight -= DAY
    minutes, seconds = divmod(since_midnight // timedelta(seconds=1), 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{seconds:02}" if seconds else text


class Page(NamedTuple):
    """The windows that begin in a span of days, after the one before them.

    places: which of all windows these are.
    """

    number: int
    is_by_clock: bool
    places: range
    opening: "Opening"

    @property
    def windows(self) -> Sequence["ClockedWindow"]:
        """Them."""
        return self.opening.windows[self.places.start : self.places.stop]


class Edges(NamedTuple):
    """Where windows open and close, and the business clock where they open.

    In whole seconds since CLOCK_START, which is where PostgreSQL counts from, too.
    """

    opens: list[int]
    closes: list[int]
    clocks: list[int]


class ClockedWindow(NamedTuple):
    """A window, and what the business clock shows where it opens."""

    opens_at: datetime
    closes_at: datetime
    business_clock: datetime


class Calendar(NamedTuple):
    """What a calendar file says, and the holidays it names.

    windows: of each weekday, Monday first. closed_dates: and why. special_dates: with
    windows of their own, instead of their weekday's. covers_*: whole days, both
    inclusive.
    """

    name: str
    timezone: str
    windows: tuple[tuple[LocalWindow, ...], ...]
    closed_dates: Mapping[date, str]
    special_dates: Mapping[date, tuple[LocalWindow, ...]]
    covers_from: date = date(FIRST_YEAR, 1, 1)
    covers_until: date = date(LAST_YEAR, 12, 31)

    def on(self, day: date) -> tuple[LocalWindow, ...]:
        """The windows that open on a day, as its clocks show them."""
        if day in self.closed_dates:
            return ()
        if day in self.special_dates:
            return self.special_dates[day]
        return self.windows[day.weekday()]


def parse_window(text: str) -> LocalWindow | None:
    """Hours such as 09:00-17:00, or past midnight 22:00-06:00; else None."""
    match = _WINDOW.fullmatch(text)
    if not match or not re.fullmatch(WINDOW_PATTERN, text):
        return None
    numbers = [int(part or 0) for part in match.groups()]
    opens = timedelta(hours=numbers[0], minutes=numbers[1], seconds=numbers[2])
    closes = timedelta(hours=numbers[3], minutes=numbers[4], seconds=numbers[5])
    if opens == closes:
        return None
    return LocalWindow(opens, closes if closes > opens else closes + DAY)


def overlapping(
    windows: Sequence[Sequence[LocalWindow]],
) -> list[tuple[int, LocalWindow, int, LocalWindow]]:
    """Pairs of windows of a week that overlap: day, window, day, window (S12)."""
    placed = [
        (number, window, number * DAY + window.opens, number * DAY + window.closes)
        for number, day in enumerate(windows)
        for window in day
    ]
    placed.sort(key=lambda item: item[2:])
    # The first window again, a week later: Sunday's night may run into Monday.
    again = [(n, w, opens + 7 * DAY, closes) for n, w, opens, closes in placed[:1]]
    return [
        (day, window, other_day, other)
        for (day, window, _, closes), (other_day, other, opens, _) in pairwise(
            placed + again
        )
        if opens < closes
    ]


def holidays_of(country: str, subdivision: str | None, years: Iterable[int]) -> Any:
    """Names of the public holidays by their date.

    Raises:
        ValueError: there is no such country or subdivision.
    """
    # Slow to import, and needed where a calendar file is read only.
    import holidays

    try:
        country_itself = holidays.country_holidays(country, subdivision)
    # What the library raises for a country or subdivision that it does not know.
    except NotImplementedError as error:
        raise ValueError(str(error).replace("`", "")) from error
    # Else the names are in the language of the machine, and differ from the next one's.
    language = country_itself.default_language
    return holidays.country_holidays(
        country, subdivision, years=list(years), language=language
    )


class Opening:
    """A calendar's opening windows as instants, all of them.

    A usual one has some 58,000, so they are whole numbers for as long as they can be:
    instants cost four times as much.
    """

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._zone = ZoneInfo(calendar.timezone)

    @cached_property
    def windows(self) -> list[ClockedWindow]:
        """In order, none touching another; the first and the last have no length.

        Those say from when to when the calendar covers.
        """
        columns = ([CLOCK_START + n * SECOND for n in column] for column in self.edges)
        return list(map(ClockedWindow, *columns))

    @cached_property
    def edges(self) -> Edges:
        """Those of all windows, in order."""
        covers_from, covers_until = self._covered
        opens, closes = self._merged()
        if covers_from not in opens[:1]:
            opens, closes = [covers_from, *opens], [covers_from, *closes]
        clocks = accumulate(map(sub, closes, opens), initial=0)
        return Edges([*opens, covers_until], [*closes, covers_until], list(clocks))

    @cached_property
    def sha256(self) -> str:
        """Of all windows."""
        opens, closes, _ = map(_shown, self.edges._fields)
        shown = pl.concat_str(opens, closes, separator=" ").str.join("\n")
        text: str = pl.DataFrame(self.edges._asdict()).select(shown).item()
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def ever_opens(self) -> bool:
        """Whether there is a window at all; found without making the others."""
        return any(True for _ in self._opened())

    def instant(self, day: date, since_midnight: timedelta) -> datetime:
        """A local time as an instant in UTC, without a zone.

        In a gap, the offset before the change applies; in a fold, the later instant.
        Both are the later of the two that zone rules offer.
        """
        local = datetime.combine(day, MIDNIGHT) + since_midnight
        offset = self._zone.utcoffset
        early, late = offset(local), offset(local.replace(fold=1))
        assert early is not None
        assert late is not None
        return local - min(early, late)

    def _second(self, day: date, since_midnight: timedelta) -> int:
        return (self.instant(day, since_midnight) - CLOCK_START) // SECOND

    @cached_property
    def _covered(self) -> tuple[int, int]:
        """From when to when the calendar covers."""
        return (
            self._second(self.calendar.covers_from, timedelta(0)),
            self._second(self.calendar.covers_until, DAY),
        )

    def _merged(self) -> tuple[list[int], list[int]]:
        """The union of all windows: where each opens, and where it closes."""
        opens: list[int] = []
        closes: list[int] = []
        for opens_at, closes_at in sorted(self._opened()):
            if opens and opens_at <= closes[-1]:
                closes[-1] = max(closes[-1], closes_at)
            else:
                opens.append(opens_at)
                closes.append(closes_at)
        return opens, closes

    def _opened(self) -> Iterator[tuple[int, int]]:
        """The windows of every day, within what the calendar covers.

        Also of the day before the first, for its night; of two, because the zone may
        have skipped that one, and the night before it then reaches as far.
        """
        covers_from, covers_until = self._covered
        day = self.calendar.covers_from - 2 * DAY
        first, end = day.toordinal(), self.calendar.covers_until.toordinal() + 1
        for begin in range(first, end, SPAN_DAYS):
            for opens_at, closes_at in self._opened_on(
                range(begin, min(begin + SPAN_DAYS, end))
            ):
                opened = opens_at if opens_at > covers_from else covers_from
                closed = closes_at if closes_at < covers_until else covers_until
                if opened < closed:
                    yield opened, closed

    def _opened_on(self, ordinals: range) -> Iterator[tuple[int, int]]:
        """The windows that open on some days, without those that have no length."""
        days = list(map(date.fromordinal, ordinals))
        offsets = self._offsets([*days, days[-1] + DAY, days[-1] + 2 * DAY])
        for number, day, offset in zip(ordinals, days, offsets, strict=True):
            windows = self._own.get(day, self._week[number % 7])
            if not windows:
                continue
            if offset is None:
                yield from self._opened_at_a_change(day)
                continue
            midnight = (number - FIRST_ORDINAL) * DAY_SECONDS - offset
            for opens, closes in windows:
                yield midnight + opens, midnight + closes

    def _opened_at_a_change(self, day: date) -> Iterator[tuple[int, int]]:
        # A date that the zone skipped ends before it begins.
        if self._second(day, timedelta(0)) < self._second(day, DAY):
            for window in self.calendar.on(day):
                opens, closes = (self._second(day, edge) for edge in window)
                if opens < closes:
                    yield opens, closes

    def _offsets(self, days: list[date]) -> list[int | None]:
        """Seconds that clocks are ahead on each day and the next, but of the last two.

        None where that changes, or may: no zone ever changed its clocks and changed
        them back within a day, so equal offsets at three midnights are one offset.
        """
        offset, combine = self._zone.utcoffset, datetime.combine
        early = [offset(combine(day, MIDNIGHT)) for day in days]
        late = [offset(combine(day, MIDNIGHT_AGAIN)) for day in days]
        seconds = {ahead: ahead // SECOND for ahead in {*early} if ahead is not None}
        is_steady = [
            a == b == c == d
            for (a, b), (c, d) in zip(pairwise(early), pairwise(late), strict=True)
        ]
        return [
            seconds[ahead] if today and tomorrow and ahead is not None else None
            for ahead, (today, tomorrow) in zip(
                early[:-2], pairwise(is_steady), strict=True
            )
        ]

    @cached_property
    def _week(self) -> list[list[tuple[int, int]]]:
        """The windows of each weekday, in seconds from midnight; Sunday first."""
        *others, sunday = map(_in_seconds, self.calendar.windows)
        return [sunday, *others]

    @cached_property
    def _own(self) -> dict[date, list[tuple[int, int]]]:
        """The same of dates that differ from their weekday."""
        days = (*self.calendar.closed_dates, *self.calendar.special_dates)
        return {day: _in_seconds(self.calendar.on(day)) for day in days}

    def pages(self) -> Iterator[Page]:
        """The windows by spans of days: of UTC, then of the business clock.

        A page holds the windows that begin in it, and before them the last one that
        began earlier.
        """
        opens, _, clocks = self.edges
        yield from self._paged(opens, PAGE_DAYS, is_by_clock=False)
        yield from self._paged(clocks, CLOCK_PAGE_DAYS, is_by_clock=True)

    def _paged(
        self, keys: list[int], days: int, *, is_by_clock: bool
    ) -> Iterator[Page]:
        length = days * DAY_SECONDS
        for number in range(keys[0] // length, keys[-1] // length + 1):
            first = max(bisect_right(keys, number * length) - 1, 0)
            after = bisect_left(keys, (number + 1) * length)
            yield Page(number, is_by_clock, range(first, after), self)


def _in_seconds(windows: Iterable[LocalWindow]) -> list[tuple[int, int]]:
    return [(opens // SECOND, closes // SECOND) for opens, closes in windows]


def _shown(seconds: str) -> pl.Expr:
    """A column of seconds since CLOCK_START as texts."""
    instants = pl.lit(CLOCK_START) + pl.duration(seconds=seconds)
    return instants.dt.to_string("%Y-%m-%d %H:%M:%S")
