"""The jobs that a person may launch, and the schedule whose tick is the clock (S15).

Each is one thing that a person does by hand. That of rejects is in replays.py.
"""

from datetime import datetime
from typing import Any

import dagster as dg

from dagster_project.assets.derived import EQUALS_A_FULL_BUILD
from dagster_project.dead_runs import end_dead_runs
from dagster_project.retention import prune_history

NIGHTLY = dg.AssetSelection.checks(EQUALS_A_FULL_BUILD)
# Of a week, so not of each run.
REPORTS = dg.AssetSelection.groups("reports")
STATUS_ENGINE = "status_engine"
# Of a run whose process was killed: it pins a cut of its own, so it runs all.
RETRY = {"dagster/retry_strategy": "ALL_STEPS"}


def job_of(selection: dg.AssetSelection) -> Any:
    """The job, or a part of it.

    In one process: each step would else start Python, Dagster and dbt anew.
    """
    return dg.define_asset_job(
        STATUS_ENGINE,
        selection=selection - NIGHTLY - REPORTS,
        description="The normal run, each five minutes: apply the workflow files that "
        "changed, empty the inbox, pin a cut, build and test what it touches, publish "
        "the files, move entities by rules, send the alerts that are due. Launch it "
        "where you don't want to wait for the next tick; it needs no configuration.",
        executor_def=dg.in_process_executor,
        tags=RETRY,
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


status_engine = job_of(dg.AssetSelection.all())

full_refresh = dg.define_asset_job(
    "full_refresh",
    selection=dg.AssetSelection.all() - NIGHTLY - REPORTS,
    description="A normal run that builds all anew, in a schema of its own, and puts "
    "it in the place of what there is once its tests passed; readers notice nothing. "
    "Launch it where a check of group sla failed or a verification found a difference.",
    config=run_config(full_refresh=True),
    executor_def=dg.in_process_executor,
    tags=RETRY,
)

verify = dg.define_asset_job(
    "verify",
    selection=NIGHTLY,
    description="Hold what is published against a full build of the same cut, row by "
    "row; nothing is changed. It runs each night. Launch it where you doubt a figure: "
    "where rows differ, nothing is published until job full_refresh mended it.",
    executor_def=dg.in_process_executor,
    tags=RETRY,
)

publish = dg.define_asset_job(
    "publish",
    selection=dg.AssetSelection.groups("published"),
    description="Write the files of the built and tested cut, and hold them against "
    "their manifest; nothing is taken in or built. Launch it where the files are "
    "damaged, or the disk was full.",
    executor_def=dg.in_process_executor,
)

report = dg.define_asset_job(
    "report",
    selection=REPORTS,
    description="Write the review of the last week that is over, of what is published, "
    "and hold past forecasts against what came. It runs each Monday. Launch it where "
    "late rows came in since.",
    executor_def=dg.in_process_executor,
)

deliver_alerts = dg.define_asset_job(
    "deliver_alerts",
    selection=dg.AssetSelection.groups("alerts"),
    description="Send the alerts that are due; asked for by a sensor as they fall due. "
    "Launch it where a channel was mended and you don't want to wait for its next try, "
    "or with dry_run to see what would be sent.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(
    job=status_engine,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    description="A normal run each five minutes, as of its tick. The backbone: without "
    "it nothing is fresh.",
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
    description="A verification each night: every row against a full build.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One verification a night; the tick is its key."""
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())


@dg.schedule(
    job=report,
    cron_schedule="30 4 * * 1",
    execution_timezone="UTC",
    description="The review of the week that is over, each Monday.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def every_monday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One review a week; the tick is its key."""
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
