"""A role with rights on schema sla alone reads what readers need (S16)."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from facts import append_rows, apply, at, calendar, step, workflow

from dagster_project.explain import as_of, explain
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
OFFICE = calendar("office", "Europe/Amsterdam", {"thursday": ["09:00-17:00"]})
ACME, ANNA = (str(uuid.uuid5(uuid.NAMESPACE_OID, name)) for name in ("Acme", "Anna"))
BUSINESS_ENTITIES = {"business_entities": [{"id": ACME, "name": "Acme"}]}
USERS = {
    "user_accounts": [
        {
            "id": ANNA,
            "name": "Anna",
            "roles": ["sales"],
            "business_entity": "Acme",
            "is_active": True,
        }
    ]
}
STANDARD = workflow(
    "order",
    "standard",
    [step("new", 1, ["sent"], sla_hours=2), step("sent", 2, [])],
    is_default=True,
    calendar="office",
)
# The first of January 2026 is a Thursday.
ASKED = """
select
    {schema}.business_deadline('office', timestamptz '2026-01-01 15:00Z', 2),
    {schema}.business_deadline(entered_at => timestamptz '2026-01-01 15:00Z',
        hours => 2, calendar => null::uuid),
    {schema}.business_deadline(
        (select calendar_id from sla.status_intervals
            where status = 'new' and entity_id = 1),
        timestamptz '2026-01-01 15:00Z', 1
    ),
    {schema}.business_deadline('none', timestamptz '2026-01-01 15:00Z', 2),
    {schema}.business_seconds('office', timestamptz '2026-01-01 15:00Z',
        timestamptz '2026-01-08 08:30Z'),
    {schema}.business_seconds(null::uuid, timestamptz '2026-01-01 15:00Z',
        timestamptz '2026-01-01 15:01Z')
"""


@pytest.fixture
def reader(connection: Connection) -> Iterator[str]:
    """A role that may do nothing yet."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    connection.execute(f"create role {role}")
    yield role
    connection.execute(f"drop owned by {role}")
    connection.execute(f"drop role {role}")


def _order(number: int, day: float, status: str = "new") -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "created_at": at(day),
        "entity_type": "order",
        "entity_id": number,
        "to_status": status,
        "triggered_by_user_id": ANNA,
        "business_context": {
            "business_entity_id": ACME,
            "approved_by_user_id": ANNA,
        },
    }


def _reads_everything(url: str, role: str, orders: int) -> None:
    with database.connect(url) as session:
        session.execute(f"set role {role}")
        relations = session.execute(
            "select relname::text from pg_class where relkind in ('r', 'v')"
            " and relnamespace = 'sla'::regnamespace"
        ).fetchall()
        assert len(relations) >= 16
        for (name,) in relations:
            session.execute(f"select * from sla.{name}").fetchall()
        asked = session.execute(ASKED.format(schema="sla").encode()).fetchone()
        assert asked == (
            at(7 + 9 / 24),
            at(17 / 24),
            at(16 / 24),
            None,
            5400,
            60,
        )
        names = session.execute(
            "select distinct triggered_by_user_name, approved_by_user_name"
            " from sla.audit_trail"
        ).fetchall()
        assert names == [("Anna", "Anna")]
        entities = session.execute(
            "select business_entity_name from sla.entity_current_status"
            " inner join sla.business_entities using (business_entity_id)"
        ).fetchall()
        assert entities == [("Acme",)] * orders
        users = session.execute("select user_id, user_name from sla.users")
        assert users.fetchall() == [(uuid.UUID(ANNA), "Anna")]
        told = explain(session, "order", 1)
        assert told.intervals[0]["business_entity_name"] == "Acme"
        assert told.windows[0]["calendar_name"] == "office"
        assert as_of(session, "order", 1, at(0.3))["current_status"] == "new"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select raw.business_deadline('office', now(), 2)")


def test_a_role_with_rights_on_sla_alone_reads_asks_and_explains(
    database_url: str, connection: Connection, build: Build, tmp_path: Path, reader: str
) -> None:
    apply(connection, tmp_path / "1", at(0), BUSINESS_ENTITIES)
    apply(connection, tmp_path / "2", at(0), USERS, OFFICE, STANDARD)
    append_rows(connection, [_order(1, 0.25), _order(1, 8, "sent")])
    build(database_url, at(9))
    connection.execute(f"grant usage on schema sla to {reader}")
    connection.execute(f"grant select on all tables in schema sla to {reader}")
    _reads_everything(database_url, reader, 1)
    append_rows(connection, [_order(2, 0.25)])
    _reads_everything(database_url, reader, 2)
    build(database_url, at(9))
    _reads_everything(database_url, reader, 2)
    build(database_url, at(9), full_refresh=True)
    _reads_everything(database_url, reader, 2)


def test_calendars_answer_in_sla_as_in_raw_and_follow_a_swap(
    database_url: str, connection: Connection, build: Build, tmp_path: Path, reader: str
) -> None:
    apply(connection, tmp_path, at(0), OFFICE, STANDARD)
    append_rows(connection, [_order(1, 0.25)])
    build(database_url, at(1))
    connection.execute("create schema analyst")
    connection.execute(
        "create view analyst.due as"
        " select sla.business_deadline('office', timestamptz '2026-01-01 15:00Z', 2)"
    )
    connection.execute(
        "revoke execute on function"
        " sla.business_seconds(text, timestamptz, timestamptz) from public"
    )
    connection.execute(f"grant usage on schema sla to {reader}")
    for _ in range(2):
        ours, theirs = (
            connection.execute(ASKED.format(schema=schema).encode()).fetchone()
            for schema in ("sla", "raw")
        )
        assert ours == theirs
        assert connection.execute("table analyst.due").fetchone() == (at(7 + 9 / 24),)
        with database.connect(database_url) as session:
            session.execute(f"set role {reader}")
            session.execute("select sla.business_deadline('office', now(), 2)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("select sla.business_seconds('office', now(), now())")
        build(database_url, at(1), full_refresh=True)
    said = connection.execute(
        "select count(*), min(obj_description(oid, 'pg_proc')) ~ 'of business time'"
        " from pg_proc where pronamespace = 'sla'::regnamespace"
    ).fetchone()
    assert said == (5, True)
    connection.execute("drop schema analyst cascade")
