"""Everything that Dagster is given, by name."""

import logging
import sys
from typing import Any

import dagster as dg

from dagster_project import checks, replays, retention, schedules, sensors
from dagster_project.assets import (
    alerts,
    automatic,
    derived,
    published,
    raw,
    reports,
)
from dagster_project.dbt_process import dbt_cli, dbt_project, known_tables
from dagster_project.resources import Named, Warehouse
from dagster_project.terminal import shown

# Dagster does not say its type.
IN_MEMORY: Any = dg.InMemoryIOManager


class _Narration(logging.Handler):
    """Prints what assets say; Dagster's own events are in its event log."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line on standard error."""
        if getattr(record, "is_narration", False):
            meta = getattr(record, "dagster_meta", {})
            line = shown(meta.get("orig_message", record.getMessage()))
            sys.stderr.write(f"  {line}\n")
            sys.stderr.flush()


@dg.logger
def narration(_: dg.InitLoggerContext) -> logging.Logger:
    """The console of a run: a line a step, not a page."""
    logger = logging.Logger("status_engine", logging.INFO)
    logger.addHandler(_Narration())
    return logger


def _fixed(resource: dg.ConfigurableResource[Any]) -> dg.ResourceDefinition:
    """A resource without configuration.

    A run's configuration may come from a browser: it names no file, program, database.
    """

    def set_up(context: dg.InitResourceContext) -> dg.ConfigurableResource[Any]:
        resource.setup_for_execution(context)
        return resource

    return dg.ResourceDefinition(set_up, {})


def build_definitions(
    warehouse: Warehouse | None = None,
    part: dg.AssetSelection | None = None,
    named: Named | None = None,
) -> dg.Definitions:
    """The definitions over a database and a home folder.

    Args:
        warehouse: both; what the environment says by default.
        part: what the job is restricted to, for a run in this process; everything,
            with schedules and sensors, by default.
        named: files and a folder of this machine, for a run in this process.
    """
    known = known_tables()
    warehouse = warehouse or Warehouse()
    job = schedules.job_of(part) if part else schedules.status_engine
    by_hand: list[Any] = [
        schedules.full_refresh,
        schedules.verify,
        schedules.publish,
        schedules.report,
        replays.replay_rejects,
        schedules.deliver_alerts,
        retention.prune_history,
    ]
    return dg.Definitions(
        assets=[
            raw.configuration_assets(known),
            raw.inbox_assets(known),
            raw.source_asset(known),
            raw.cut_asset(known),
            derived.derived_assets(dbt_project(), warehouse.folder),
            published.published_assets(known),
            automatic.automatic_transitions,
            reports.week,
            reports.forecast_backtest,
            alerts.alert_assets(known),
        ],
        asset_checks=[
            checks.every_file_was_accepted,
            checks.sources_that_were_read,
            checks.every_alert_was_delivered,
            checks.published_files,
            checks.verification,
        ],
        jobs=[job, *by_hand],
        schedules=[]
        if part
        else [
            schedules.every_five_minutes,
            schedules.every_night,
            schedules.every_monday,
            schedules.clear_every_night,
        ],
        sensors=[]
        if part
        else [
            sensors.arrivals,
            sensors.alerts_fall_due,
            sensors.pipeline_alerts,
        ],
        loggers={"console": narration},
        # Of what the UI runs by hand: outputs are kept in no other process.
        executor=dg.in_process_executor,
        resources={
            "warehouse": _fixed(warehouse),
            "dbt": _fixed(dbt_cli()),
            "named": dg.ResourceDefinition(lambda _: named or Named(), {}),
            # Assets hand nothing over; the default has a folder to be configured.
            "io_manager": dg.IOManagerDefinition(lambda _: IN_MEMORY(), {}),
        },
    )


@dg.definitions
def definitions() -> dg.Definitions:
    """What the web server and the daemon load."""
    return build_definitions()
