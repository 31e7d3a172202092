"""The published files as assets."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from dagster_project.assets import (
    EVERY_TICK,
    OWNERS,
    WHEN_RED,
    Stopwatch,
    in_a_sentence,
    narrate,
)
from dagster_project.columns import lineage_of, schema_of_files
from dagster_project.lineage import Column
from dagster_project.pictures import (
    Standing,
    draw_compliance,
    draw_overdue,
    standing,
)
from dagster_project.publish import (
    DATABASE_NAME,
    MANIFEST_NAME,
    TYPES,
    PublishError,
    publish,
)
from dagster_project.resources import (
    Warehouse,
)
from dagster_project.tables import Table, Tables

# As YAML writes types that PostgreSQL names otherwise.
WRITTEN = {
    "timestamptz": "timestamp with time zone",
    "numeric(18, 6)": "numeric(18,6)",
}


def _specs(tables: Sequence[Table]) -> list[dg.AssetSpec]:
    files = [
        dg.AssetSpec(
            ["published", table.name],
            deps=[["sla", table.name]],
            description=f"{table.description}\n\n{table.name}.parquet, as of the last "
            f"tested cut; each column is that of sla.{table.name}. "
            f"{WHEN_RED['published']}",
            metadata=_columns(table),
            kinds={"parquet"},
        )
        for table in tables
    ]
    analytics = dg.AssetSpec(
        ["published", "analytics"],
        deps=[["sla", table.name] for table in tables],
        description="One row per published table, as a table of its own: "
        f"{DATABASE_NAME} holds them all, with their cut. {WHEN_RED['published']}",
        kinds={"duckdb"},
    )
    return [
        dg.apply_freshness_policy(
            spec.replace_attributes(group_name="published", owners=OWNERS), EVERY_TICK
        )
        for spec in (*files, analytics)
    ]


def _columns(table: Table) -> dict[str, Any]:
    """Of a file: the columns of its table, each made of the one of that name."""
    types = {
        said: TYPES.get(WRITTEN.get(said, said), said) for said in table.types.values()
    }
    made_of = {name: [Column("sla", table.name, name)] for name in table.columns}
    return {
        "dagster/column_schema": schema_of_files(table, types),
        "dagster/column_lineage": lineage_of(made_of),
    }


def _shown(name: str, said: Standing) -> dict[str, Any]:
    """What the files tell, to plot and as a picture, with the asset that it is of."""
    shown: dict[str, Any] = {}
    if name in ("sla_performance", "analytics"):
        shown["compliance"] = dg.MetadataValue.md(draw_compliance(said.compliance))
        shown["compliance_ratio"] = said.compliance_ratio
    if name in ("entity_current_status", "analytics"):
        shown["overdue"] = dg.MetadataValue.md(draw_overdue(said.overdue))
        shown["share_overdue"] = said.share_overdue
    return {name: value for name, value in shown.items() if value is not None}


def published_assets(tables: Tables) -> dg.AssetsDefinition:
    """A file a published table, and the DuckDB file of them all."""

    @dg.multi_asset(specs=_specs(tables.published))
    def published(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> Iterator[Any]:
        """Write the files of the built cut and switch to them at once (S17)."""
        stopwatch = Stopwatch()
        try:
            with warehouse.session() as connection:
                result = publish(connection, warehouse.folder)
        except PublishError as error:
            raise in_a_sentence(error) from error
        narrate(context, f"published cut {result.cut.number}")
        manifest = dg.MetadataValue.path(str(result.folder / MANIFEST_NAME))
        said = standing(result.folder / DATABASE_NAME)
        counts = {**result.rows, "analytics": sum(result.rows.values())}
        for name, rows in counts.items():
            yield dg.MaterializeResult(
                asset_key=["published", name],
                metadata={
                    "dagster/row_count": rows,
                    "cut": result.cut.number,
                    "as_of": dg.MetadataValue.timestamp(result.cut.as_of),
                    "manifest": manifest,
                    "seconds": stopwatch.seconds,
                    **_shown(name, said),
                },
            )

    return published
