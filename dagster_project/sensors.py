"""Between two ticks of the schedule: a run as soon as something waits, or is due.

And what people are told of runs themselves.
"""

import hashlib
import time
from typing import LiteralString

import dagster as dg

from dagster_project.alerts.delivery import deliverable
from dagster_project.alerts.watching import tell_of_pipeline
from dagster_project.dead_runs import UNFINISHED, end_dead_runs
from dagster_project.resources import Warehouse
from dagster_project.schedules import deliver_alerts, status_engine
from ingest.errors import SourceError
from ingest.followed_source import FOLDER, load_source, source_paths
from ingest.following import state_of
from ingest.inbox import survey
from ingest.store.database import Connection

# With a run of some seconds, what is published is at most some 30 s behind.
INTERVAL = 20
# After a run that failed; else its reason would end as many runs as there are ticks.
PAUSE = 60
AT_WORK = [dg.DagsterRunStatus.QUEUED, *UNFINISHED]
# A batch of duplicates changes nothing that is built.
WAITING: LiteralString = """
select batch_id
from raw.batches
where cut is null and (appended_count > 0 or kind = 'configuration')
order by batch_id desc
limit 1
"""


@dg.sensor(
    job=status_engine,
    description="A normal run as soon as files, batches or a source wait.",
    minimum_interval_seconds=INTERVAL,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def arrivals(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """A run where files, batches or a source wait, and none is at work or asked for.

    So there is one at a time, however many come. What the same things asked for is not
    asked again: a run that leaves them as they are is left to the schedule.
    """
    end_dead_runs(context.instance)
    if reason := _occupied(context.instance):
        return dg.SkipReason(reason)
    waiting = [*_files(warehouse)]
    with warehouse.session() as connection:
        waiting += [*_batches(connection), *_sources(connection, warehouse)]
    if not waiting:
        return dg.SkipReason("no file, batch or source waits")
    return dg.RunRequest(run_key=hashlib.sha256(repr(waiting).encode()).hexdigest())


def _occupied(instance: dg.DagsterInstance) -> str:
    """Why another run is not wanted now; empty where it is."""
    if _is_at_work(instance, status_engine.name):
        return "a run is at work, or waits"
    newest = instance.get_run_records(
        dg.RunsFilter(job_name=status_engine.name), limit=1
    )
    if not newest or newest[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return ""
    ended_at = newest[0].end_time or 0
    return "the last run failed just now" if time.time() < ended_at + PAUSE else ""


def _is_at_work(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of a job goes on, or waits for its turn."""
    unended = dg.RunsFilter(job_name=job_name, statuses=AT_WORK)
    return bool(instance.get_runs(unended, limit=1))


def _files(warehouse: Warehouse) -> list[object]:
    # Where a file lies counts: what a killed run had taken asks for another run.
    files = survey(warehouse.folder / "inbox").waiting
    return [(str(file.path), file.size, file.changed_ns) for file in files]


def _batches(connection: Connection) -> list[object]:
    return [*connection.execute(WAITING).fetchall()]


def _sources(connection: Connection, warehouse: Warehouse) -> list[object]:
    """Those that are due, by their last readings; of defective files, runs tell."""
    due: list[object] = []
    for path in source_paths(warehouse.folder / FOLDER):
        try:
            source = load_source(path)
        except SourceError:
            continue
        state = state_of(connection, source)
        if state.is_due:
            due.append((source.name, state.reading_id))
    return due


@dg.sensor(
    job=deliver_alerts,
    description="A delivery of alerts as soon as one is due, within 30 s.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alerts_fall_due(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """One run while alerts are due that a channel can take now, and none goes on."""
    if _is_at_work(context.instance, deliver_alerts.name):
        return dg.SkipReason("a delivery goes on")
    with warehouse.session() as connection:
        if not deliverable(connection):
            return dg.SkipReason("no alert is due that a channel can take now")
    return dg.RunRequest()


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def pipeline_alerts(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.SkipReason:
    """Tell people of failed runs, checks and ticks, and of what is late or refused.

    It starts no run, and no database: it works while that is down.
    """
    assert context.repository_def is not None
    said = tell_of_pipeline(
        context.instance,
        context.repository_def.asset_graph,
        warehouse.folder,
        conninfo=warehouse.database_url or None,
    )
    return dg.SkipReason("; ".join(said) or "nothing is new")
