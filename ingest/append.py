"""One batch in one transaction: appended + duplicate + rejected (S20).

Which batches make a file belongs in delivery.py.
"""

import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl
import psycopg

from ingest.chunks import FrameOrigins, Origins
from ingest.database import Connection
from ingest.errors import SourceError
from ingest.transition import (
    CODES,
    COLUMNS,
    NO_KEYS,
    REQUIRED,
    Reject,
    as_text,
    column_of,
    validate,
)

# A row from further ahead would stay the current status until then.
MAX_FUTURE = timedelta(minutes=5)


class AppendResult(NamedTuple):
    """Counts of transitions; read == appended + duplicate + rejected."""

    read: int
    appended: int
    duplicate: int
    rejected: int

    def __add__(self, other: object) -> "AppendResult":
        """Count by count."""
        if not isinstance(other, AppendResult):
            return NotImplemented
        return AppendResult(*(a + b for a, b in zip(self, other, strict=True)))


class Batch(NamedTuple):
    """What one transaction takes.

    good: `row_number` and COLUMNS, typed, in the order of the source; defects: one row
    a refused source row (row_number, code, transition_count); origins: where rows came
    from; keys: the text keys behind entity ids.
    """

    good: pl.DataFrame
    rejects: Sequence[Reject]
    origins: Origins
    keys: pl.DataFrame
    source: str
    source_rows: int
    file_id: int | None = None
    file_name: str | None = None
    file_batch: int | None = None


CREATE_STAGE = """
create temporary table if not exists staged_transitions (
    batch_row integer not null,
    row_number bigint not null,
    id uuid not null,
    created_at timestamptz not null,
    entity_type text not null,
    entity_id bigint not null,
    from_status text,
    to_status text not null,
    transition_reason text,
    business_context jsonb,
    triggered_by_user_id uuid,
    triggered_by_system text,
    sla_deadline timestamptz,
    is_milestone boolean,
    metadata jsonb
);
create temporary table if not exists staged_keys (
    entity_type text not null,
    entity_id bigint not null,
    namespace text not null,
    entity_key text not null
);
truncate staged_transitions, staged_keys;
"""

# In the order of the keys, so that concurrent batches can't deadlock.
APPEND_KEYS = """
insert into raw.entity_keys (entity_type, entity_id, namespace, entity_key, batch_id)
select entity_type, entity_id, namespace, entity_key, %(batch_id)s
from staged_keys
where exists (
    select 1 from staged_transitions
    where
        staged_transitions.entity_type = staged_keys.entity_type
        and staged_transitions.entity_id = staged_keys.entity_id
)
order by entity_type, entity_id
on conflict do nothing
"""

COLLIDED_KEYS = """
select distinct staged_transitions.row_number
from staged_keys
join raw.entity_keys using (entity_type, entity_id)
join staged_transitions using (entity_type, entity_id)
where
    (entity_keys.namespace, entity_keys.entity_key)
    is distinct from (staged_keys.namespace, staged_keys.entity_key)
"""

_LIST = ", ".join(COLUMNS)
# Compared as text: jsonb takes 1.0 and 1.00 for equal, the law does not (S20).
_CONTENT = ", ".join(
    f"{{0}}.{c}::text" if c in ("business_context", "metadata") else f"{{0}}.{c}"
    for c in COLUMNS[1:]
)

APPEND_TRANSITIONS = f"""
insert into raw.status_transitions ({_LIST}, batch_id, batch_row)
select {_LIST}, %(batch_id)s, batch_row
from (
    select distinct on (id) * from staged_transitions order by id, batch_row
) as firsts
order by id
on conflict (id) do nothing
"""

CONFLICTING_ROWS = f"""
select staged.row_number
from staged_transitions as staged
join raw.status_transitions as stored using (id)
where
    (stored.batch_id, stored.batch_row)
    is distinct from (%(batch_id)s, staged.batch_row)
    and ({_CONTENT.format("staged")}) is distinct from ({_CONTENT.format("stored")})
"""


