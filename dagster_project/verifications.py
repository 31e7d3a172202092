"""What verifications of the published tables found; kept in their schema.

So a failure outlasts builds and publications, and goes with what a full refresh
replaces, or with a verification that finds no difference. Comparing is done in aside.
"""

from datetime import UTC, datetime
from typing import NamedTuple

from psycopg.sql import SQL, Identifier

from dagster_project.swap import is_there
from ingest.errors import StatusEngineError
from ingest.store.cuts import Cut
from ingest.store.database import Connection

TABLE = "verifications"
# Lines about the rows that differ.
FIRST = 20
MENDING = (
    "Nothing is published until it is mended. Run: status-engine build --full-refresh, "
    "or status-engine verify afterwards."
)


class VerificationError(StatusEngineError):
    """The published tables are known not to be what a full build makes."""


class Failure(NamedTuple):
    """Of which cut, when it was found, and what, in words."""

    cut: int
    found_at: datetime
    failure: str

    def __str__(self) -> str:
        """A sentence: what, since when, what to do."""
        return (
            f"Cut {self.cut} failed its verification of "
            f"{self.found_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {self.failure}. "
            f"{MENDING}"
        )


def record_equal(connection: Connection, cut: Cut) -> None:
    """The tables of a cut are a full build whose tests passed, or equal one."""
    with connection.transaction():
        connection.execute(f"delete from sla.{TABLE}")
        connection.execute(
            f"insert into sla.{TABLE} (cut, found_at) values (%s, %s)",
            [cut.number, datetime.now(UTC)],
        )


def record_failure(
    connection: Connection,
    cut: Cut,
    failure: str,
    difference_count: int | None = None,
    first_differences: str = "",
) -> Failure:
    """The tables of a cut are not what a full build makes.

    Args:
        connection: open.
        cut: what they are of.
        failure: what was found, in words.
        difference_count: rows that differ, where they were counted.
        first_differences: some of them, a line each.
    """
    found = Failure(cut.number, datetime.now(UTC), failure)
    connection.execute(
        f"insert into sla.{TABLE} (cut, found_at, failure, difference_count, "
        "first_differences) values (%s, %s, %s, %s, %s)",
        [*found, difference_count, first_differences],
    )
    return found


def standing_failure(connection: Connection, schema: str = "sla") -> Failure | None:
    """The newest failure that nothing has cleared since."""
    # Builds of older releases kept none.
    if not is_there(connection, schema, TABLE):
        return None
    row = connection.execute(
        SQL(
            "select cut, found_at, failure from {} "
            "where failure is not null order by found_at desc limit 1"
        ).format(Identifier(schema, TABLE))
    ).fetchone()
    return Failure(*row) if row else None


def equal_cut(connection: Connection) -> int | None:
    """The last cut of which the tables were, or equalled, a full build."""
    if not is_there(connection, "sla", TABLE):
        return None
    row = connection.execute(
        f"select max(cut) from sla.{TABLE} where failure is null"
    ).fetchone()
    return row[0] if row else None


def require_none(connection: Connection) -> None:
    """Nothing may go on as if it were right that is known not to be.

    Raises:
        VerificationError: a failure stands.
    """
    failure = standing_failure(connection)
    if failure:
        raise VerificationError(str(failure))
