"""Runs whose process has ended without a word, as by a kill or with its machine.

They would count as started for ever, and the next run of their schedule would wait.
"""

import dagster as dg
from dagster._core.storage.runs import SqliteRunStorage

from dagster_project.processes import PROCESS_TAG, lives

# Of runs of releases up to 2026-11-29.
SHOWN_PROCESS_TAG = "status_engine/process"
UNFINISHED = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Report runs as failed whose process has ended; others are left alone.

    A run of Dagster's own launcher is tagged once its resources are there; until then
    it is taken to be alive, and one of another machine always: run monitoring ends it
    after its longest time.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        process = _process_of(run)
        is_its_own = process and process != _process_of_parent(instance, run)
        if is_its_own and not lives(process, is_local=_is_local(instance)):
            instance.report_run_failed(run, "Its process has ended.")


def _process_of(run: dg.DagsterRun | None) -> str:
    tags = run.tags if run else {}
    return tags.get(PROCESS_TAG) or tags.get(SHOWN_PROCESS_TAG) or ""


def _process_of_parent(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What a retry has of the run before it, tags and all, until it says its own."""
    parent = run.parent_run_id
    return _process_of(instance.get_run_by_id(parent)) if parent else ""


def _is_local(instance: dg.DagsterInstance) -> bool:
    """Whether all runs are of this machine, whatever its name was."""
    return isinstance(instance.run_storage, SqliteRunStorage)
