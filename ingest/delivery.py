"""A file as a sequence of batches, known by its content, mapping, source and zone.

A second delivery and a restart after a crash are no-ops for what is there (S5, S20).
"""

import hashlib
import json
import time
from collections import Counter, abc, deque
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import chain, starmap
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import polars as pl
import psycopg

from ingest.append import (
    MAX_FUTURE,
    AppendResult,
    Batch,
    append_batch,
    append_new,
    explain,
    known_types,
)
from ingest.breaker import (
    MAX_REJECTED_RATIO,
    Breaker,
    BrokenOffError,
    Refusal,
    cut,
    refusals_of,
)
from ingest.configuration.in_force import types_without_workflow
from ingest.errors import SourceError
from ingest.files.chunks import Chunk
from ingest.files.content import Content
from ingest.files.encodings import check_encoding
from ingest.files.layout import Layout
from ingest.files.mapping import Mapped, Mapping
from ingest.files.sources import read
from ingest.instants import LocalTimes, check_zone
from ingest.kinds import CODES, TRANSITIONS, Kind, column_of
from ingest.names import readable_path
from ingest.store.database import Connection, another, server_clock
from ingest.transition import NO_KEYS, Reject
from ingest.validation import validate

NOTHING = AppendResult(0, 0, 0, 0)
NO_MAPPING = hashlib.sha256(b"").hexdigest()


# Hashes of content and mapping, the source's name, the zone.
Identity = tuple[str, str, str, str]


COMMITTED_REFUSALS = """
select
    file_batch,
    code,
    row_count,
    line_number,
    row_number,
    original
from (
    select distinct on (file_batch, code)
        file_batch,
        code,
        count(*) over (partition by file_batch, code) as row_count,
        line_number,
        row_number,
        original
    from raw.batches
    join raw.rejected_transitions using (batch_id)
    where batches.file_id = %s
    order by file_batch, code, row_number
) as firsts
order by file_batch, row_number
"""


class DeliveryResult(NamedTuple):
    """What became of one file; `result` counts rows of its kind, the others its own.

    skipped_rows: of source_rows, those that the mapping leaves out. equal: of the
    duplicates of a source's first file, those that equal another of its transitions in
    all that is kept, and came without an id; they may be events of their own.
    ignored_deadlines: of the transitions that were read now and not rejected, by entity
    type, those that carry a deadline although no workflow can bind their type (S8).
    """

    file_name: str
    source_rows: int
    result: AppendResult
    is_repeated: bool
    skipped_rows: int = 0
    equal: int = 0
    ignored_deadlines: abc.Mapping[str, int] = MappingProxyType({})


class Settings(NamedTuple):
    """How a file is read: its mapping, the source's name, the zone of local times.

    max_future: how far created_at may be ahead of the server's clock.
    max_rejected_ratio: of all rows read so far, judged before each commit once
    BREAKER_ROWS were read; above it nothing more of the file is written.
    encoding: of a text file, UTF-8 by default. accept_unended: whether a last line
    without a line end is whole; it may as well be what a cut left of it.
    """

    mapping: Mapping | None = None
    source: str | None = None
    timezone: str | None = None
    max_future: timedelta = MAX_FUTURE
    max_rejected_ratio: float = MAX_REJECTED_RATIO
    encoding: str | None = None
    accept_unended: bool = False

    @property
    def layout(self) -> Layout:
        """What a reader looks for.

        Raises:
            SourceError: there is no such encoding.
        """
        layout = self.mapping.layout if self.mapping else Layout()
        encoding = check_encoding(self.encoding) if self.encoding else layout.encoding
        is_accepted = self.accept_unended or layout.accepts_unended
        return layout._replace(encoding=encoding, accepts_unended=is_accepted)

    @property
    def kind(self) -> Kind:
        """What its rows are."""
        return self.mapping.kind if self.mapping else TRANSITIONS

    @property
    def sha256(self) -> str:
        """Of the mapping, and of what else decides which rows a file holds."""
        digest = self.mapping.sha256 if self.mapping else NO_MAPPING
        reading = (self.layout.encoding, self.layout.accepts_unended)
        if reading == (None, False):
            return digest
        return hashlib.sha256(repr((digest, *reading)).encode()).hexdigest()

    @property
    def times(self) -> LocalTimes:
        """What local times mean, once resolved."""
        mapping = self.mapping
        if mapping is None:
            return LocalTimes(self.timezone)
        return LocalTimes(self.timezone, mapping.fold, mapping.gap)

    def resolve(self) -> "Settings":
        """The same with the mapping's own source and zone where none are given.

        Raises:
            SourceError: the zone is none.
        """
        mapping = self.mapping
        source = self.source or (mapping.source if mapping else None) or "files"
        timezone = self.timezone or (mapping.timezone if mapping else None)
        if timezone is not None:
            check_zone(timezone)
        return self._replace(source=source, timezone=timezone)


