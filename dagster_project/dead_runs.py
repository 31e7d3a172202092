"""Runs whose process has ended without a word, as by a kill or with its machine.

They would count as started for ever, and the next run of their schedule would wait.
"""

import dagster as dg
import psutil

# Which process executes the run: its id, and when it began, since ids come again. The
# prefix is Dagster's, of tags that the UI does not show.
PROCESS_TAG = ".dagster/status_engine/process"
# Of runs of releases up to 2026-11-29.
SHOWN_PROCESS_TAG = "status_engine/process"
UNFINISHED = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def process_tag(process_id: int) -> dict[str, str]:
    """The tag of a run that a process executes."""
    return {PROCESS_TAG: _identity(process_id)}


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Report runs as failed whose process has ended; others are left alone.

    A run of Dagster's own launcher is tagged once its resources are there; until then
    it is taken to be alive.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        process = run.tags.get(PROCESS_TAG) or run.tags.get(SHOWN_PROCESS_TAG)
        if process and process != _identity(int(process.split()[0])):
            instance.report_run_failed(run, "Its process has ended.")


def _identity(process_id: int) -> str:
    try:
        return f"{process_id} {psutil.Process(process_id).create_time()}"
    except psutil.NoSuchProcess:
        return ""
