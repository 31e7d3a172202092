"""Instants in microseconds, and when people are at work.

How long a step takes belongs in habits.py.
"""

from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ingest.configuration.calendars import Calendar, Opening

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
OFFICE_ZONE = ZoneInfo("Europe/Amsterdam")
OFFICE_OPENS, OFFICE_CLOSES = time(8), time(17, 30)


class BusinessTime:
    """Elapsed time while a calendar is open, in microseconds (S11)."""

    def __init__(self, calendar: Calendar) -> None:
        windows = Opening(calendar).windows
        start = windows[0].business_clock
        self._opens = [microseconds(w.opens_at.replace(tzinfo=UTC)) for w in windows]
        self._closes = [microseconds(w.closes_at.replace(tzinfo=UTC)) for w in windows]
        self._clocks = [
            (w.business_clock - start) // timedelta(microseconds=1) for w in windows
        ]

    def ends(self, at: int, amount: int) -> int:
        """When so much of it has passed since an instant."""
        place = bisect_right(self._opens, at) - 1
        open_for = min(at, self._closes[place]) - self._opens[place]
        clock = self._clocks[place] + open_for + amount
        place = bisect_left(self._clocks, clock) - 1
        return self._opens[place] + clock - self._clocks[place]


class Office:
    """When people are at work: weekdays, local time, as instants in microseconds."""

    def __init__(self) -> None:
        self._hours: dict[int, tuple[int, int] | None] = {}

    def is_open(self, at: int) -> bool:
        """Whether an instant lies within [opening, closing)."""
        hours = self._of(at // DAY)
        return hours is not None and hours[0] <= at < hours[1]

    def opens(self, at: int) -> int:
        """The first opening at or after an instant."""
        day = at // DAY
        while (hours := self._of(day)) is None or hours[0] < at:
            day += 1
        return hours[0]

    def closes(self, at: int) -> int:
        """The first closing at or after an instant."""
        day = at // DAY
        while (hours := self._of(day)) is None or hours[1] < at:
            day += 1
        return hours[1]

    def closed(self, at: int) -> int:
        """The last closing at or before an instant."""
        day = at // DAY
        while (hours := self._of(day)) is None or hours[1] > at:
            day -= 1
        return hours[1]

    def _of(self, day: int) -> tuple[int, int] | None:
        if day not in self._hours:
            on = EPOCH.date() + timedelta(days=day)
            weekday = on.weekday() < 5
            edges = (_local(on, OFFICE_OPENS), _local(on, OFFICE_CLOSES))
            self._hours[day] = edges if weekday else None
        return self._hours[day]


def _local(on: date, at: time) -> int:
    return microseconds(datetime.combine(on, at, OFFICE_ZONE))


def microseconds(at: datetime) -> int:
    """An aware instant, since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)
