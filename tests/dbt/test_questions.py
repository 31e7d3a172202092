"""What people ask, by the queries of docs/questions.md, in PostgreSQL and in the files.

The answers were counted by hand, on the history below.
"""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from facts import append_rows, apply, calendar, step, workflow

from dagster_project.publish import DATABASE_NAME, publish
from ingest import Settings, deliver
from ingest.files.mapping import own_mapping
from ingest.store.cuts import Cut
from ingest.store.database import PROJECT, Connection

Build = Callable[..., Cut]
Answer = list[tuple[Any, ...]]

# A Wednesday.
AS_OF = datetime(2026, 3, 4, 12, tzinfo=UTC)
ACME, BETA, ANNA, BOB = (
    str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    for name in ("Acme", "Beta", "Anna", "Bob")
)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
CONFIGURATION = (
    {
        "business_entities": [
            {"id": ACME, "name": "Acme"},
            {"id": BETA, "name": "Beta"},
        ]
    },
    {
        "user_accounts": [
            {
                "id": user,
                "name": name,
                "roles": [role],
                "business_entity": None,
                "is_active": True,
            }
            for user, name, role in ((ANNA, "Anna", "planner"), (BOB, "Bob", "sales"))
        ]
    },
    calendar("office", "UTC", {day: ["09:00-17:00"] for day in WEEKDAYS}),
    workflow(
        "order",
        "standard",
        [
            step("new", 1, ["confirmed"], sla_hours=8),
            step("confirmed", 2, ["in_progress"], sla_hours=16, is_waiting=True),
            step("in_progress", 3, ["done", "confirmed"], approval_role="planner"),
            step("done", 4, []),
        ],
        is_default=True,
        calendar="office",
    ),
    workflow(
        "internal_task",
        "standard",
        [step("open", 1, ["closed"], sla_hours=4), step("closed", 2, [])],
        is_default=True,
        calendar="office",
    ),
)


def _order(
    number: int, of: str | None, region: str, *moves: tuple[str, str, str]
) -> list[dict[str, Any]]:
    """Moves of an order: its instant, status and who; an asterisk: Anna approved."""
    return [
        {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {at}")),
            "created_at": f"2026-{at}:00:00Z",
            "entity_type": "order",
            "entity_id": number,
            "to_status": status.rstrip("*"),
            "triggered_by_user_id": who,
            "business_context": {
                "region": region,
                **({"business_entity_id": of} if of else {}),
                **({"approved_by_user_id": ANNA} if status.endswith("*") else {}),
            },
        }
        for at, status, who in moves
    ]


def _task(number: int, order: int, *moves: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"task {number} {at}")),
            "created_at": f"2026-{at}:00:00Z",
            "entity_type": "internal_task",
            "entity_id": number,
            "to_status": status,
            "triggered_by_user_id": BOB,
            "transition_reason": f"{status} for an order",
            "business_context": {"order_id": order},
        }
        for at, status in moves
    ]


