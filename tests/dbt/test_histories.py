"""Random histories against the oracle, row for row, whatever is built in between."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

import duckdb
import histories
import psycopg
import pytest
from facts import (
    BUILT,
    append_rows,
    appended,
    apply,
    assert_as_oracle,
    assert_performance_as_oracle,
    at,
    published,
    sort,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nights import NIGHTLY, tries
from oracle import Row, in_order, intervals, violations
from psycopg.sql import SQL, Identifier

from dagster_project.publish import DATABASE_NAME, publish
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
FreshDatabase = Callable[..., AbstractContextManager[str]]
ALL = (*BUILT, "entity_current_status")
AS_OF = at(20, 1)
END = at(60)
# By day the one that is furthest from UTC; by night a half hour's clock change as well.
ZONES = ["UTC", "Pacific/Kiritimati"]
if NIGHTLY:
    ZONES += ["America/New_York", "Australia/Lord_Howe"]


def _contents(connection: Connection, as_of: datetime) -> dict[str, list[Row]]:
    return {table: published(connection, table, as_of) for table in ALL}


def _assert_publishes_as_anew(connection: Connection, homes: Path) -> None:
    """Files that begin with those of the last publication hold what all-new ones do."""
    connection.execute(
        "insert into sla.tested_cuts select cut from sla.built_cuts"
        " on conflict do nothing"
    )
    kept = publish(connection, homes / "kept")
    anew = publish(connection, homes / f"anew-{kept.cut.number}")
    assert kept.rows == anew.rows
    with duckdb.connect() as analytics:
        for name, folder in (("kept", kept.folder), ("anew", anew.folder)):
            file = folder / DATABASE_NAME
            analytics.execute(f"attach '{file}' as {name} (read_only)")
        for table in kept.rows:
            parquet = f"read_parquet('{kept.folder / table}.parquet')"
            for one in (f"kept.{table}", parquet):
                for a, b in ((one, f"anew.{table}"), (f"anew.{table}", one)):
                    differing = f"(from {a}) except all (from {b})"
                    assert analytics.execute(differing).fetchall() == []


@pytest.mark.parametrize("seed", range(1, tries(2, 4)))
def test_every_build_and_every_moment_between_equals_the_oracle(
    database_url: str, connection: Connection, build: Build, tmp_path: Path, seed: int
) -> None:
    _compare_throughout(database_url, connection, build, tmp_path, seed)


def test_the_oldest_supported_postgresql_equals_the_oracle(
    oldest_url: str, build: Build, tmp_path: Path
) -> None:
    with database.connect(oldest_url) as connection:
        database.upgrade(connection)
        if NIGHTLY:
            _compare_throughout(oldest_url, connection, build, tmp_path, seed=6)
        else:
            _compare_at_first(oldest_url, connection, build, tmp_path, seed=6)


def _compare_throughout(
    url: str, connection: Connection, build: Build, folder: Path, seed: int
) -> None:
    """Let a history arrive, build in between, and compare after every step."""
    arrive, third = _compare_at_first(url, connection, build, folder, seed)
    arrive(third)
    assert_as_oracle(connection, END, ["entity_current_status"])
    build(url, AS_OF)
    arrive()
    arrive()
    assert_as_oracle(connection, END, ["entity_current_status"])
    build(url, AS_OF)
    _assert_publishes_as_anew(connection, folder)
    for instant in (AS_OF, END):
        assert_as_oracle(connection, instant, ALL)
        assert_performance_as_oracle(connection, instant)

    incremental = _contents(connection, END)
    build(url, AS_OF, full_refresh=True)
    assert _contents(connection, END) == incremental
    build(url, AS_OF)
    assert _contents(connection, END) == incremental


def _compare_at_first(
    url: str, connection: Connection, build: Build, folder: Path, seed: int
) -> tuple[Callable[..., None], tuple[datetime, list[Row]]]:
    """Its full build and the next; how more of it arrives, and what is applied next."""
    history = histories.make(seed)
    first, second, third = history.configurations
    batches = iter(history.batches)

    def arrive(*configuration: tuple[datetime, list[Row]]) -> None:
        rows = next(batches)
        known = {
            r["id"] for b in history.batches[: history.batches.index(rows)] for r in b
        }
        result = append_rows(connection, rows)
        fresh = {row["id"] for row in rows} - known
        assert result == (len(rows), len(fresh), len(rows) - len(fresh), 0)
        for number, (instant, contents) in enumerate(configuration):
            apply(connection, folder / f"{instant:%d}-{number}", instant, *contents)

    arrive(first)
    build(url, AS_OF)
    assert_as_oracle(connection, AS_OF, ALL)
    _assert_publishes_as_anew(connection, folder)

    arrive()
    assert_as_oracle(connection, AS_OF, ["entity_current_status"])
    arrive(second)
    assert_as_oracle(connection, AS_OF, ["entity_current_status"])
    build(url, AS_OF)
    assert_as_oracle(connection, AS_OF, ALL)
    _assert_publishes_as_anew(connection, folder)
    return arrive, third


@settings(
    max_examples=tries(2, 30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.sampled_from(["arrive", "arrive", "configure", "build", "full build"]),
        min_size=4,
        max_size=tries(6, 9),
    ),
)
def test_whatever_comes_in_whichever_order_builds_and_views_equal_the_oracle(
    fresh_database: FreshDatabase,
    built_empty: str,
    build: Build,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    steps: list[str],
) -> None:
    """S5, S16: batches, configuration and builds in any order; a full one at last."""
    history = histories.make(seed)
    batches, configurations = iter(history.batches), iter(history.configurations)
    homes = tmp_path_factory.mktemp("homes")
    with fresh_database(built_empty) as url, database.connect(url) as connection:
        for step in [*steps, "build"]:
            if step == "arrive":
                append_rows(connection, next(batches, history.batches[0]))
            elif step == "configure":
                for instant, contents in islice(configurations, 1):
                    folder = tmp_path_factory.mktemp("files")
                    apply(connection, folder, instant, *contents)
            else:
                build(url, AS_OF, full_refresh=step == "full build")
                _assert_publishes_as_anew(connection, homes)
            assert_as_oracle(connection, END, ["entity_current_status"])
        assert_as_oracle(connection, END, ALL)
        incremental = _contents(connection, END)
        build(url, AS_OF, full_refresh=True)
        assert _contents(connection, END) == incremental


def test_the_histories_hold_everything_that_the_rules_speak_of(
    connection: Connection, tmp_path: Path
) -> None:
    """A comparison that never meets a case decides nothing about it."""
    history = histories.make(1)
    for number, (instant, contents) in enumerate(history.configurations):
        apply(connection, tmp_path / str(number), instant, *contents)
    for batch in history.batches:
        append_rows(connection, batch)
    facts = appended(connection)
    rows = intervals(facts)
    found = {
        "a tie": any(
            a["created_at"] == b["created_at"]
            for entity in in_order(facts.transitions).values()
            for a, b in pairwise(entity)
        ),
        "a self-transition": any(row["transition_count"] > 1 for row in rows),
        "a return": any(row["visit"] > 1 for row in rows),
        "a stay of length zero": any(r["left_at"] == r["entered_at"] for r in rows),
        "met at the deadline": any(
            r["left_at"] and r["left_at"] == r["sla_deadline"] for r in rows
        ),
        "breached by a microsecond": any(
            r["left_at"]
            and r["sla_deadline"]
            and r["left_at"] - r["sla_deadline"] == timedelta(microseconds=1)
            for r in rows
        ),
        "a stay that its calendar does not cover": any(
            r["left_at"] and r["business_seconds"] is None for r in rows
        ),
        "fewer seconds of business time than elapsed": any(
            r["left_at"] and 0 < (r["business_seconds"] or 0) < r["elapsed_seconds"]
            for r in rows
        ),
        "met at a deadline in business time": any(
            r["calendar_id"] and r["sla_hours"] and r["left_at"] == r["sla_deadline"]
            for r in rows
            if r["left_at"]
        ),
    }
    assert [name for name, is_there in found.items() if not is_there] == []
    assert {row["deadline_source"] for row in rows} == {None, "explicit", "workflow"}
    assert {row["verdict"] for row in rows} == {None, "met", "breached"}
    assert {row["workflow_name"] for row in rows} == {
        None,
        "standard",
        "urgent",
        "nested",
        "fleet",
        "Zulu",
        "later",
    }
    assert {row["calendar_id"] for row in rows} == {
        None,
        *(row["id"] for row in facts.calendars),
    }
    assert Counter(row["calendar_name"] for row in facts.calendars) == {
        "office": 3,
        "nights": 1,
        "once": 1,
        "always": 1,
    }
    assert {row["violation"] for row in violations(facts, rows)} == {
        "no_workflow",
        "beyond_calendar",
        "unknown_status",
        "illegal_transition",
        "broken_chain",
        "left_final",
        "missing_approval",
        "wrong_role",
        "unknown_user",
        "unknown_business_entity",
    }


def test_arrival_decides_nothing_where_no_two_transitions_tie(
    fresh_database: FreshDatabase, built_empty: str, build: Build, tmp_path: Path
) -> None:
    """S5: one batch, or shuffled parts with a build between, give the same tables."""
    history = histories.make(4)
    rows = {row["id"]: row for batch in history.batches for row in batch}
    places = dict.fromkeys((r["entity_type"], r["entity_id"]) for r in rows.values())
    for number, row in enumerate(rows.values()):
        row["created_at"] += timedelta(microseconds=2 * number + 3)
    assert len(places) == histories.ENTITIES
    contents = []
    parts = [
        [row for batch in history.batches[place::2] for row in batch]
        for place in (1, 0)
    ]
    for batches in ([list(rows.values())], parts):
        with fresh_database(built_empty) as url, database.connect(url) as connection:
            instant, configuration = history.configurations[0]
            apply(connection, tmp_path, instant, *configuration)
            for batch in batches:
                append_rows(connection, batch)
                build(url, AS_OF)
            contents.append(_contents(connection, END))
    for content in contents:
        # Which batch made a row is about arrival, and nothing else is.
        for row in content["status_intervals"]:
            del row["batch_id"]
        content["status_intervals"] = sort(content["status_intervals"])
    assert contents[0] == contents[1]


def test_the_session_time_zone_changes_no_result(
    fresh_database: FreshDatabase, built_empty: str, build: Build, tmp_path: Path
) -> None:
    """S1: in the sessions of dbt and in those of readers alike."""
    history = histories.make(5)
    contents = []
    for zone in ZONES:
        with fresh_database(built_empty) as url, database.connect(url) as connection:
            name = Identifier(connection.info.dbname)
            statement = SQL("alter database {} set timezone = {}")
            connection.execute(statement.format(name, zone))
            for number, (instant, files) in enumerate(history.configurations):
                apply(connection, tmp_path / f"{number}", instant, *files)
            append_rows(connection, [r for batch in history.batches for r in batch])
            build(url, AS_OF)
            # As a reader's own client: it sets no zone, so the database's holds.
            with psycopg.connect(url, autocommit=True) as reader:
                assert reader.execute("show timezone").fetchone() == (zone,)
                contents.append(_contents(reader, AS_OF))
    assert contents[0]["status_intervals"] != []
    assert all(content == contents[0] for content in contents)
