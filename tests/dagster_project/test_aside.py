"""Builds beside the published one: to verify it (S5), and as of an instant (S15)."""

import csv
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import pytest
from click.testing import CliRunner

from dagster_project import schedules, swap
from dagster_project.aside import Verified, build_as_of, schema_as_of, verify
from dagster_project.cli import main
from dagster_project.resources import Warehouse
from ingest import deliver
from ingest.configuration import workflows
from ingest.errors import StatusEngineError
from ingest.store import database
from ingest.store.database import Connection

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
LATER = START + timedelta(days=30)


class Installed(NamedTuple):
    """An installation with two cuts: 40 orders, then what came later of them."""

    url: str
    first_cut: int
    between: datetime


def _write(path: Path, rows: list[tuple[int, str, datetime]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "created_at", "entity_type", "entity_id", "to_status"])
        for number, status, instant in rows:
            key = uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {status}")
            writer.writerow([key, instant.isoformat(), "order", number, status])
    return path


@pytest.fixture(scope="module")
def installed(
    installation: Any, built_empty_url: str, build: Any, tmp_path_factory: Any
) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("aside")
    with (
        installation(folder / "home", template=built_empty_url) as url,
        database.session(url) as connection,
    ):
        workflows.apply(
            connection, workflows.load(database.PROJECT / "workflows"), at=START
        )
        new = [(n, "new", START + timedelta(hours=n)) for n in range(40)]
        deliver(connection, _write(folder / "1.csv", new))
        first = build(url, LATER)
        row = connection.execute("select clock_timestamp()").fetchone()
        assert row is not None
        late = [
            (n, "confirmed", START + timedelta(hours=n + 2)) for n in range(0, 40, 2)
        ]
        deliver(connection, _write(folder / "2.csv", late))
        build(url, LATER)
        yield Installed(url, first.number, row[0])


@pytest.mark.nightly
def test_what_is_published_equals_a_full_build(installed: Installed) -> None:
    verified = verify(Warehouse())
    assert verified.differences == []
    assert verified.rows["status_intervals"] == 60
    assert verified.rows["entity_current_status"] == 40
    with database.connect(installed.url) as connection:
        left = "select 1 from pg_namespace where nspname like 'sla_verify%'"
        assert connection.execute(left).fetchone() is None


def test_each_row_that_differs_is_told_on_both_sides(installed: Installed) -> None:
    harm = "update sla.status_intervals set {} where entity_id = 7"
    with database.connect(installed.url) as connection:
        connection.execute(harm.format("visit = 2").encode())
        try:
            found = CliRunner().invoke(main, ["verify"])
            verified = verify(Warehouse(), sample=7)
        finally:
            connection.execute(harm.format("visit = 1").encode())
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "entity_current_status: order 7 standard 2026-01-05 16:00:00 UTC",
        "  visit  published 2, full build 1",
        "status_intervals: order 7 standard new 2026-01-05 16:00:00 UTC",
        "  visit  published 2, full build 1",
    ]
    assert _differing(verified) == {
        ("status_intervals", True, 2),
        ("status_intervals", False, 1),
        ("entity_current_status", True, 2),
        ("entity_current_status", False, 1),
    }
    # Every seventh order.
    assert verified.rows["entity_current_status"] == 6


def _differing(verified: Verified) -> set[tuple[str, bool, int]]:
    return {
        (table, is_published, row["visit"])
        for table, is_published, row in verified.differences
    }


def test_verification_runs_every_night_and_in_no_other_job() -> None:
    assert schedules.every_night.cron_schedule == "30 2 * * *"
    assert schedules.every_night.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedules.every_night.job_name == "verify"