AS_IT_IS = Settings()


def deliver(
    connection: Connection,
    path: Path,
    settings: Settings = AS_IT_IS,
    progress: Callable[[int], None] = lambda _: None,
    known_as: Path | None = None,
) -> DeliveryResult:
    """Bring a file into schema raw, batch by batch; run again, it continues.

    Args:
        connection: open, outside a transaction; each batch is one transaction, on it or
            on a second one to the same database, opened for as long.
        path: a CSV, JSON Lines, Parquet or XES file, plain or gzip.
        settings: the mapping's own source and zone hold where these are not given.
        progress: called with the number of source rows done after each batch.
        known_as: what the ledger and messages call the file; its path by default.

    Raises:
        SourceError: the file can't be read, or its header is wrong. Batches committed
            before stay, and count when it is delivered again.
    """
    settings = settings.resolve()
    mapping = settings.mapping
    layout = settings.layout
    name = readable_path(known_as or path)
    with Content(path, name) as content:
        source, timezone = settings.source or "", settings.timezone or ""
        identity = (content.sha256, settings.sha256, source, timezone)
        if (earlier := _completed(connection, identity)) is not None:
            return _repeat(connection, name, *earlier)
        chunks = read(content, layout)
        first = next(chunks, None)
        file_id = _register(connection, identity, first, mapping)
        file = _File(file_id, name, settings)
        ignored: Counter[str] = Counter()
        if first is not None:
            all_chunks = chain([first], chunks)
            ignored = _deliver_chunks(connection, file, all_chunks, progress)
        delivery = _complete(connection, name, file_id, identity)
        duplicate = delivery.result.duplicate
        has_equal = (
            duplicate
            and not _has_ids(mapping, first)
            and _is_first(connection, source, file_id)
        )
        return delivery._replace(
            ignored_deadlines=ignored, equal=duplicate if has_equal else 0
        )


def _has_ids(mapping: Mapping | None, first: Chunk | None) -> bool:
    """Whether rows say themselves which event they are, as far as is known."""
    if mapping is not None:
        return mapping.tells_events
    return first is None or not first.form.header or "id" in first.form.header


def _is_first(connection: Connection, source: str, file_id: int) -> bool:
    """Whether nothing but this file has come from a source, and this just now."""
    row = connection.execute(
        """
        select not exists (
            select from raw.batches where source = %s and file_id is distinct from %s
        ) and (select count(*) = 1 from raw.deliveries where file_id = %s)
        """,
        [source, file_id, file_id],
    ).fetchone()
    return row == (True,)


class _File(NamedTuple):
    file_id: int
    path: Path
    settings: Settings


class _Prepared(NamedTuple):
    """A chunk's number, its rows, and its batch where it is not there yet."""

    number: int
    row_count: int
    batch: Batch | None


def _deliver_chunks(
    connection: Connection,
    file: _File,
    chunks: Iterator[Chunk],
    progress: Callable[[int], None],
) -> Counter[str]:
    """Commit the batches that are not there yet; stop where too much is rejected.

    Returns what DeliveryResult has as ignored_deadlines.
    """
    done = _committed(connection, file.file_id)
    types = known_types(connection)
    unbound = types_without_workflow(connection)
    ignored: Counter[str] = Counter()
    breaker = Breaker(file.path, file.settings.max_rejected_ratio, types)
    prepare = _preparer(connection, file, types, done.keys())
    try:
        with _Writers(connection, breaker) as writers:
            for prepared in _read_ahead(starmap(prepare, enumerate(chunks))):
                if prepared.batch is None:
                    _pass_over(prepared, done[prepared.number], breaker)
                else:
                    writers.write(prepared.batch)
                    ignored.update(_ignored(prepared.batch, unbound))
                progress(breaker.rows)
            writers.finish()
    except BrokenOffError as error:
        _record_stop(connection, file, breaker, str(error))
        raise
    return ignored


