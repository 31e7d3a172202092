"""One batch in one transaction: appended + duplicate + rejected (S20).

Which batches make a file belongs in delivery.py.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import NamedTuple

import polars as pl
import psycopg

from ingest.errors import SourceError
from ingest.files.chunks import FrameOrigins, Origins
from ingest.frame_text import as_text
from ingest.kinds import CODES, TRANSITIONS, Kind, column_of
from ingest.store.database import Connection, server_clock
from ingest.transition import COLUMNS, NO_KEYS, REQUIRED, Reject
from ingest.validation import validate

# A row from further ahead would stay the current status until then.
MAX_FUTURE = timedelta(minutes=5)
# Some 2 MB: two writers and a reader hand Python's lock on less often than for 200 kB.
SLICE_ROWS = 10_000


class AppendResult(NamedTuple):
    """Counts of rows of a kind; read == appended + duplicate + rejected."""

    read: int
    appended: int
    duplicate: int
    rejected: int

    @property
    def in_words(self) -> str:
        """The counts, and that they add up."""
        return (
            f"read {self.read:,} = {self.appended:,} appended + "
            f"{self.duplicate:,} duplicate + {self.rejected:,} rejected"
        )

    def __add__(self, other: object) -> "AppendResult":
        """Count by count."""
        if not isinstance(other, AppendResult):
            return NotImplemented
        return AppendResult(*(a + b for a, b in zip(self, other, strict=True)))


class Batch(NamedTuple):
    """What one transaction takes.

    good: `row_number` and the kind's columns, typed, in the order of the source;
    rejects: one a refused source row; origins: where rows came from; keys: the text
    keys behind entity ids; refused: by row number, the value that the first reject of a
    code is for, where that is one of a column; skipped_rows: of source_rows, those that
    a mapping leaves out.
    """

    good: pl.DataFrame
    rejects: Sequence[Reject]
    origins: Origins
    keys: pl.DataFrame
    source: str
    source_rows: int
    skipped_rows: int = 0
    file_id: int | None = None
    file_name: str | None = None
    file_batch: int | None = None
    refused: Mapping[int, str | None] = MappingProxyType({})
    kind: Kind = TRANSITIONS


# As the table that its rows are for; of a batch that is not there yet.
CREATE_STAGE = """
create temporary table if not exists staged_{0} (
    like raw.{0}, row_number bigint not null
);
alter table staged_{0} alter column batch_id drop not null;
truncate staged_{0};
"""

CREATE_KEY_STAGE = """
create temporary table if not exists staged_keys (
    entity_type text not null,
    entity_id bigint not null,
    namespace text not null,
    entity_key text not null
);
truncate staged_keys;
"""

# In the order of the keys, so that concurrent batches can't deadlock.
APPEND_KEYS = """
insert into raw.entity_keys (entity_type, entity_id, namespace, entity_key, batch_id)
select entity_type, entity_id, namespace, entity_key, %s
from staged_keys
order by entity_type, entity_id
on conflict do nothing
"""

COLLIDED_KEYS = """
select entity_type, entity_id
from staged_keys
join raw.entity_keys using (entity_type, entity_id)
where
    (entity_keys.namespace, entity_keys.entity_key)
    is distinct from (staged_keys.namespace, staged_keys.entity_key)
"""

APPEND_STAGED = """
insert into raw.{table} ({columns}, batch_id, batch_row)
select {columns}, %(batch_id)s, batch_row
from (
    select distinct on (id) * from staged_{table}
    where row_number <> all(%(refused)s)
    order by id, batch_row
) as firsts
order by id
on conflict (id) do nothing
"""

CONFLICTING_ROWS = """
select staged.row_number
from staged_{table} as staged
join raw.{table} as stored using (id)
where
    staged.row_number <> all(%(refused)s)
    and (stored.batch_id, stored.batch_row)
    is distinct from (%(batch_id)s, staged.batch_row)
    and ({staged}) is distinct from ({stored})
