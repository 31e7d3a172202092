"""Old runs go, with all that they logged; what assets and checks show stays."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)

from dagster_project.retention import (
    KEEP_RUNS_DAYS,
    Pruned,
    kept_days,
    prune,
    prune_history,
)
from dagster_project.run import FORMER_INSTANCE, INSTANCE, dagster_home
from ingest import StatusEngineError
from tests.dagster_project.test_production import with_driver

LATER = datetime.now(UTC) + timedelta(days=1)
CHECK = dg.AssetCheckKey(dg.AssetKey("one"), "holds")


@dg.asset(check_specs=[dg.AssetCheckSpec("holds", asset="one")])
def one() -> Iterator[Any]:
    yield dg.AssetCheckResult(passed=True)
    yield dg.Output(None)


@dg.asset
def other() -> None: ...


@dg.job
def nothing() -> None: ...


@pytest.fixture(params=["sqlite", "postgres"])
def instance(
    request: pytest.FixtureRequest,
    fresh_database: Callable[..., AbstractContextManager[str]],
) -> Iterator[dg.DagsterInstance]:
    with fresh_database("template1") as url:
        storage = {"postgres": {"postgres_url": with_driver(url)}}
        overrides = {} if request.param == "sqlite" else {"storage": storage}
        with dg.instance_for_test(overrides=overrides) as instance:
            yield instance


def _materialized(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition) -> str:
    return dg.materialize(list(assets), instance=instance).run_id


def _shown(instance: dg.DagsterInstance) -> Any:
    """What the UI has of assets and checks."""
    keys = [dg.AssetKey("one"), dg.AssetKey("other")]
    checks = instance.event_log_storage.get_asset_check_summary_records([CHECK])
    return instance.get_latest_materialization_events(keys), [
        record.last_completed_check_execution_record for record in checks.values()
    ]


def _rows_of(instance: dg.DagsterInstance, run_id: str) -> list[int]:
    """Of its events and results of checks."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        return [
            connection.execute(
                sqlalchemy.select(sqlalchemy.func.count()).where(
                    table.c.run_id == run_id
                )
            ).scalar_one()
            for table in (SqlEventLogStorageTable, AssetCheckExecutionsTable)
        ]


def _files_of(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    return list(Path(instance.root_directory).rglob(f"{run_id}*"))


def test_a_run_stays_as_long_as_it_tells_the_latest(
    instance: dg.DagsterInstance,
) -> None:
    runs = [_materialized(instance, one) for _ in range(2)]
    last_of_other = _materialized(instance, other)
    last_of_one = _materialized(instance, one)
    failed = instance.create_run_for_job(nothing)
    instance.report_run_failed(failed)
    going_on = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
    before = _shown(instance)

    assert prune(instance, LATER - timedelta(days=2)) == Pruned(0, 0, 0)
    assert prune(instance, LATER, most=1) == Pruned(1, 1, 3)
    assert not instance.has_run(runs[0])
    assert instance.has_run(runs[1])
    assert prune(instance, LATER) == Pruned(2, 2, 0)
    assert {run.run_id for run in instance.get_runs()} == {
        last_of_other,
        last_of_one,
        going_on.run_id,
    }
    assert _shown(instance) == before
    for run_id in (*runs, failed.run_id):
        assert _rows_of(instance, run_id) == [0, 0]
        assert _files_of(instance, run_id) == []
    assert min(_rows_of(instance, last_of_one)) > 0


def test_the_job_says_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEEP_RUNS_DAYS, "7")
    definitions = dg.Definitions(jobs=[prune_history])
    job = definitions.resolve_job_def("prune_history")
    with dg.instance_for_test() as instance:
        result = job.execute_in_process(instance=instance)
    (output,) = (
        event.event_specific_data.metadata
        for event in result.all_node_events
        if event.event_type is dg.DagsterEventType.STEP_OUTPUT
    )
    assert {name: value.value for name, value in output.items()} == {
        "kept_days": 7,
        "deleted": 0,
        "needed": 0,
        "left": 0,
    }


@pytest.mark.parametrize("said", ["0", "-1", "a week", "1.5", "99999", "٣"])
def test_what_is_no_number_of_days_deletes_nothing(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEEP_RUNS_DAYS, said)
    with pytest.raises(StatusEngineError, match=f"^{KEEP_RUNS_DAYS} is .*\\.$"):
        kept_days()


def test_runs_are_kept_for_thirty_days_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(KEEP_RUNS_DAYS, raising=False)
    assert kept_days() == 30


def test_a_home_of_an_older_release_keeps_ticks_no_longer_than_a_new_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of somebody's own stay as they are."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    settings = home / "dagster" / "dagster.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(FORMER_INSTANCE)
    dagster_home(home)
    assert settings.read_text() == INSTANCE
    with dg.DagsterInstance.from_config(str(settings.parent)) as instance:
        kept = instance.get_tick_retention_settings(InstigatorType.SCHEDULE)
    assert set(kept.values()) == {30}
    settings.write_text(own := FORMER_INSTANCE.replace("limit: 1", "limit: 2"))
    dagster_home(home)
    assert settings.read_text() == own
