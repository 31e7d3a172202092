"""Status changes as they are committed, from a position on, each once.

What a position is belongs in position.py; how a change is printed, with the command.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import args_row

from ingest.errors import StatusEngineError
from ingest.position import Numbers, Position
from ingest.store.database import Connection

# What a writer says after its commit, where status_engine.notify is on; see
# functions/tell_watchers.sql.
CHANNEL = "status_engine_batches"
MOST_BATCHES = 1_000
MOST_ROWS = 10_000

# One statement is one snapshot: what is in no cut, and the newest cut beside it.
NOW = """
select
    coalesce((select max(cut) from raw.cuts), 0),
    array(select batch_id from raw.batches where cut is null order by batch_id)
"""
# Of the next cut, which nothing joins any more, or of none where that is the newest.
# A gap a time, in the order of an index that hands over the first at once: of equal
# cuts and the order of batches, the planner would read all batches by their number.
UNSEEN = """
with following as (select min(cut) as cut from raw.cuts where cut > %(cut)s)

select following.cut, found.batch_id, found.appended_count
from following
left join lateral (
    select unseen.batch_id, unseen.appended_count
    from unnest(%(afters)s::bigint[], %(befores)s::bigint[]) as gap (after, before)
    cross join lateral (
        (
            select batch_id, appended_count
            from raw.batches
            where
                (cut, batch_id) > (following.cut, gap.after)
                and (cut, batch_id) < (following.cut, gap.before)
            order by cut, batch_id
            limit %(most)s
        )
        union all
        (
            select batch_id, appended_count
            from raw.batches
            where
                following.cut is null and cut is null
                and batch_id > gap.after and batch_id < gap.before
            order by batch_id
            limit %(most)s
        )
    ) as unseen
    order by unseen.batch_id
    limit %(most)s
) as found on true
order by found.batch_id
"""
# Of what was seen, what the cut does not hold.
BEYOND = """
select batch_id
from unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) as seen (first, last)
join raw.batches on batch_id >= seen.first and batch_id <= seen.last
where cut is null or cut > %(cut)s
order by batch_id
"""
# Null is after all numbers (S2).
ROWS = """
select
    t.id,
    t.created_at,
    batches.recorded_at,
    t.entity_type,
    t.entity_id,
    keys.entity_key,
    before.to_status as from_status,
    t.to_status,
    t.triggered_by_user_id,
    t.triggered_by_system,
    t.transition_reason,
    t.batch_id,
    t.batch_row,
    batches.cut
from (
    select *
    from raw.status_transitions
    where
        batch_id = any(%(batches)s)
        and (batch_id, batch_row) > (%(batch)s, %(row)s)
        and (%(entity_type)s::text is null or entity_type = %(entity_type)s)
    order by batch_id, batch_row
    limit %(most)s
) as t
join raw.batches on t.batch_id = batches.batch_id
left join raw.entity_keys as keys
    on t.entity_type = keys.entity_type and t.entity_id = keys.entity_id
