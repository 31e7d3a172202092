"""Builds without anything new: the cut advances, dbt is not started (S5, S15, S17)."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from first_run import NEXT, PARTS, Built

from dagster_project import dbt_process
from dagster_project.aside import verify
from dagster_project.publish import read_manifest
from dagster_project.resources import Warehouse
from dagster_project.run import RunError, run
from ingest import record
from ingest.store import cuts
from ingest.store.database import Connection
from ingest.store.locks import Lock, holding

Installation = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def database_url(installation: Installation, built: Built) -> Iterator[str]:
    with installation(built.home, template=built.url) as url:
        yield url


@pytest.fixture
def warehouse(database_url: str, built: Built) -> Warehouse:
    return Warehouse(database_url=database_url, home=str(built.home))


def _results_of_dbt(home: Path) -> tuple[int, ...]:
    """When dbt last wrote what came of it."""
    return tuple(p.stat().st_mtime_ns for p in home.glob("dbt-*/run_results.json"))


def _cuts(connection: Connection) -> list[tuple[int, bool]]:
    return connection.execute(
        "select distinct cut, cut in (select cut from sla.tested_cuts) "
        "from sla.built_cuts"
    ).fetchall()


def _told(connection: Connection, as_of: datetime) -> list[tuple[object, ...]]:
    with connection.transaction():
        connection.execute(
            "select set_config('status_engine.as_of', %s, true)", [as_of.isoformat()]
        )
        return connection.execute(
            "select * from sla.entity_current_status order by entity_type, entity_id"
        ).fetchall()


def test_a_run_without_anything_new_moves_cut_and_clock_alone(
    warehouse: Warehouse, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    home = warehouse.folder
    before, told = _results_of_dbt(home), _told(connection, NEXT)
    assert before
    (first,) = _cuts(connection)
    result = run(warehouse, PARTS, as_of=NEXT)
    assert not [said for said in caplog.records if said.levelname == "WARNING"]
    assert _results_of_dbt(home) == before
    assert _cuts(connection) == [(first[0] + 1, True)]
    assert _told(connection, NEXT) == told
    # Each asset is said to be of this run, with its rows.
    rows = {k: said.get("dagster/row_count") for k, said in result.metadata.items()}
    assert rows["sla/status_intervals"] == rows["published/status_intervals"] == 3
    assert rows["sla/entity_current_status"] == 2
    assert {"sla/built_cuts", "staging/stg_transitions"} < rows.keys()
    manifest = read_manifest(home / "published" / "current")
    assert (manifest.cut, manifest.as_of) == (first[0] + 1, NEXT.isoformat())
    assert not verify(warehouse).differences


@pytest.mark.nightly
def test_a_full_refresh_that_is_asked_for_is_made(
    warehouse: Warehouse, connection: Connection
) -> None:
    before = _results_of_dbt(warehouse.folder)
    run(warehouse, ["cut", "build"], as_of=NEXT, full_refresh=True)
    assert _results_of_dbt(warehouse.folder) != before
    assert warehouse.advance(cuts.pin(connection, "after it"))


def _transition(connection: Connection) -> None:
    record(
        connection,
        entity_type="order",
        entity_id=3,
        to_status="new",
        triggered_by_system="test",
    )


TROUBLES = (
    "drop index sla.status_intervals_open",
    "alter table sla.status_intervals drop constraint status_intervals_pkey",
    "alter table sla.status_intervals add column mine text",
    "alter table sla.status_intervals alter column status drop not null",
    "create or replace view sla.milestones as "
    "select * from (table sla.milestones limit 0) as none",
    "drop function sla_staging.live_status cascade",
    "delete from sla.tested_cuts",
    "update sla.built_cuts set cut = 0 where relation_name = 'status_intervals'",
    "drop table sla_staging.fingerprint",
)


def test_nothing_new_is_told_once_and_again(
    warehouse: Warehouse, connection: Connection
) -> None:
    for number in range(3):
        pinned = cuts.pin(connection, f"{number}", NEXT)
        assert warehouse.advance(pinned)
        assert warehouse.advance(pinned)
        assert _cuts(connection) == [(pinned.number, True)]


def test_what_came_after_the_pin_waits_for_the_next_build(
    warehouse: Warehouse, connection: Connection
) -> None:
    pinned = cuts.pin(connection, "before", NEXT)
    _transition(connection)
    assert warehouse.advance(pinned)
    assert not warehouse.advance(cuts.pin(connection, "after", NEXT))
    assert _cuts(connection) == [(pinned.number, True)]
    assert len(_told(connection, NEXT)) == 3


def test_an_older_cut_is_never_gone_back_to(
    warehouse: Warehouse, connection: Connection
) -> None:
    older, newer = (cuts.pin(connection, name, NEXT) for name in ("a", "b"))
    assert warehouse.advance(newer)
    assert not warehouse.advance(older)
    assert _cuts(connection) == [(newer.number, True)]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_not_as_it_was_built_and_tested_needs_a_build(
    warehouse: Warehouse, connection: Connection, trouble: str
) -> None:
    connection.execute(trouble)
    before = _cuts(connection)
    assert not warehouse.advance(cuts.pin(connection, "", NEXT))
    assert _cuts(connection) == before


def test_a_lost_key_is_told_although_nothing_is_new(
    warehouse: Warehouse, connection: Connection
) -> None:
    connection.execute("drop index sla.status_intervals_open")
    with pytest.raises(RunError, match="lacks its key status_intervals_open"):
        run(warehouse, ["cut", "build"], as_of=NEXT)


def _copy_of_dbt(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("target", "logs")
    return Path(shutil.copytree(dbt_process.DBT, folder / "dbt", ignore=ignored))


def _change_a_file(folder: Path) -> None:
    file = sorted(folder.rglob("*.sql"))[0]
    file.write_text(f"{file.read_text()}-- another\n")


@pytest.mark.parametrize("folder", ["models/sla", "macros", "tests"])
def test_a_changed_file_of_dbt_needs_a_build(
    warehouse: Warehouse,
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
) -> None:
    project = _copy_of_dbt(tmp_path)
    monkeypatch.setattr(dbt_process, "DBT", project)
    pinned = cuts.pin(connection, "", NEXT)
    assert warehouse.advance(pinned)
    _change_a_file(project / folder)
    assert not warehouse.advance(pinned)


def test_a_build_of_parts_tests_no_changed_file(
    warehouse: Warehouse,
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = _copy_of_dbt(tmp_path)
    monkeypatch.setattr(dbt_process, "DBT", project)
    pinned = cuts.pin(connection, "", NEXT)
    _change_a_file(project / "tests")
    with warehouse.building(pinned):
        pass
    assert not warehouse.advance(pinned)


@pytest.mark.parametrize("is_full", [False, True])
def test_what_was_built_while_files_changed_is_built_anew(
    warehouse: Warehouse,
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dbt: Callable[..., Any],
    is_full: bool,
) -> None:
    project = _copy_of_dbt(tmp_path)
    monkeypatch.setattr(dbt_process, "DBT", project)
    pinned = cuts.pin(connection, "", NEXT)
    with warehouse.building(pinned, full_refresh=is_full, is_whole=True) as build:
        refresh = ["--full-refresh"] if is_full else []
        assert dbt(build.environment, "build", *refresh).success
        _change_a_file(project / "models")
    assert (pinned.number, True) in _cuts(connection)
    assert not warehouse.advance(pinned)
    with suppress(_Stopped), warehouse.building(pinned, is_whole=True) as build:
        raise _Stopped
    assert build.is_full


class _Stopped(Exception):
    """What ends a build before it began."""


def test_a_build_at_work_is_waited_for(
    warehouse: Warehouse, connection: Connection
) -> None:
    pinned = cuts.pin(connection, "", NEXT)
    with ThreadPoolExecutor(1) as pool:
        with holding(connection, Lock.BUILD):
            advanced = pool.submit(warehouse.advance, pinned)
            while not _waits_for_a_lock(connection):
                assert not advanced.done()
        assert advanced.result()


def _waits_for_a_lock(connection: Connection) -> bool:
    row = connection.execute(
        "select exists (select from pg_locks where locktype = 'advisory' "
        "and not granted and objid = (%s & 4294967295)::bigint::oid)",
        [Lock.BUILD.value],
    ).fetchone()
    return row == (True,)


def test_what_a_failed_test_judged_is_judged_again(
    warehouse: Warehouse, connection: Connection
) -> None:
    view = "create or replace view sla.entity_current_status as"
    found = connection.execute(
        "select rtrim(pg_get_viewdef('sla.entity_current_status'), ';')"
    ).fetchone()
    assert found is not None
    connection.execute(
        f"{view} select * from ({found[0]}) as whole where entity_id <> 3".encode()
    )
    _transition(connection)
    for _ in range(2):
        with pytest.raises(RunError, match="every_entity_has_one_current_status"):
            run(warehouse, ["cut", "build"], as_of=NEXT)
    connection.execute(f"{view} {found[0]}".encode())
    run(warehouse, ["cut", "build"], as_of=NEXT)
    ((_, is_tested),) = _cuts(connection)
    assert is_tested
