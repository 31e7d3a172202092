"""A query on another PostgreSQL as a CSV file, to be delivered like any other.

What becomes of the file belongs in delivery.py.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Composable, Identifier, Literal

from ingest.errors import SourceError
from ingest.files.layout import Layout
from ingest.store.database import Connection, reach, require_conninfo

# What a value's text depends on; with these nothing is rounded or localised.
EXACT = """
set timezone = 'UTC';
set datestyle = 'ISO';
set intervalstyle = 'iso_8601';
set extra_float_digits = 3;
set bytea_output = 'hex';
set client_encoding = 'UTF8';
"""
LONGEST_NAME = 100
# What a watermark may be, by the number of its type: its name, and its type's now.
_TIMES = {
    1184: ("timestamptz", "now()"),
    1114: ("timestamp", "now()::timestamp"),
    1082: ("date", "now()::date"),
}
_WHOLE = {20, 21, 23}
# A source that is gone without a word must not hold the run that reads it.
PATIENCE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
LOCK_TIMEOUT = "30s"


class Since(NamedTuple):
    """Which rows: those whose watermark is at least `last` less the overlap.

    last: as its database writes it; all rows where it is None. refused: SHA-256 of
    rows, as COPY writes them, that are left out.
    """

    column: str
    overlap: timedelta | int
    last: str | None
    refused: Set[bytes] = frozenset()


class Copied(NamedTuple):
    """A CSV file of `rows`, after `refused` others of the query's were left out.

    watermark: the highest of all of them, None where there is none. A time that is
    ahead of the source's clock counts as now, or nothing were new until then.
    """

    path: Path
    rows: int
    refused: int
    watermark: str | None


@contextmanager
def copied(conninfo: str, query: str, layout: Layout) -> Iterator[list[Path]]:
    """The result of a query as one CSV file, for as long as it is needed.

    One snapshot, in one read-only transaction; every value as PostgreSQL writes it,
    NULL bare and the empty text quoted. The file is named by database and host alone,
    so that no password is kept anywhere.

    Args:
        conninfo: the source's connection string.
        query: one select statement, in the order wanted.
        layout: the columns that it must have.

    Raises:
        DatabaseError: the source can't be reached.
        SourceError: it refuses the query, or the result lacks a column; or the layout
            is one of a file.
    """
    if layout.delimiter is not None:
        msg = "The mapping names a delimiter, which a database has not. Leave it out."
        raise SourceError(msg)
    with tempfile.TemporaryDirectory() as folder:
        with reach(conninfo, "--from") as source:
            path = Path(folder) / f"{_name(source)}.csv"
            with _refusals("The source database refused", "--query"):
                _copy(source, query, layout, path)
        yield [path]


@contextmanager
def _refusals(refused: str, query: str) -> Iterator[None]:
    """What a source says against a query, in a sentence.

    Args:
        refused: its beginning: who refused.
        query: what is to be checked.

    Raises:
        SourceError: it said something.
    """
    try:
        yield
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error).strip()
        raise SourceError(f"{refused}: {reason}. Check {query}.") from error


@contextmanager
def copied_since(
    conninfo: str,
    variable: str,
    query: str,
    layout: Layout,
    since: Since,
    timeout: timedelta,
) -> Iterator[Copied]:
    """Rows of a query from a watermark on, as `copied` makes a file of all of them.

    Args:
        conninfo: the source's connection string.
        variable: what holds it, for messages.
        query: one select statement.
        layout: the columns that it must have.
        since: which rows.
        timeout: after which it is given up.

    Raises:
        DatabaseError: the source can't be reached.
        SourceError: it refuses the query or takes too long, the result lacks a column,
            or its watermark is neither a time nor a whole number.
    """
    require_conninfo(conninfo, variable)
    patient = make_conninfo(conninfo, **PATIENCE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with (
            reach(patient, variable) as source,
            _refusals("Its database refused", "its query"),
        ):
            found = _copy_since(source, query, layout, since, timeout, path)
        yield found


def _copy_since(
    source: Connection,
    query: str,
    layout: Layout,
    since: Since,
    timeout: timedelta,
    path: Path,
) -> Copied:
    milliseconds = timeout // timedelta(milliseconds=1)
    source.execute(
        f"{EXACT} set lock_timeout = '{LOCK_TIMEOUT}';"
        f" set statement_timeout = {milliseconds}".encode()
    )
    source.execute("start transaction isolation level repeatable read read only")
    inner = _inner(query)
    header = source.execute(f"select * from {inner} as result limit 0".encode())
    columns = header.description or ()
    layout.check([column.name for column in columns], "The result of its query")
    types = {column.name: column.type_code for column in columns}
    if since.column not in types:
        msg = f"The result of its query has no column {since.column!r}, its watermark."
        raise SourceError(msg)
    condition = _condition(since, types[since.column]).as_bytes(source)
    rows = f"(select * from {inner} as result ".encode() + condition + b")"
    newest = _newest(since.column, types[since.column]).as_bytes(source)
    row = source.execute(b"select " + newest + b" from " + rows + b" as r").fetchone()
    assert row is not None
    kept = refused = -1
    with (
        path.open("wb") as file,
        source.cursor().copy(b"copy " + rows + b" to stdout (format csv, header)") as c,
    ):
        refused = 0
        # A row at a time, the header first.
        for data in c:
            if since.refused and hashlib.sha256(data).digest() in since.refused:
                refused += 1
                continue
            file.write(data)
            kept += 1
    return Copied(path, kept, refused, row[0])


def _inner(query: str) -> str:
    # Lines of its own: the query may end in a comment.
    return f"(\n{query.strip().rstrip(';')}\n)"


def _condition(since: Since, type_code: int) -> Composable:
    """What rows must have, by the type of their watermark."""
    is_time, overlap = type_code in _TIMES, since.overlap
    if not is_time and type_code not in _WHOLE:
        msg = f"Its watermark {since.column!r} is neither a time nor a whole number."
        raise SourceError(msg)
    if not is_time and isinstance(overlap, timedelta):
        msg = (
            f"Its watermark {since.column!r} is a whole number; so must be its "
            "overlap, such as 1000."
        )
        raise SourceError(msg)
    if since.last is None:
        return SQL("")
    column = SQL("where result.{} >= ").format(Identifier(since.column))
    if not is_time:
        assert isinstance(overlap, int)
        return column + Literal(max(int(since.last) - overlap, -(2**63)))
    seconds = overlap if isinstance(overlap, int) else overlap.total_seconds()
    last = SQL("{}::{}").format(Literal(since.last), SQL(_TIMES[type_code][0]))
    return column + SQL("{} - {}::interval").format(last, Literal(f"{seconds} seconds"))


def _newest(column: str, type_code: int) -> Composable:
    newest = SQL("max({})").format(Identifier(column))
    if type_code in _TIMES:
        newest = SQL("least({}, {})").format(newest, SQL(_TIMES[type_code][1]))
        # Of no row it is null, and least passes over nulls.
        newest = SQL("case when count({}) > 0 then {} end").format(
            Identifier(column), newest
        )
    return SQL("({})::text").format(newest)


def _name(source: Connection) -> str:
    info = source.info
    # The host of a socket is its folder.
    host = "" if info.host.startswith("/") else f"@{info.host}"
    return re.sub(r"[^\w.@-]", "_", f"{info.dbname}{host}")[:LONGEST_NAME]


def _copy(source: Connection, query: str, layout: Layout, path: Path) -> None:
    inner = _inner(query)
    source.execute(EXACT)
    source.execute("start transaction isolation level repeatable read read only")
    header = source.execute(f"select * from {inner} as result limit 0".encode())
    names = [column.name for column in header.description or ()]
    layout.check(names, "The result of --query")
    statement = f"copy {inner} to stdout (format csv, header)".encode()
    with path.open("wb") as file, source.cursor().copy(statement) as copy:
        for data in copy:
            file.write(data)
