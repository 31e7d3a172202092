"""The graph that Dagster is given, and what the schedule and the sensor ask for."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from dagster_project import checks, schedules, sensors
from dagster_project.assets.alerts import AlertsConfig
from dagster_project.assets.automatic import AutomationConfig
from dagster_project.assets.derived import BuildConfig
from dagster_project.assets.raw import CutConfig
from dagster_project.dead_runs import end_dead_runs
from dagster_project.definitions import build_definitions
from dagster_project.processes import PROCESS_TAG, process_tag
from dagster_project.replays import ReplayConfig
from dagster_project.resources import Warehouse
from ingest.shelves import file_away, take

ASSETS = {
    "alerts": {"alert_deliveries", "alert_messages", "target_signals"},
    "raw": {
        "alert_channels",
        "audit_entries",
        "batches",
        "business_entities",
        "calendar_pages",
        "calendar_windows",
        "calendars",
        "cuts",
        "entity_keys",
        "entity_type_versions",
        "entity_types",
        "rejected_transitions",
        "source_readings",
        "status_transitions",
        "status_workflow_steps",
        "status_workflows",
        "targets",
        "user_accounts",
    },
    "staging": {
        "stg_audit_entries",
        "stg_batches",
        "stg_business_entities",
        "stg_calendar_pages",
        "stg_calendar_windows",
        "stg_calendars",
        "stg_entity_keys",
        "stg_entity_types",
        "stg_targets",
        "stg_transitions",
        "stg_user_accounts",
        "stg_workflow_steps",
        "stg_workflow_versions",
    },
    "building": {
        "calendar_versions",
        "known_batches",
        "known_calendars",
        "known_transitions",
        "known_workflow_versions",
        "live_status",
        "pinned_transitions",
        "reconfigured_entities",
        "reconfigured_status",
        "touched_entities",
        "workflow_versions",
    },
    "sla": {
        "arrivals",
        "audit_trail",
        "automatic_rules",
        "automatic_transitions",
        "built_cuts",
        "business_deadline",
        "business_entities",
        "business_seconds",
        "calendar_windows",
        "calendars",
        "deadline_windows",
        "due_alerts",
        "entities",
        "entity_current_status",
        "entity_journeys",
        "entity_keys",
        "entity_types",
        "handovers",
        "interval_explanations",
        "milestones",
        "open_work",
        "order_status_history",
        "process_variants",
        "publication",
        "restatements",
        "sla_alerts",
        "sla_daily_counts",
        "sla_performance",
        "sla_performance_by",
        "status_as_of",
        "status_flow",
        "status_intervals",
        "target_compliance",
        "targets",
        "users",
        "workflow_candidates",
        "workflow_steps",
        "workflow_violations",
        "workflows",
        "workload",
        "workload_changes",
    },
    "actions": {"automatic_transitions"},
    "reports": {"forecast_backtest", "week"},
    "published": {
        "analytics",
        "arrivals",
        "audit_trail",
        "business_entities",
        "calendar_windows",
        "calendars",
        "entities",
        "entity_current_status",
        "entity_journeys",
        "entity_keys",
        "entity_types",
        "handovers",
        "open_work",
        "process_variants",
        "restatements",
        "sla_performance",
        "status_flow",
        "status_intervals",
        "target_compliance",
        "targets",
        "users",
        "workflow_steps",
        "workflow_violations",
        "workflows",
        "workload",
    },
}
TICK = datetime(2026, 3, 7, 12, 5, tzinfo=UTC)
FIVE_MINUTES = timedelta(minutes=5)


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    """What the web server loads, over a database that is never asked."""
    return build_definitions(Warehouse(database_url="postgresql://nowhere/", home="/"))


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
    return list(definitions.resolve_all_asset_specs())


def test_a_run_loads_nothing_that_the_review_of_a_week_alone_needs() -> None:
    code = "import sys, dagster_project.definitions; print('scipy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_every_table_and_file_is_one_asset(specs: list[dg.AssetSpec]) -> None:
    keys = [spec.key.path for spec in specs]
    assert sorted(keys) == sorted(
        [group, name] for group, names in ASSETS.items() for name in names
    )


def test_every_asset_has_group_owner_kinds_and_description(
    specs: list[dg.AssetSpec],
) -> None:
    assert {tuple(s.key.path): s.group_name for s in specs} == {
        (group, name): group for group, names in ASSETS.items() for name in names
    }
    assert [s.key for s in specs if list(s.owners) != ["team:status-engine"]] == []
    assert [s.key for s in specs if not s.kinds] == []
    assert [s.key for s in specs if not (s.description or "").strip()] == []


def test_nothing_is_read_that_no_asset_makes(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert graph.materializable_asset_keys == graph.get_all_asset_keys()


def test_every_derived_asset_is_behind_the_cut(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    cut = dg.AssetKey(["raw", "cuts"])
    behind = dg.AssetSelection.assets(cut).downstream().resolve(graph)
    derived = [key for key in graph.get_all_asset_keys() if key.path[0] != "raw"]
    assert set(derived) | {cut} == behind


def test_what_each_run_makes_warns_and_fails_by_its_age(
    specs: list[dg.AssetSpec],
) -> None:
    windows = {}
    for spec in specs:
        policy = spec.freshness_policy
        if policy is not None:
            assert isinstance(policy, TimeWindowFreshnessPolicy)
            assert policy.warn_window is not None
            windows[tuple(spec.key.path)] = (
                policy.warn_window.to_timedelta() / FIVE_MINUTES,
                policy.fail_window.to_timedelta() / FIVE_MINUTES,
            )
    assert windows == {
        (group, name): (2, 3)
        for group in ("raw", "sla", "published")
        for name in ASSETS[group]
    }


def test_each_thing_done_by_hand_is_a_job_that_says_what_it_is(
    definitions: dg.Definitions,
) -> None:
    jobs = {job.name: job for job in definitions.resolve_all_job_defs()}
    del jobs["__ASSET_JOB"]
    assert jobs.keys() == {
        "deliver_alerts",
        "full_refresh",
        "prune_history",
        "publish",
        "replay_rejects",
        "report",
        "status_engine",
        "verify",
    }
    assert [name for name, job in jobs.items() if not job.description] == []
    assert jobs["full_refresh"].run_config == schedules.run_config(full_refresh=True)
    kinds = (BuildConfig, CutConfig, AlertsConfig, AutomationConfig, ReplayConfig)
    fields = [(k, n, f) for k in kinds for n, f in k.model_fields.items()]
    assert len(fields) == 7
    assert [(k, name) for k, name, field in fields if not field.description] == []


def test_every_data_test_of_dbt_is_a_check_of_an_asset(
    definitions: dg.Definitions,
) -> None:
    keys = definitions.resolve_asset_graph().asset_check_keys
    names = {key.name for key in keys}
    claims = Path(__file__).parents[2] / "dbt" / "tests"
    assert {path.stem for path in claims.glob("*.sql")} <= names
    assert {"every_file_was_accepted", "files_hold_what_the_manifest_says"} <= names


def test_no_check_warns_where_a_build_need_not_run_it(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.resolve_asset_graph()
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    assert specs
    assert not [spec.name for spec in specs if spec.blocking]


def test_the_tick_is_the_clock_and_the_run_key(definitions: dg.Definitions) -> None:
    with dg.instance_for_test() as instance:
        request = _tick(instance)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "2026-03-07T12:05:00+00:00"
    assert request.run_config == {
        "ops": {"raw__cuts": {"config": {"as_of": "2026-03-07T12:05:00+00:00"}}}
    }
    job = definitions.resolve_job_def("status_engine")
    ops = dg.validate_run_config(job, request.run_config)["ops"]
    assert ops["raw__cuts"]["config"] == {"as_of": "2026-03-07T12:05:00+00:00"}


def _tick(instance: dg.DagsterInstance) -> object:
    with dg.build_schedule_context(instance, TICK) as context:
        return schedules.every_five_minutes(context)


@dg.job
def nothing() -> None: ...


def test_a_tick_ends_runs_whose_process_has_ended() -> None:
    """The next run of the schedule would wait for them, for ever."""
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = process_tag(ended.pid)
    ended.communicate()
    # Another process of that id, as after a restart of the machine.
    another = {PROCESS_TAG: f"{os.getpid()} 1.0"}
    with dg.instance_for_test() as instance:
        runs = {
            name: instance.create_run_for_job(
                nothing, tags=tags, status=dg.DagsterRunStatus.STARTED
            ).run_id
            for name, tags in {
                "dead": dead,
                "another": another,
                "alive": process_tag(os.getpid()),
                "not tagged yet": {},
            }.items()
        }
        _tick(instance)
        failed = instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
        )
    assert {record.dagster_run.run_id for record in failed} == {
        runs["dead"],
        runs["another"],
    }


def test_runs_that_only_seem_dead_are_left_alone() -> None:
    """A run of another machine, and a retry that still has the tag of what it retries.

    What SQLite records is of one machine, though its name may have changed.
    """
    elsewhere = {PROCESS_TAG: f"{os.getpid()} 1.0 another-machine"}
    gone = {PROCESS_TAG: f"{os.getpid()} 1.0"}
    started, failed = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
    for make in (dg.DagsterInstance.ephemeral, dg.instance_for_test):
        with make() as instance:
            other = instance.create_run_for_job(nothing, tags=elsewhere, status=started)
            first = instance.create_run_for_job(nothing, tags=gone, status=failed)
            again = instance.create_run_for_job(
                nothing,
                tags=gone,
                status=started,
                parent_run_id=first.run_id,
                root_run_id=first.run_id,
            )
            end_dead_runs(instance)
            ended = {
                run.run_id
                for run in instance.get_runs(dg.RunsFilter(statuses=[failed]))
            }
            assert again.run_id not in ended
            assert (other.run_id in ended) == (make is dg.instance_for_test)


def test_a_run_that_dagster_launches_says_which_process_executes_it() -> None:
    @dg.asset
    def any_asset(warehouse: Warehouse) -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [any_asset], instance=instance, resources={"warehouse": Warehouse()}
        )
        run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags.items() >= process_tag(os.getpid()).items()


def test_the_schedule_and_the_sensor_run_by_default() -> None:
    schedule, sensor = schedules.every_five_minutes, sensors.arrivals
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensors.alerts_fall_due.default_status is dg.DefaultSensorStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == (
        "*/5 * * * *",
        "UTC",
    )
    assert schedule.job_name == sensor.job_name == "status_engine"


def test_every_option_of_a_run_is_configuration_of_the_job(
    definitions: dg.Definitions,
) -> None:
    job = definitions.resolve_job_def("status_engine")
    config = schedules.run_config(TICK, full_refresh=True)
    ops = dg.validate_run_config(job, config)["ops"]
    assert ops["raw__cuts"]["config"] == {"as_of": TICK.isoformat()}
    assert ops["derived"]["config"] == {"full_refresh": True}
    assert schedules.run_config() == {}


@pytest.mark.parametrize("key", ["mapping", "file_name", "timezone"])
def test_a_replay_names_no_file(definitions: dg.Definitions, key: str) -> None:
    job = definitions.resolve_job_def("replay_rejects")
    given = {"ops": {"replay": {"config": {key: "/etc"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match=f'unexpected .*"{key}"'):
        dg.validate_run_config(job, given)


@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [
        ("ops", "inbox", "paths"),
        ("ops", "configuration", "folder"),
        ("resources", "named", "paths"),
        ("resources", "warehouse", "home"),
        ("resources", "warehouse", "database_url"),
        ("resources", "dbt", "project_dir"),
        ("resources", "dbt", "dbt_executable"),
        ("resources", "io_manager", "base_dir"),
    ],
)
def test_a_run_configuration_names_nothing_of_this_machine(
    definitions: dg.Definitions, kind: str, name: str, key: str
) -> None:
    """It may come from a browser; the environment and the command line name all."""
    job = definitions.resolve_job_def("status_engine")
    assert dg.validate_run_config(job, {kind: {name: {"config": {}}}})
    given = {kind: {name: {"config": {key: "/etc"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match=f'unexpected .*"{key}"'):
        dg.validate_run_config(job, given)


def test_the_check_tells_of_files_that_are_refused_left_or_passed_over(
    home: Path,
) -> None:
    def checked() -> dg.AssetCheckResult:
        result = checks.every_file_was_accepted(warehouse=Warehouse(home=str(home)))
        assert isinstance(result, dg.AssetCheckResult)
        return result

    inbox = home / "inbox"
    inbox.mkdir(parents=True)
    (inbox / "notes.txt").write_text("note")
    passed = checked()
    assert passed.passed
    assert "notes.txt: passed over" in str(passed.metadata["passed_over"].value)
    name = os.fsdecode(b"\xff.csv")
    (inbox / name).write_text("id\n")
    assert checked().passed
    place = take(inbox / name)
    left = checked()
    assert not left.passed
    assert str(left.metadata["left"].value).endswith(r"/\xff.csv")
    file_away(place, home, Path(name), "Why é.")
    (home / "refused" / "x.txt").symlink_to(home / "nowhere")
    refused = checked()
    assert not refused.passed
    assert refused.metadata["refused"].value == 1
    assert refused.metadata["reasons"].value == "Why é."