def _ignored(batch: Batch, unbound: Set[str]) -> dict[str, int]:
    """Transitions of a batch with a deadline, of types that no workflow binds."""
    if batch.kind is not TRANSITIONS:
        return {}
    is_ignored = pl.col("sla_deadline").is_not_null() & pl.col("entity_type").is_in(
        list(unbound)
    )
    found = batch.good.filter(is_ignored).group_by("entity_type").len()
    return dict(found.iter_rows())


def _pass_over(prepared: _Prepared, committed: "_Committed", breaker: Breaker) -> None:
    """Count a batch that is there already."""
    if committed.row_count != prepared.row_count:
        msg = f"{breaker.path}: begun in batches of another size. Use that release."
        raise SourceError(msg)
    breaker.count(*committed)


class _Writers:
    """Writes batches in their order; two at once while all their rows are new.

    A server works on one core a connection, so there is a second one for as long as a
    file comes in. What meets a known id, or text keys, is written by itself, after all
    before it: two transactions that wait here for each other could not be seen by the
    server as deadlocked.
    """

    def __init__(self, connection: Connection, breaker: Breaker) -> None:
        self._connection, self._breaker = connection, breaker
        self._second = another(connection)
        self._idle = [self._second, connection]
        self._pool = ThreadPoolExecutor(2)
        self._flying: deque[_Flight] = deque()
        # The first batch says whether the file is likely to be new.
        self._is_new, self._is_first = True, True

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *_: object) -> None:
        """Let what is being written end, however this ends."""
        self._pool.shutdown()
        self._second.close()

    def write(self, batch: Batch) -> None:
        """Write a batch, soon; its rejects count at once.

        Raises:
            BrokenOffError: too many of all rows so far are rejected.
        """
        self._breaker.count(
            batch.source_rows, refusals_of(batch.rejects, batch.refused)
        )
        if self._is_first or not self._is_new or not batch.keys.is_empty():
            self.finish()
            self._write_alone(batch)
            return
        while len(self._flying) == 2 or any(f.shares(batch) for f in self._flying):
            self._land()
        connection = self._idle.pop()
        written = self._pool.submit(_append_new, connection, batch)
        self._flying.append(_Flight(batch, connection, written))

    def finish(self) -> None:
        """Wait until all is written."""
        while self._flying:
            self._land()

    def _land(self) -> None:
        flight = self._flying.popleft()
        is_written = flight.is_written.result()
        self._idle.append(flight.connection)
        if not is_written:
            self.finish()
            self._write_alone(flight.batch)

    def _write_alone(self, batch: Batch) -> None:
        known = len(batch.rejects)
        duplicate = _append_once(
            self._connection,
            batch,
            lambda _, rejects: self._breaker.count(0, refusals_of(rejects[known:], {})),
            is_new=self._is_new,
        )
        self._is_new, self._is_first = not duplicate, False


class _Flight(NamedTuple):
    """A batch that is being written on a connection."""

    batch: Batch
    connection: Connection
    is_written: "Future[bool]"

    def shares(self, batch: Batch) -> bool:
        """Whether a row of another batch has the id of one of these."""
        return not batch.good.join(self.batch.good, on="id", how="semi").is_empty()


def _preparer(
    connection: Connection, file: _File, types: list[str], done: Set[int]
) -> Callable[[int, Chunk], _Prepared]:
    """What makes a batch of a chunk, in any thread: it leaves the connection alone."""
    started, clock = time.monotonic(), server_clock(connection)

    def prepare(number: int, chunk: Chunk) -> _Prepared:
        if number in done:
            return _Prepared(number, chunk.row_count, None)
        now = clock + timedelta(seconds=time.monotonic() - started)
        batch = validated(chunk, file.settings, types, now)._replace(
            file_id=file.file_id, file_name=file.path.name, file_batch=number
        )
        return _Prepared(number, chunk.row_count, batch)

    return prepare


