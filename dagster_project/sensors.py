"""Between two ticks: a run as soon as files wait in the inbox."""

import hashlib

import dagster as dg

from dagster_project.resources import Warehouse
from dagster_project.schedules import status_engine
from ingest.inbox import survey


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
