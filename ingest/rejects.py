"""Rejects after the fact: counted, shown, and replayed once their cause is mended.

How rows come to be rejected belongs in transition.py, audit_entry.py, sources.py and
append.py.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from ingest.append import (
    MAX_FUTURE,
    AppendResult,
    Batch,
    append_batch,
    known_types,
)
from ingest.delivery import NOTHING, Settings, validated
from ingest.errors import SourceError
from ingest.files.chunks import Form, SourceRow, chunk_of_rows
from ingest.files.layout import Layout
from ingest.files.mapping import Mapping, restore_mapping
from ingest.files.sources import reread
from ingest.kinds import CODES
from ingest.store.database import Connection, server_clock
from ingest.store.locks import Lock, holding
from ingest.transition import Reject

UNKNOWN_FORM = "form_is_known"
# Why a reject stays open: the codes of rejects, and one of replays alone.
REASONS = {
    **CODES,
    UNKNOWN_FORM: "It is kept how the file was read; of older files it is not.",
}


class Selection(NamedTuple):
    """Which rejects are meant: those that fit all that is given."""

    ids: list[int] | None = None
    code: str | None = None
    file_name: str | None = None


ALL = Selection()


class Group(NamedTuple):
    """The rejects of a file with one code; no file where the library was called."""

    file_name: str | None
    code: str
    row_count: int
    transition_count: int


class Line(NamedTuple):
    """One reject in a list."""

    rejected_id: int
    file_name: str | None
    row_number: int
    line_number: int | None
    code: str
    message: str


class Stop(NamedTuple):
    """A file that was broken off; codes are null where an older release did it."""

    file_name: str | None
    stopped_at: datetime
    row_count: int
    rejected_row_count: int
    codes: list[dict[str, Any]] | None
    reason: str


class Detail(NamedTuple):
    """All that is kept of one reject; the outcome is null while it is open."""

    rejected_id: int
    batch_id: int
    source: str
    recorded_at: datetime
    file_name: str | None
    content_sha256: str | None
    row_number: int
    line_number: int | None
    transition_count: int
    code: str
    column_name: str | None
    message: str
    byte_offset: int | None
    original: bytes
    outcome: str | None
    resolved_at: datetime | None
    resolved_batch_id: int | None


class Replayed(NamedTuple):
    """What became of the rejects: n selected = resolved + the sum of `open_codes`.

    result counts what the resolved ones became; open_codes, why the others stay.
    """

    selected: int
    resolved: int
    result: AppendResult
    open_codes: Counter[str]


SELECTED = """
(%(ids)s::bigint[] is null or rejected_id = any(%(ids)s))
and (%(code)s::text is null or code = %(code)s)
and (%(file_name)s::text is null or file_name = %(file_name)s)
"""

# Those of one file, or of one source of the library, are read in one way.
SELECTED_FILES = f"""
select selected.*, timezone, form, mapping
from (
    select rejected.file_id, batches.source, min(file_name) as file_name
    from raw.open_rejects as rejected
    join raw.batches using (batch_id)
    where {SELECTED}
    group by rejected.file_id, batches.source
) as selected
left join raw.files using (file_id)
order by selected.file_id, selected.source
"""

SELECTED_ROWS = f"""
select rejected_id, original
from raw.open_rejects as rejected
join raw.batches using (batch_id)
where
    rejected.file_id is not distinct from %(file_id)s
    and batches.source = %(source)s
    and {SELECTED}
order by rejected_id
"""

STOPS = """
select file_name, stopped_at, row_count, rejected_row_count, codes, reason
from raw.stopped_files as stopped
join raw.files using (file_id)
where
    (
        %(code)s::text is null
        or codes @> jsonb_build_array(jsonb_build_object('code', %(code)s::text))
    )
    and (%(file_name)s::text is null or file_name = %(file_name)s)
    and (
        not %(only_open)s
        or not exists (
            select from raw.stopped_files as later
            where later.file_id = stopped.file_id and later.stop_id > stopped.stop_id
        )
        and not exists (
            select from raw.deliveries
            join raw.files as whole using (file_id)
            where
                delivered_at > stopped_at
                and (
                    whole.content_sha256 = files.content_sha256
                    or deliveries.file_name = stopped.file_name
                )
        )
    )
order by stop_id
"""

DETAIL = """
select
    rejected_id,
    rejected.batch_id,
    batches.source,
    batches.recorded_at,
    file_name,
    content_sha256,
    row_number,
    line_number,
    transition_count,
    code,
    column_name,
    message,
    byte_offset,
    original,
    outcome,
    resolved_at,
    resolved.batch_id as resolved_batch_id
