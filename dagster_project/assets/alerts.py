"""What was sent of alerts as assets: the last step, and between runs a job.

What a rule moves in the same run is moved before, so that nobody is told of it.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.alerts.channels import channels_in_force
from dagster_project.alerts.delivery import DRY_RUN, deliver_alerts, describe
from dagster_project.alerts.remembered import remember_channels
from dagster_project.assets import OWNERS, automatic, narrate
from dagster_project.resources import Warehouse
from dagster_project.tables import Tables
from ingest.store.database import row_count

DUE = dg.AssetKey(["sla", "due_alerts"])


class AlertsConfig(dg.Config):
    """Whether it is only said what would be sent; nothing is sent or recorded."""

    dry_run: bool = False


def alert_assets(tables: Tables) -> dg.AssetsDefinition:
    """The tables that deliveries of alerts fill."""
    filled = tables.filled_by("alerts")
    specs = [
        dg.AssetSpec(
            ["alerts", table.name],
            deps=[DUE, automatic.KEY],
            description=f"{table.description} Alerts that are due are sent through "
            "their channels, in order, until each was taken.",
            group_name="alerts",
            owners=OWNERS,
            kinds={"postgres", "python"},
        )
        for table in filled
    ]

    @dg.multi_asset(specs=specs)
    def alerts(
        context: dg.AssetExecutionContext, config: AlertsConfig, warehouse: Warehouse
    ) -> Iterator[Any]:
        """Send what is due; a channel that fails holds up no other and no run."""
        with warehouse.session() as connection:
            # For what is told of runs while the database is down.
            remember_channels(warehouse.folder, channels_in_force(connection))
            results = deliver_alerts(connection, is_dry_run=config.dry_run)
            for line in describe(results):
                narrate(context, line)
            metadata: dict[str, Any] = {
                "due": sum(result.due for result in results),
                "delivered": sum(result.delivered for result in results),
                "messages": sum(result.messages for result in results),
                "failed": sum(r.state in ("failed", "no address") for r in results),
                "channels": dg.MetadataValue.md(
                    "\n".join(describe(results)) or DRY_RUN
                ),
            }
            for table in filled:
                rows = row_count(connection, f"raw.{table.name}")
                yield dg.MaterializeResult(
                    asset_key=["alerts", table.name],
                    metadata={**metadata, "dagster/row_count": rows},
                )

    return alerts