def append(
    connection: Connection,
    transitions: pl.DataFrame,
    *,
    source: str = "library",
    max_future: timedelta = MAX_FUTURE,
) -> AppendResult:
    """Append one batch of transitions; safe to call twice with the same rows.

    Args:
        connection: open, outside a transaction; the batch is one transaction on it.
        transitions: n rows with columns of Transition, those that may be null left out
            at will; instants with a zone, text, whole numbers, booleans, JSON as text.
        source: the producer's name, kept in the ledger.
        max_future: how far created_at may be ahead of the server's clock.

    Returns:
        Counts of rows; read == appended + duplicate + rejected == n.

    Raises:
        SourceError: a column is missing or unknown. Nothing is written.
    """
    unknown = [c for c in transitions.columns if c not in COLUMNS]
    missing = set(REQUIRED).difference(transitions.columns)
    if unknown or missing:
        msg = (
            f"The frame lacks {sorted(missing)} or has unknown {unknown}; see COLUMNS."
        )
        raise SourceError(msg)
    texts = as_text(transitions).with_columns(
        *(
            pl.lit(None, pl.String).alias(c)
            for c in COLUMNS
            if c not in transitions.columns
        ),
        row_number=pl.int_range(1, transitions.height + 1, dtype=pl.Int64),
    )
    origins = FrameOrigins(texts.select(transitions.columns), 1)
    valid = validate(
        texts.select("row_number", *COLUMNS),
        entity_types=known_types(connection),
        latest=server_clock(connection) + max_future,
    )
    rejects = explain(valid.defects, origins)
    batch = Batch(valid.good, rejects, origins, NO_KEYS, source, transitions.height)
    return append_batch(connection, batch)


def append_batch(
    connection: Connection,
    batch: Batch,
    judge: Callable[[int], None] = lambda _: None,
) -> AppendResult:
    """Stage a validated batch without a lock, then commit it with its ledger row.

    Args:
        connection: open, outside a transaction; the batch is one transaction on it.
        batch: validated.
        judge: called before the commit with the number of rejected source rows; what it
            raises leaves nothing of the batch.

    Raises:
        psycopg.errors.UniqueViolation: this batch of this file was committed by another
            process meanwhile. Nothing is written.
    """
    rows = batch.good.with_row_index("batch_row", offset=1)
    rejects = [*batch.rejects, *_stage(connection, rows, batch)]
    read = batch.good.height + sum(r.transition_count for r in batch.rejects)
    with connection.transaction():
        batch_id = _next_batch_id(connection)
        rejects += _append_keys(connection, batch, batch_id)
        appended = connection.execute(
            APPEND_TRANSITIONS, {"batch_id": batch_id}
        ).rowcount
        conflicts = connection.execute(
            CONFLICTING_ROWS, {"batch_id": batch_id}
        ).fetchall()
        rejects += _rejects("id_conflict", [n for (n,) in conflicts], batch)
        judge(len(rejects))
        rejected = sum(r.transition_count for r in rejects)
        result = AppendResult(read, appended, read - appended - rejected, rejected)
        _write_ledger(connection, batch_id, batch, result)
        _write_rejects(connection, batch_id, batch, rejects)
    return result


def server_clock(connection: Connection) -> datetime:
    """The instant at which a batch is recorded, by the server."""
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    clock: datetime = row[0]
    return clock


def known_types(connection: Connection) -> list[str]:
    """The entity types of this deployment."""
    rows = connection.execute("select entity_type from raw.entity_types").fetchall()
    return [entity_type for (entity_type,) in rows]


def explain(defects: pl.DataFrame, origins: Origins) -> list[Reject]:
    """The rejects of a chunk: its defects, as of Validated, with their bytes."""
    found = origins.of(defects["row_number"].to_list())
    joined = pl.concat([defects, found.drop("row_number")], how="horizontal")
    return [
        Reject(
            row["row_number"],
            row["line_number"],
            row["transition_count"],
            row["code"],
            column_of(row["code"]),
            CODES[row["code"]],
            row["original"],
        )
        for row in joined.iter_rows(named=True)
    ]


