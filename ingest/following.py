"""Reading sources that are followed: what is due, from where, and what came of it.

What a file of a source may say belongs in followed_source.py, how rows are copied out
of another database in files/from_database.py, what becomes of them in delivery.py.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psycopg

from ingest.append import AppendResult
from ingest.delivery import NOTHING, Settings, deliver
from ingest.errors import SourceError, StatusEngineError
from ingest.files.from_database import Copied, Since, copied_since
from ingest.followed_source import FollowedSource, load_source, source_paths
from ingest.inbox import is_of_the_file
from ingest.names import readable
from ingest.store.database import Connection, without_secrets
from ingest.store.locks import Lock, holding

LAST = """
select
    last.read_at,
    last.watermark,
    last.definition_sha256,
    last.refusal,
    (
        select max(whole.read_at)
        from raw.source_readings as whole
        where
            whole.source = last.source
            and whole.definition_sha256 = last.definition_sha256
            and whole.is_whole and whole.refusal is null
    ) as whole_at,
    clock_timestamp() as now,
    last.reading_id
from raw.source_readings as last
where last.source = %s
order by last.reading_id desc
limit 1
"""
# What a repeated reading would refuse again, each time with a row of its own.
REFUSED = """
select sha256(original)
from raw.rejected_transitions
join raw.files using (file_id)
where files.source = %s and files.mapping_sha256 = %s
"""


class Reading(NamedTuple):
    """What came of reading a source once.

    is_whole: whether all of it was asked for; rows: that were delivered; known_rejects:
    others that were refused before, as they are; result: counts of their transitions;
    watermark: the highest so far; refusal: why it could not be read, or not all of it.
    """

    source: str
    is_whole: bool = False
    rows: int = 0
    known_rejects: int = 0
    result: AppendResult = NOTHING
    watermark: str | None = None
    refusal: str | None = None


class State(NamedTuple):
    """The last reading of a source, by its definition as it is now.

    watermark, whole_at: null where that was another one. is_due: whether it is to be
    read again, is_whole_due: all of it. reading_id: 0 before the first.
    """

    read_at: datetime | None
    watermark: str | None
    whole_at: datetime | None
    refusal: str | None
    is_due: bool
    is_whole_due: bool
    reading_id: int


def state_of(connection: Connection, source: FollowedSource) -> State:
    """How far a source was read, and what is due, by the clock of our server."""
    row = connection.execute(LAST, [source.name]).fetchone()
    if row is None:
        return State(None, None, None, None, True, True, 0)
    read_at, watermark, sha256, refusal, whole_at, now, reading_id = row
    if sha256 != source.sha256:
        return State(read_at, None, None, None, True, True, reading_id)
    is_due = now >= read_at + source.interval
    every = source.whole_every
    is_whole_due = (
        watermark is None
        or whole_at is None
        or (every is not None and now >= whole_at + every)
    )
    return State(
        read_at, watermark, whole_at, refusal, is_due, is_whole_due, reading_id
    )


def follow_due(connection: Connection, folder: Path) -> Iterator[Reading]:
    """Read each source of a folder that is due; one that fails stops no other.

    Raises:
        psycopg.Error: our own database stopped answering, or misses a right or a table.
        SourceError: the folder can't be looked at.
    """
    with holding(connection, Lock.SOURCES):
        for path in source_paths(folder):
            try:
                source = load_source(path)
            except SourceError as error:
                yield Reading(path.stem, refusal=str(error))
                continue
            state = state_of(connection, source)
            if state.is_due:
                yield _follow(connection, source, state, is_whole=state.is_whole_due)


def follow(
    connection: Connection, source: FollowedSource, *, is_whole: bool = False
) -> Reading:
    """Read a source now, from its position on or, where that is due, all of it.

    Its rows are delivered as a file; then the reading is noted, with the watermark from
    which the next begins. What is killed between the two is read again, and its rows
    are duplicates (S20).

    Args:
        connection: open, outside a transaction.
        source: which.
        is_whole: whether all of it is read in any case.
    """
    with holding(connection, Lock.SOURCES):
        state = state_of(connection, source)
        whole = is_whole or state.is_whole_due
        return _follow(connection, source, state, is_whole=whole)


def _follow(
    connection: Connection, source: FollowedSource, state: State, *, is_whole: bool
) -> Reading:
    conninfo = os.environ.get(source.connection, "")
    began = Reading(source.name, is_whole, watermark=state.watermark)
    try:
        reading = _read(connection, source, conninfo, began)
    except (Exception, pl.exceptions.PanicException) as error:
        is_ours = isinstance(error, psycopg.Error) and not is_of_the_file(error)
        if connection.closed or is_ours:
            raise
        sentence = without_secrets(_sentence(error), conninfo)
        reading = began._replace(refusal=readable(f"{source.name}: {sentence}"))
    _note(connection, source, reading)
    return reading


def _read(
    connection: Connection, source: FollowedSource, conninfo: str, began: Reading
) -> Reading:
    if not conninfo:
        msg = f"environment variable {source.connection} is not set. Set it."
        raise SourceError(msg)
    settings = Settings(source.mapping, source.name)
    since = Since(
        source.watermark,
        source.overlap,
        None if began.is_whole else began.watermark,
        _refused_before(connection, settings),
    )
    copy = copied_since(
        conninfo,
        source.connection,
        source.query,
        source.mapping.layout,
        since,
        source.timeout,
    )
    with copy as copied:
        result = _deliver(connection, copied, settings)
    return began._replace(
        rows=copied.rows,
        known_rejects=copied.refused,
        result=result,
        watermark=copied.watermark or began.watermark,
    )


def _deliver(
    connection: Connection, copied: Copied, settings: Settings
) -> AppendResult:
    """Nothing of no rows, so that an idle source fills no ledger."""
    if not copied.rows:
        return NOTHING
    name = Path(f"{settings.source}.csv")
    delivery = deliver(connection, copied.path, settings, known_as=name)
    return delivery.result


def _refused_before(connection: Connection, settings: Settings) -> frozenset[bytes]:
    found = connection.execute(REFUSED, [settings.source, settings.sha256]).fetchall()
    return frozenset(digest for (digest,) in found)


def _sentence(error: BaseException) -> str:
    if isinstance(error, StatusEngineError):
        return str(error)
    reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    return f"it can't be read: {reason} ({type(error).__name__}). Mend it."


def _note(connection: Connection, source: FollowedSource, reading: Reading) -> None:
    connection.execute(
        """
        insert into raw.source_readings (
            source, definition_sha256, is_whole, row_count, known_reject_count,
            appended_count, watermark, refusal
        )
        values (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        [
            source.name,
            source.sha256,
            reading.is_whole,
            reading.rows,
            reading.known_rejects,
            reading.result.appended,
            reading.watermark,
            reading.refusal,
        ],
    )
