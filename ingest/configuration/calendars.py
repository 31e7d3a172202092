"""Calendars: weekly windows and closed dates made into opening windows (S12).

Pure: what a file says belongs in workflows.py, which also appends what is made here;
how long something took belongs in dbt.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

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
DAY = timedelta(days=1)
MIDNIGHT = time()
# Where every business clock begins, and where pages are counted from.
CLOCK_START = datetime.combine(date(2000, 1, 1), MIDNIGHT)
PAGE_DAYS, CLOCK_PAGE_DAYS = 16, 8

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


class Window(NamedTuple):
    """An opening window [opens_at, closes_at), in UTC, without a zone."""

    opens_at: datetime
    closes_at: datetime


class Page(NamedTuple):
    """The windows that begin in a span of days, after the one before them."""

    number: int
    is_by_clock: bool
    windows: Sequence["ClockedWindow"]


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
    """A calendar's opening windows as instants, all of them."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._zone = ZoneInfo(calendar.timezone)

    @cached_property
    def windows(self) -> list[ClockedWindow]:
        """In order, none touching another; the first and the last have no length.

        Those say from when to when the calendar covers.
        """
        covers_from, covers_until = self._covered
        clock = CLOCK_START
        found = [ClockedWindow(covers_from, covers_from, clock)]
        for opens_at, closes_at in self._merged():
            if opens_at == covers_from:
                found.clear()
            found.append(ClockedWindow(opens_at, closes_at, clock))
            clock += closes_at - opens_at
        found.append(ClockedWindow(covers_until, covers_until, clock))
        return found

    @property
    def sha256(self) -> str:
        """Of all windows."""
        text = "\n".join(f"{w.opens_at} {w.closes_at}" for w in self.windows)
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

    @cached_property
    def _covered(self) -> Window:
        """From when to when the calendar covers."""
        return Window(
            self.instant(self.calendar.covers_from, timedelta(0)),
            self.instant(self.calendar.covers_until, DAY),
        )

    def _merged(self) -> list[Window]:
        """The union of all windows."""
        merged: list[Window] = []
        for window in sorted(self._opened()):
            if merged and window.opens_at <= merged[-1].closes_at:
                last = merged.pop()
                closes_at = max(last.closes_at, window.closes_at)
                merged.append(Window(last.opens_at, closes_at))
            else:
                merged.append(window)
        return merged

    def _opened(self) -> Iterator[Window]:
        """The windows of every day, within what the calendar covers.

        Also of the day before the first, for its night; of two, because the zone may
        have skipped that one, and the night before it then reaches as far.
        """
        covers_from, covers_until = self._covered
        day = self.calendar.covers_from - 2 * DAY
        while day <= self.calendar.covers_until:
            for opens_at, closes_at in self._opened_on(day):
                window = Window(
                    max(opens_at, covers_from), min(closes_at, covers_until)
                )
                if window.opens_at < window.closes_at:
                    yield window
            day += DAY

    def _opened_on(self, day: date) -> list[Window]:
        windows = self.calendar.on(day)
        # A date that the zone skipped ends before it begins.
        if windows and self.instant(day, timedelta(0)) < self.instant(day, DAY):
            return [
                Window(self.instant(day, w.opens), self.instant(day, w.closes))
                for w in windows
            ]
        return []

    def pages(self) -> Iterator[Page]:
        """The windows by spans of days: of UTC, then of the business clock.

        A page holds the windows that begin in it, and before them the last one that
        began earlier.
        """
        starts = [window.opens_at for window in self.windows]
        yield from self._paged(starts, starts[-1], PAGE_DAYS, is_by_clock=False)
        clocks = [window.business_clock for window in self.windows]
        end = self.windows[-1].business_clock
        yield from self._paged(clocks, end, CLOCK_PAGE_DAYS, is_by_clock=True)

    def _paged(
        self, keys: list[datetime], end: datetime, days: int, *, is_by_clock: bool
    ) -> Iterator[Page]:
        number = (keys[0] - CLOCK_START) // (days * DAY)
        while (begin := CLOCK_START + number * days * DAY) <= end:
            first = max(bisect_right(keys, begin) - 1, 0)
            after = bisect_right(keys, begin + days * DAY - timedelta(microseconds=1))
            yield Page(number, is_by_clock, self.windows[first:after])
            number += 1
