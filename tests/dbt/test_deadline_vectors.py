"""Vectors of business time: those of the rules, and those of other systems' own tests.

Each goes through the functions of schema raw and, where it can be a stay, through dbt.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from facts import append_rows, apply, at, calendar, published, step, workflow
from oracle import Row
from stays import Decided, Stay, append_stays, by_function, by_table

from ingest.store.cuts import Cut
from ingest.store.database import PROJECT, Connection

Build = Callable[..., Cut]
ORACLES = PROJECT.parent / "shared" / "data" / "oracles"
NEW_YORK = "America/New_York"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
WEEK = (*WEEKDAYS, "saturday", "sunday")
# S11, S12: windows, days, closed dates, entered at, hours, deadline; all local.
WORKED: tuple[tuple[list[str], tuple[str, ...], list[str], str, float, str], ...] = (
    ([], (), [], "2026-03-07 12:00", 24, "2026-03-08 13:00"),
    ([], (), [], "2026-10-31 12:00", 24, "2026-11-01 11:00"),
    (["09:00-17:00"], WEEKDAYS, [], "2026-03-06 16:00", 8, "2026-03-09 16:00"),
    (
        ["09:00-17:00"],
        WEEKDAYS,
        ["2026-07-03"],
        "2026-07-02 15:00",
        8,
        "2026-07-06 15:00",
    ),
    (
        ["09:00-12:00", "13:00-17:00"],
        WEEKDAYS,
        [],
        "2026-07-06 11:30",
        2,
        "2026-07-06 14:30",
    ),
    (["09:00-17:00"], WEEKDAYS, [], "2026-07-06 09:00", 24, "2026-07-08 17:00"),
    (["08:00-18:00"], WEEKDAYS, [], "2026-07-06 17:00", 4, "2026-07-07 11:00"),
)


def _local(text: str, zone: str = NEW_YORK) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_worked_deadlines_of_the_rules(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    """S11, S12."""
    stays, expected = [], []
    for number, (windows, days, closed, entered_at, hours, due) in enumerate(WORKED):
        name = f"worked {number}" if windows else None
        if name:
            week = {day: windows for day in days}
            file = calendar(name, NEW_YORK, week, closed_dates=closed)
            apply(connection, tmp_path, at(0), file)
        stays.append(Stay(name, _local(entered_at), _local(due), Decimal(hours)))
        expected.append(_local(due))
    found = by_function(connection, stays)
    assert [row.deadline for row in found] == expected
    whole = [row._replace(seconds=row.seconds // 1) for row in found]
    append_stays(connection, tmp_path, stays)
    build(database_url, at(0))
    assert by_table(connection) == whole


def test_nights_across_a_change_of_clocks_hold_seven_nine_and_eight_hours(
    connection: Connection, tmp_path: Path
) -> None:
    """S12: 22:00-06:00, each night from 18:00 to 18:00."""
    file = calendar("nights", NEW_YORK, {day: ["22:00-06:00"] for day in WEEK})
    apply(connection, tmp_path, at(0), file)
    first = date(2026, 1, 1)
    nights = [first + timedelta(days=n) for n in range(364)]
    evenings = [_local(f"{night} 18:00") for night in [*nights, date(2026, 12, 31)]]
    stays = [Stay("nights", begin, end, None) for begin, end in pairwise(evenings)]
    hours = {
        str(night): row.seconds / 3600
        for night, row in zip(nights, by_function(connection, stays), strict=True)
    }
    assert {night: h for night, h in hours.items() if h != 8} == {
        "2026-03-07": 7,
        "2026-10-31": 9,
    }


def test_a_stay_in_closed_hours_alone_is_met_and_there(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    """S11: opened and left on a Sunday."""
    file = calendar("office", NEW_YORK, {day: ["09:00-17:00"] for day in WEEKDAYS})
    apply(connection, tmp_path, at(0), file)
    sunday = _local("2026-03-08 12:00")
    stay = Stay("office", sunday, sunday + timedelta(hours=3), Decimal(1))
    append_stays(connection, tmp_path, [stay])
    build(database_url, at(0))
    (row,) = [
        row
        for row in published(connection, "status_intervals", at(0))
        if row["left_at"] is not None
    ]
    assert (row["business_seconds"], row["elapsed_seconds"]) == (0, 10_800)
    assert (row["verdict"], row["sla_deadline"]) == ("met", _local("2026-03-09 10:00"))


def test_hours_that_fill_a_page_of_the_clock_end_at_closing(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    """S11: where the clock's reading is the first of the next page of windows."""
    file = calendar("days", "UTC", {day: ["09:00-17:00"] for day in WEEK})
    apply(connection, tmp_path, at(0), file)
    # A page is 8 days of the clock, 24 days of 8 hours.
    stays = [
        Stay("days", at(9 / 24), at(60), Decimal(192)),
        Stay("days", at(9 / 24), at(60), Decimal(384)),
    ]
    ends = [at(23 + 17 / 24), at(47 + 17 / 24)]
    assert [row.deadline for row in by_function(connection, stays)] == ends
    append_stays(connection, tmp_path, stays)
    build(database_url, at(0))
    assert [row.deadline for row in by_table(connection)] == ends


