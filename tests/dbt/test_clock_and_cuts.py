"""One clock (S15), nothing stale (S16), one cut a run (S17): what a moment may show."""

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from facts import (
    BUILT,
    append_rows,
    apply,
    assert_as_oracle,
    at,
    published,
    step,
    workflow,
)
from oracle import Row

from dagster_project.resources import Warehouse
from ingest.store import cuts, database
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
MICROSECOND = timedelta(microseconds=1)
STEPS = [
    step("new", 1, ["done"], sla_hours=24),
    step("done", 2, []),
]
STANDARD = workflow("order", "standard", STEPS, is_default=True)
ALL = (*BUILT, "entity_current_status")
VIEWS = (
    *ALL,
    "interval_explanations",
    "deadline_windows",
    "milestones",
    "status_as_of",
)


def _order(number: int, day: float, status: str = "new") -> Row:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {day} {status}")),
        "created_at": at(day),
        "entity_type": "order",
        "entity_id": number,
        "to_status": status,
    }


def _current(connection: Connection) -> dict[int, str]:
    rows = connection.execute(
        "select entity_id, current_status from sla.entity_current_status"
    ).fetchall()
    return dict(rows)


def _stays(connection: Connection) -> int:
    row = connection.execute("select count(*) from sla.status_intervals").fetchone()
    assert row is not None
    return int(row[0])


def _deadlines(connection: Connection) -> dict[int, datetime | None]:
    rows = connection.execute(
        "select entity_id, sla_deadline from sla.status_intervals"
    ).fetchall()
    return dict(rows)


def _batches_by_cut(connection: Connection) -> dict[int, int]:
    rows = connection.execute(
        "select cut, count(*) from raw.batches where kind = 'transitions' group by cut"
    ).fetchall()
    return dict(rows)


def test_an_idle_entity_becomes_overdue_at_its_deadline_and_nothing_is_rebuilt(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1)])
    build(database_url, at(1))
    built = published(connection, "status_intervals", at(1))
    for instant, is_overdue in (
        (at(2) - MICROSECOND, False),
        (at(2), False),
        (at(2) + MICROSECOND, True),
        (at(300), True),
    ):
        (row,) = published(connection, "entity_current_status", instant)
        assert (row["sla_deadline"], row["is_overdue"]) == (at(2), is_overdue)
        (group,) = published(connection, "sla_performance", instant)
        assert group["overdue_count"] == int(is_overdue)
        assert group["compliance_ratio"] == (0.0 if is_overdue else None)
        assert_as_oracle(connection, instant, ALL)
    assert published(connection, "status_intervals", at(300)) == built


@pytest.mark.parametrize("is_built", [True, False])
def test_a_clock_that_is_set_before_a_status_measures_nothing_of_it(
    database_url: str,
    connection: Connection,
    build: Build,
    tmp_path: Path,
    is_built: bool,
) -> None:
    """S15: it filters no rows. The deadline was given, and is before the status."""
    risky = {**STEPS[0], "notification_settings": {"at_risk_hours": 48}}
    apply(
        connection,
        tmp_path,
        at(0),
        workflow("order", "standard", [risky, STEPS[1]], is_default=True),
    )
    if not is_built:
        build(database_url, at(1))
    given = {**_order(1, 3), "sla_deadline": at(2)}
    append_rows(connection, [given, _order(2, 3)])
    if is_built:
        build(database_url, at(5))
    measured = "is_overdue", "is_at_risk", "seconds_in_status", "seconds_to_deadline"
    nothing = (False, False, None, None)
    for instant, expected in (
        (at(1.5), [nothing, nothing]),
        (at(2.5), [nothing, nothing]),
        (at(3) - MICROSECOND, [nothing, nothing]),
        (at(3), [(True, False, 0, -86_400), (False, True, 0, 86_400)]),
    ):
        rows = {
            row["entity_id"]: tuple(row[name] for name in measured)
            for row in published(connection, "entity_current_status", instant)
        }
        assert [rows[number] for number in (1, 2)] == expected
        explained = published(connection, "interval_explanations", instant)
        assert {r["entity_id"]: r["is_overdue"] for r in explained} == {
            number: rows[number][0] for number in (1, 2)
        }
        assert {r["elapsed_seconds"] for r in explained} == {0}
        if is_built:
            (group,) = published(connection, "sla_performance", instant)
            assert group["overdue_count"] == sum(row[0] for row in rows.values())
            assert_as_oracle(connection, instant, ALL)


