"""The job, and the schedule whose tick is its clock (S15)."""

from datetime import datetime

import dagster as dg

status_engine = dg.define_asset_job(
    "status_engine",
    selection=dg.AssetSelection.all(),
    description="Apply workflows, empty the inbox, pin the cut, build, test, publish.",
)


def run_config(
    as_of: datetime | None = None,
    paths: list[str] | None = None,
    workflows: str | None = None,
    *,
    full_refresh: bool = False,
) -> dict[str, object]:
    """The run configuration of the job; the same for the schedule and the command line.

    Args:
        as_of: the run's instant, with a zone.
        paths: files to deliver before the inbox is emptied.
        workflows: a folder of workflow files to apply.
        full_refresh: rebuild every stored table from the first transition on.
    """
    ops: dict[str, object] = {}
    if as_of is not None:
        ops["raw__cuts"] = {"config": {"as_of": as_of.isoformat()}}
    if paths:
        ops["inbox"] = {"config": {"paths": paths}}
    if workflows:
        ops["configuration"] = {"config": {"folder": workflows}}
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
    tick = context.scheduled_execution_time
    return dg.RunRequest(run_key=tick.isoformat(), run_config=run_config(tick))
