"""Between two ticks: a run as soon as files wait in the inbox, or alerts are due."""

import hashlib

import dagster as dg

from dagster_project.alerts.delivery import deliverable
from dagster_project.resources import Warehouse
from dagster_project.schedules import deliver_alerts, status_engine
from ingest.inbox import survey

UNENDED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job=status_engine,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def files_in_the_inbox(warehouse: Warehouse) -> dg.RunRequest | dg.SkipReason:
    """One run for each set of waiting files, known by name, size and time."""
    files = survey(warehouse.folder / "inbox").waiting
    if not files:
        return dg.SkipReason("no file waits in the inbox")
    # Where a file lies counts: what a killed run had taken asks for another run.
    stamps = [(str(file.path), file.size, file.changed_ns) for file in files]
    return dg.RunRequest(run_key=hashlib.sha256(repr(stamps).encode()).hexdigest())


@dg.sensor(
    job=deliver_alerts,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alerts_fall_due(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """One run while alerts are due that a channel can take now, and none goes on."""
    waiting = dg.RunsFilter(job_name=deliver_alerts.name, statuses=UNENDED)
    if context.instance.get_run_records(waiting, limit=1):
        return dg.SkipReason("a delivery goes on")
    with warehouse.session() as connection:
        if not deliverable(connection):
            return dg.SkipReason("no alert is due that a channel can take now")
    return dg.RunRequest()
