"""What the audit logs say of a transition: by an independent count, built or not."""

import json
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from facts import append_rows, at, published
from nights import tries
from oracle import Row

from dagster_project.publish import DATABASE_NAME, publish
from dagster_project.resources import Warehouse
from ingest import Settings, deliver
from ingest.files.mapping import own_mapping
from ingest.store import cuts
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
Deliver = Callable[..., None]

OWN = Settings(own_mapping("audit_logs"))
MOMENT = timedelta(seconds=2)
MICROSECOND = timedelta(microseconds=1)
ANNA, BOB = (str(uuid.uuid5(uuid.NAMESPACE_OID, name)) for name in ("Anna", "Bob"))
AS_OF = at(30)
NOON = at(1.5)


def _transition(number: int, instant: datetime, user: str | None, **more: Any) -> Row:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {instant} {user} {more}")),
        "created_at": instant,
        "entity_type": "order",
        "entity_id": number,
        "to_status": "new",
        "triggered_by_user_id": user,
        **more,
    }


def _entry(number: int, instant: datetime, user: str | None, **more: Any) -> Row:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number} {instant} {user} {more}")),
        "created_at": instant.isoformat(),
        "table": "order",
        "record": number,
        "action": "update",
        "user": user,
        "changes": None,
        **more,
    }


@pytest.fixture
def log(connection: Connection, tmp_path: Path) -> Deliver:
    """Deliver audit entries as one file."""

    def deliver_entries(*entries: Row) -> None:
        path = tmp_path / f"{uuid.uuid4().hex}.jsonl"
        path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
        assert deliver(connection, path, OWN).result.rejected == 0

    return deliver_entries


def _told(connection: Connection) -> dict[tuple[int, datetime], list[str]]:
    """The actions beside each transition, by its entity and instant."""
    rows = published(connection, "audit_trail", AS_OF)
    for row in rows:
        assert row["audit_entry_count"] == len(row["audit_entries"])
        assert row["has_audit_entry"] is (row["audit_entries"] != [])
    return {
        (row["entity_id"], row["created_at"]): [
            e["action"] for e in row["audit_entries"]
        ]
        for row in rows
    }


def _assert_as_counted(connection: Connection) -> None:
    """Each transition has the entries that a plain look at all of them finds."""
    connection.execute("set time zone 'Asia/Kathmandu'")
    entries = pl.DataFrame(
        connection.execute(
            "select id::text, created_at, entity_type, entity_id, action,"
            " triggered_by_user_id::text, changes::text from raw.audit_entries"
        ).fetchall(),
        schema=["id", "at", "type", "entity", "action", "user", "changes"],
        orient="row",
        infer_schema_length=None,
    ).rows(named=True)
    rows = published(connection, "audit_trail", AS_OF)
    connection.execute("set time zone 'UTC'")
    found = 0
    for row in rows:
        user = row["triggered_by_user_id"]
        expected = [
            {
                "id": e["id"],
                "created_at": f"{e['at'].astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
                "action": e["action"],
                "changes": json.loads(e["changes"]) if e["changes"] else None,
            }
            for e in sorted(entries, key=lambda e: (e["at"], e["id"]))
            if (e["type"], e["entity"]) == (row["entity_type"], row["entity_id"])
            and e["user"] == (None if user is None else str(user))
            and abs(e["at"] - row["created_at"]) <= MOMENT
        ]
        assert row["audit_entries"] == expected
        assert row["audit_entry_count"] == len(expected)
        assert row["has_audit_entry"] is bool(expected)
        found += len(expected)
    assert found
    assert any(not row["has_audit_entry"] for row in rows)


def test_entries_within_two_seconds_are_beside_their_transition(
    database_url: str, connection: Connection, build: Build, log: Deliver
) -> None:
    append_rows(connection, [_transition(1, NOON, ANNA), _transition(2, NOON, ANNA)])
    build(database_url, AS_OF)
    assert _told(connection) == {(1, NOON): [], (2, NOON): []}
    near = {
        "first": -MOMENT,
        "second": -MICROSECOND,
        "third": timedelta(),
        "last": MOMENT,
    }
    far = (-MOMENT - MICROSECOND, MOMENT + MICROSECOND)
    log(
        *(_entry(1, NOON + gap, ANNA, action=name) for name, gap in near.items()),
        *(_entry(1, NOON + gap, ANNA, action="far") for gap in far),
        _entry(1, NOON, BOB, action="of another user"),
        _entry(1, NOON, None, action="of nobody"),
        _entry(3, NOON, ANNA, action="of another entity"),
        _entry(1, NOON, ANNA, table="quote", action="of another type"),
    )
    expected = {(1, NOON): list(near), (2, NOON): []}
    assert _told(connection) == expected
    build(database_url, AS_OF)
    assert _told(connection) == expected
    _assert_as_counted(connection)


def test_what_a_system_or_nobody_did_has_entries_of_no_user(
    connection: Connection, database_url: str, build: Build, log: Deliver
) -> None:
    build(database_url, AS_OF)
    append_rows(
        connection,
        [
            _transition(1, NOON, None),
            _transition(2, NOON, None, triggered_by_system="billing"),
            _transition(3, NOON, ANNA, triggered_by_system="app"),
        ],
    )
    log(
        *(_entry(n, NOON, None, action="nobody") for n in (1, 2, 3)),
        *(_entry(n, NOON, ANNA, action="anna") for n in (1, 2, 3)),
    )
    assert _told(connection) == {
        (1, NOON): ["nobody"],
        (2, NOON): ["nobody"],
        (3, NOON): ["anna"],
    }


