"""A publication, opened for reading: which file it is, its cut and its clock.

What is asked of it belongs in the module of the question. Nothing here, or above it in
this package, knows PostgreSQL, dbt or Dagster: the published file is all there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import duckdb
import polars as pl

DATABASE = Path("published") / "current" / "analytics.duckdb"


class PublicationError(Exception):
    """There is no publication that can be read; the message is for a person."""


class Query(NamedTuple):
    """SQL of DuckDB with the values of its named parameters, all of them used."""

    sql: str
    parameters: Mapping[str, object]


@dataclass(frozen=True)
class Publication:
    """One published file: what it says does not change, whatever the time is.

    cut: the cut that every table is of. as_of: the clock of all its figures, UTC.
    """

    connection: duckdb.DuckDBPyConnection
    cut: int
    as_of: datetime

    def frame(self, query: Query) -> pl.DataFrame:
        """The rows of a query; instants are UTC."""
        return self.connection.execute(query.sql, dict(query.parameters)).pl()

    def close(self) -> None:
        """Give the file back; the next publication does not wait for it."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_publication(home: Path) -> Publication:
    """Open what is published in a home folder, read-only.

    The file is the one of now: a publication that comes later takes another, so all
    figures of one `Publication` are of one cut.

    Raises:
        PublicationError: there is none, or it is none of these files.
    """
    link = home / DATABASE
    if not link.exists():
        msg = f"Nothing is published in {home}. Run: status-engine run."
        raise PublicationError(msg)
    return open_file(link.resolve())


def open_file(path: Path) -> Publication:
    """Open one published DuckDB file, read-only; for files that were copied elsewhere.

    Raises:
        PublicationError: it is none.
    """
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise _unreadable(path, error) from error
    try:
        connection.execute("set timezone = 'UTC'")
        said = connection.execute("select cut, as_of from publication").pl()
        cut, as_of = said.row(0)
    except (duckdb.Error, pl.exceptions.OutOfBoundsError) as error:
        connection.close()
        raise _unreadable(path, error) from error
    return Publication(connection, cut, as_of)


def _unreadable(path: Path, error: Exception) -> PublicationError:
    reason = str(error).partition("\n")[0]
    return PublicationError(
        f"{path} can't be read as a publication: {reason}. "
        "Run: status-engine publish, of this release."
    )
