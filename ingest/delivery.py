"""A file as a sequence of batches, known by its content, mapping, source and zone.

A second delivery and a restart after a crash are no-ops for what is there (S5, S20).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import chain, starmap
from pathlib import Path
from typing import NamedTuple

import psycopg

from ingest.append import (
    MAX_FUTURE,
    AppendResult,
    Batch,
    append_batch,
    explain,
    known_types,
    server_clock,
)
from ingest.chunks import Chunk, Layout
from ingest.content import Content
from ingest.database import Connection
from ingest.encodings import check_encoding
from ingest.errors import SourceError
from ingest.mapping import Mapping
from ingest.sources import read
from ingest.transition import CODES, NO_KEYS, Reject, check_zone, validate

NOTHING = AppendResult(0, 0, 0, 0)
NO_MAPPING = hashlib.sha256(b"").hexdigest()


# Hashes of content and mapping, the source's name, the zone.
Identity = tuple[str, str, str, str]


MAX_REJECTED_RATIO = 0.5
BREAKER_ROWS = 100


class Delivery(NamedTuple):
    """What became of one file; `result` counts transitions, `source_rows` rows."""

    file_name: str
    source_rows: int
    result: AppendResult
    is_repeated: bool


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
    def sha256(self) -> str:
        """Of the mapping, and of what else decides which rows a file holds."""
        digest = self.mapping.sha256 if self.mapping else NO_MAPPING
        reading = (self.layout.encoding, self.layout.accepts_unended)
        if reading == (None, False):
            return digest
        return hashlib.sha256(repr((digest, *reading)).encode()).hexdigest()

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


class BrokenOffError(SourceError):
    """Too many rows of a file are rejected; nothing more of it is written."""


class _Breaker:
    """Rows and rejected rows of a file so far, held against the ratio allowed."""

    def __init__(self, path: Path, ratio: float) -> None:
        self.path, self.ratio = path, ratio
        self.rows = self.rejected = 0

    def count(self, rows: int, rejected: int) -> None:
        """Take in a batch.

        Raises:
            BrokenOffError: too many of all rows so far are rejected.
        """
        self.rows += rows
        self.rejected += rejected
        if self.rows >= BREAKER_ROWS and self.rejected > self.ratio * self.rows:
            msg = (
                f"{self.path}: broken off, {self.rejected:,} of {self.rows:,} rows "
                "would be rejected; nothing of their batch is written. "
                "Mend the file or its mapping, or allow more: --max-rejected-ratio."
            )
            raise BrokenOffError(msg)


def deliver(
    connection: Connection,
    path: Path,
    settings: Settings = Settings(),  # noqa: B008
    progress: Callable[[int], None] = lambda _: None,
) -> Delivery:
    """Bring a file into schema raw, batch by batch; run again, it continues.

    Args:
        connection: open, outside a transaction; each batch is one transaction on it.
        path: a CSV, JSON Lines or Parquet file, plain or gzip.
        settings: the mapping's own source and zone hold where these are not given.
        progress: called with the number of source rows done after each batch.

    Raises:
        SourceError: the file can't be read, or its header is wrong. Batches committed
            before stay, and count when it is delivered again.
    """
    settings = settings.resolve()
    mapping = settings.mapping
    layout = settings.layout
    with Content(path) as content:
        source, timezone = settings.source or "", settings.timezone or ""
        identity = (content.sha256, settings.sha256, source, timezone)
        if (earlier := _completed(connection, identity)) is not None:
            return _repeat(connection, path, *earlier)
        chunks = read(content, layout)
        first = next(chunks, None)
        file_id = _register(connection, identity, first, mapping)
        file = _File(file_id, path, settings)
        if first is not None:
            _deliver_chunks(connection, file, chain([first], chunks), progress)
        return _complete(connection, path, file_id, identity)


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
) -> None:
    """Commit the batches that are not there yet; stop where too much is rejected."""
    done = _committed(connection, file.file_id)
    breaker = _Breaker(file.path, file.settings.max_rejected_ratio)
    prepare = _preparer(connection, file, done.keys())
    is_new = True
    for number, row_count, batch in _read_ahead(starmap(prepare, enumerate(chunks))):
        if batch is None:
            rows, rejected = done[number]
            if rows != row_count:
                msg = (
                    f"{file.path}: begun in batches of another size. Use that release."
                )
                raise SourceError(msg)
            breaker.count(rows, rejected)
        else:
            try:
                duplicate = _append_once(connection, batch, breaker, is_new=is_new)
            except BrokenOffError as error:
                _record_stop(connection, file.file_id, breaker, str(error))
                raise
            is_new = not duplicate
        progress(breaker.rows)


def _preparer(
    connection: Connection, file: _File, done: Set[int]
) -> Callable[[int, Chunk], _Prepared]:
    """What makes a batch of a chunk, in any thread: it leaves the connection alone."""
    types = known_types(connection)
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
    texts, keys = mapping.apply(chunk.records) if mapping else (chunk.records, NO_KEYS)
    valid = validate(
        texts,
        entity_types=types,
        timezone=settings.timezone,
        latest=clock + settings.max_future,
    )
    return Batch(
        good=valid.good,
        rejects=_malformed(chunk) + explain(valid.defects, chunk.origins),
        origins=chunk.origins,
        keys=keys.join(valid.good, on=["entity_type", "entity_id"], how="semi"),
        source=settings.source or "",
        source_rows=chunk.row_count,
    )


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


def _append_once(
    connection: Connection, batch: Batch, breaker: _Breaker, *, is_new: bool
) -> int:
    """Append a batch; returns how many of its transitions were there before."""
    try:
        result = append_batch(
            connection,
            batch,
            lambda _, rejects: breaker.count(batch.source_rows, len(rejects)),
            is_new=is_new,
        )
    except psycopg.errors.UniqueViolation as error:
        # Another process is delivering the same file and was first with this batch.
        if error.diag.table_name != "batches":
            raise
        return batch.good.height
    return result.duplicate


def _record_stop(
    connection: Connection, file_id: int, breaker: _Breaker, reason: str
) -> None:
    connection.execute(
        """
        insert into raw.stopped_files (file_id, row_count, rejected_row_count, reason)
        values (%s, %s, %s, %s)
        """,
        [file_id, breaker.rows, breaker.rejected, reason],
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


def _committed(connection: Connection, file_id: int) -> dict[int, tuple[int, int]]:
    """The batches that are there, with their source rows and those rejected."""
    rows = connection.execute(
        """
        select
            file_batch,
            source_row_count,
            (
                select count(*) from raw.rejected_transitions as rejected
                where rejected.batch_id = batches.batch_id
            )
        from raw.batches as batches where file_id = %s
        """,
        [file_id],
    ).fetchall()
    return {number: (count, rejected) for number, count, rejected in rows}


def _completed(
    connection: Connection, identity: Identity
) -> tuple[int, int, AppendResult] | None:
    """File id, source rows and counts of the first delivery, where it was completed."""
    row = connection.execute(
        """
        select file_id, source_row_count, read_count, rejected_count
        from raw.deliveries join raw.files using (file_id)
        where (content_sha256, mapping_sha256, source, timezone) = (%s, %s, %s, %s)
        order by delivery_id limit 1
        """,
        identity,
    ).fetchone()
    if row is None:
        return None
    file_id, source_rows, read_count, rejected = row
    return (
        file_id,
        source_rows,
        AppendResult(read_count, 0, read_count - rejected, rejected),
    )


def _repeat(
    connection: Connection, path: Path, file_id: int, rows: int, result: AppendResult
) -> Delivery:
    _record(connection, path, file_id, rows, result)
    return Delivery(path.name, rows, result, is_repeated=True)


def _complete(
    connection: Connection, path: Path, file_id: int, identity: Identity
) -> Delivery:
    with connection.transaction():
        # Of two processes that end the same file, one has delivered it first.
        connection.execute("select pg_advisory_xact_lock(%s::int, 0)", [file_id])
        if (earlier := _completed(connection, identity)) is not None:
            return _repeat(connection, path, *earlier)
        row = connection.execute(
            """
            select
                coalesce(sum(source_row_count), 0)::bigint,
                coalesce(sum(read_count), 0)::bigint,
                coalesce(sum(appended_count), 0)::bigint,
                coalesce(sum(duplicate_count), 0)::bigint,
                coalesce(sum(rejected_count), 0)::bigint
            from raw.batches where file_id = %s
            """,
            [file_id],
        ).fetchone()
        assert row is not None
        rows, result = row[0], AppendResult(*row[1:])
        _record(connection, path, file_id, rows, result)
    return Delivery(path.name, rows, result, is_repeated=False)


def _record(
    connection: Connection, path: Path, file_id: int, rows: int, result: AppendResult
) -> None:
    connection.execute(
        """
        insert into raw.deliveries (
            file_id, file_name, source_row_count,
            read_count, appended_count, duplicate_count, rejected_count
        )
        values (%s, %s, %s, %s, %s, %s, %s)
        """,
        [file_id, path.name, rows, *result],
    )