"""


class Written(NamedTuple):
    """How many rows a batch appended, and the source rows in conflict (S20)."""

    appended: int
    conflicts: list[int]


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
    judge: Callable[[int, list[Reject]], None] = lambda *_: None,
    *,
    is_new: bool = True,
) -> AppendResult:
    """Commit a validated batch with its ledger row, in one short transaction.

    Rows whose ids are all new go straight into the table, at the speed of COPY. Where
    one is there, or PostgreSQL refuses one, the batch is staged first, without a lock.

    Args:
        connection: open, outside a transaction; the batch is one transaction on it.
        batch: validated.
        judge: called before the commit with the batch's id and its rejects; what it
            raises leaves nothing of the batch. After psycopg.Rollback the counts are
            returned all the same.
        is_new: whether the ids are likely to be new; decides the speed, not the result.

    Raises:
        psycopg.errors.UniqueViolation: this batch of this file was committed by another
            process meanwhile. Nothing is written.
    """
    if is_new and (result := append_new(connection, batch, judge)) is not None:
        return result
    rows = _in_order(batch)
    refused = _stage(connection, rows, batch.kind)
    rejects = [*batch.rejects, *_rejects("row_is_storable", refused, batch)]
    rows = rows.filter(~pl.col("row_number").is_in(refused))
    batch = batch._replace(rejects=rejects)
    return _commit(connection, batch, rows, judge, _insert_staged)


def append_new(
    connection: Connection,
    batch: Batch,
    judge: Callable[[int, list[Reject]], None] = lambda *_: None,
) -> AppendResult | None:
    """As `append_batch`, straight into the table; None where that can't be.

    Then an id is there already, or PostgreSQL refuses a row, and nothing is written.
    """
    rows = _in_order(batch)
    if not rows["id"].is_unique().all():
        return None
    try:
        return _commit(connection, batch, rows, judge, _copy_new)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if error.diag.table_name == "batches":
            raise
        return None


def _in_order(batch: Batch) -> pl.DataFrame:
    """Rows in the order of their ids, so that concurrent batches can't deadlock."""
    return batch.good.with_row_index("batch_row", offset=1).sort("id")


def _commit(
    connection: Connection,
    batch: Batch,
    rows: pl.DataFrame,
    judge: Callable[[int, list[Reject]], None],
    write: Callable[[Connection, pl.DataFrame, int, list[int], Kind], Written],
) -> AppendResult:
    """One transaction: keys, rows, ledger and rejects, or nothing of them."""
    read = rows.height + sum(r.transition_count for r in batch.rejects)
    with connection.transaction():
        batch_id = _next_batch_id(connection)
        collided = _append_keys(connection, batch, rows, batch_id)
        appended, conflicts = write(connection, rows, batch_id, collided, batch.kind)
        rejects = [
            *batch.rejects,
            *_rejects("entity_key_is_distinct", collided, batch),
            *_rejects("id_conflict", conflicts, batch),
        ]
        rejected = sum(r.transition_count for r in rejects)
        result = AppendResult(read, appended, read - appended - rejected, rejected)
        judge(batch_id, rejects)
        _write_ledger(connection, batch_id, batch, result)
        _write_rejects(connection, batch_id, batch, rejects)
    return result


def known_types(connection: Connection) -> list[str]:
    """The entity types of this deployment, in their order."""
    rows = connection.execute(
        "select entity_type from raw.entity_types order by position, entity_type"
    ).fetchall()
    return [entity_type for (entity_type,) in rows]


def explain(defects: pl.DataFrame, origins: Origins) -> list[Reject]:
    """The rejects of a chunk: its defects, as of Validated, with their bytes."""
    found = origins.of(defects["row_number"].to_list())
    joined = pl.concat([defects, found.drop("row_number")], how="horizontal")
    return [
        Reject(
            row["row_number"],
            row["line_number"],
            row["byte_offset"],
            row["transition_count"],
            row["code"],
            column_of(row["code"]),
            CODES[row["code"]],
            row["original"],
        )
        for row in joined.iter_rows(named=True)
    ]


def _rejects(code: str, row_numbers: list[int], batch: Batch) -> list[Reject]:
    """Rejects that the database decided; one a source row, with all it stood for."""
    refused = batch.good.filter(pl.col("row_number").is_in(row_numbers))
    defects = refused.group_by("row_number", maintain_order=True).agg(
        code=pl.lit(code), transition_count=pl.len()
    )
    return explain(defects, batch.origins)


def _copy_new(
    connection: Connection,
    rows: pl.DataFrame,
    batch_id: int,
    refused: list[int],
    kind: Kind,
) -> Written:
    """COPY rows whose ids are new straight into the table."""
    rows = rows.filter(~pl.col("row_number").is_in(refused)).select(
        *kind.columns, pl.lit(batch_id).alias("batch_id"), "batch_row"
    )
    _copy(connection, f"raw.{kind.table}", rows)
    return Written(rows.height, [])