from raw.rejected_transitions as rejected
join raw.batches using (batch_id)
left join raw.files on files.file_id = rejected.file_id
left join raw.resolved_rejects as resolved using (rejected_id)
where rejected_id = %s
"""


def count_rejects(
    connection: Connection, selection: Selection, *, only_open: bool = True
) -> list[Group]:
    """Counts of rejects by file and code."""
    query = f"""
        select file_name, code, count(*) as row_count,
            sum(transition_count)::bigint as transition_count
        from {_relation(only_open)} where {SELECTED}
        group by file_name, code order by file_name nulls first, code
    """
    cursor = connection.cursor(row_factory=class_row(Group))
    return cursor.execute(query, selection._asdict()).fetchall()


def list_rejects(
    connection: Connection, selection: Selection, limit: int, *, only_open: bool = True
) -> list[Line]:
    """The first rejects, one by one."""
    query = f"""
        select rejected_id, file_name, row_number, line_number, code, message
        from {_relation(only_open)} where {SELECTED}
        order by rejected_id limit %(limit)s
    """
    cursor = connection.cursor(row_factory=class_row(Line))
    return cursor.execute(query, {**selection._asdict(), "limit": limit}).fetchall()


def list_stops(
    connection: Connection, selection: Selection, *, only_open: bool = True
) -> list[Stop]:
    """Files that were broken off, the last time of each; every time unless only_open.

    It is open until the same bytes, or a file of the same name, came in whole.
    """
    parameters = {**selection._asdict(), "only_open": only_open}
    cursor = connection.cursor(row_factory=class_row(Stop))
    return cursor.execute(STOPS, parameters).fetchall()


def find_reject(connection: Connection, rejected_id: int) -> Detail:
    """One reject.

    Raises:
        SourceError: there is none of this number.
    """
    cursor = connection.cursor(row_factory=class_row(Detail))
    found = cursor.execute(DETAIL, [rejected_id]).fetchone()
    if found is None:
        msg = f"There is no reject {rejected_id}. See: status-engine rejects list."
        raise SourceError(msg)
    return found


def replay(
    connection: Connection,
    selection: Selection = ALL,
    *,
    mapping: Mapping | None = None,
    timezone: str | None = None,
    encoding: str | None = None,
    accept_unended: bool = False,
    max_future: timedelta = MAX_FUTURE,
    dry_run: bool = False,
) -> Replayed:
    """Judge the original bytes of open rejects again; append those that pass now.

    Each batch is one transaction: its rows, its ledger row, and a row in
    raw.resolved_rejects for each reject that it resolves. Nothing is written about a
    row that still fails. Another replay waits, and finds what this one left.

    Args:
        connection: open, outside a transaction.
        selection: of open rejects; resolved ones are left alone.
        mapping: instead of the one that the file was read with.
        timezone: instead of the mapping's own, or the file's.
        encoding: instead of the mapping's own, or the file's.
        accept_unended: whether a last row without a line end is whole.
        max_future: how far created_at may be ahead of the server's clock.
        dry_run: count, and write nothing.

    Raises:
        SourceError: the mapping doesn't fit a file's header, or makes rows of another
            kind than the file holds, or the zone is none. Batches committed before
            stay.
    """
    given = Settings(
        mapping,
        timezone=timezone,
        encoding=encoding,
        accept_unended=accept_unended,
        max_future=max_future,
    )
    total = Replayed(0, 0, NOTHING, Counter())
    with holding(connection, Lock.REPLAY):
        for file in _files(connection, selection):
            for part in _replay_file(connection, file, selection, given, dry_run):
                total = Replayed(
                    total.selected + part.selected,
                    total.resolved + part.resolved,
                    total.result + part.result,
                    total.open_codes + part.open_codes,
                )
    return total


class _File(NamedTuple):
    """How the rejects of one file read; no file_id where the library was called."""

    file_id: int | None
    source: str
    name: str | None
    timezone: str | None
    form: Form | None
    mapping: Mapping | None


def _relation(only_open: bool) -> str:
    return "raw.open_rejects" if only_open else "raw.rejected_transitions"


def _files(connection: Connection, selection: Selection) -> list[_File]:
    rows = connection.execute(SELECTED_FILES, selection._asdict()).fetchall()
    return [
        _File(
            file_id,
            source,
            name,
            timezone or None,
            Form(**form) if form else Form() if file_id is None else None,
            restore_mapping(mapping) if mapping else None,
        )
        for file_id, source, name, timezone, form, mapping in rows
    ]


def _replay_file(
    connection: Connection,
    file: _File,
    selection: Selection,
    given: Settings,
    dry_run: bool,
) -> Iterator[Replayed]:
    parameters = {**selection._asdict(), "file_id": file.file_id, "source": file.source}
    mapping = given.mapping or file.mapping
    meant, own = given._replace(mapping=mapping).kind, Settings(file.mapping).kind
    if meant is not own:
        msg = (
            f"{file.name or file.source}: its rows are {own.noun}, and the mapping "
            f"makes {meant.noun}. Name one of kind {own.name}, or select files by "
            "--file."
        )
        raise SourceError(msg)
    own_zone = given.mapping.timezone if given.mapping else None
    settings = given._replace(
        mapping=mapping,
        source=file.source,
        timezone=given.timezone or own_zone or file.timezone,
    ).resolve()
    layout, form = settings.layout, file.form
    # It outlives a transaction, and keeps what it found when it was opened.
    with connection.cursor("open_rejects", withhold=True) as cursor:
        cursor.execute(SELECTED_ROWS, parameters)
        if form is None:
            count = sum(1 for _ in cursor)
            yield Replayed(count, 0, NOTHING, Counter({UNKNOWN_FORM: count}))
            return
        if form.header:
            layout.check(list(form.header), str(file.name))
        form = form._replace(
            encoding=given.layout.encoding or form.encoding,
            accepts_unended=given.layout.accepts_unended or form.accepts_unended,
        )
        ids: dict[int, int] = {}
        rows = _rows(cursor, layout, form, ids)
        first = 1
        while chunk := chunk_of_rows(rows, layout, first):
            clock = server_clock(connection)
            batch = validated(chunk, settings, known_types(connection), clock)
            yield _replay_batch(connection, batch, ids, dry_run=dry_run)
            ids.clear()
            first += chunk.row_count


def _rows(
    cursor: psycopg.ServerCursor[Any], layout: Layout, form: Form, ids: dict[int, int]
) -> Iterator[SourceRow]:
    """Each original read again; `ids` learns which reject a row number is."""
    for number, (rejected_id, original) in enumerate(cursor, start=1):
        ids[number] = rejected_id
        yield reread(original, layout, form)


def _replay_batch(
    connection: Connection, batch: Batch, ids: dict[int, int], *, dry_run: bool
) -> Replayed:
    """Append a batch without its rejects and those that a trial of it finds."""
    rejects = list(batch.rejects)
    while True:
        refused = {reject.row_number for reject in rejects}
        good = batch.good.filter(~batch.good["row_number"].is_in(list(refused)))
        passing = {n: id_ for n, id_ in ids.items() if n not in refused}
        trial = batch._replace(good=good, rejects=[], source_rows=len(passing))
        codes = Counter(reject.code for reject in rejects)
        if not passing:
            return Replayed(len(ids), 0, NOTHING, codes)
        result, found = _try(connection, trial, passing, dry_run=dry_run)
        if not found:
            return Replayed(len(ids), len(passing), result, codes)
        rejects += found


def _try(
    connection: Connection, batch: Batch, ids: dict[int, int], *, dry_run: bool
) -> tuple[AppendResult, list[Reject]]:
    """Commit a batch whose rejects are resolved, unless the database refuses a row.

    Returns:
        Its counts, and the refused rows; where there are any, nothing is written.
    """
    refused: list[Reject] = []

    def settle(batch_id: int, rejects: list[Reject]) -> None:
        refused.extend(rejects)
        if not refused:
            _resolve(connection, batch_id, batch, ids)
        if refused or dry_run:
            raise psycopg.Rollback

    return append_batch(connection, batch, settle), refused


def _resolve(
    connection: Connection, batch_id: int, batch: Batch, ids: dict[int, int]
) -> None:
    stored = connection.execute(
        f"select batch_row from raw.{batch.kind.table} where batch_id = %s", [batch_id]
    ).fetchall()
    numbers = batch.good["row_number"].to_list()
    made = Counter(numbers)
    appended = Counter(numbers[batch_row - 1] for (batch_row,) in stored)
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into raw.resolved_rejects (
                rejected_id, batch_id, appended_count, duplicate_count
            )
            values (%s, %s, %s, %s)
            """,
            [
                (rejected_id, batch_id, appended[n], made[n] - appended[n])
                for n, rejected_id in ids.items()
            ],
        )
