"""A query on another PostgreSQL as a CSV file, to be delivered like any other.

What becomes of the file belongs in delivery.py.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from ingest.errors import SourceError
from ingest.files.layout import Layout
from ingest.store.database import Connection, reach

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
            try:
                _copy(source, query, layout, path)
            except psycopg.Error as error:
                reason = error.diag.message_primary or str(error).strip()
                msg = f"The source database refused: {reason}. Check --query."
                raise SourceError(msg) from error
        yield [path]


def _name(source: Connection) -> str:
    info = source.info
    # The host of a socket is its folder.
    host = "" if info.host.startswith("/") else f"@{info.host}"
    return re.sub(r"[^\w.@-]", "_", f"{info.dbname}{host}")[:LONGEST_NAME]


def _copy(source: Connection, query: str, layout: Layout, path: Path) -> None:
    # Lines of its own: the query may end in a comment.
    inner = f"(\n{query.strip().rstrip(';')}\n)"
    source.execute(EXACT)
    source.execute("start transaction isolation level repeatable read read only")
    header = source.execute(f"select * from {inner} as result limit 0".encode())
    names = [column.name for column in header.description or ()]
    layout.check(names, "The result of --query")
    statement = f"copy {inner} to stdout (format csv, header)".encode()
    with path.open("wb") as file, source.cursor().copy(statement) as copy:
        for data in copy:
            file.write(data)