def _rejects(code: str, row_numbers: list[int], batch: Batch) -> list[Reject]:
    """Rejects that the database decided; one a source row."""
    counts = pl.DataFrame({"row_number": row_numbers}, schema={"row_number": pl.Int64})
    defects = counts.group_by("row_number", maintain_order=True).agg(
        code=pl.lit(code), transition_count=pl.len()
    )
    return explain(defects, batch.origins)


def _stage(connection: Connection, rows: pl.DataFrame, batch: Batch) -> list[Reject]:
    connection.execute(CREATE_STAGE)
    refused = _copy(connection, rows)
    if refused:
        # The transitions of one source row stand or fall together (S20).
        connection.execute(
            "delete from staged_transitions where row_number = any(%s)", [refused]
        )
    numbers = rows.filter(pl.col("row_number").is_in(refused))["row_number"].to_list()
    return _rejects("row_is_storable", numbers, batch)


def _copy(connection: Connection, rows: pl.DataFrame) -> list[int]:
    """COPY rows into the stage; those PostgreSQL refuses are found by halving.

    Returns:
        Their row numbers.

    Raises:
        psycopg.Error: of any class but 22 (data) and 23 (integrity).
    """
    columns = ", ".join(rows.columns)
    try:
        with connection.cursor().copy(
            f"copy staged_transitions ({columns}) from stdin (format csv)"
        ) as copy:
            copy.write(_csv(rows))
    except (psycopg.DataError, psycopg.IntegrityError):
        if rows.height == 1:
            return rows["row_number"].to_list()
        half = rows.height // 2
        return _copy(connection, rows[:half]) + _copy(connection, rows[half:])
    return []


def _csv(rows: pl.DataFrame) -> bytes:
    """CSV as COPY reads it: null bare, the empty text quoted."""
    buffer = io.BytesIO()
    rows.write_csv(
        buffer,
        include_header=False,
        quote_style="necessary",
        datetime_format="%Y-%m-%dT%H:%M:%S%.6f+00:00",
    )
    return buffer.getvalue()


def _next_batch_id(connection: Connection) -> int:
    row = connection.execute(
        "select nextval(pg_get_serial_sequence('raw.batches', 'batch_id'))"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _append_keys(connection: Connection, batch: Batch, batch_id: int) -> list[Reject]:
    if batch.keys.is_empty():
        return []
    with connection.cursor().copy("copy staged_keys from stdin (format csv)") as copy:
        copy.write(_csv(batch.keys))
    connection.execute(APPEND_KEYS, {"batch_id": batch_id})
    rows = [n for (n,) in connection.execute(COLLIDED_KEYS).fetchall()]
    if not rows:
        return []
    connection.execute(
        "delete from staged_transitions where row_number = any(%s)", [rows]
    )
    refused = batch.good.filter(pl.col("row_number").is_in(rows))[
        "row_number"
    ].to_list()
    return _rejects("entity_key_is_distinct", refused, batch)


def _write_ledger(
    connection: Connection, batch_id: int, batch: Batch, result: AppendResult
) -> None:
    connection.execute(
        """
        insert into raw.batches (
            batch_id, kind, source, file_id, file_batch, source_row_count,
            read_count, appended_count, duplicate_count, rejected_count
        )
        overriding system value
        values (%s, 'transitions', %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [
            batch_id,
            batch.source,
            batch.file_id,
            batch.file_batch,
            batch.source_rows,
            *result,
        ],
    )


def _write_rejects(
    connection: Connection, batch_id: int, batch: Batch, rejects: list[Reject]
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into raw.rejected_transitions (
                batch_id, file_id, file_name, row_number, line_number,
                transition_count, code, column_name, message, original
            )
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            [(batch_id, batch.file_id, batch.file_name, *reject) for reject in rejects],
        )