def _insert_staged(
    connection: Connection,
    rows: pl.DataFrame,
    batch_id: int,
    refused: list[int],
    kind: Kind,
) -> Written:
    """Insert the staged rows that are not there; find those that conflict."""
    values = {"batch_id": batch_id, "refused": refused}
    names = {
        "table": kind.table,
        "columns": ", ".join(kind.columns),
        "staged": _content("staged", kind),
        "stored": _content("stored", kind),
    }
    appended = connection.execute(APPEND_STAGED.format(**names), values).rowcount
    if appended == rows.filter(~pl.col("row_number").is_in(refused)).height:
        return Written(appended, [])
    found = connection.execute(CONFLICTING_ROWS.format(**names), values).fetchall()
    return Written(appended, [number for (number,) in found])


def _content(row: str, kind: Kind) -> str:
    """All of a row but its id, to be compared."""
    # As text: jsonb takes 1.0 and 1.00 for equal, the law does not (S20).
    return ", ".join(
        f"{row}.{c}::text" if c in kind.json_columns else f"{row}.{c}"
        for c in kind.columns[1:]
    )


def _stage(connection: Connection, rows: pl.DataFrame, kind: Kind) -> list[int]:
    """Stage rows; returns the row numbers of those that PostgreSQL refuses."""
    connection.execute(CREATE_STAGE.format(kind.table))
    stage = f"staged_{kind.table}"
    refused = _copy_by_halves(connection, rows, stage)
    if refused:
        # The transitions of one source row stand or fall together (S20).
        connection.execute(f"delete from {stage} where row_number = any(%s)", [refused])
    return refused


def _copy_by_halves(
    connection: Connection, rows: pl.DataFrame, stage: str
) -> list[int]:
    """COPY rows into the stage; those PostgreSQL refuses are found by halving.

    Returns:
        Their row numbers.

    Raises:
        psycopg.Error: of any class but 22 (data) and 23 (integrity).
    """
    try:
        _copy(connection, stage, rows)
    except (psycopg.DataError, psycopg.IntegrityError):
        if rows.height == 1:
            return rows["row_number"].to_list()
        half = rows.height // 2
        halves = (rows[:half], rows[half:])
        return [
            number
            for part in halves
            for number in _copy_by_halves(connection, part, stage)
        ]
    return []


def _copy(connection: Connection, table: str, rows: pl.DataFrame) -> None:
    columns = ", ".join(rows.columns)
    with connection.cursor().copy(
        f"copy {table} ({columns}) from stdin (format csv, encoding 'UTF8')"
    ) as copy:
        # In slices: the server reads one while the next is written.
        for part in rows.iter_slices(SLICE_ROWS):
            copy.write(_csv(part))


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


def _append_keys(
    connection: Connection, batch: Batch, rows: pl.DataFrame, batch_id: int
) -> list[int]:
    """Append the keys of the rows; returns the rows whose id has another key."""
    entity = ["entity_type", "entity_id"]
    keys = batch.keys.join(rows, on=entity, how="semi")
    if keys.is_empty():
        return []
    connection.execute(CREATE_KEY_STAGE)
    _copy(connection, "staged_keys", keys)
    connection.execute(APPEND_KEYS, [batch_id])
    found = connection.execute(COLLIDED_KEYS).fetchall()
    collided = pl.DataFrame(found, rows.select(entity).schema, orient="row")
    return rows.join(collided, on=entity, how="semi")["row_number"].unique().to_list()


def _write_ledger(
    connection: Connection, batch_id: int, batch: Batch, result: AppendResult
) -> None:
    connection.execute(
        """
        insert into raw.batches (
            batch_id, kind, source, file_id, file_batch, source_row_count,
            skipped_row_count, read_count, appended_count, duplicate_count,
            rejected_count
        )
        overriding system value
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [
            batch_id,
            batch.kind.name,
            batch.source,
            batch.file_id,
            batch.file_batch,
            batch.source_rows,
            batch.skipped_rows,
            *result,
        ],
    )


def _write_rejects(
    connection: Connection, batch_id: int, batch: Batch, rejects: list[Reject]
) -> None:
    if not rejects:
        return
    with connection.cursor().copy(
        """
        copy raw.rejected_transitions (
            batch_id, file_id, file_name, row_number, line_number,
            byte_offset, transition_count, code, column_name, message, original
        )
        from stdin
        """
    ) as copy:
        for reject in rejects:
            copy.write_row((batch_id, batch.file_id, batch.file_name, *reject))
