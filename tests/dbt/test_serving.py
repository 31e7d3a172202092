"""Look-ups and lists of entity_current_status, as the planner serves them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import pytest
from facts import append_rows, apply, at, step, workflow
from nights import tries

from dagster_project.builds import PLANNING
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
FreshDatabase = Callable[..., Any]
# By day as many as no planner reads whole for one either.
ENTITIES = tries(200_000, 1_000_000)
STANDARD = workflow(
    "order",
    "standard",
    [
        step(
            "new",
            1,
            ["done", "held"],
            sla_hours=24,
            notification_settings={"at_risk_hours": 6},
        ),
        step("done", 2, []),
        step(
            "held",
            3,
            ["done"],
            auto_transition_conditions={
                "rules": [{"to": "done", "after_hours": 1, "append": True}]
            },
        ),
    ],
    is_default=True,
)
# Entities that were built: stays and transitions alike; one status in fifty is new.
FILL = """
insert into raw.batches (batch_id, kind, source, source_row_count, read_count,
    appended_count, duplicate_count, rejected_count, cut)
overriding system value
select 1000 + n, 'transitions', 'test', 10000, 10000, 10000, 0, 0, 1
from generate_series(1, {batches}) as n;
insert into raw.status_transitions (id, created_at, entity_type, entity_id, to_status,
    batch_id, batch_row)
select gen_random_uuid(), timestamptz '2026-01-02' + n % 864000 * interval '1 second',
    'order', 1000 + n, case n % 50 when 0 then 'new' else 'at ' || n % 50 end,
    1000 + 1 + n % {batches}, n
from generate_series(1, {entities}) as n;
insert into sla.status_intervals (interval_id, entity_type, entity_id, status, visit,
    entered_at, transition_count, first_transition_id, last_transition_id,
    sla_deadline, batch_id, entity_created_at, is_final, stay_number,
    is_waiting)
select gen_random_uuid(), entity_type, entity_id, to_status, 1, created_at, 1, id, id,
    created_at + interval '24 hours', batch_id, created_at, false, 1, false
from raw.status_transitions where batch_id > 1000;
"""


@pytest.fixture(scope="module")
def large(
    fresh_database: FreshDatabase,
    built_empty: str,
    build: Build,
    tmp_path_factory: Any,
) -> Iterator[Connection]:
    with fresh_database(built_empty) as url, database.connect(url) as connection:
        folder: Path = tmp_path_factory.mktemp("large")
        apply(connection, folder, at(0), STANDARD)
        append_rows(connection, [_order(1)])
        build(url, at(5))
        fill = FILL.format(entities=ENTITIES, batches=ENTITIES // 10_000)
        connection.execute(fill.encode())
        connection.execute("vacuum analyze raw.status_transitions")
        connection.execute("vacuum analyze raw.batches")
        connection.execute("vacuum analyze sla.status_intervals")
        yield connection


def _order(number: int, **given: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "created_at": at(1),
        "entity_type": "order",
        "entity_id": number,
        "to_status": "new",
        **given,
    }


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _plan(connection: Connection, query: LiteralString) -> list[dict[str, Any]]:
    """The nodes that were executed, of a query of a session that is as any."""
    row = connection.execute(
        f"explain (analyze, buffers, format json, timing off) {query}"
    ).fetchone()
    assert row is not None
    return [n for n in _nodes(row[0][0]["Plan"]) if n.get("Actual Loops")]


def _read_whole(nodes: list[dict[str, Any]]) -> set[str]:
    """Large relations that were read from one end to the other."""
    return {
        node["Relation Name"]
        for node in nodes
        if node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan", "Index Only Scan")
        and node["Relation Name"] in ("status_transitions", "status_intervals")
        and node["Actual Rows"] * node["Actual Loops"] > ENTITIES / 10
    } | {
        node["Relation Name"]
        for node in nodes
        if node["Node Type"] == "Seq Scan"
        and node["Relation Name"] in ("status_transitions", "status_intervals")
    }


LISTS: dict[str, LiteralString] = {
    "one entity": "where entity_type = 'order' and entity_id = 4711",
    "worst first": "where is_overdue order by sla_deadline limit 100",
    "worst of a type": "where is_overdue and entity_type = 'order'"
    " order by sla_deadline limit 100",
    "of a business entity": "where is_overdue and business_entity_id = 'none'"
    " order by sla_deadline limit 100",
    "due within two minutes": "where sla_deadline >= '2026-01-05 12:00Z'"
    " and sla_deadline < '2026-01-05 12:02Z' order by sla_deadline",
}


@pytest.mark.parametrize("unbuilt", [0, 100])
@pytest.mark.parametrize("name", LISTS)
def test_a_look_up_and_a_list_read_no_large_table_whole(
    large: Connection, name: str, unbuilt: int
) -> None:
    query: LiteralString = f"select * from sla.entity_current_status {LISTS[name]}"
    with large.transaction(force_rollback=True):
        if unbuilt:
            append_rows(large, [_order(2_000_000 + n) for n in range(unbuilt)])
        assert _read_whole(_plan(large, query)) == set()


def test_rules_are_asked_of_entities_in_their_status_alone(large: Connection) -> None:
    nodes = _plan(large, "select * from sla.automatic_transitions")
    assert not _read_whole(nodes)
    # Also of an index no more than leads to them.
    pages = nodes[0]["Shared Hit Blocks"] + nodes[0]["Shared Read Blocks"]
    assert pages < 200


def test_a_build_finds_the_transitions_of_touched_entities_by_an_index(
    large: Connection,
) -> None:
    """S17. As it did not while views of staging had a `with`."""
    with large.transaction(force_rollback=True):
        large.execute(
            "create temporary table touched as"
            " select 'order' as entity_type, 1000 + 197 * n as entity_id"
            " from generate_series(1, 1000) as n"
        )
        large.execute("analyze touched")
        large.execute("set local status_engine.cut = 1")
        for name, value in PLANNING.items():
            large.execute("select set_config(%s, %s, true)", [name, value])
        nodes = _plan(
            large,
            "select transitions.* from sla_staging.pinned_transitions as transitions"
            " inner join touched using (entity_type, entity_id)",
        )
    assert nodes[0]["Actual Rows"] == 1000
    assert not _read_whole(nodes)


def test_what_is_at_risk_is_due_within_the_hours_of_its_step(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1)])
    build(database_url, at(1))
    found = []
    for instant in (at(1.7), at(1.75), at(2), at(2, 1)):
        connection.execute(
            "select set_config('status_engine.as_of', %s, false)", [str(instant)]
        )
        found.append(
            connection.execute(
                "select is_at_risk, is_overdue, seconds_in_status, seconds_to_deadline"
                " from sla.entity_current_status"
            ).fetchone()
        )
    assert found == [
        (False, False, 60480, 25920),
        (True, False, 64800, 21600),
        (True, False, 86400, 0),
        (False, True, 86400, -1),
    ]


def test_the_columns_are_those_that_others_read_in_their_order(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, at(0))
    cursor = connection.execute("select * from sla.entity_current_status")
    assert [column.name for column in cursor.description or ()] == [
        "id",
        "created_at",
        "entity_type",
        "entity_id",
        "current_status",
        "status_since",
        "sla_deadline",
        "is_overdue",
        "workflow_id",
        "last_transition_id",
        "status_label",
        "status_color",
        "is_final",
        "business_entity_id",
        "visit",
        "deadline_source",
        "seconds_in_status",
        "seconds_to_deadline",
        "is_at_risk",
        "workflow_name",
        "entity_key",
        "entity_key_namespace",
        "at_risk_from",
    ]
