"""What a role, a database or the environment sets changes nothing of what is stored,
derived and published."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from dagster_project.builds import BUILD_AND_TEST
from dagster_project.dbt_process import known_tables
from dagster_project.publish import DATABASE_NAME, publish
from ingest import DatabaseError, deliver, record
from ingest.configuration import workflows
from ingest.store import database
from ingest.store.cuts import Cut

FreshDatabase = Callable[..., AbstractContextManager[str]]

AS_OF = datetime(2026, 3, 20, 12, tzinfo=UTC)
ROWS = """\
created_at,entity_type,entity_id,to_status,transition_reason,metadata
2026-03-02T09:00:00.123456Z,order,1,new,"à \\ ""b"" geprüft",
2026-03-02T09:00:00Z,order,2,new,,"{""ä"": 1.50}"
2026-03-03T09:00:00+01:00,order,2,confirmed,,
2026-03-04T09:00:00Z,order,3,,,
"""
# What an administrator means: writing commands say so, and end.
MEANT = {"default_transaction_read_only"}
# Set for one transaction, not for a database; or naming what no server here has.
NOT_OF_A_DATABASE = {
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "default_table_access_method",
    "default_tablespace",
    "default_toast_compression",
    "local_preload_libraries",
    "temp_tablespaces",
    "timezone_abbreviations",
    "createrole_self_grant",
}
OTHERWISE = {
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Tokyo",
    "client_encoding": "LATIN1",
    "search_path": "evil, pg_catalog",
    "default_text_search_config": "pg_catalog.simple",
    "application_name": "another",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "extra_float_digits": "-15",
    "vacuum_buffer_usage_limit": "256",
    # Milliseconds: shorter ones end a session before it can be set.
    "idle_in_transaction_session_timeout": "300",
    "idle_session_timeout": "300",
    "lock_timeout": "300",
    "statement_timeout": "300",
    "transaction_timeout": "300",
    **dict.fromkeys(("lc_monetary", "lc_numeric", "lc_time"), "POSIX"),
}


@pytest.fixture(scope="module")
def template(fresh_database: FreshDatabase, built_empty: str) -> Iterator[str]:
    """The name of a database with workflows, whose versions have ids."""
    with fresh_database(built_empty) as url:
        with database.connect(url) as connection:
            for name in ("office_nl.yml", "order.yml"):
                path = database.PROJECT / "workflows" / name
                workflows.apply(connection, workflows.load(path))
            found = connection.info.dbname
        yield found


def _other(setting: tuple[Any, ...]) -> str | None:
    """A value that the setting does not have; None where there is no sense in one."""
    name, value, kind, choices, low, high = setting
    if name in MEANT | NOT_OF_A_DATABASE:
        return None
    if name in OTHERWISE:
        return OTHERWISE[name]
    if kind == "bool":
        return "off" if value == "on" else "on"
    if kind == "enum":
        return next((choice for choice in choices if choice != value), None)
    if kind in ("integer", "real"):
        least, most = float(low), float(high)
        fitting = (str(v) for v in (1, 2, 64, 100) if least <= v <= most)
        return next((v for v in fitting if v != value), None)
    return None


def _set_otherwise(url: str) -> dict[str, str]:
    """Set all that a user may set for this database; returns what was set."""
    changed = {}
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute("create schema evil")
        found = connection.execute(
            "select name, setting, vartype, enumvals, min_val, max_val "
            "from pg_settings where context = 'user'"
        ).fetchall()
        for setting in found:
            value = _other(setting)
            if value is not None:
                changed[setting[0]] = value
                connection.execute(
                    SQL("alter database {} set {} to {}").format(
                        Identifier(name),
                        Identifier(setting[0]),
                        SQL(", ").join(map(Literal, value.split(", "))),
                    )
                )
    return changed


def _run_all(
    url: str, home: Path, file: Path, build: Callable[..., Cut]
) -> dict[str, list[Any]]:
    """Everything that is stored and published, by relation."""
    with database.session(url) as connection:
        for _ in range(2):
            deliver(connection, file)
        for number, status in enumerate(("new", "confirmed"), start=1):
            record(
                connection,
                entity_type="order",
                entity_id=4,
                to_status=status,
                created_at=datetime(2026, 3, 5, number, tzinfo=UTC),
                transition_reason="geprüft \\ à",
                id=uuid.UUID(int=number),
            )
        stored = connection.execute(
            "select * from raw.status_transitions order by id"
        ).fetchall()
        rejected = connection.execute(
            "select code, original from raw.rejected_transitions order by 1, 2"
        ).fetchall()
    build(url, AS_OF, *BUILD_AND_TEST)
    with database.session(url) as connection:
        publish(connection, home)
    with duckdb.connect(
        home / "published" / "current" / DATABASE_NAME, read_only=True
    ) as analytics:
        published = {
            # Whatever else is told, when it was recorded is told by the clock.
            table.name: sorted(
                analytics.execute(
                    "select columns(name -> not suffix(name, 'recorded_at')) "
                    f"from {table.name}"
                ).fetchall(),
                key=repr,
            )
            for table in known_tables().published
        }
    return {"stored": stored, "rejected": rejected, **published}


def test_settings_of_a_database_change_nothing(
    fresh_database: FreshDatabase,
    template: str,
    build: Callable[..., Cut],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(ROWS)
    with fresh_database(template) as url:
        expected = _run_all(url, tmp_path / "plain", file, build)
    assert [len(expected[name]) for name in ("stored", "rejected")] == [5, 1]
    with fresh_database(template) as url:
        changed = _set_otherwise(url)
        assert changed.keys() >= database.RELIED_ON.keys() & set(_known(url)) - {
            "timezone_abbreviations"
        }
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        monkeypatch.setenv("PGTZ", "Asia/Tokyo")
        monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
        found = _run_all(url, tmp_path / "otherwise", file, build)
    assert found == expected


def _known(url: str) -> list[str]:
    with database.connect(url) as connection:
        rows = connection.execute("select name from pg_settings").fetchall()
    return [name for (name,) in rows]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_that_cannot_hold_every_text_is_refused(
    server_url: str, encoding: str
) -> None:
    name = f"in_{encoding.lower()}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(
            SQL("create database {} encoding {} template template0 locale 'C'").format(
                Identifier(name), Literal(encoding)
            )
        )
        url = server_url.replace("/postgres?", f"/{name}?")
        with pytest.raises(DatabaseError, match=f"in {encoding}.*UTF8") as caught:
            database.connect(url)
        server.execute(SQL("drop database {} with (force)").format(Identifier(name)))
    assert "\n" not in str(caught.value)