def test_nothing_is_negative_but_what_was_missed_whatever_the_clock(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 3), _order(1, 3.5, "done"), _order(2, 4)])
    build(database_url, at(5))
    missed = {"seconds_to_deadline", "margin_seconds"}
    seen = set()
    for view in VIEWS:
        for instant in (at(-30), at(3.25), at(4) - MICROSECOND, at(4), at(300)):
            for row in published(connection, view, instant):
                durations = [name for name in row if name.endswith("_seconds")]
                told = {*durations, "seconds_in_status"} & row.keys()
                for name in told - missed:
                    assert (row[name] or 0) >= 0, (view, name, instant)
                    seen.add((view, name))
    assert seen == {
        ("entity_current_status", "seconds_in_status"),
        ("entity_journeys", "business_seconds"),
        ("entity_journeys", "elapsed_seconds"),
        ("entity_journeys", "touch_business_seconds"),
        ("entity_journeys", "waiting_business_seconds"),
        ("entity_journeys", "waiting_seconds"),
        ("interval_explanations", "closed_seconds"),
        ("interval_explanations", "counted_seconds"),
        ("interval_explanations", "elapsed_seconds"),
        ("process_variants", "elapsed_seconds"),
        ("process_variants", "median_elapsed_seconds"),
        ("process_variants", "p90_elapsed_seconds"),
        ("sla_performance", "elapsed_seconds"),
        ("status_as_of", "seconds_in_status"),
        ("status_flow", "business_seconds"),
        ("status_flow", "elapsed_seconds"),
        ("status_intervals", "business_seconds"),
        ("status_intervals", "elapsed_seconds"),
        ("status_intervals", "late_business_seconds"),
    }


def test_a_session_without_an_instant_reads_the_clock_of_the_database(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    build(database_url, at(0))
    connection.execute(
        "insert into raw.batches (batch_id, kind, source, source_row_count, read_count,"
        " appended_count, duplicate_count, rejected_count) overriding system value"
        " values (1000, 'transitions', 'test', 2, 2, 2, 0, 0)"
    )
    # Within one transaction now() stands still: exactly at the deadline, and after.
    with connection.transaction():
        connection.execute(
            "insert into raw.status_transitions"
            " (id, created_at, entity_type, entity_id, to_status, sla_deadline,"
            " batch_id, batch_row) select gen_random_uuid(),"
            " now() - interval '1 day', 'order', n, 'new',"
            " now() - (n - 1) * interval '1 microsecond', 1000, n"
            " from generate_series(1, 2) as n"
        )
        rows = connection.execute(
            "select entity_id, is_overdue from sla.entity_current_status order by 1"
        ).fetchall()
        assert rows == [(1, False), (2, True)]


def test_a_writer_that_commits_after_the_build_is_seen_at_once_and_built_next(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1)])
    with database.connect(database_url) as slow:
        with slow.transaction():
            append_rows(slow, [_order(1, 1.5, "done"), _order(2, 1)])
            append_rows(connection, [_order(3, 1)])
            first = build(database_url, at(5))
            assert _current(connection) == {1: "new", 3: "new"}
            append_rows(connection, [_order(4, 1)])
            second = build(database_url, at(5))
            assert _current(connection) == {1: "new", 3: "new", 4: "new"}
        everything = {1: "done", 2: "new", 3: "new", 4: "new"}
        assert _current(connection) == everything
        assert_as_oracle(connection, at(5), ["entity_current_status"])
        assert _stays(connection) == 3
    third = build(database_url, at(5))
    assert _current(connection) == everything
    assert_as_oracle(connection, at(5), ALL)
    assert _stays(connection) == 5
    # The late batch has the smaller number and the later cut.
    assert _batches_by_cut(connection) == {
        first.number: 2,
        second.number: 1,
        third.number: 1,
    }


def test_two_pins_at_once_share_no_batch_and_lose_none(
    database_url: str, connection: Connection
) -> None:
    append_rows(connection, [_order(1, 1)])
    with database.connect(database_url) as one, database.connect(database_url) as two:
        pinned: list[Cut] = []
        thread = threading.Thread(
            target=lambda: pinned.append(cuts.pin(two, "two", at(1)))
        )
        with one.transaction():
            first = cuts.pin(one, "one", at(1))
            thread.start()
            waiting = (
                "select wait_event = 'advisory' from pg_stat_activity where pid = %s"
            )
            while connection.execute(waiting, [two.info.backend_pid]).fetchone() != (
                True,
            ):
                connection.execute("select pg_sleep(0.01)")
            append_rows(connection, [_order(2, 1)])
        thread.join()
    (second,) = pinned
    assert first.number < second.number
    assert _batches_by_cut(connection) == {first.number: 1, second.number: 1}
    assert cuts.pin(connection, "one", at(9)) == first
    assert cuts.newest(connection) == second


@pytest.mark.first_build
def test_a_build_reads_its_own_cut_whatever_was_pinned_since(
    database_url: str,
    connection: Connection,
    build: Build,
    dbt: Callable[..., object],
    tmp_path: Path,
) -> None:
    append_rows(connection, [_order(1, 1)])
    first = cuts.pin(connection, "first", at(5))
    append_rows(connection, [_order(2, 1)])
    apply(connection, tmp_path, at(0), STANDARD)
    cuts.pin(connection, "second", at(5))
    with Warehouse(database_url=database_url).building(first) as building:
        dbt(building.environment, "run", "--full-refresh")
    assert _deadlines(connection) == {1: None}
    assert _current(connection) == {1: "new", 2: "new"}
    build(database_url, at(5))
    assert _deadlines(connection) == {1: at(2), 2: at(2)}
    assert_as_oracle(connection, at(5), ALL)
