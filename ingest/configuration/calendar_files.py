"""Calendar files: what is wrong in one, and the calendar that it says.

Their schema is in json_schemas.py; opening windows are made in calendars.py.
"""

from collections.abc import Iterator
from datetime import date
from zoneinfo import available_timezones

from ingest.configuration.calendars import (
    WEEKDAYS,
    Calendar,
    LocalWindow,
    Opening,
    holidays_of,
    overlapping,
    parse_window,
)
from ingest.configuration.json_schemas import CALENDAR, CALENDAR_DEFAULTS
from ingest.configuration.schema_checks import schema_defects, sound_part
from ingest.configuration.yaml_files import Located


def calendar_defects(content: Located) -> list[str]:
    """All that is wrong in a calendar file, with file and line, each once."""
    # What one key takes is judged although another one is wrong.
    item = sound_part(content, CALENDAR).over({"windows": {}, **CALENDAR_DEFAULTS})
    return [
        *schema_defects(content.over(CALENDAR_DEFAULTS), CALENDAR),
        *_zone_defects(item),
        *_holiday_defects(item),
        *_window_defects(item),
        *_date_defects(item),
    ]


def to_calendar(content: Located) -> Calendar:
    """The calendar of a file without defects."""
    item = content.over(CALENDAR_DEFAULTS)
    first, last = item["covers"]
    closed = dict.fromkeys(map(date.fromisoformat, item["closed_dates"]), "closed")
    special = {
        date.fromisoformat(day): _windows(texts)
        for day, texts in item["special_dates"].items()
    }
    holidays = _holidays(item)
    return Calendar(
        item["calendar_name"],
        item["timezone"],
        tuple(_windows(item["windows"].get(day, [])) for day in WEEKDAYS),
        {d: n for d, n in (closed | holidays).items() if d not in special},
        special,
        date(first, 1, 1),
        date(last, 12, 31),
    )


def calendar_warnings(content: Located, calendar: Calendar) -> Iterator[str]:
    """What is allowed, and hardly meant."""
    if not Opening(calendar).ever_opens:
        yield (
            f"{content.at('windows')}: {calendar.name!r} never opens, so nothing that "
            "it times has a deadline (S12)."
        )


def _windows(texts: list[str]) -> tuple[LocalWindow, ...]:
    return tuple(sorted(w for text in texts if (w := parse_window(text)) is not None))


def _holidays(item: Located) -> dict[date, str]:
    if item["holidays"] is None:
        return {}
    country, subdivision = _whose(item["holidays"])
    first, last = item["covers"]
    # The night before the first day may run into it.
    return dict(holidays_of(country, subdivision, range(first - 1, last + 1)))


def _whose(holidays: Located) -> tuple[str, str | None]:
    return holidays["country"], holidays.get("subdivision")


def _zone_defects(item: Located) -> Iterator[str]:
    if item.get("timezone", "UTC") not in available_timezones():
        yield f"{item.at('timezone')}: {item['timezone']!r} is no IANA time zone."
    first, last = item["covers"]
    if first > last:
        yield f"{item.at('covers')}: {last} is before {first}."


def _holiday_defects(item: Located) -> Iterator[str]:
    if item["holidays"] is not None and "country" in item["holidays"]:
        try:
            holidays_of(*_whose(item["holidays"]), ())
        except ValueError as error:
            yield f"{item.at('holidays')}: {error}."


def _window_defects(item: Located) -> Iterator[str]:
    """S12: windows may touch; those that overlap are refused."""
    for key in ("windows", "special_dates"):
        for day, texts in item[key].items():
            for text in texts:
                if parse_window(text) is None:
                    yield f"{item[key].at(day)}: {day} {text} has no length."
    weekdays = item["windows"]
    week = [_windows(weekdays.get(day, [])) for day in WEEKDAYS]
    for day, window, other_day, other in overlapping(week):
        yield (
            f"{weekdays.at(WEEKDAYS[other_day])}: {WEEKDAYS[day]} {window} overlaps "
            f"{WEEKDAYS[other_day]} {other}."
        )
    for day_on, texts in item["special_dates"].items():
        for _, window, _, other in overlapping([_windows(texts)]):
            where = item["special_dates"].at(day_on)
            yield f"{where}: {day_on} {window} overlaps {other}."


def _date_defects(item: Located) -> Iterator[str]:
    special = item["special_dates"]
    dates = [
        *((day, item.at("closed_dates")) for day in item["closed_dates"]),
        *((day, special.at(day)) for day in special),
    ]
    for day, where in dates:
        try:
            date.fromisoformat(day)
        except ValueError:
            yield f"{where}: {day} is no date of the calendar."
    for day in special:
        if day in item["closed_dates"]:
            yield f"{special.at(day)}: {day} is among the closed dates as well."
