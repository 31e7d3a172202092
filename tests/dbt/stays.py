"""Single stays in business time: what SQL makes of each, by function and by table."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from facts import append_rows, apply, at, step, workflow

from ingest.store.database import Connection


class Stay(NamedTuple):
    """A stay, its calendar's name (None for elapsed time), and its step's hours."""

    calendar: str | None
    entered_at: datetime
    left_at: datetime
    hours: Decimal | None


class Decided(NamedTuple):
    """A stay's deadline, and its business time in seconds."""

    deadline: datetime | None
    seconds: Decimal | int | None


def by_function(connection: Connection, stays: Sequence[Stay]) -> list[Decided]:
    """What the functions of schema raw say; seconds to the microsecond."""
    rows = connection.execute(
        """
        select
            case
                when calendar is null
                    then raw.business_deadline(null::uuid, entered_at, hours)
                else raw.business_deadline(calendar, entered_at, hours)
            end,
            case
                when calendar is null
                    then raw.business_seconds(null::uuid, entered_at, left_at)
                else raw.business_seconds(calendar, entered_at, left_at)
            end
        from unnest(%s::text[], %s::timestamptz[], %s::timestamptz[], %s::numeric[])
            with ordinality as stays (calendar, entered_at, left_at, hours, place)
        order by place
        """,
        [list(column) for column in zip(*stays, strict=True)],
    ).fetchall()
    return [Decided(*row) for row in rows]


def append_stays(connection: Connection, folder: Path, stays: Sequence[Stay]) -> None:
    """Append each stay as two transitions of an order of its number.

    Each calendar has a workflow, and each number of hours in it a step.
    """
    statuses: dict[str, dict[Decimal | None, str]] = defaultdict(dict)
    rows = []
    for number, stay in enumerate(stays):
        name = stay.calendar or "elapsed"
        known = statuses[name]
        status = known.setdefault(stay.hours, f"for {len(known)}")
        for instant, to in ((stay.entered_at, status), (stay.left_at, "done")):
            rows.append(
                {
                    "created_at": instant,
                    "entity_type": "order",
                    "entity_id": number,
                    "to_status": to,
                    "business_context": {"in": name},
                }
            )
    for name, known in statuses.items():
        steps = [
            step(
                status,
                order,
                ["done", *known.values()],
                sla_hours=None if hours is None else float(hours),
            )
            for order, (hours, status) in enumerate(known.items(), start=1)
        ]
        steps.append(step("done", len(steps) + 1, []))
        calendar = None if name == "elapsed" else name
        content = workflow(
            "order", name, steps, conditions={"in": name}, calendar=calendar
        )
        apply(connection, folder, at(0), content)
    assert append_rows(connection, rows) == (len(rows), len(rows), 0, 0)


def by_table(connection: Connection) -> list[Decided]:
    """What sla.status_intervals has for the stays; whole seconds."""
    rows = connection.execute(
        "select sla_deadline, business_seconds from sla.status_intervals"
        " where status <> 'done' order by entity_id"
    ).fetchall()
    return [Decided(*row) for row in rows]