def _read_ahead(items: Iterator[_Prepared]) -> Iterator[_Prepared]:
    """The items, the next made in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def validated(
    chunk: Chunk, settings: Settings, types: list[str], clock: datetime
) -> Batch:
    """A chunk mapped and judged, by resolved settings; a batch of no file yet.

    Args:
        chunk: n rows.
        settings: with a source.
        types: the known entity types.
        clock: of the server, now.
    """
    mapping = settings.mapping
    mapped = mapping.apply(chunk.records) if mapping else Mapped(chunk.records, NO_KEYS)
    texts, keys, skipped = mapped
    valid = validate(
        texts,
        entity_types=types,
        times=settings.times,
        latest=clock + settings.max_future,
        kind=settings.kind,
    )
    return Batch(
        good=valid.good,
        rejects=_malformed(chunk) + explain(valid.defects, chunk.origins),
        origins=chunk.origins,
        keys=keys.join(valid.good, on=["entity_type", "entity_id"], how="semi"),
        source=settings.source or "",
        source_rows=chunk.row_count,
        skipped_rows=skipped,
        refused=_refused(valid.defects, texts, types, settings),
        kind=settings.kind,
    )


def _refused(
    defects: pl.DataFrame, texts: pl.DataFrame, types: list[str], settings: Settings
) -> dict[int, str | None]:
    """By row number, what the first defect of each code found in its column."""
    found = {}
    for defect in defects.unique("code", keep="first").iter_rows(named=True):
        column = column_of(defect["code"])
        if column is not None:
            row = texts.filter(pl.col("row_number") == defect["row_number"])
            found[defect["row_number"]] = row[_place(row, types, settings), column]
    return found


def _place(row: pl.DataFrame, types: list[str], settings: Settings) -> int:
    """Which of the transitions of a refused row is the first that is refused."""
    if row.height == 1:
        return 0
    apart = row.with_columns(row_number=pl.int_range(row.height, dtype=pl.Int64))
    times, kind = settings.times, settings.kind
    defects = validate(apart, entity_types=types, times=times, kind=kind).defects
    # One that is too far ahead is refused by the clock alone.
    return int(defects["row_number"][0]) if defects.height else 0


def _malformed(chunk: Chunk) -> list[Reject]:
    origins = chunk.origins.of([row.row_number for row in chunk.malformed])
    return [
        Reject(
            row.row_number,
            line,
            offset,
            1,
            row.code,
            row.column,
            f"{CODES[row.code]} Here: {row.detail}.",
            original,
        )
        for row, (_, line, offset, original) in zip(
            chunk.malformed, origins.iter_rows(), strict=True
        )
    ]


def _append_new(connection: Connection, batch: Batch) -> bool:
    """Append a batch of new rows; False where it can't be, and nothing is written."""
    try:
        return append_new(connection, batch) is not None
    except psycopg.errors.UniqueViolation as error:
        return _is_there(error)


def _append_once(
    connection: Connection,
    batch: Batch,
    judge: Callable[[int, list[Reject]], None],
    *,
    is_new: bool,
) -> int:
    """Append a batch; returns how many of its transitions were there before."""
    try:
        return append_batch(connection, batch, judge, is_new=is_new).duplicate
    except psycopg.errors.UniqueViolation as error:
        return batch.good.height if _is_there(error) else 0


def _is_there(error: psycopg.errors.UniqueViolation) -> bool:
    """Whether another process wrote this batch of the file; raises where not."""
    if error.diag.table_name != "batches":
        raise error
    return True


def _record_stop(
    connection: Connection, file: _File, breaker: Breaker, reason: str
) -> None:
    connection.execute(
        """
        insert into raw.stopped_files (
            file_id, file_name, row_count, rejected_row_count, reason, codes
        )
        values (%s, %s, %s, %s, %s, %s)
        """,
        [
            file.file_id,
            file.path.name,
            breaker.rows,
            breaker.rejected,
            reason,
            breaker.codes,
        ],
    )


