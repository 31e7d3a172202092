"""What a build made is known in the database, whichever release it was of."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from dagster_project import swap
from dagster_project.resources import Warehouse
from ingest.errors import StatusEngineError
from ingest.store import cuts
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
AS_OF = datetime(2026, 12, 1, tzinfo=UTC)
COMMENTS = """
select nspname, obj_description(oid, 'pg_namespace') from pg_namespace
where nspname ~ '^(sla|office)'
order by 1
"""
MADE = "Made by a build of the Status Engine."
MADE_BESIDE = f"{MADE[:-1]}, beside the schema of its readers."


class KilledError(Exception):
    """What ends a build before dbt has made anything."""


def _pin(connection: Connection) -> Cut:
    return cuts.pin(connection, uuid.uuid4().hex, AS_OF)


@pytest.mark.parametrize("is_aside", [True, False])
def test_a_build_that_was_killed_at_once_is_no_hindrance_to_the_next(
    database_url: str, connection: Connection, is_aside: bool
) -> None:
    warehouse, cut = Warehouse(database_url=database_url), _pin(connection)
    for _ in range(2):
        building = (
            warehouse.building_aside(cut, "office")
            if is_aside
            else warehouse.building(cut)
        )
        with pytest.raises(KilledError), building as build:
            raise KilledError
        assert connection.execute(COMMENTS).fetchall() == [
            (build.schema, MADE),
            (f"{build.schema}_staging", MADE_BESIDE),
        ]


def test_what_a_killed_build_of_an_older_release_left_is_no_hindrance(
    database_url: str, connection: Connection
) -> None:
    for name in ("sla", "sla_staging", "sla_next", "sla_next_staging", "sla_old"):
        connection.execute(f"create schema {name}".encode())
    building = Warehouse(database_url=database_url).building(_pin(connection))
    with pytest.raises(KilledError), building:
        raise KilledError


def test_the_mark_goes_along_with_the_schema(
    database_url: str, connection: Connection, build: Build
) -> None:
    marked = [("sla", MADE), ("sla_staging", MADE_BESIDE)]
    build(database_url, AS_OF)
    assert connection.execute(COMMENTS).fetchall() == marked
    # As a release that marked nothing left it, or somebody who said something else.
    connection.execute("comment on schema sla is 'Ours'")
    connection.execute("comment on schema sla_staging is null")
    with psycopg.connect(database_url) as reader:
        reader.execute("select from sla.status_intervals")
        build(database_url, AS_OF, full_refresh=True)
        assert connection.execute(COMMENTS).fetchall() == [
            marked[0],
            ("sla_old", MADE),
            ("sla_old_staging", MADE_BESIDE),
            marked[1],
        ]
    build(database_url, AS_OF, full_refresh=True)
    assert connection.execute(COMMENTS).fetchall() == marked


def test_keys_that_a_later_release_has_no_more_are_not_other_peoples(
    database_url: str, connection: Connection, build: Build
) -> None:
    """People's indexes and constraints go over to the new tables; builds' own don't."""
    build(database_url, AS_OF)
    dbt_named = "d" * 32
    for statement in (
        "create index status_intervals_gone on sla.status_intervals (sla_hours)",
        f"create index {dbt_named} on sla.status_intervals (status)",
        "create index status_intervals_mine on sla.status_intervals (sla_hours)",
        "alter table sla.status_intervals add constraint status_intervals_gone_check "
        "check (visit > 0)",
        "alter table sla.status_intervals add constraint status_intervals_mine_check "
        "check (visit > 0)",
        "insert into sla_staging.definitions values ('status_intervals_gone', ''), "
        "('status_intervals_gone_check', '')",
    ):
        connection.execute(statement.encode())
    build(database_url, AS_OF, full_refresh=True)
    found = connection.execute(
        "select relname::text from pg_class where relnamespace = 'sla'::regnamespace "
        "union select conname::text from pg_constraint "
        "where connamespace = 'sla'::regnamespace"
    ).fetchall()
    names = {name for (name,) in found}
    assert {"status_intervals_mine", "status_intervals_mine_check"} < names
    gone = {"status_intervals_gone", "status_intervals_gone_check", dbt_named}
    assert not gone & names


def test_what_a_build_made_and_somebody_made_anew_is_theirs(
    connection: Connection,
) -> None:
    swap.make(connection, "office")
    connection.execute("drop schema office")
    connection.execute("create schema office")
    before: list[Any] = connection.execute(COMMENTS).fetchall()
    with pytest.raises(StatusEngineError, match="Schema office was made by no build"):
        swap.make(connection, "office")
    assert connection.execute(COMMENTS).fetchall() == before
