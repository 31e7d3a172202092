"""What rules of workflows move on now, read from the views, told, and appended.

Whether a rule holds the views say; a move is judged and written by ingest.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from dagster_project.swap import no_swap
from ingest.automation import Move, Moved, append_moves
from ingest.store.database import Connection

Row = dict[str, Any]
# Moves that one run makes at most: what a mistaken rule does before somebody looks.
LIMIT = 1_000
# Of each kind the first to hold; how many there are is told with each.
PROPOSALS = """
select * from (
    select
        found.*,
        row_number() over (
            partition by obstacle order by holds_from, entity_type, entity_id
        ) as place,
        count(*) over (partition by obstacle) as of_its_kind
    from sla.automatic_transitions as found
) as placed
where place <= %s
order by holds_from, entity_type, entity_id
"""
UNSOUND = """
select format('%s/%s, step %s', entity_type, workflow_name, status)
from sla.automatic_rules
where not is_sound
order by 1
"""


class Outlook(NamedTuple):
    """What rules move on by the clock.

    due: rows of sla.automatic_transitions to be appended, as many as the limit.
    due_count: how many there are.
    proposed: rows that are proposed only, as many of each obstacle; obstacles: counts.
    unsound: steps whose conditions are no rules.
    """

    due: list[Row]
    due_count: int
    proposed: list[Row]
    obstacles: Counter[str]
    unsound: list[str]

    @property
    def is_limited(self) -> bool:
        """Whether more are due than the limit lets through."""
        return self.due_count > len(self.due)


def outlook(
    connection: Connection, limit: int = LIMIT, as_of: datetime | None = None
) -> Outlook:
    """What would be moved now: one short query where no workflow has rules.

    Args:
        connection: open, outside a transaction.
        limit: rows of each kind.
        as_of: the instant that is now (S15); the database's clock by default, also
            where the session has another.

    Raises:
        StatusEngineError: the views are those of another release.
    """
    clock = as_of.isoformat() if as_of else ""
    with no_swap(connection):
        connection.execute(
            "select set_config('status_engine.as_of', %s, true)", [clock]
        )
        unsound = [name for (name,) in connection.execute(UNSOUND)]
        has_rules = "select exists (select from sla.automatic_rules where is_sound)"
        if connection.execute(has_rules).fetchone() != (True,):
            return Outlook([], 0, [], Counter(), unsound)
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(PROPOSALS, [limit]).fetchall()
    counts = Counter({row["obstacle"]: row["of_its_kind"] for row in rows})
    due_count = counts.pop(None, 0)
    for row in rows:
        del row["place"], row["of_its_kind"]
    return Outlook(
        [row for row in rows if row["obstacle"] is None],
        due_count,
        [row for row in rows if row["obstacle"] is not None],
        counts,
        unsound,
    )


def make_moves(connection: Connection, found: Outlook) -> Moved:
    """Append what is due; each move is a transaction of its own."""
    return append_moves(connection, map(_move, found.due))


def narrate(found: Outlook, moved: Moved | None = None) -> Iterator[str]:
    """What rules move, what they only propose and what obeys none, in words.

    moved: what came of what is due; None where nothing was tried.
    """
    for name in found.unsound:
        yield f"Warning: {name} has conditions that are no rules: they are ignored."
    said = f"{found.due_count:,} to be moved by rules"
    if moved is not None:
        said = f"{moved.appended:,} of {found.due_count:,} moved by rules"
        if moved.refused:
            said += f", refused: {_counts(moved.refused)}"
    if found.obstacles:
        said += f", proposed only: {_counts(found.obstacles)}"
    if moved is None or found.due_count or found.obstacles:
        yield said
    if found.is_limited:
        yield (
            f"Warning: the limit of {len(found.due):,} is reached; "
            f"{found.due_count - len(found.due):,} wait for the next run."
        )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def reason_of(row: Row) -> str:
    """The rule of a row of sla.automatic_transitions, and what held, in words."""
    rule = f"rule {row['rule_number']} of {row['current_status']!r}"
    return f"{rule} in workflow {row['workflow_name']!r}: {', '.join(_held(row))}"


def _held(row: Row) -> Iterator[str]:
    if row["after_hours"] is not None:
        hours = f"{row['after_hours'].normalize():f}"
        yield f"{hours} h of {row['clock']} time were up"
    if row["when_context"] is not None:
        yield f"its context holds {json.dumps(row['when_context'], ensure_ascii=False)}"
    if (children := row["when_children"]) is not None:
        yield (
            f"{row['reached_count']} of {row['child_count']} {children['entity_type']} "
            f"reached {_either(children.get('all') or children['any'])}"
        )
    if (parent := row["when_parent"]) is not None:
        yield (
            f"{parent['entity_type']} {row['parent_name']} reached "
            f"{_either(parent['reached'])}"
        )


def _either(statuses: Sequence[str]) -> str:
    return " or ".join(map(repr, statuses))


def _move(row: Row) -> Move:
    return Move(
        row["entity_type"],
        row["entity_id"],
        row["current_status"],
        row["visit"],
        row["last_transition_id"],
        row["to_status"],
        reason_of(row),
        {"rule": _seen(row)},
    )


# Of a row, what is kept with its transition: the rule, its version, what held.
KEPT = (
    "workflow_id",
    "workflow_name",
    "rule_number",
    "status_since",
    "visit",
    "holds_from",
    "after_hours",
    "clock",
    "when_context",
    "when_children",
    "child_count",
    "reached_count",
    "when_parent",
    "parent_name",
)


def _seen(row: Row) -> Row:
    return {name: _plain(row[name]) for name in KEPT if row[name] is not None}


def _plain(value: Any) -> Any:
    """As JSON has it: instants in UTC, hours as a text with their digits."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return str(value) if isinstance(value, UUID) else value
