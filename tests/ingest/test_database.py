"""Which PostgreSQL, the upgrade of schema raw, and what its tables refuse."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ingest import DatabaseError, append
from ingest.store import migrations
from ingest.store.database import Connection, connect, environment, session, upgrade

PROJECT = Path(__file__).parents[2]
UPGRADE = """
import sys
from ingest.store.database import connect, upgrade
with connect(sys.argv[1]) as connection:
    print("ready", flush=True)
    sys.stdin.readline()
    upgrade(connection)
"""
APPEND_ONLY = (
    "alert_channels",
    "alert_deliveries",
    "alert_messages",
    "audit_entries",
    "source_readings",
    "targets",
    "target_signals",
    "calendars",
    "calendar_pages",
    "calendar_windows",
    "status_transitions",
    "rejected_transitions",
    "resolved_rejects",
    "entity_keys",
    "entity_type_versions",
    "deliveries",
    "stopped_files",
    "files",
    "cuts",
    "business_entities",
    "user_accounts",
    "status_workflows",
    "status_workflow_steps",
)


def _steps(connection: Connection) -> list[str]:
    rows = connection.execute("select version_num from raw.schema_version").fetchall()
    return [step for (step,) in rows]


def test_upgrade_of_an_empty_database_reaches_the_newest_step(
    empty_database_url: str,
) -> None:
    with connect(empty_database_url) as connection:
        upgrade(connection)
        assert _steps(connection) == [migrations.newest_step()]
        types = connection.execute("select count(*) from raw.entity_types").fetchone()
        assert types == (11,)


def test_second_upgrade_changes_nothing(connection: Connection) -> None:
    tables = "select oid, relname from pg_class order by oid"
    before = connection.execute(tables).fetchall(), _functions(connection)
    upgrade(connection)
    assert (connection.execute(tables).fetchall(), _functions(connection)) == before


def _functions(connection: Connection) -> dict[str, tuple[str, str]]:
    """Of each function of schema raw, the transaction that made it, and its text."""
    found = connection.execute(
        "select oid::regprocedure::text, xmin::text, pg_get_functiondef(oid)"
        " from pg_proc where pronamespace = 'raw'::regnamespace"
    )
    return {name: (xmin, text) for name, xmin, text in found}


def _upgrade_at_once(url: str, project: Path) -> None:
    """By three processes of a copy of the project."""
    upgrades = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, url],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in upgrades:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in upgrades:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[1] for process in upgrades]
    assert [p.returncode for p in upgrades] == [0, 0, 0], said


def test_upgrade_by_processes_at_once_is_one_upgrade(empty_database_url: str) -> None:
    _upgrade_at_once(empty_database_url, PROJECT)
    with connect(empty_database_url) as connection:
        assert _steps(connection) == [migrations.newest_step()]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project, as far as it upgrades databases; its files may be changed."""
    left = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "ingest", tmp_path / "copy" / "ingest", ignore=left)
    return tmp_path / "copy"


def test_a_function_whose_file_changed_is_made_anew_and_no_other(
    database_url: str, connection: Connection, copy: Path
) -> None:
    before = _functions(connection)
    file = copy / "ingest" / "store" / "functions" / "has_role.sql"
    file.write_text(file.read_text().replace("a.is_active and ", ""))
    changed = "raw.has_role(uuid,text,timestamp with time zone)"
    assert "a.is_active and " in before[changed][1]
    _upgrade_at_once(database_url, copy)
    after = _functions(connection)
    assert "a.is_active and " not in after[changed][1]
    assert {name for name in before if after[name] != before[name]} == {changed}
    # To this release its own text is another again.
    with session(database_url):
        pass
    again = _functions(connection)
    assert again[changed][1] == before[changed][1]
    assert {name for name in before if again[name] != after[name]} == {changed}


def test_functions_of_bodies_that_name_others_are_made_after_them(
    database_url: str, connection: Connection, copy: Path
) -> None:
    """A body of SQL is parsed when it is made."""
    body = (
        "create or replace function raw.{}() returns integer language sql\nreturn {};\n"
    )
    names = ("b_first", "c_second", "a_third")
    for name, told in zip(names, ("1", "raw.b_first()", "raw.c_second()"), strict=True):
        file = copy / "ingest" / "store" / "functions" / f"{name}.sql"
        file.write_text(body.format(name, told))
    _upgrade_at_once(database_url, copy)
    assert connection.execute("select raw.a_third()").fetchone() == (1,)


def test_newer_schema_than_this_release_is_refused(empty_database_url: str) -> None:
    with connect(empty_database_url) as connection:
        upgrade(connection)
        connection.execute("update raw.schema_version set version_num = '9999'")
        with pytest.raises(DatabaseError, match="step 9999"):
            upgrade(connection)