def test_a_verdict_turns_a_microsecond_after_a_deadline_in_business_time(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    """S13."""
    file = calendar("office", NEW_YORK, {day: ["09:00-17:00"] for day in WEEKDAYS})
    apply(connection, tmp_path / "c", at(0), file)
    steps = [step("new", 1, ["done"], sla_hours=8), step("done", 2, [])]
    content = workflow("order", "standard", steps, calendar="office")
    apply(connection, tmp_path / "w", at(0), content)
    due = _local("2026-03-09 16:00")
    rows = [
        {
            "created_at": instant,
            "entity_type": "order",
            "entity_id": number,
            "to_status": status,
        }
        for number, late in enumerate((0, 1))
        for instant, status in (
            (_local("2026-03-06 16:00"), "new"),
            (due + timedelta(microseconds=late), "done"),
        )
    ]
    append_rows(connection, rows)
    build(database_url, at(0))
    verdicts = {
        row["entity_id"]: (row["sla_deadline"], row["verdict"])
        for row in published(connection, "status_intervals", at(0))
        if row["status"] == "new"
    }
    assert verdicts == {0: (due, "met"), 1: (due, "breached")}


def _vectors() -> Iterator[Row]:
    for path in sorted(ORACLES.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            vector = json.loads(line)
            if vector["kind"] in ("add_business_time", "business_time_between"):
                yield vector


def _file(vector: Row) -> Row:
    """Its calendar as a file has it; breaks are windows of a date's own."""
    week = {
        day: ["-".join(window) for window in vector["schedule"].get(day[:3], [])]
        for day in WEEK
    }
    special = {
        day: ["-".join(window) for window in windows]
        for day, windows in vector.get("overrides", {}).items()
    }
    for day, breaks in vector.get("breaks", {}).items():
        weekday = WEEK[date.fromisoformat(day).weekday()]
        special[day] = _without(special.get(day, week[weekday]), breaks)
    return {
        "timezone": vector["timezone"],
        "windows": week,
        "closed_dates": sorted(set(vector["holidays"]) - special.keys()),
        "special_dates": special,
        "covers": [2003, 2025],
    }


def _without(windows: list[str], breaks: list[list[str]]) -> list[str]:
    """The windows of a day without its breaks; times as texts sort as times do."""
    left = [tuple(window.split("-")) for window in windows]
    for begin, end in breaks:
        left = [
            part
            for opens, closes in left
            for part in ((opens, min(closes, begin)), (max(opens, end), closes))
            if part[0] < part[1]
        ]
    return [f"{opens}-{closes}" for opens, closes in left]


def _stay(vector: Row, name: str) -> Stay:
    start = datetime.fromisoformat(vector["start"])
    if vector["kind"] == "business_time_between":
        return Stay(name, start, datetime.fromisoformat(vector["end"]), None)
    hours = Fraction(vector["seconds"]).limit_denominator(1000) / 3600
    # To the microsecond, where seconds are no decimals of an hour.
    digits = Decimal(hours.numerator * 10**12 // hours.denominator).scaleb(-12)
    return Stay(name, start, start, digits)


def _expected(vector: Row) -> datetime | Decimal:
    """What S11 says, where `check` tells that the other system says otherwise."""
    check = vector["check"]
    if vector["kind"] == "business_time_between":
        differs = check.startswith("differs: ")
        return Decimal(str(check.split()[1] if differs else vector["expected"]))
    if check == "agree_at_next_open":
        # Hours that run out at closing time end there.
        windows = vector["schedule"]["sun"]
        assert windows == [["11:00", "12:00"]]
        due = datetime.fromisoformat(vector["expected"])
        return datetime.combine(due.date() - timedelta(days=7), time(12), UTC)
    return datetime.fromisoformat(vector["expected"])


@pytest.mark.skipif(not ORACLES.exists(), reason="the real data is not here")
def test_vectors_of_other_systems(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    """DECISIONS.md names where S11 says otherwise."""
    vectors = list(_vectors())
    names: dict[str, str] = {}
    stays, expected = [], []
    for vector in vectors:
        file = _file(vector)
        key = json.dumps(file, sort_keys=True)
        if key not in names:
            names[key] = f"calendar {len(names)}"
            apply(connection, tmp_path, at(0), {"calendar_name": names[key], **file})
        stays.append(_stay(vector, names[key]))
        expected.append(_expected(vector))
    found = [_decided(stay, row) for stay, row in _with(stays, by_function, connection)]
    differing = [
        (vector["id"], row, said)
        for vector, row, said in zip(vectors, found, expected, strict=True)
        if row != said
    ]
    assert differing == []
    assert len(vectors) > 150
    lasting = [
        (stay, said)
        for stay, said in zip(stays, expected, strict=True)
        if stay.left_at >= stay.entered_at and _is_sla(stay.hours)
    ]
    assert len(lasting) > 100
    append_stays(connection, tmp_path, [stay for stay, _ in lasting])
    build(database_url, at(0))
    rows = by_table(connection)
    assert [
        _decided(stay, row) for (stay, _), row in zip(lasting, rows, strict=True)
    ] == [said for _, said in lasting]


def _with(
    stays: list[Stay],
    decide: Callable[[Connection, list[Stay]], list[Decided]],
    connection: Connection,
) -> Iterator[tuple[Stay, Decided]]:
    return zip(stays, decide(connection, stays), strict=True)


def _decided(stay: Stay, row: Decided) -> Any:
    return row.seconds if stay.hours is None else row.deadline


def _is_sla(hours: Decimal | None) -> bool:
    """Whether a step can have them: not negative, at most six decimals."""
    return hours is None or (hours >= 0 and hours == round(hours, 6))
