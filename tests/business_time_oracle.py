"""Business time by S11 and S12 in plain Python: no SQL, and nothing of the project.

A calendar's windows one after another, day by day; exact, and slow.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
WEEKDAYS = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)


class Calendar(NamedTuple):
    """What a calendar file says; windows of each weekday, Monday first."""

    timezone: str
    windows: tuple[tuple[str, ...], ...]
    closed_dates: frozenset[str]
    special_dates: tuple[tuple[str, tuple[str, ...]], ...]
    covers_from: date
    covers_until: date


def calendar(
    timezone: str,
    windows: Mapping[str, Iterable[str]],
    covers_from: date,
    covers_until: date,
    closed_dates: Iterable[object] = (),
    special_dates: Mapping[object, Iterable[str]] | None = None,
) -> Calendar:
    """Dates may be dates or their texts; covers_until is inclusive."""
    special = (special_dates or {}).items()
    return Calendar(
        timezone,
        tuple(tuple(windows.get(name, ())) for name in WEEKDAYS),
        frozenset(map(str, closed_dates)),
        tuple((str(day), tuple(texts)) for day, texts in special),
        covers_from,
        covers_until,
    )


def deadline(
    calendar: Calendar | None, entered_at: datetime, hours: Decimal
) -> datetime | None:
    """S11; None where the hours don't run out within the span covered."""
    microseconds = hours * 3_600_000_000
    assert microseconds == microseconds.to_integral_value()
    left = timedelta(microseconds=int(microseconds))
    if calendar is None or not left:
        return entered_at + left
    if not is_covered(calendar, entered_at):
        return None
    for opens_at, closes_at in openings(calendar):
        begin = max(opens_at, entered_at)
        if closes_at - begin >= left:
            return begin + left
        left -= max(closes_at - begin, timedelta(0))
    return None


def lead(
    calendar: Calendar | None, deadline: datetime, hours: Decimal
) -> datetime | None:
    """S11 backwards: the latest instant with so many hours up to a deadline."""
    microseconds = hours * 3_600_000_000
    left = timedelta(microseconds=int(microseconds))
    if calendar is None or not left:
        return deadline - left
    if not is_covered(calendar, deadline):
        return None
    for opens_at, closes_at in reversed(openings(calendar)):
        end = min(closes_at, deadline)
        if end - opens_at >= left:
            return end - left
        left -= max(end - opens_at, timedelta(0))
    return None


def business_time(
    calendar: Calendar | None, entered_at: datetime, left_at: datetime
) -> timedelta | None:
    """S11; None where the calendar doesn't cover both ends."""
    if calendar is None:
        return left_at - entered_at
    if not (is_covered(calendar, entered_at) and is_covered(calendar, left_at)):
        return None
    return sum(
        (
            max(min(closes_at, left_at) - max(opens_at, entered_at), timedelta(0))
            for opens_at, closes_at in openings(calendar)
        ),
        timedelta(0),
    )


def is_covered(calendar: Calendar, instant: datetime) -> bool:
    first, last = span(calendar)
    return first <= instant <= last


def span(calendar: Calendar) -> tuple[datetime, datetime]:
    """The first and the last instant covered."""
    zone = ZoneInfo(calendar.timezone)
    return (
        instant_of(zone, calendar.covers_from, timedelta(0)),
        instant_of(zone, calendar.covers_until, DAY),
    )


@cache
def openings(calendar: Calendar) -> tuple[tuple[datetime, datetime], ...]:
    """The union of all windows within the span covered, in order."""
    first, last = span(calendar)
    found: list[tuple[datetime, datetime]] = []
    for opens_at, closes_at in sorted(_opened(calendar)):
        begin, end = max(opens_at, first), min(closes_at, last)
        if found and begin <= found[-1][1]:
            begin, before = found.pop()
            end = max(before, end)
        if begin < end:
            found.append((begin, end))
    return tuple(found)


def _opened(calendar: Calendar) -> Iterator[tuple[datetime, datetime]]:
    """The windows of every day, and of enough days before for their nights."""
    zone, special = ZoneInfo(calendar.timezone), dict(calendar.special_dates)
    day = calendar.covers_from - 3 * DAY
    while day <= calendar.covers_until:
        texts = special.get(str(day), calendar.windows[day.weekday()])
        if str(day) not in calendar.closed_dates and not is_skipped(zone, day):
            for text in texts:
                opens, closes = map(since_midnight, text.split("-"))
                closes += DAY if closes <= opens else timedelta(0)
                yield instant_of(zone, day, opens), instant_of(zone, day, closes)
        day += DAY


def since_midnight(text: str) -> timedelta:
    """Of 17:00, 17:00:30 or 24:00."""
    hours, minutes, seconds = map(int, f"{text}:00".split(":")[:3])
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def instant_of(zone: ZoneInfo, day: date, since_midnight: timedelta) -> datetime:
    """S12: in a gap by the offset before the change, in a fold the later instant."""
    local = datetime.combine(day, time()) + since_midnight
    earlier = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    is_in_gap = earlier.astimezone(zone).replace(tzinfo=None) != local
    return earlier if is_in_gap else local.replace(tzinfo=zone, fold=1).astimezone(UTC)


def is_skipped(zone: ZoneInfo, day: date) -> bool:
    """Whether no clock of the zone ever showed a date."""
    return instant_of(zone, day, timedelta(0)).astimezone(zone).date() != day
