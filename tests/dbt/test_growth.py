"""A build of many rows after one of few costs what they cost, whatever was there."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from facts import append_rows, apply, assert_as_oracle, at, calendar, step, workflow

from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
ENTITIES = 4_000
STANDARD = workflow(
    "order",
    "standard",
    [step("new", 1, ["done"], sla_hours=24), step("done", 2, [])],
    is_default=True,
)
BUILT = ("sla.status_intervals", "sla.workflow_violations", "sla.changed_entities")


def _rows(first: int, number: int, *statuses: str) -> list[dict[str, Any]]:
    return [
        {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{entity} {place}")),
            "created_at": at(1 + place),
            "entity_type": "order",
            "entity_id": entity,
            "to_status": status,
        }
        for entity in range(first, first + number)
        for place, status in enumerate(statuses)
    ]


def _pages_read(connection: Connection, table: str, rows: int) -> int:
    """Pages of a table that were read, from disk or not, once so many rows are told."""
    asked = (
        "select n_tup_ins, heap_blks_read + heap_blks_hit from pg_stat_user_tables"
        " inner join pg_statio_user_tables using (relid) where relid = %s::regclass"
    )
    while True:
        # Sessions tell what they did when they end.
        inserted, pages = connection.execute(asked, [table]).fetchone() or (0, 0)
        if inserted >= rows:
            return int(pages)
        connection.execute("select pg_sleep(0.05)")


@pytest.mark.first_build
def test_a_build_after_a_tiny_one_reads_no_built_table_for_each_new_row(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """Nested loops over a table that grew under them took 72 minutes of 2 million."""
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, _rows(1, 2, "new"))
    build(database_url, at(9))
    append_rows(connection, _rows(3, ENTITIES, "new", "lost"))
    build(database_url, at(9))
    for table, rows in (
        ("sla.workflow_violations", 2 * ENTITIES),
        ("sla.status_intervals", 2 * ENTITIES),
        ("sla.changed_entities", ENTITIES),
    ):
        assert _pages_read(connection, table, rows) < 10 * rows
    assert_as_oracle(connection, at(9), ["status_intervals", "workflow_violations"])


@pytest.mark.first_build
def test_tables_that_grew_by_more_than_a_tenth_are_analyzed(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    def analyzed() -> list[tuple[int, int]]:
        """How often a build had it analyzed, not PostgreSQL itself; rows as known."""
        asked = (
            "select analyze_count, reltuples::integer from pg_class"
            " inner join pg_stat_user_tables on relid = oid where oid = %s::regclass"
        )
        found = [connection.execute(asked, [name]).fetchone() for name in BUILT]
        return [row for row in found if row]

    def times() -> list[int]:
        return [count for count, _ in analyzed()]

    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, _rows(1, 1, "new", "lost"))
    build(database_url, at(9))
    first = times()
    append_rows(connection, _rows(10, 30, "new", "lost"))
    build(database_url, at(9))
    assert analyzed() == [(first[0] + 1, 62), (first[1] + 1, 62), (first[2] + 1, 30)]
    append_rows(connection, _rows(50, 3, "new", "lost"))
    build(database_url, at(9))
    assert times() == [count + 1 for count in first]
    append_rows(connection, _rows(60, 6, "new", "lost"))
    build(database_url, at(9))
    assert analyzed() == [(first[0] + 2, 80), (first[1] + 2, 80), (first[2] + 2, 39)]


def test_a_calendar_is_known_to_the_planner_once_it_is_applied(
    connection: Connection, tmp_path: Path
) -> None:
    """Else it takes all pages of a calendar for a few: 107 s instead of 2."""
    hours = {"monday": ["09:00-17:00"]}
    apply(connection, tmp_path, at(0), calendar("office", "Europe/Amsterdam", hours))
    for table in ("raw.calendars", "raw.calendar_pages"):
        row = connection.execute(
            f"select reltuples = (select count(*) from {table}) from pg_class"
            f" where oid = '{table}'::regclass".encode()
        ).fetchone()
        assert row == (True,)
