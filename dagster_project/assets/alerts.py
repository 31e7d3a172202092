"""What was sent of alerts as assets: the last step, and between runs a job.

What a rule moves in the same run is moved before, so that nobody is told of it.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_project.alerts.channels import channels_in_force
from dagster_project.alerts.delivery import DRY_RUN, deliver_alerts, describe
from dagster_project.alerts.remembered import remember_channels
from dagster_project.assets import OWNERS, WHEN_RED, Stopwatch, automatic, narrate
from dagster_project.assets.raw import tables_filled
from dagster_project.resources import Warehouse
from dagster_project.tables import Tables

READ = [
    dg.AssetKey(["sla", name])
    for name in ("due_alerts", "target_compliance", "targets")
]


class AlertsConfig(dg.Config):
    """Whether alerts are sent."""

    dry_run: bool = Field(
        default=False,
        description="Only say what would be sent through which channel; nothing is "
        "sent, and nothing is recorded as sent.",
    )


def alert_assets(tables: Tables) -> dg.AssetsDefinition:
    """The tables that deliveries of alerts fill."""
    filled = tables.filled_by("alerts")
    specs = [
        dg.AssetSpec(
            ["alerts", table.name],
            deps=[*READ, automatic.KEY],
            description=f"{table.description} Alerts that are due are sent through "
            f"their channels, in order, until each was taken.\n\n{WHEN_RED['alerts']}",
            group_name="alerts",
            owners=OWNERS,
            kinds={"postgres", "python", "table"},
        )
        for table in filled
    ]

    @dg.multi_asset(specs=specs)
    def alerts(
        context: dg.AssetExecutionContext, config: AlertsConfig, warehouse: Warehouse
    ) -> Iterator[Any]:
        """Send what is due; a channel that fails holds up no other and no run."""
        stopwatch = Stopwatch()
        with warehouse.session() as connection:
            # For what is told of runs while the database is down.
            remember_channels(warehouse.folder, channels_in_force(connection))
            results = deliver_alerts(connection, is_dry_run=config.dry_run)
            # Without a channel there is no result.
            said = describe(results) if results else [f"alerts: {DRY_RUN}"]
            for line in said:
                narrate(context, line)
            metadata: dict[str, Any] = {
                "due": sum(result.due for result in results),
                "delivered": sum(result.delivered for result in results),
                "messages": sum(result.messages for result in results),
                "failed": sum(r.state in ("failed", "no address") for r in results),
                "channels": "\n".join(said) or "nothing is due",
            }
            yield from tables_filled(connection, filled, stopwatch, metadata, "alerts")

    return alerts
