"""Why an entity's deadlines are what they are, read from the views and put in words.

The views say it; nothing is decided here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple
from zoneinfo import ZoneInfo

from click import style
from psycopg.rows import dict_row

from dagster_project.swap import PUBLISHED, exists, no_swap
from dagster_project.terminal import shown
from ingest.append import known_types
from ingest.errors import StatusEngineError
from ingest.store.database import Connection

Row = dict[str, Any]
OF_ENTITY: LiteralString = "where entity_type = %s and entity_id = %s"


class Explanation(NamedTuple):
    """The rows of the views for one entity, each in the order of time."""

    candidates: list[Row]
    transitions: list[Row]
    intervals: list[Row]
    windows: list[Row]


def explain(
    connection: Connection,
    entity_type: str,
    entity_id: int,
    as_of: datetime | None = None,
) -> Explanation:
    """Everything that is known of an entity, built or not.

    Args:
        connection: open, outside a transaction.
        entity_type: one of raw.entity_types.
        entity_id: the entity within its type.
        as_of: the instant that is now (S15); the database's clock by default.

    Raises:
        StatusEngineError: nothing is built yet, or there is no such entity.
    """
    require_views(connection)

    def rows(query: LiteralString) -> list[Row]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, [entity_type, entity_id]).fetchall()

    with no_swap(connection):
        clock = as_of.isoformat() if as_of else ""
        connection.execute(
            "select set_config('status_engine.as_of', %s, true)", [clock]
        )
        transitions = rows(
            f"select * from sla.audit_trail {OF_ENTITY} order by entity_place"
        )
        if not transitions:
            raise StatusEngineError(_nothing(connection, entity_type, entity_id))
        return Explanation(
            rows(
                f"select * from sla.workflow_candidates {OF_ENTITY} "
                "order by is_bound desc, workflow_name, business_entity_id"
            ),
            transitions,
            rows(
                f"select * from sla.interval_explanations {OF_ENTITY} "
                # Of stays that begin at one instant, the one that ends then is first.
                "order by entered_at, coalesce(left_at, 'infinity'), visit, status"
            ),
            rows(
                f"select * from sla.deadline_windows {OF_ENTITY} "
                "order by counted_from, opens_at"
            ),
        )


def as_of(
    connection: Connection,
    entity_type: str,
    entity_id: int,
    at: datetime | None = None,
    known_at: datetime | None = None,
) -> Row:
    """The status of an entity at an instant, by what was recorded by another.

    Args:
        connection: open, outside a transaction.
        entity_type: one of raw.entity_types.
        entity_id: the entity within its type.
        at: transitions up to it count, and its clock is this; now by default.
        known_at: what was recorded up to it counts; all by default.

    Returns:
        A row of status_as_of, by column.

    Raises:
        StatusEngineError: nothing is built yet, or the entity had no status then.
    """
    require_views(connection)
    settings = {"at": at, "known_at": known_at}
    with (
        no_swap(connection),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        for name, instant in settings.items():
            cursor.execute(
                "select set_config(%s, %s, true)",
                [f"status_engine.{name}", instant.isoformat() if instant else ""],
            )
        row = cursor.execute(
            f"select * from sla.status_as_of {OF_ENTITY}", [entity_type, entity_id]
        ).fetchone()
        if row is None:
            raise StatusEngineError(
                unknown_type(connection, entity_type)
                or f"{entity_type} {entity_id} had no status then, by what was known."
            )
    return row


def _nothing(connection: Connection, entity_type: str, entity_id: int) -> str:
    """Why there is no such entity, and how one is found."""
    if (unknown := unknown_type(connection, entity_type)) is not None:
        return unknown
    row = connection.execute(
        "select min(entity_id), max(entity_id) from sla.entity_current_status "
        "where entity_type = %s",
        [entity_type],
    ).fetchone()
    first, last = row or (None, None)
    ids = "" if last is None else f"; ids there are from {first} to {last}"
    return f"There is no {entity_type} {entity_id}: nothing was ever recorded{ids}."


def unknown_type(connection: Connection, entity_type: str) -> str | None:
    """That a type is unknown, and which are known; None where it may be known."""
    may_read = "select has_schema_privilege('raw', 'usage')"
    if connection.execute(may_read).fetchone() != (True,):
        return None
    known = known_types(connection)
    if entity_type in known:
        return None
    return f"The type {entity_type!r} is unknown; known are {', '.join(known)}."


def require_views(connection: Connection) -> None:
    """Views can be asked.

    Raises:
        StatusEngineError: nothing is built yet.
    """
    if not exists(connection, PUBLISHED):
        msg = "Nothing is built yet. Run: status-engine build."
        raise StatusEngineError(msg)


def narrate(found: Explanation) -> Iterator[str]:
    """Lines of text: the workflow, then each stay with transitions and windows.

    Instants are in one zone: that of the last stay with a calendar, else UTC.
    """
    zone = _zone(found.intervals)
    found = Explanation(
        *([{**printable(row), "zone": zone} for row in rows] for rows in found)
    )
    first, current = found.transitions[0], found.intervals[-1]
    since = local_time(current["entered_at"], current)
    overdue = f", {_red('overdue')}" if current["is_overdue"] else ""
    name = style(f"{first['entity_type']} {first['entity_id']}", bold=True)
    yield f"{name} is '{current['status']}' since {since}{overdue}"
    yield f"  (times are in {zone})"
    yield from _binding(found.candidates)
    transitions = iter(found.transitions)
    for stay in found.intervals:
        own = [next(transitions) for _ in range(stay["transition_count"])]
        windows = [w for w in found.windows if w["interval_id"] == stay["interval_id"]]
        yield ""
        visit = f", visit {stay['visit']}" if stay["visit"] > 1 else ""
        yield style(f"{stay['status']}{visit}", bold=True)
        yield from (f"  {_transition(row, stay)}" for row in own)
        yield from (f"  {line}" for line in deadline_lines(stay))
        yield from (f"    {line}" for line in _windows(windows))
        yield f"  {_outcome(stay)}"


def _zone(intervals: list[Row]) -> str:
    zones = [row["calendar_timezone"] for row in intervals]
    return next((zone for zone in reversed(zones) if zone), "UTC")


def printable(row: Row) -> Row:
    """Without the control characters that a status, a name or a reason may hold."""
    return {k: shown(v) if isinstance(v, str) else v for k, v in row.items()}


def _binding(candidates: list[Row]) -> Iterator[str]:
    """S8: which workflow binds it, and why no other."""
    if not candidates:
        yield "No workflow is of its type, so nothing has a deadline."
    for row in candidates:
        entity = row["business_entity_id"]
        of = f" of business entity {entity}" if entity else ""
        yield f"  workflow '{row['workflow_name']}'{of} {row['reason']}"
    if candidates and not any(row["is_bound"] for row in candidates):
        yield "None binds it, so nothing has a deadline."


def _transition(row: Row, stay: Row) -> str:
    who = row["triggered_by_user_name"] or row["triggered_by_user_id"]
    given = row["sla_deadline"]
    parts = [
        local_time(row["created_at"], stay),
        f"by {who}" if who else "",
        f"through {row['triggered_by_system']}" if row["triggered_by_system"] else "",
        f"because '{row['transition_reason']}'" if row["transition_reason"] else "",
        f"deadline given: {local_time(given, stay)}" if given else "",
        f"batch {row['batch_id']}",
        "" if row["is_judged"] else "not judged yet",
        _red(row["violations"]) if row["violations"] else "",
    ]
    return ", ".join(part for part in parts if part)


def deadline_lines(stay: Row) -> Iterator[str]:
    """How the deadline was found (S9, S10)."""
    if stay["workflow_id"] is None:
        return
    version = local_time(stay["workflow_in_force_from"], stay)
    yield f"under workflow '{stay['workflow_name']}', version of {version}"
    hours, due = stay["sla_hours"], stay["sla_deadline"]
    if stay["step_id"] is None:
        yield "it has no such status"
    elif stay["is_final"]:
        yield "a final status has no deadline"
    elif stay["deadline_source"] == "explicit":
        yield f"deadline {local_time(due, stay)}, as it was given"
    elif hours is None:
        yield "the step has no hours, so there is no deadline"
    elif due is None:
        yield f"{_hours(stay)}, which do not run out in what the calendar covers"
    else:
        yield f"deadline {local_time(due, stay)}, after {_hours(stay)}"


def _hours(stay: Row) -> str:
    hours = f"{stay['sla_hours'].normalize():f} h"
    if stay["calendar_name"] is None:
        return f"{hours} of elapsed time"
    begun = stay["calendar_in_force_from"]
    version = f"version of {local_time(begun, stay)}" if begun else "first version"
    return f"{hours} of business time by calendar '{stay['calendar_name']}', {version}"


def _outcome(stay: Row) -> str:
    """How long it took, and what came of it (S13)."""
    took = span(stay["elapsed_seconds"])
    if stay["calendar_id"] is not None and stay["counted_seconds"] is not None:
        open_time, closed = stay["counted_seconds"], stay["closed_seconds"]
        took += f" = {span(open_time)} open + {span(closed)} closed"
    margin = stay["margin_seconds"]
    by = "" if margin is None else span(abs(margin))
    if stay["left_at"] is None:
        state = "" if margin is None else f", {by} left"
        state = f", {_red('overdue')} by {by}" if stay["is_overdue"] else state
        return f"open for {took}{state}"
    verdict = stay["verdict"]
    shown = style("met", fg="green") if verdict == "met" else _red(str(verdict))
    judged = "" if verdict is None else f": {shown} by {by}"
    return f"left {local_time(stay['left_at'], stay)} after {took}{judged}"


def _windows(windows: list[Row]) -> list[str]:
    """Aligned columns: each window counted, the sum so far, the closed time after."""
    total = Decimal(0)
    rows = []
    for row in windows:
        total += row["counted_seconds"]
        closed = row["closed_seconds"]
        because = f" ({row['closed_because']})" if row["closed_because"] else ""
        rows.append(
            (
                local_time(row["counted_from"], row),
                f"- {local_time(row['counted_until'], row)}",
                f"{span(row['counted_seconds'])} open",
                f"{span(total)} in all",
                f"then {span(closed)} closed{because}" if closed else "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _red(text: str) -> str:
    return style(text, fg="red")


def local_time(instant: datetime, row: Row) -> str:
    """As the clocks of the zone show it, with an offset where they do so twice."""
    local = _in_zone(instant, row["zone"])
    clock = f"{local.replace(tzinfo=None)}"
    # Digits that say nothing.
    clock = clock.rstrip("0") if local.microsecond else clock
    is_utc = local.tzinfo is UTC and row["zone"] != "UTC"
    again = local.replace(fold=1 - local.fold)
    offset = f" {local:%z}" if again.utcoffset() != local.utcoffset() else ""
    return f"{local:%a} {clock}{' UTC' if is_utc else offset}"


def _in_zone(instant: datetime, zone: str) -> datetime:
    """In a zone; in UTC where its clocks would show a year that Python has not."""
    try:
        return instant.astimezone(ZoneInfo(zone))
    except OverflowError:
        return instant.astimezone(UTC)


def span(seconds: Decimal) -> str:
    """Hours, minutes and seconds, to the microsecond where there are any."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{int(hours):,} h {int(minutes):02} min"
    return f"{text} {rest.normalize():f} s" if rest else text
