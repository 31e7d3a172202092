"""Between two ticks: a run as soon as files wait in the inbox."""

import hashlib

import dagster as dg

from dagster_project.resources import Warehouse
from dagster_project.schedules import status_engine
from ingest.inbox import waiting


@dg.sensor(
    job=status_engine,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def files_in_the_inbox(warehouse: Warehouse) -> dg.RunRequest | dg.SkipReason:
    """One run for each set of waiting files, known by name, size and time."""
    files = waiting(warehouse.folder / "inbox")
    if not files:
        return dg.SkipReason("no file waits in the inbox")
    stamps = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return dg.RunRequest(run_key=hashlib.sha256(repr(stamps).encode()).hexdigest())