def test_an_entry_near_two_transitions_is_beside_both(
    connection: Connection, database_url: str, build: Build, log: Deliver
) -> None:
    build(database_url, AS_OF)
    later = NOON + timedelta(seconds=3)
    append_rows(connection, [_transition(1, at, ANNA) for at in (NOON, later)])
    log(_entry(1, NOON + timedelta(seconds=1), ANNA))
    assert _told(connection) == {(1, NOON): ["update"], (1, later): ["update"]}


@pytest.mark.parametrize("seed", range(1, tries(2, 4)))
def test_random_logs_are_told_as_they_are_counted(
    database_url: str, connection: Connection, build: Build, log: Deliver, seed: int
) -> None:
    """Whatever is built between: late entries, late transitions, repeated rows."""
    rng = random.Random(seed)

    def instant() -> datetime:
        gap = timedelta(seconds=rng.choice((-4, -2, -1, 0, 1, 2, 3)))
        return NOON + gap + MICROSECOND * rng.choice((-1, 0, 0, 0, 1))

    def user() -> str | None:
        return rng.choice((None, ANNA, BOB))

    entries = [
        _entry(
            rng.randrange(8),
            instant(),
            user(),
            table=rng.choice(("order", "quote")),
            action=rng.choice(("insert", "update")),
            changes=rng.choice((None, {}, {"status": ["a", 1.5]})),
        )
        for _ in range(150)
    ]
    moves = [
        _transition(rng.randrange(8), instant(), user(), metadata={"n": n})
        for n in range(80)
    ]
    for place in range(3):
        log(*entries[place * 40 : place * 50 + 50])
        append_rows(connection, moves[place * 20 : place * 30 + 20])
        build(database_url, AS_OF)
        _assert_as_counted(connection)


def _published(connection: Connection, home: Path) -> dict[str, list[Any]]:
    """The audit trail of files that begin with those before, and of all-new ones."""
    connection.execute(
        "insert into sla.tested_cuts select cut from sla.built_cuts"
        " on conflict do nothing"
    )
    kept = publish(connection, home / "kept")
    anew = publish(connection, home / f"anew-{kept.cut.number}")
    told = {}
    for name, folder in (("kept", kept.folder), ("anew", anew.folder)):
        with duckdb.connect(folder / DATABASE_NAME, read_only=True) as analytics:
            for relation in (
                "audit_trail",
                f"read_parquet('{folder}/audit_trail.parquet')",
            ):
                told[f"{name} {relation[:5]}"] = analytics.execute(
                    "select entity_id, has_audit_entry, audit_entry_count,"
                    " audit_entries ->> '$[0].action', audit_entries ->> '$[1].action'"
                    f" from {relation} order by entity_id"
                ).fetchall()
    return told


@pytest.mark.parametrize("is_advanced", [False, True])
def test_a_late_entry_of_an_old_transition_reaches_the_files(
    database_url: str,
    connection: Connection,
    build: Build,
    log: Deliver,
    tmp_path: Path,
    is_advanced: bool,
) -> None:
    """A cut that holds audit entries alone, after one that may hold nothing."""
    append_rows(connection, [_transition(n, NOON, ANNA) for n in (1, 2, 3)])
    log(_entry(3, NOON, ANNA, action="insert"))
    build(database_url, AS_OF)
    before = [(1, False, 0, None, None), (2, False, 0, None, None)]
    third = (3, True, 1, "insert", None)
    told = _published(connection, tmp_path)
    assert list(told.values()) == [[*before, third]] * 4
    stays = "select xmin, ctid, * from sla.status_intervals order by entity_id"
    built = connection.execute(stays.encode()).fetchall()
    log(_entry(2, NOON, ANNA), _entry(9, NOON, ANNA))
    if is_advanced:
        build(database_url, AS_OF)
    log(_entry(2, NOON + MOMENT, ANNA, action="delete"))
    build(database_url, AS_OF)
    told = _published(connection, tmp_path)
    expected = [before[0], (2, True, 2, "update", "delete"), third]
    assert list(told.values()) == [expected] * 4
    # Nothing of what builds store depends on an audit entry.
    assert connection.execute(stays.encode()).fetchall() == built


def test_an_entry_of_a_later_cut_is_not_published_with_an_earlier_one(
    database_url: str,
    connection: Connection,
    build: Build,
    log: Deliver,
    tmp_path: Path,
) -> None:
    """S17."""
    append_rows(connection, [_transition(1, NOON, ANNA)])
    build(database_url, AS_OF)
    log(_entry(1, NOON, ANNA))
    assert _told(connection) == {(1, NOON): ["update"]}
    told = _published(connection, tmp_path)
    assert list(told.values()) == [[(1, False, 0, None, None)]] * 4


def test_a_cut_with_audit_entries_is_not_one_with_nothing_new(
    database_url: str, connection: Connection, build: Build, log: Deliver
) -> None:
    """Its accounting is tested (S20), and what was built stands."""
    tested = ("build", "--exclude-resource-type", "unit_test")
    append_rows(connection, [_transition(1, NOON, ANNA)])
    build(database_url, AS_OF, *tested)
    log(_entry(1, NOON, ANNA))
    warehouse = Warehouse(database_url=database_url)
    cut = cuts.pin(connection, uuid.uuid4().hex, AS_OF)
    assert not warehouse.advance(cut)
    with warehouse.building(cut, is_whole=True) as building:
        assert not building.is_full
    # As no append can leave it.
    connection.execute(
        "insert into raw.batches (kind, source, source_row_count, read_count,"
        " appended_count, duplicate_count, rejected_count)"
        " values ('audit_logs', 'test', 1, 1, 1, 0, 0)"
    )
    with pytest.raises(AssertionError, match="assert_every_read_transition"):
        build(database_url, AS_OF, *tested)