def test_tables_as_of_an_instant_are_made_the_same_again_unless_they_are_read(
    installed: Installed,
) -> None:
    instant = START + timedelta(hours=10)
    cut = installed.first_cut
    schema = build_as_of(Warehouse(), instant, cut)
    assert schema == f"sla_as_of_20260105t190000_cut_{cut}"
    beside = schema_as_of(instant + timedelta(microseconds=1), cut)
    assert beside == f"sla_as_of_20260105t190000000001_cut_{cut}"
    with database.connect(installed.url) as connection:
        before = _contents(connection, schema)
        with connection.transaction():
            connection.execute(f"table {schema}.status_intervals")
            with pytest.raises(StatusEngineError, match="Somebody reads"):
                build_as_of(Warehouse(), instant, cut)
        assert build_as_of(Warehouse(), instant, cut) == schema
        assert _contents(connection, schema) == before
        known = connection.execute(
            f"select entity_id, current_status, is_overdue, seconds_in_status"
            f" from {schema}.entity_current_status order by 1"
        ).fetchall()
        connection.execute(f"drop schema {schema}, {schema}_staging cascade")
    # Orders 0 to 10 were there; what came later of them was not known.
    assert known == [(n, "new", False, (10 - n) * 3600) for n in range(11)]


def _contents(connection: Connection, schema: str) -> dict[str, list[Any]]:
    return {
        table: connection.execute(
            f"select * from {schema}.{table} as r order by r::text"
        ).fetchall()
        for table in (
            "status_intervals",
            "entity_current_status",
            "sla_performance",
            "workflow_violations",
            "built_cuts",
        )
    }


def test_there_is_nothing_as_of_a_cut_that_was_never_pinned() -> None:
    with pytest.raises(StatusEngineError, match="There is no cut 999"):
        build_as_of(Warehouse(), START, 999)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ("sla", "Schema sla is the published one's."),
        ("sla_staging", "Schema sla_staging is the published one's."),
        ("raw", "Schema raw was made by no build"),
        ("public", "Schema public was made by no build"),
        ("pg_office", "The name of schema pg_office is one of PostgreSQL's."),
        ("information_schema", "Schema information_schema was made by no build"),
        ("office", "Schema office_staging was made by no build"),
        ("idle", "Schema idle was made by no build"),
        # What stands beside another schema is no schema of readers.
        ("built_staging", "Schema built_staging was made by no build"),
        ("a" * 60, f"{'a' * 60}_staging stands beside it"),
    ],
)
def test_as_of_builds_over_nothing_that_is_somebody_elses(
    installed: Installed, schema: str, sentence: str
) -> None:
    with database.connect(installed.url) as connection:
        connection.execute("create schema if not exists office_staging")
        connection.execute("create table if not exists office_staging.kept ()")
        connection.execute("create schema if not exists idle")
        swap.make(connection, "built")
        before = connection.execute(OTHERS).fetchall()
        with pytest.raises(StatusEngineError, match=re.escape(sentence)):
            build_as_of(Warehouse(), START, installed.first_cut, schema)
        assert connection.execute(OTHERS).fetchall() == before


OTHERS = """
select oid::regnamespace::text || coalesce(nspacl::text, '') from pg_namespace
where nspname !~ '^pg_'
union all
select oid::regclass::text from pg_class
where relnamespace in ('raw'::regnamespace, 'office_staging'::regnamespace)
order by 1
"""


def test_one_entity_as_of_two_instants(installed: Installed) -> None:
    def told(*options: str) -> dict[str, str]:
        found = CliRunner().invoke(main, ["as-of", "order", "4", *options])
        assert found.exit_code == 0, found.output
        rows = (line.split(maxsplit=1) for line in found.stdout.splitlines())
        return {row[0]: row[1] if len(row) > 1 else "" for row in rows}

    at = (START + timedelta(hours=7)).isoformat()
    now = told("--at", at)
    assert (now["current_status"], now["seconds_in_status"]) == ("confirmed", "3600")
    before = told("--at", at, "--known-at", installed.between.isoformat())
    assert (before["current_status"], before["seconds_in_status"]) == ("new", "10800")
    early = CliRunner().invoke(
        main, ["as-of", "order", "4", "--at", (START + timedelta(hours=3)).isoformat()]
    )
    assert early.exit_code == 1
    assert "order 4 had no status then, by what was known." in early.stderr
