"""The job, and the schedule whose tick is its clock (S15)."""

from datetime import datetime
from typing import Any

import dagster as dg

from dagster_project.assets.derived import EQUALS_A_FULL_BUILD
from dagster_project.dead_runs import end_dead_runs
from dagster_project.retention import prune_history

NIGHTLY = dg.AssetSelection.checks(EQUALS_A_FULL_BUILD)
# Of a run whose process was killed: it pins a cut of its own, so it runs all.
RETRY = {"dagster/retry_strategy": "ALL_STEPS"}


def job_of(selection: dg.AssetSelection) -> Any:
    """The job, or a part of it.

    In one process: each step would else start Python, Dagster and dbt anew.
    """
    return dg.define_asset_job(
        "status_engine",
        selection=selection - NIGHTLY,
        description="Apply workflows, empty the inbox, pin, build, publish, alert; "
        "move entities by rules.",
        executor_def=dg.in_process_executor,
        tags=RETRY,
    )


status_engine = job_of(dg.AssetSelection.all())

verify = dg.define_asset_job(
    "verify",
    selection=NIGHTLY,
    description="Hold what is published against a full build of the same cut.",
    executor_def=dg.in_process_executor,
    tags=RETRY,
)

deliver_alerts = dg.define_asset_job(
    "deliver_alerts",
    selection=dg.AssetSelection.groups("alerts"),
    description="Send the alerts that are due; asked for by a sensor as they fall due.",
    executor_def=dg.in_process_executor,
)


def run_config(
    as_of: datetime | None = None, *, full_refresh: bool = False
) -> dict[str, object]:
    """The run configuration of the job; the same for the schedule and the command line.

    Args:
        as_of: the run's instant, with a zone.
        full_refresh: rebuild every stored table from the first transition on.
    """
    ops: dict[str, object] = {}
    if as_of is not None:
        ops["raw__cuts"] = {"config": {"as_of": as_of.isoformat()}}
    if full_refresh:
        ops["derived"] = {"config": {"full_refresh": True}}
    return {"ops": ops} if ops else {}


@dg.schedule(
    job=status_engine,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def every_five_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run a tick; the tick is its instant and its key."""
    end_dead_runs(context.instance)
    tick = context.scheduled_execution_time
    return dg.RunRequest(run_key=tick.isoformat(), run_config=run_config(tick))


@dg.schedule(
    job=verify,
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One verification a night; the tick is its key."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


@dg.schedule(
    job=prune_history,
    cron_schedule="50 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def clear_every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One clearing of old runs a night; the tick is its key."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())
