"""Verifications that fail, and what checks show: by the instance's own records."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import duckdb
import pytest
from commands import assert_one_sentence
from commands import run as at_terminal
from first_run import NEXT, PARTS, Built

from dagster_project.definitions import build_definitions
from dagster_project.resources import Warehouse
from dagster_project.run import RunError, run
from dagster_project.verifications import standing_failure
from ingest import record
from ingest.store.database import Connection

STAYS = dg.AssetKey(["sla", "status_intervals"])
# Of files, which judge all of them each time.
OTHER_CHECKS = {"every_file_was_accepted", "files_hold_what_the_manifest_says"}
EQUALS = "equals_a_full_build"
ROW_IS_GONE = "delete from sla.status_intervals where entity_id = 1 and status = 'new'"
VISIT = "update sla.status_intervals set visit = %s where entity_id = 2 and visit = %s"


Installation = Callable[..., AbstractContextManager[str]]


class Shown(NamedTuple):
    """What the UI shows of a check: how it ended, and what it says it judged."""

    passed: bool
    judged: str


@pytest.fixture
def database_url(installation: Installation, built: Built) -> Iterator[str]:
    with installation(built.home, template=built.url) as url:
        yield url


@pytest.fixture
def warehouse(database_url: str, built: Built) -> Warehouse:
    return Warehouse(database_url=database_url, home=str(built.home))


@pytest.fixture
def instance(warehouse: Warehouse) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(warehouse.folder / "dagster")) as found:
        yield found


def _job(
    warehouse: Warehouse, name: str, instance: dg.DagsterInstance
) -> dg.DagsterRun:
    """As the schedule runs it."""
    job = build_definitions(warehouse).resolve_job_def(name)
    done = job.execute_in_process(instance=instance, raise_on_error=False)
    return _run(instance, done.run_id)


def _by_hand(
    warehouse: Warehouse, instance: dg.DagsterInstance, *checks: str
) -> dg.DagsterRun:
    """The checks of the stays, all or those named, as the UI executes them."""
    job = build_definitions(warehouse).resolve_implicit_global_asset_job_def()
    keys = {
        key
        for key in job.asset_layer.asset_graph.asset_check_keys
        if key.asset_key == STAYS and (key.name in checks or not checks)
    }
    part = job.get_subset(asset_selection=set(), asset_check_selection=keys)
    done = part.execute_in_process(instance=instance, raise_on_error=False)
    return _run(instance, done.run_id)


def _run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    found = instance.get_run_by_id(run_id)
    assert found is not None
    return found


def _newest(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return instance.get_runs(limit=1)[0]


def _shown(instance: dg.DagsterInstance, run_id: str) -> dict[str, Shown]:
    """Checks that were evaluated in a run."""
    events = instance.all_logs(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    found = [e.get_dagster_event().asset_check_evaluation_data for e in events]
    return {
        check.check_name: Shown(check.passed, str(check.metadata["judged"].value))
        for check in found
        if "judged" in check.metadata
    }


def _differing(instance: dg.DagsterInstance, run_id: str) -> object:
    """Rows that a verification found to be others."""
    events = instance.all_logs(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    (found,) = [e.get_dagster_event().asset_check_evaluation_data for e in events]
    return found.metadata["differing"].value


def _said(instance: dg.DagsterInstance, run_id: str) -> str:
    """All that a run said, failures with their causes."""
    entries = instance.all_logs(run_id)
    details = [e.dagster_event.event_specific_data for e in entries if e.dagster_event]
    return "\n".join([*(entry.user_message for entry in entries), *map(str, details)])


def _assert_no_output_is_missed(instance: dg.DagsterInstance) -> None:
    assert "did not yield" not in _said(instance, _newest(instance).run_id)


def _planned(instance: dg.DagsterInstance, run_id: str) -> set[str]:
    events = instance.all_logs(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    )
    return {e.get_dagster_event().asset_check_planned_data.check_name for e in events}


def _transition(connection: Connection, entity_id: int) -> None:
    record(
        connection,
        entity_type="order",
        entity_id=entity_id,
        to_status="new",
        triggered_by_system="test",
    )


def _current(warehouse: Warehouse) -> Path:
    return (warehouse.folder / "published" / "current").resolve()


def test_nothing_passes_over_a_failed_verification_until_it_is_mended(
    warehouse: Warehouse,
    connection: Connection,
    instance: dg.DagsterInstance,
) -> None:
    before = _current(warehouse)
    connection.execute(ROW_IS_GONE)
    nightly = _job(warehouse, "verify", instance)
    assert nightly.status is dg.DagsterRunStatus.FAILURE
    assert not _shown(instance, nightly.run_id)[EQUALS].passed
    assert _differing(instance, nightly.run_id) == 1
    assert "1 row differs from a full build" in _said(instance, nightly.run_id)
    failure = standing_failure(connection)
    assert failure is not None
    said = str(failure)
    assert "1 row differs from a full build" in said
    assert f"Cut {failure.cut} failed its verification" in said
    assert "status-engine build --full-refresh" in said

    # Nothing new, then something, then files alone.
    for parts in (PARTS, ["publish"]):
        with pytest.raises(RunError) as refused:
            run(warehouse, parts)
        assert str(refused.value) == said
    refused_run = instance.get_runs(limit=2)[1].run_id
    shown = _shown(instance, refused_run)
    assert {name for name, check in shown.items() if not check.passed} == {EQUALS}
    assert shown.keys() >= _planned(instance, refused_run) - OTHER_CHECKS
    _transition(connection, 7)
    with pytest.raises(RunError, match="failed its verification"):
        run(warehouse, PARTS)
    assert _newest(instance).status is dg.DagsterRunStatus.FAILURE
    assert not _shown(instance, _newest(instance).run_id)[EQUALS].passed
    # The tables stay fresh; the files are those of before.
    built = "select count(*) from sla.status_intervals where entity_id = 7"
    assert connection.execute(built).fetchone() == (1,)
    assert _current(warehouse) == before

    run(warehouse, PARTS, full_refresh=True)
    _assert_no_output_is_missed(instance)
    assert standing_failure(connection) is None
    checks = _shown(instance, _newest(instance).run_id)
    assert checks[EQUALS].passed
    assert all(check.passed for check in checks.values())
    full = {name: check for name, check in checks.items() if name != EQUALS}
    assert {check.judged for check in full.values()} == {"everything"}
    assert _current(warehouse) != before


@pytest.mark.usefixtures("warehouse")
def test_a_verification_at_the_terminal_is_kept_and_clears(
    connection: Connection,
) -> None:
    changed = connection.execute(VISIT, [2, 1])
    assert changed.rowcount == 1
    # What differs in a sample is kept as well.
    assert at_terminal("verify", "--sample", "2").code == 1
    row = connection.execute(
        "select difference_count, first_differences from sla.verifications "
        "where failure is not null"
    ).fetchone()
    assert row is not None
    assert row[0] == 4
    assert "status_intervals" in row[1]
    failure = standing_failure(connection)
    assert failure is not None
    assert "4 rows differ from a full build" in str(failure)
    assert_one_sentence(at_terminal("publish"), "rows differ", "status-engine verify")
    connection.execute(VISIT, [1, 2])
    # Half of the entities tells nothing of the others.
    assert at_terminal("verify", "--sample", "2").code == 0
    assert standing_failure(connection) is not None
    assert at_terminal("verify").code == 0
    assert standing_failure(connection) is None
    assert at_terminal("publish").code == 0


def test_a_check_says_that_it_judged_a_part_and_by_hand_it_judges_every_row(
    warehouse: Warehouse, connection: Connection, instance: dg.DagsterInstance
) -> None:
    _transition(connection, 7)
    run(warehouse, PARTS)
    _assert_no_output_is_missed(instance)
    shown = _shown(instance, _newest(instance).run_id)
    touched = "entities touched since cut 1"
    assert shown["assert_intervals_tile_each_entity"] == (True, touched)
    assert shown["assert_every_transition_is_in_one_interval"] == (True, touched)
    assert shown["assert_every_read_transition_is_accounted_for"] == (
        True,
        "batches since cut 1",
    )
    assert shown["assert_all_tables_are_of_one_cut"] == (True, "everything")
    assert shown["unique_status_intervals_last_transition_id"] == (
        True,
        "everything as of cut 1, in full; not what came since",
    )
    # What was verified was another state.
    assert EQUALS not in shown
    # By hand.
    whole = _by_hand(warehouse, instance)
    assert whole.status is dg.DagsterRunStatus.SUCCESS
    shown = _shown(instance, whole.run_id)
    assert shown.keys() == _planned(instance, whole.run_id)
    assert set(shown.values()) == {Shown(True, "everything, of cut 2")}
    # The entity is not among those that the build touched.
    connection.execute(ROW_IS_GONE)
    name = "assert_every_transition_is_in_one_interval"
    damaged = _by_hand(warehouse, instance, name)
    assert damaged.status is dg.DagsterRunStatus.FAILURE
    found = {name: Shown(False, "everything, of cut 2")}
    assert _shown(instance, damaged.run_id) == found
    # Which is kept, as what a verification finds is.
    with pytest.raises(RunError, match=f"over all rows, {name} failed. Nothing"):
        run(warehouse, PARTS)
    shown = _shown(instance, _newest(instance).run_id)
    assert shown[name] == found[name]


def test_a_test_that_stops_a_build_shows_its_rows_and_the_others_stand(
    warehouse: Warehouse, connection: Connection, instance: dg.DagsterInstance
) -> None:
    """It fails before any table has changed; nothing but it is shown as failed."""
    _transition(connection, 8)
    connection.execute("set session_replication_role = replica")
    connection.execute(
        "update raw.batches set read_count = 7, appended_count = 7 where cut is null"
    )
    name = "assert_every_read_transition_is_accounted_for"
    before = _current(warehouse)
    with pytest.raises(RunError, match=f"Tests failed: {name}"):
        run(warehouse, PARTS)
    assert _current(warehouse) == before
    run_id = _newest(instance).run_id
    events = instance.all_logs(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    found = {
        check.check_name: check
        for event in events
        for check in [event.get_dagster_event().asset_check_evaluation_data]
    }
    assert {n for n, check in found.items() if not check.passed} == {name}
    built = {n for n in _planned(instance, run_id) if n not in OTHER_CHECKS}
    assert built <= found.keys()
    failed = found[name]
    assert failed.metadata["failed_rows"].value == 1
    rows = str(failed.metadata["first_rows"].value).splitlines()
    assert rows[0].startswith("| batch\\_id | read\\_count | appended\\_count |")
    assert "| 7 | 7 | 1 | 0 |" in rows[2]
    assert len(rows) == 3
    assert rows[2] in failed.description
    assert "Compare the batches below with the last back-up" in failed.description


def test_a_run_without_anything_new_shows_what_was_found_and_files_are_judged_anew(
    warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    run(warehouse, PARTS, as_of=NEXT)
    _assert_no_output_is_missed(instance)
    last = _newest(instance)
    shown = _shown(instance, last.run_id)
    claims = Path(__file__).parents[2] / "dbt" / "tests"
    assert {path.stem for path in claims.glob("*.sql")} < shown.keys()
    assert all(check.passed for check in shown.values())
    assert {check.judged.partition("cut ")[2] for check in shown.values()} == {
        "1: nothing came since"
    }
    # Each check that the UI shows, since the tables are of this run now.
    planned = _planned(instance, last.run_id)
    assert planned - shown.keys() == OTHER_CHECKS
    assert EQUALS in shown
    # What is judged anew.
    job = build_definitions(warehouse).resolve_implicit_global_asset_job_def()
    key = dg.AssetCheckKey(
        dg.AssetKey(["published", "analytics"]), "files_hold_what_the_manifest_says"
    )
    part = job.get_subset(asset_selection=set(), asset_check_selection={key})
    assert part.execute_in_process(instance=instance).success
    with duckdb.connect(_current(warehouse) / "analytics.duckdb") as analytics:
        analytics.execute("delete from status_intervals")
    done = part.execute_in_process(instance=instance, raise_on_error=False)
    assert _run(instance, done.run_id).status is dg.DagsterRunStatus.FAILURE
    assert not done.get_asset_check_evaluations()[0].passed
    assert "3 said, 3 Parquet, 0 DuckDB" in _said(instance, done.run_id)
    run(warehouse, ["publish"])


def test_runs_of_the_command_line_are_of_the_job_that_the_ui_shows(
    warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    run(warehouse, ["cut"])
    found = _newest(instance)
    origin = found.remote_job_origin
    assert origin is not None
    assert origin.repository_origin.get_label() == (
        "__repository__@dagster_project.definitions"
    )
    (job,) = instance.get_runs(
        dg.RunsFilter(
            job_name="status_engine",
            run_ids=[found.run_id],
            tags={".dagster/repository": origin.repository_origin.get_label()},
        )
    )
    assert job.run_id == found.run_id
    # What the UI shows beside a run's id is what has no prefix of Dagster's.
    assert [
        tag for tag in found.tags if not tag.startswith((".dagster/", "dagster/"))
    ] == []