def _register(
    connection: Connection,
    identity: Identity,
    first: Chunk | None,
    mapping: Mapping | None,
) -> int:
    """The file's id; a new one keeps how it is read, for replays of its rejects."""
    form = json.dumps(first.form._asdict()) if first else None
    connection.execute(
        """
        insert into raw.files (
            content_sha256, mapping_sha256, source, timezone, form, mapping
        )
        values (%s, %s, %s, %s, %s, %s) on conflict do nothing
        """,
        [*identity, form, mapping.content if mapping else None],
    )
    row = connection.execute(
        """
        select file_id from raw.files
        where (content_sha256, mapping_sha256, source, timezone) = (%s, %s, %s, %s)
        """,
        identity,
    ).fetchone()
    assert row is not None
    return int(row[0])


class _Committed(NamedTuple):
    """A batch of a file that is there: its source rows, and those refused by code."""

    row_count: int
    refusals: list[Refusal]


def _committed(connection: Connection, file_id: int) -> dict[int, _Committed]:
    """The batches that are there, by their number."""
    batches = connection.execute(
        "select file_batch, source_row_count from raw.batches where file_id = %s",
        [file_id],
    ).fetchall()
    found = {number: _Committed(rows, []) for number, rows in batches}
    refusals = connection.execute(COMMITTED_REFUSALS, [file_id])
    for number, code, rows, line, row_number, original in refusals:
        refusal = Refusal(code, rows, line, row_number, cut(original))
        found[number].refusals.append(refusal)
    return found


class _Totals(NamedTuple):
    """Source rows, those of them that were skipped, and counts of transitions."""

    rows: int
    skipped: int
    result: AppendResult


def _completed(
    connection: Connection, identity: Identity
) -> tuple[int, _Totals] | None:
    """The file's id and totals of its first delivery, where that was completed."""
    row = connection.execute(
        """
        select
            file_id, source_row_count, skipped_row_count, read_count, rejected_count
        from raw.deliveries join raw.files using (file_id)
        where (content_sha256, mapping_sha256, source, timezone) = (%s, %s, %s, %s)
        order by delivery_id limit 1
        """,
        identity,
    ).fetchone()
    if row is None:
        return None
    file_id, rows, skipped, read_count, rejected = row
    result = AppendResult(read_count, 0, read_count - rejected, rejected)
    return file_id, _Totals(rows, skipped, result)


def _repeat(
    connection: Connection, path: Path, file_id: int, totals: _Totals
) -> DeliveryResult:
    _record(connection, path, file_id, totals)
    return _told(path, totals, is_repeated=True)


def _told(path: Path, totals: _Totals, *, is_repeated: bool) -> DeliveryResult:
    rows, skipped, result = totals
    return DeliveryResult(path.name, rows, result, is_repeated, skipped)


def _complete(
    connection: Connection, path: Path, file_id: int, identity: Identity
) -> DeliveryResult:
    with connection.transaction():
        # Of two processes that end the same file, one has delivered it first.
        connection.execute("select pg_advisory_xact_lock(%s::int, 0)", [file_id])
        if (earlier := _completed(connection, identity)) is not None:
            return _repeat(connection, path, *earlier)
        row = connection.execute(
            """
            select
                coalesce(sum(source_row_count), 0)::bigint,
                coalesce(sum(skipped_row_count), 0)::bigint,
                coalesce(sum(read_count), 0)::bigint,
                coalesce(sum(appended_count), 0)::bigint,
                coalesce(sum(duplicate_count), 0)::bigint,
                coalesce(sum(rejected_count), 0)::bigint
            from raw.batches where file_id = %s
            """,
            [file_id],
        ).fetchone()
        assert row is not None
        totals = _Totals(row[0], row[1], AppendResult(*row[2:]))
        _record(connection, path, file_id, totals)
    return _told(path, totals, is_repeated=False)


def _record(connection: Connection, path: Path, file_id: int, totals: _Totals) -> None:
    connection.execute(
        """
        insert into raw.deliveries (
            file_id, file_name, source_row_count, skipped_row_count,
            read_count, appended_count, duplicate_count, rejected_count
        )
        values (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [file_id, path.name, totals.rows, totals.skipped, *totals.result],
    )