@pytest.mark.parametrize(
    ("conninfo", "reason"),
    [
        pytest.param(
            "postgresql://nobody@127.0.0.1:1/none", "refused", id="closed port"
        ),
        pytest.param(
            "postgresql://nobody@/none?host=%2Fnowhere", "No such file", id="no socket"
        ),
        pytest.param("nonsense", "is no PostgreSQL", id="no connection string"),
    ],
)
def test_unreachable_server_is_one_sentence(conninfo: str, reason: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        connect(conninfo)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_database_is_named(server_url: str) -> None:
    with pytest.raises(DatabaseError, match='"absent" does not exist') as caught:
        connect(server_url.replace("/postgres?", "/absent?"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def role(server_url: str) -> Iterator[str]:
    """A role that may connect, and nothing else."""
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute("create role bystander login")
        yield "bystander"
        server.execute("drop role bystander")


def test_role_that_may_not_create_is_told_the_grant(
    empty_database_url: str, role: str
) -> None:
    url = empty_database_url.replace("//postgres@", f"//{role}@")
    grant = pytest.raises(DatabaseError, match="grant create on database")
    with grant as caught, session(url):
        pass
    assert role in str(caught.value)
    assert "\n" not in str(caught.value)


def test_upgrade_without_rights_is_a_database_error(
    empty_database_url: str, role: str
) -> None:
    url = empty_database_url.replace("//postgres@", f"//{role}@")
    with connect(url) as connection, pytest.raises(DatabaseError):
        upgrade(connection)
    with connect(empty_database_url) as connection:
        found = connection.execute("select to_regnamespace('raw')").fetchone()
        assert found == (None,)


def test_role_without_rights_on_the_tables_is_a_database_error(
    database_url: str, role: str
) -> None:
    url = database_url.replace("//postgres@", f"//{role}@")
    denied = pytest.raises(DatabaseError, match="permission denied")
    with denied, session(url) as connection:
        connection.execute("select 1")


def test_role_that_owns_nothing_is_served_until_something_is_to_be_made(
    database_url: str, connection: Connection, role: str
) -> None:
    connection.execute(f"grant usage on schema raw to {role}")
    connection.execute(f"grant select on raw.schema_version to {role}")
    url = database_url.replace("//postgres@", f"//{role}@")
    with session(url) as bystander:
        assert _steps(bystander) == [migrations.newest_step()]
    connection.execute("update raw.schema_version set functions = functions - 'refuse'")
    with pytest.raises(DatabaseError, match="lacks a right"), session(url):
        pass
    connection.execute(f"drop owned by {role}")


def test_server_that_goes_away_is_a_database_error(database_url: str) -> None:
    stopped = pytest.raises(DatabaseError, match="stopped answering")
    with stopped, session(database_url) as connection:
        connection.execute("select pg_terminate_backend(pg_backend_pid())")


def test_session_reads_and_writes_in_utc(database_url: str) -> None:
    with session(database_url + "&options=-ctimezone%3DAsia/Tokyo") as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)


def test_environment_names_the_same_database(database_url: str) -> None:
    names = environment(database_url)
    assert names["PGUSER"] == "postgres"
    with psycopg.connect("", **_as_parameters(names)) as connection:
        assert connection.info.dbname == names["PGDATABASE"]


def _as_parameters(names: dict[str, str]) -> dict[str, str]:
    spelled = {"PGDATABASE": "dbname"}
    return {
        spelled.get(name, name.removeprefix("PG").lower()): value
        for name, value in names.items()
    }


def test_every_table_of_raw_is_append_only_or_named_here(
    connection: Connection,
) -> None:
    rows = connection.execute(
        "select tablename from pg_tables where schemaname = 'raw'"
    ).fetchall()
    changing = {"batches", "entity_types", "schema_version"}
    assert {name for (name,) in rows} == {*APPEND_ONLY, *changing}


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    ["delete from raw.{}", "truncate raw.{} cascade", "update raw.{} set {} = {}"],
)
def test_raw_table_refuses_change(
    connection: Connection, table: str, statement: str
) -> None:
    first = connection.execute(
        "select attname from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and attidentity = ''"
        " order by attnum limit 1",
        [f"raw.{table}"],
    ).fetchone()
    assert first is not None
    column = Identifier(first[0])
    change = SQL(statement).format(Identifier(table), column, column)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="refused"):
        connection.execute(change)


@pytest.mark.parametrize(
    "statement", ["delete from raw.batches", "truncate raw.batches cascade"]
)
def test_ledger_refuses_to_lose_rows(connection: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute(SQL(statement))


@pytest.fixture
def ledger(connection: Connection, one_row: Callable[[], object]) -> Connection:
    """A connection to a database of one batch and two cuts that hold no batch."""
    append(connection, one_row())
    connection.execute(
        "insert into raw.cuts (as_of, run_id) values"
        " ('2026-01-01Z', 'first'), ('2026-01-02Z', 'second')"
    )
    return connection


def test_cut_is_stamped_once(ledger: Connection) -> None:
    ledger.execute("update raw.batches set cut = 1")
    for second in ("2", "1", "null"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            ledger.execute(f"update raw.batches set cut = {second}")
    assert ledger.execute("select cut from raw.batches").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "change", ["cut = 1, source = 'other'", "read_count = 2", "cut = null"]
)
def test_ledger_row_takes_nothing_but_its_cut(ledger: Connection, change: str) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        ledger.execute(f"update raw.batches set {change}")
