"""Pinning a cut: which committed batches a run reads (S17).

What is built of a cut belongs in dbt.
"""

from datetime import datetime
from typing import NamedTuple

from ingest.store.database import Connection
from ingest.store.locks import Lock, hold_to_the_end


class Cut(NamedTuple):
    """A numbered set of batches, and the instant that is now for its run (S15)."""

    number: int
    as_of: datetime


def pin(connection: Connection, run_id: str, as_of: datetime | None = None) -> Cut:
    """Stamp every committed batch without a cut with a new one; once a run.

    Args:
        connection: open, outside a transaction; the pin is one transaction on it.
        run_id: of the run that reads the cut; asked again, it gets the same cut.
        as_of: the run's instant; the database's clock by default.
    """
    with connection.transaction():
        hold_to_the_end(connection, Lock.PIN)
        found = of_run(connection, run_id)
        if found is not None:
            return found
        row = connection.execute(
            """
            insert into raw.cuts (as_of, run_id)
            values (coalesce(%s, clock_timestamp()), %s)
            returning cut, as_of
            """,
            [as_of, run_id],
        ).fetchone()
        assert row is not None
        cut = Cut(*row)
        connection.execute(
            "update raw.batches set cut = %s where cut is null", [cut.number]
        )
    _refresh_statistics(connection, cut)
    return cut


def _refresh_statistics(connection: Connection, cut: Cut) -> None:
    """ANALYZE what grew: on a new database the planner knows nothing yet.

    Measured on 20,000 transitions never analyzed: a build of 71 s instead of 8 s.
    """
    row = connection.execute(
        """
        select coalesce(sum(appended_count), 0) > 0.1 * (
            select greatest(reltuples, 0) from pg_class
            where oid = 'raw.status_transitions'::regclass
        )
        from raw.batches where cut = %s
        """,
        [cut.number],
    ).fetchone()
    if row is not None and row[0]:
        connection.execute(
            "analyze raw.status_transitions, raw.audit_entries, raw.batches, "
            "raw.status_workflows, raw.status_workflow_steps, raw.user_accounts, "
            "raw.business_entities, raw.calendars, raw.calendar_pages"
        )


def of_run(connection: Connection, run_id: str) -> Cut | None:
    """The cut that a run pinned, if it did."""
    row = connection.execute(
        "select cut, as_of from raw.cuts where run_id = %s", [run_id]
    ).fetchone()
    return Cut(*row) if row else None


def newest(connection: Connection) -> Cut | None:
    """The last cut that was pinned, if any."""
    row = connection.execute(
        "select cut, as_of from raw.cuts order by cut desc limit 1"
    ).fetchone()
    return Cut(*row) if row else None
