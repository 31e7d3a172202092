"""Running the job in this process: the way of the command line and of tests."""

import contextlib
import io
import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import yaml
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteRepositoryOrigin,
)

from dagster_project.dbt_process import BuildError, known_tables
from dagster_project.dead_runs import end_dead_runs
from dagster_project.definitions import build_definitions
from dagster_project.processes import process_tag
from dagster_project.resources import Named, Warehouse
from dagster_project.retention import DEFAULT_DAYS
from dagster_project.schedules import STATUS_ENGINE, run_config
from ingest.errors import StatusEngineError
from ingest.store.on_disk import PRIVATE_FOLDER, make_folder, write_whole

# Of releases up to 2026-11-29, which kept every tick.
FORMER_INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    tag_concurrency_limits:
      - key: dagster/schedule_name
        limit: 1
"""
INSTANCE = f"""\
{FORMER_INSTANCE}retention:
  schedule:
    purge_after_days: {DEFAULT_DAYS}
  sensor:
    purge_after_days:
      skipped: 2
      started: {DEFAULT_DAYS}
      success: {DEFAULT_DAYS}
      failure: {DEFAULT_DAYS}
"""
# The settings above, or those that took their place, for runs in this process.
COMMAND_LINE_SETTINGS = "command-line.yaml"
NOT_CAPTURED = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
# The job as the UI knows it, by the module of the definitions that it loads.
ORIGIN = RemoteRepositoryOrigin(
    RegisteredCodeLocationOrigin(build_definitions.__module__),
    SINGLETON_REPOSITORY_NAME,
).get_job_origin(STATUS_ENGINE)


class RunError(StatusEngineError):
    """A step of the run failed; what was committed before stays."""


class RunResult(NamedTuple):
    """The run's id, and the metadata of what it materialized, by asset."""

    run_id: str
    metadata: dict[str, dict[str, Any]]


def dagster_home(home: Path) -> Path:
    """The folder of Dagster's instance, with its settings; named to this process."""
    folder = home / "dagster"
    settings = folder / "dagster.yaml"
    try:
        # What runs were told, and said, is kept here.
        make_folder(folder).chmod(PRIVATE_FOLDER)
        if not _is_whole(settings) or settings.read_text() == FORMER_INSTANCE:
            write_whole(settings, INSTANCE)
        (folder / COMMAND_LINE_SETTINGS).touch()
    except OSError as error:
        msg = f"The folder {home} can't be used: {error}. Set STATUS_ENGINE_HOME."
        raise RunError(msg) from error
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def _instance(folder: Path) -> dg.DagsterInstance:
    """The instance, without a capture of what this process prints.

    It takes four processes, whom Ctrl-C at a terminal ends as well, each with a
    traceback; and standard output is redirected here.
    """
    settings = yaml.safe_load((folder / "dagster.yaml").read_text())
    content = yaml.safe_dump({**settings, "compute_logs": NOT_CAPTURED})
    write_whole(folder / COMMAND_LINE_SETTINGS, content)
    instance = dg.DagsterInstance.from_config(str(folder), COMMAND_LINE_SETTINGS)
    # Execution in a process makes runs of no code location, which the UI shows neither
    # in its timeline nor under their job.
    create = partial(instance.create_run_for_job, remote_job_origin=ORIGIN)
    instance.create_run_for_job = create  # type: ignore[method-assign]
    return instance


def _is_whole(settings: Path) -> bool:
    """Whether there are settings; an empty or broken file would mean the defaults."""
    try:
        return isinstance(yaml.safe_load(settings.read_text()), dict)
    except (OSError, ValueError, yaml.YAMLError):
        return False


def run(
    warehouse: Warehouse,
    parts: Sequence[str],
    *,
    as_of: datetime | None = None,
    paths: Sequence[Path] = (),
    workflows: Path | None = None,
    full_refresh: bool = False,
) -> RunResult:
    """Run parts of the job in this process, recorded as any other run.

    Args:
        warehouse: the database and the home folder.
        parts: of configuration, inbox, cut, build, publish, alerts and automate.
        as_of: the run's instant; the database's clock by default.
        paths: files to deliver before the inbox is emptied.
        workflows: a folder of workflow files to apply.
        full_refresh: rebuild every stored table from the first transition on.

    Raises:
        RunError: a step failed; says which, and why.
    """
    folder = dagster_home(warehouse.folder)
    named = Named(
        [path.resolve() for path in paths], workflows.resolve() if workflows else None
    )
    definitions = build_definitions(warehouse, _selection(parts), named)
    job = definitions.resolve_job_def(STATUS_ENGINE)
    config = run_config(as_of if "cut" in parts else None, full_refresh=full_refresh)
    # dbt repeats its whole log on standard output; it is kept beside its target.
    with (
        _instance(folder) as instance,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        end_dead_runs(instance)
        result = job.execute_in_process(
            # Who ended it is at the terminal, and may run it again.
            tags={**process_tag(os.getpid()), "dagster/max_retries": "0"},
            run_config={**config, "loggers": {"console": {}}},
            instance=instance,
            raise_on_error=False,
        )
    if not result.success:
        raise RunError(_why(result, warehouse))
    return RunResult(result.run_id, _metadata(result))


def _selection(parts: Sequence[str]) -> dg.AssetSelection:
    groups = {
        "build": ("staging", "building", "sla"),
        "publish": ("published",),
        "automate": ("actions",),
        "alerts": ("alerts",),
    }
    selection: dg.AssetSelection = dg.AssetSelection.assets()
    for part in parts:
        if part in groups:
            selection |= dg.AssetSelection.groups(*groups[part])
        else:
            filled = known_tables().filled_by(part)
            keys = (dg.AssetKey([table.layer, table.name]) for table in filled)
            selection |= dg.AssetSelection.assets(*keys)
    return selection


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        "/".join(event.asset_key.path): {
            name: value.value
            for name, value in event.materialization.metadata.items()
            # Of every run the same, and no JSON.
            if not isinstance(value, dg.TableSchemaMetadataValue)
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def _why(result: dg.ExecuteInProcessResult, warehouse: Warehouse) -> str:
    for event in result.get_step_failure_events():
        said = event.step_failure_data.user_failure_data
        if said is not None:
            return said.description or "The run failed."
        error = event.step_failure_data.error
        ours = _subclasses(StatusEngineError)
        while error is not None and error.cause and error.cls_name not in ours:
            error = error.cause
        if error is not None and "Interrupted" in (error.cls_name or ""):
            return "Stopped. Run it again to continue."
        if error is not None and error.cls_name == BuildError.__name__:
            tests = _failed_tests(result, warehouse)
            return tests or error.message.partition(": ")[2].strip()
        if error is not None and error.cls_name in ours:
            return error.message.partition(": ")[2].strip()
        if error is not None:
            message = error.message.partition(": ")[2].strip() or error.message.strip()
            return f"Step {event.step_key} failed: {message}"
    return "The run failed; its log is in the Dagster UI: status-engine ui."


def _failed_tests(result: dg.ExecuteInProcessResult, warehouse: Warehouse) -> str:
    """The tests of dbt that failed, by name; nothing where none did."""
    failed = [
        check.check_name
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR
    ]
    if not failed:
        return ""
    logs = warehouse.folder.glob("dbt-*/dbt.log")
    log = max(logs, key=lambda path: path.stat().st_mtime)
    return f"Tests failed: {', '.join(failed)}. What they found is in {log}."


def _subclasses(kind: type) -> set[str]:
    """The names of a class and all below it."""
    return {kind.__name__}.union(*(_subclasses(k) for k in kind.__subclasses__()))
