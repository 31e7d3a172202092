"""The published files as assets."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from dagster_project.assets import OWNERS, in_a_sentence, narrate
from dagster_project.publish import (
    DATABASE_NAME,
    MANIFEST_NAME,
    PublishError,
    publish,
)
from dagster_project.resources import (
    Warehouse,
)
from dagster_project.tables import Table, Tables

# Three ticks without a run are a fault that someone should see.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=15))


def _specs(tables: Sequence[Table]) -> list[dg.AssetSpec]:
    files = [
        dg.AssetSpec(
            ["published", table.name],
            deps=[["sla", table.name]],
            description=f"{table.name}.parquet, as of the last tested cut. "
            f"{table.description}",
            kinds={"parquet"},
        )
        for table in tables
    ]
    analytics = dg.AssetSpec(
        ["published", "analytics"],
        deps=[["sla", table.name] for table in tables],
        description=f"{DATABASE_NAME}: all published tables in one file, with its cut.",
        kinds={"duckdb"},
    )
    return [
        dg.apply_freshness_policy(
            spec.replace_attributes(group_name="published", owners=OWNERS), FRESHNESS
        )
        for spec in (*files, analytics)
    ]


def published_assets(tables: Tables) -> dg.AssetsDefinition:
    """A file a published table, and the DuckDB file of them all."""

    @dg.multi_asset(specs=_specs(tables.published))
    def published(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> Iterator[Any]:
        """Write the files of the built cut and switch to them at once (S17)."""
        try:
            with warehouse.session() as connection:
                result = publish(connection, warehouse.folder)
        except PublishError as error:
            raise in_a_sentence(error) from error
        narrate(context, f"published cut {result.cut.number}")
        manifest = dg.MetadataValue.path(str(result.folder / MANIFEST_NAME))
        counts = {**result.rows, "analytics": sum(result.rows.values())}
        for name, rows in counts.items():
            yield dg.MaterializeResult(
                asset_key=["published", name],
                metadata={
                    "dagster/row_count": rows,
                    "cut": result.cut.number,
                    "as_of": dg.MetadataValue.timestamp(result.cut.as_of),
                    "manifest": manifest,
                },
            )

    return published