HISTORY = [
    *_order(
        1,
        ACME,
        "North",
        ("02-02T09", "new", ANNA),
        ("02-02T13", "confirmed", ANNA),
        ("02-03T09", "in_progress*", BOB),
        ("02-05T09", "done", BOB),
    ),
    *_order(
        2,
        ACME,
        "South",
        ("02-02T09", "new", ANNA),
        # After two working days instead of one.
        ("02-04T09", "confirmed", ANNA),
        ("02-05T09", "in_progress", BOB),
        ("02-06T09", "confirmed", BOB),
        ("02-09T09", "in_progress*", BOB),
        ("02-10T09", "done", BOB),
    ),
    # Due at 16:00 of the Wednesday: one hour of Tuesday, seven of that day.
    *_order(3, BETA, "North", ("03-03T16", "new", ANNA)),
    # Due at 17:00 of the Monday.
    *_order(4, BETA, "South", ("03-02T09", "new", ANNA)),
    # Due at 17:00 of the Wednesday, five hours away.
    *_order(5, None, "North", ("03-04T09", "new", ANNA)),
    *_order(6, ACME, "North", ("02-16T09", "new", ANNA), ("02-16T10", "done", BOB)),
    *_order(7, ACME, "North", ("02-16T09", "new", ANNA), ("02-16T11", "done", BOB)),
    # Due at 13:00 of the Tuesday.
    *_task(10, 4, ("03-03T09", "open")),
    *_task(11, 1, ("02-02T09", "open"), ("02-02T10", "closed")),
    # Due at 15:00 of the Wednesday.
    *_task(12, 3, ("03-04T11", "open")),
]
ANSWERS: list[Answer] = [
    [("new", 3, 2.1)],
    [("Beta", 1), ("none", 1)],
    [
        ("internal_task", 10, "open", "Bob", "open for an order"),
        ("order", 4, "new", "Anna", None),
    ],
    [
        ("internal_task", date(2026, 2, 2), 1),
        ("internal_task", date(2026, 3, 2), 0),
        ("order", date(2026, 2, 2), 0.8),
        ("order", date(2026, 2, 9), None),
        ("order", date(2026, 2, 16), 1),
        ("order", date(2026, 3, 2), 0),
    ],
    # Of 20, 24, 72; of 24, 24, 48; of 1, 2, 4, 48 hours.
    [("confirmed", 24, 62.4), ("in_progress", 24, 43.2), ("new", 3, 34.8)],
    [(4,)],
    [("North", 2), ("South", 1)],
    [("Bob", 2)],
    [("order", 2, "in_progress", "Bob", "wrong_role", f"Bob ({BOB}) is no planner")],
    # Nobody logged one, and the entry near the other is of Anna.
    [("internal_task", 12, "open", "Bob"), ("order", 6, "done", "Bob")],
    [("in_progress",)],
    [("internal_task", 12), ("order", 3)],
    [("order", 1)],
    [(0.75,)],
    [
        ("new", 3, None),
        ("new → done", 2, 1),
        ("new → confirmed → in_progress → confirmed → in_progress → done", 1, 192),
        ("new → confirmed → in_progress → done", 1, 72),
    ],
    [
        ("confirmed", "in_progress", 3, 38.7),
        ("in_progress", "confirmed", 1, 24),
        ("in_progress", "done", 2, 36),
        ("new", "confirmed", 2, 26),
        ("new", "done", 2, 1.5),
    ],
    # After 20, 24, 1 and 2 hours.
    [("Anna", "Bob", 4, 11.75)],
    [
        (date(2026, 3, 2), 0, 0, 0, 0),
        (date(2026, 3, 3), 1, 0, 1, 1),
        (date(2026, 3, 4), 1, 0, 2, 1),
    ],
    # Of 4 and 4 and 16; of 16, 8, 8, 8 and 8; of 1; of 2: those in confirmed.
    [(75, 20)],
    # Three of eight hours, four of eight, and one that is late.
    [("0-50 %", 1), ("50-75 %", 1), ("overdue", 1)],
]


# The audit log of the platform: of all moves since the middle of February but two.
LOGGED = [
    ("internal_task", 10, "03-03T09:00:00", BOB),
    ("order", 3, "03-03T16:00:01", ANNA),
    ("order", 4, "03-02T08:59:58", ANNA),
    ("order", 5, "03-04T09:00:02", ANNA),
    ("order", 6, "02-16T09:00:00", ANNA),
    ("order", 6, "02-16T10:00:00", ANNA),
    ("order", 7, "02-16T09:00:00", ANNA),
    ("order", 7, "02-16T11:00:00", BOB),
]


def _audit_log(path: Path) -> Path:
    """As the platform exports it."""
    rows = (
        f"{uuid.uuid5(uuid.NAMESPACE_OID, f'{table} {record} {at}')},"
        f"2026-{at}Z,{table},{record},update,{user},\n"
        for table, record, at, user in LOGGED
    )
    header = "id,created_at,table,record,action,user,changes\n"
    path.write_text("".join([header, *rows]))
    return path


def _queries() -> list[str]:
    text = (PROJECT / "docs" / "questions.md").read_text(encoding="utf-8")
    return re.findall(r"```sql\n(.*?)```", text, re.DOTALL)


def _plain(rows: Answer) -> Answer:
    """Numbers as numbers: how a database writes them is its own affair."""
    return [
        tuple(
            value
            if value is None or isinstance(value, str | date)
            else pytest.approx(float(value), abs=1e-9)
            for value in row
        )
        for row in rows
    ]


def test_questions_have_the_answers_that_were_counted_by_hand(
    connection: Connection, database_url: str, build: Build, tmp_path: Path
) -> None:
    apply(
        connection, tmp_path / "files", datetime(2026, 1, 1, tzinfo=UTC), *CONFIGURATION
    )
    append_rows(connection, HISTORY)
    log = _audit_log(tmp_path / "audit.csv")
    delivered = deliver(connection, log, Settings(own_mapping("audit_logs")))
    assert delivered.result.appended == len(LOGGED)
    build(database_url, AS_OF)
    connection.execute(
        "insert into sla.tested_cuts select max(cut) from sla.built_cuts"
    )
    folder = publish(connection, tmp_path).folder
    connection.execute("set search_path = sla; set timezone = 'UTC'")
    connection.execute(f"set status_engine.as_of = '{AS_OF}'".encode())
    queries = _queries()
    in_postgres = [
        _plain(connection.execute(query.encode()).fetchall()) for query in queries
    ]
    with duckdb.connect(folder / DATABASE_NAME, read_only=True) as analytics:
        analytics.execute("set timezone = 'UTC'")
        in_the_files = [
            _plain(analytics.execute(query).fetchall()) for query in queries
        ]
    assert in_postgres == ANSWERS
    assert in_the_files == ANSWERS
