"""How long Dagster keeps its runs, with what they logged.

Ticks of schedules and sensors it deletes by itself, as dagster.yaml says. What is in
schema raw belongs to no run, and stays.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import (
    EventLogStorage,
    SqlEventLogStorage,
    SqliteEventLogStorage,
)
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from sqlalchemy import select

from ingest.errors import StatusEngineError

KEEP_RUNS_DAYS = "STATUS_ENGINE_KEEP_RUNS_DAYS"
DEFAULT_DAYS = 30
# A day has some 300 runs. More at once would keep the next scheduled run waiting.
MOST = 2_000


class Pruned(NamedTuple):
    """Counts of runs beyond their time: deleted; needed still; left for next time."""

    deleted: int
    needed: int
    left: int


def kept_days() -> int:
    """For how many days runs are kept, by the environment.

    Raises:
        StatusEngineError: it is no whole number of days, or less than one.
    """
    said = os.environ.get(KEEP_RUNS_DAYS) or str(DEFAULT_DAYS)
    if not (said.isascii() and said.isdecimal() and 0 < int(said) <= 36_500):
        msg = f"{KEEP_RUNS_DAYS} is {said!r}: say a whole number of days from 1 on."
        raise StatusEngineError(msg)
    return int(said)


def prune(instance: dg.DagsterInstance, before: datetime, most: int = MOST) -> Pruned:
    """Delete the oldest runs that ended, were made before an instant, and tell nothing.

    A run stays as long as the last materialization or observation of an asset is of it,
    or the last result of a check.

    Args:
        instance: Dagster's, any storage.
        before: the instant, with a zone.
        most: how many at once; what is left, the next time deletes.
    """
    needed = _runs_that_tell_the_latest(instance)
    ended = dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=before)
    count = instance.get_runs_count(ended)
    oldest = instance.get_run_records(
        ended, limit=most + len(needed), order_by="id", ascending=True
    )
    ids = [record.dagster_run.run_id for record in oldest]
    for run_id in (deleted := [i for i in ids if i not in needed][:most]):
        _delete(instance, run_id)
    kept = len(needed.intersection(ids))
    return Pruned(len(deleted), kept, count - len(deleted) - kept)


def _runs_that_tell_the_latest(instance: dg.DagsterInstance) -> set[str]:
    """The runs of what the UI shows as the state of assets and checks."""
    assets = [record.asset_entry for record in instance.get_asset_records()]
    last = {entry.last_run_id for entry in assets}
    for entry in assets:
        for event in (entry.last_materialization, entry.last_observation):
            last.add(event.run_id if event else None)
    events = instance.event_log_storage
    found = events.get_asset_check_summary_records(_checks(events))
    for check in found.values():
        last.update((check.last_run_id, check.last_completed_run_id))
        record = check.last_check_execution_record
        last.add(record.run_id if record else None)
    return {run_id for run_id in last if run_id}


def _checks(events: EventLogStorage) -> list[dg.AssetCheckKey]:
    """Those that have a result."""
    if not isinstance(events, SqlEventLogStorage):
        return []
    results = AssetCheckExecutionsTable.c
    names = select(results.asset_key, results.check_name).distinct()
    with events.index_connection() as connection:
        found = connection.execute(names).fetchall()
    keys = (
        (dg.AssetKey.from_db_string(str(asset)), str(name)) for asset, name in found
    )
    return [dg.AssetCheckKey(asset, name) for asset, name in keys if asset]


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    """All of a run; the run itself last, so that a kill leaves it to the next time.

    `delete_run` of the instance leaves the results of checks, some 30 rows a run for
    ever, the files of what was printed, and with SQLite a file of some 200 KB.
    """
    events = instance.event_log_storage
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if isinstance(events, SqlEventLogStorage):
        results = AssetCheckExecutionsTable
        with events.index_connection() as connection:
            connection.execute(results.delete().where(results.c.run_id == run_id))
    events.delete_events(run_id)
    if isinstance(events, SqliteEventLogStorage):
        shard = Path(events.path_for_shard(run_id))
        for path in shard.parent.glob(f"{shard.name}*"):
            path.unlink(missing_ok=True)
    instance.run_storage.delete_run(run_id)


@dg.op
def prune_runs(context: dg.OpExecutionContext) -> None:
    """Delete runs beyond their time; says how many, and how many are left."""
    days = kept_days()
    pruned = prune(context.instance, datetime.now(UTC) - timedelta(days=days))
    context.add_output_metadata({"kept_days": days, **pruned._asdict()})


@dg.job(
    executor_def=dg.in_process_executor,
    description="Delete runs, and what they logged, once they are older than "
    f"{KEEP_RUNS_DAYS} ({DEFAULT_DAYS} by default). The last run of each asset and "
    "check stays.",
)
def prune_history() -> None:
    """One op."""
    prune_runs()