left join lateral (
    select p.to_status
    from raw.status_transitions as p
    where
        p.entity_type = t.entity_type
        and p.entity_id = t.entity_id
        and p.created_at <= t.created_at
        and (
            p.created_at, coalesce(p.source_order, 9223372036854775807),
            p.batch_id, p.batch_row
        ) < (
            t.created_at, coalesce(t.source_order, 9223372036854775807),
            t.batch_id, t.batch_row
        )
    order by
        p.created_at desc, p.source_order desc, p.batch_id desc, p.batch_row desc
    limit 1
) as before on true
order by t.batch_id, t.batch_row
"""


class Change(NamedTuple):
    """A transition, the status its entity was in before it (S2), and where it is.

    from_status: by what is committed when it is read, null for a first transition; a
    row that comes in late between two changes nothing that was said. cut: null while it
    is in none. position: what follows is read from there. Instants in UTC.
    """

    id: UUID
    created_at: datetime
    recorded_at: datetime
    entity_type: str
    entity_id: int
    entity_key: str | None
    from_status: str | None
    to_status: str
    triggered_by_user_id: UUID | None
    triggered_by_system: str | None
    transition_reason: str | None
    batch_id: int
    batch_row: int
    cut: int | None
    position: str


class Wanted(NamedTuple):
    """Which transitions: of one entity type, or all; those that change nothing, too."""

    entity_type: str | None = None
    unchanged: bool = False


CHANGES = Wanted()


def now(connection: Connection) -> Position:
    """The position behind everything that is committed."""
    row = connection.execute(NOW).fetchone()
    assert row is not None
    return Position(row[0], Numbers(row[1]))


def require_known(connection: Connection, position: Position) -> None:
    """Refuse a position of another database.

    Raises:
        StatusEngineError: no cut has its number yet.
    """
    newest = now(connection).cut
    if position.cut > newest:
        msg = (
            f"The position is after cut {position.cut}, and the newest cut here is "
            f"{newest}: it is of another database. Leave --after out, or take 0."
        )
        raise StatusEngineError(msg)


def watch(
    connection: Connection,
    position: Position,
    wanted: Wanted = CHANGES,
    interval: float = 1.0,
) -> Iterator[Change]:
    """Changes for ever, asking again after `interval` seconds, or when notified.

    Args:
        connection: open, in autocommit, outside a transaction.
        position: moves along.
        wanted: which.
        interval: between two questions without an answer.
    """
    # A server in recovery takes no LISTEN; it is asked all the same.
    with suppress(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute(f"listen {CHANNEL}")
    while True:
        yield from committed(connection, position, wanted)
        for _ in connection.notifies(timeout=interval, stop_after=1):
            pass


def committed(
    connection: Connection, position: Position, wanted: Wanted = CHANGES
) -> Iterator[Change]:
    """Changes that are committed and not seen, batch by batch, to the last.

    No statement is open while the caller has a change. Each is read after its commit
    and by membership: a cut holds what no earlier one does, and once a cut is there
    nothing joins it, so all of it being seen, its number stands for its batches. What
    is in none is told by its number, and the position keeps those.

    Args:
        connection: open, in autocommit, outside a transaction.
        position: moves along, before each change is yielded.
        wanted: which.
    """
    if position.begun is not None:
        yield from _changes(connection, position, [position.begun[0]], wanted)
    while True:
        cut, batches = _unseen(connection, position)
        for group in _groups(batches):
            yield from _changes(connection, position, group, wanted)
        if len(batches) == MOST_BATCHES:
            continue
        if cut is None:
            return
        _close(connection, position, cut)


class _Batch(NamedTuple):
    batch_id: int
    rows: int


def _unseen(
    connection: Connection, position: Position
) -> tuple[int | None, list[_Batch]]:
    """The next cut, and batches of it; or None, and batches of none."""
    gaps = position.seen.gaps()
    found = connection.execute(
        UNSEEN,
        {
            "cut": position.cut,
            "afters": [gap.after for gap in gaps],
            "befores": [gap.before for gap in gaps],
            "most": MOST_BATCHES,
        },
    ).fetchall()
    batches = [_Batch(*rest) for _, *rest in found if rest[0] is not None]
    return found[0][0], batches


def _groups(batches: Sequence[_Batch]) -> Iterator[list[int]]:
    """Batches that are read at once: of some MOST_ROWS, or a single one."""
    group: list[int] = []
    rows = 0
    for batch in batches:
        if group and rows + batch.rows > MOST_ROWS:
            yield group
            group, rows = [], 0
        group.append(batch.batch_id)
        rows += batch.rows
    if group:
        yield group


def _changes(
    connection: Connection, position: Position, batches: list[int], wanted: Wanted
) -> Iterator[Change]:
    """Those of some batches, in their order; the position is behind all of them."""
    done = iter(batches)
    current = next(done)
    last = position.begun or (-1, -1)
    cursor = connection.cursor(row_factory=args_row(_row))
    while True:
        values = {
            "batches": batches,
            "batch": last[0],
            "row": last[1],
            "entity_type": wanted.entity_type,
            "most": MOST_ROWS,
        }
        rows = cursor.execute(ROWS, values).fetchall()
        for change in rows:
            last = change.batch_id, change.batch_row
            if not wanted.unchanged and change.from_status == change.to_status:
                continue
            while current != change.batch_id:
                position.complete(current)
                current = next(done)
            position.begun = last
            yield change._replace(position=str(position))
        if len(rows) < MOST_ROWS:
            break
    for batch_id in (current, *done):
        position.complete(batch_id)


def _row(*values: Any) -> Change:
    """Of a row; instants in UTC, whatever the session's zone."""
    in_utc = (v.astimezone(UTC) if isinstance(v, datetime) else v for v in values)
    return Change._make((*in_utc, ""))


def _close(connection: Connection, position: Position, cut: int) -> None:
    """All of the next cut is seen: its number stands for its batches."""
    ranges = list(position.seen.ranges())
    found = connection.execute(
        BEYOND,
        {
            "firsts": [first for first, _ in ranges],
            "lasts": [last for _, last in ranges],
            "cut": cut,
        },
    ).fetchall()
    position.cut = cut
    position.seen = Numbers(batch_id for (batch_id,) in found)
