"""What a session's search_path names changes nothing in functions and views."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from facts import append_rows, apply, at, step, workflow

from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
CALENDAR = {
    "calendar_name": "office",
    "timezone": "Europe/Amsterdam",
    "windows": {"monday": ["09:00-17:00"], "thursday": ["09:00-17:00"]},
    "covers": [2026, 2026],
}
STANDARD = workflow(
    "order",
    "standard",
    [
        step("new", 1, ["sent"], sla_hours=24),
        step("sent", 2, ["done"], sla_hours=3),
        step("done", 3, []),
    ],
    is_default=True,
    calendar="office",
)
LIKE = """
create schema evil;
create function evil.lie(text, text) returns boolean
language sql immutable as 'select false';
create function evil.lie(bigint, bigint) returns boolean
language sql immutable as 'select false';
create function evil.lie(uuid, uuid) returns boolean
language sql immutable as 'select false';
create function evil.lie(timestamptz, timestamptz) returns boolean
language sql immutable as 'select false';
create function evil.truth(jsonb, jsonb) returns boolean
language sql immutable as 'select true';
create operator evil.= (leftarg = text, rightarg = text, function = evil.lie);
create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.lie);
create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.lie);
create operator evil.<> (leftarg = text, rightarg = text, function = evil.lie);
create operator evil.<= (
    leftarg = timestamptz, rightarg = timestamptz, function = evil.lie
);
create operator evil.@> (leftarg = jsonb, rightarg = jsonb, function = evil.truth);
create function evil.now() returns timestamptz
language sql stable as $$ select timestamptz '2001-01-01 00:00Z' $$;
create function evil.clock_timestamp() returns timestamptz
language sql stable as $$ select timestamptz '2001-01-01 00:00Z' $$;
create function evil.lower(text) returns text
language sql immutable as $$ select 'evil' $$;
create function evil.width_bucket(anyelement, anyarray) returns integer
language sql immutable as 'select 1';
create function evil.gen_random_uuid() returns uuid
language sql as $$ select '00000000-0000-0000-0000-000000000666'::uuid $$;
create function evil.jsonb_typeof(jsonb) returns text
language sql immutable as $$ select 'evil' $$;
create function evil.count(anyelement) returns bigint
language sql immutable as 'select 0::bigint';
create table evil.status_transitions (like raw.status_transitions);
create table evil.status_workflows (like raw.status_workflows);
create table evil.calendar_pages (like raw.calendar_pages);
create table evil.batches (like raw.batches);
"""
RECORD = """
select r.from_status, r.to_status, r.workflow_id, r.step_id, r.sla_deadline,
    r.deadline_source, r.created_at
from raw.record_transition(
    'order', %s, %s, created_at => %s, is_first => %s,
    business_context => '{"approved_by_user_id": null}'
) as r
"""


@pytest.fixture
def evil(connection: Connection, database_url: str) -> Iterator[Connection]:
    connection.execute(LIKE)
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("set timezone = 'UTC'; set search_path = evil, pg_catalog")
        yield session


def test_every_function_of_ours_has_its_search_path_or_a_parsed_body(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, at(5))
    found = connection.execute(
        """
        select
            oid::regprocedure::text,
            prosqlbody is not null
            or 'search_path=pg_catalog, pg_temp' = any(proconfig)
        from pg_proc
        where
            pronamespace
            = any('{raw, sla, sla_staging}'::regnamespace[])
        """
    ).fetchall()
    assert [name for name, is_fixed in found if not is_fixed] == []
    assert len(found) == 25


def test_what_a_search_path_hides_is_recorded_and_derived_as_ever(
    database_url: str,
    connection: Connection,
    evil: Connection,
    build: Build,
    tmp_path: Path,
) -> None:
    apply(connection, tmp_path, at(0), CALENDAR, STANDARD)
    append_rows(
        connection,
        [
            {
                "id": f"00000000-0000-0000-0000-00000000000{number}",
                "created_at": at(5),
                "entity_type": "order",
                "entity_id": number,
                "to_status": "new",
            }
            for number in (1, 2)
        ],
    )
    build(database_url, at(6))

    def recorded(session: Connection, number: int) -> list[Any]:
        facts = [(number, "new", at(5.1), False), (number, "sent", at(5.4), False)]
        return [session.execute(RECORD, given).fetchone() for given in facts]

    def told(session: Connection, number: int) -> list[Any]:
        """By the built rows, by the function of what waits, and as of an instant."""
        session.execute(
            "select set_config('status_engine.as_of', %s, false)", [str(at(9))]
        )
        return [
            session.execute(
                f"select current_status, status_since, sla_deadline, is_overdue, "
                f"workflow_name from sla.{view} where entity_id operator(pg_catalog.=) "
                f"{number}".encode()
            ).fetchall()
            for view in ("entity_current_status", "status_as_of")
        ]

    assert told(evil, 2) == told(connection, 1)
    assert recorded(evil, 2) == recorded(connection, 1)
    assert told(evil, 2) == told(connection, 1)
    build(database_url, at(6))
    assert told(evil, 2) == told(connection, 1)
    for left in ("status_transitions", "batches"):
        assert connection.execute(f"table evil.{left}".encode()).fetchall() == []


def test_what_is_refused_is_refused_whatever_the_search_path(
    connection: Connection, evil: Connection, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), CALENDAR, STANDARD)
    connection.execute(RECORD, (1, "new", at(5), True))
    for facts, rule in (
        ((1, "done", at(6), False), "illegal_transition"),
        ((1, "new", at(6), True), "expected_status"),
        ((1, "lost", at(6), False), "unknown_status"),
    ):
        with pytest.raises(psycopg.Error) as refused:
            evil.execute(RECORD, facts)
        assert refused.value.diag.constraint_name == rule
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        evil.execute("update raw.batches set source = 'another'")


def test_deadlines_are_told_as_ever(
    connection: Connection, evil: Connection, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), CALENDAR, STANDARD)
    ask = (
        "select raw.business_deadline('office', %s::timestamptz, 12.5),"
        " raw.business_seconds('office', %s::timestamptz, %s::timestamptz)"
    )
    given = (at(4), at(4), at(11))
    asked = [session.execute(ask, given).fetchone() for session in (evil, connection)]
    assert asked[0] == asked[1]
    assert None not in asked[0]


def test_functions_are_made_alike_by_whoever_upgrades(
    empty_database_url: str, connection: Connection
) -> None:
    """Bodies are parsed in a migration too, whose role may have a search_path."""
    from psycopg.conninfo import make_conninfo

    from ingest.store import database

    with psycopg.connect(empty_database_url, autocommit=True) as owner:
        owner.execute(
            "create schema evil; create function evil.lower(text) returns text "
            "language sql immutable as $$ select 'evil' $$"
        )
    url = make_conninfo(empty_database_url, options="-c search_path=evil,pg_catalog")
    made = (
        "select pg_get_functiondef(oid) from pg_proc "
        "where pronamespace = 'raw'::regnamespace order by oid::regprocedure::text"
    )
    with database.connect(url) as upgraded:
        database.upgrade(upgraded)
        upgraded.execute("set search_path = public")
        theirs = upgraded.execute(made).fetchall()
    connection.execute("set search_path = public")
    assert theirs == connection.execute(made).fetchall()
