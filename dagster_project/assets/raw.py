"""Tables of schema raw as assets: configuration, the inbox, the pinned cut."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.storage.tags import RETRY_NUMBER_TAG

from dagster_project.assets import OWNERS, narrate
from dagster_project.resources import (
    Named,
    Warehouse,
)
from dagster_project.tables import Table, Tables
from ingest.append import AppendResult
from ingest.configuration import workflows
from ingest.delivery import NOTHING, deliver
from ingest.followed_source import FOLDER
from ingest.following import Reading, follow_due
from ingest.inbox import Passed, Taken, take_in
from ingest.store import cuts
from ingest.store.database import Connection, row_count

# Why sources could not be read in a run, a line each.
REFUSALS = "refusals"


class CutConfig(dg.Config):
    """The run's instant, ISO 8601 with an offset; the database's clock by default."""

    as_of: str | None = None


def _specs(tables: Sequence[Table]) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            ["raw", table.name],
            description=table.description,
            group_name="raw",
            owners=OWNERS,
            kinds={"postgres", "python"},
        )
        for table in tables
    ]


def _row_counts(
    connection: Connection, tables: Sequence[Table]
) -> Iterator[dg.MaterializeResult[Any]]:
    for table in tables:
        rows = row_count(connection, f"raw.{table.name}")
        yield dg.MaterializeResult(
            asset_key=["raw", table.name], metadata={"dagster/row_count": rows}
        )


def configuration_assets(tables: Tables) -> dg.AssetsDefinition:
    """The tables that workflow files fill."""
    filled = tables.filled_by("configuration")

    @dg.multi_asset(specs=_specs(filled))
    def configuration(
        context: dg.AssetExecutionContext,
        named: dg.ResourceParam[Named],
        warehouse: Warehouse,
    ) -> Iterator[Any]:
        """Apply the workflow files that changed (S7)."""
        folder = named.workflows or warehouse.folder / "workflows"
        with warehouse.session() as connection:
            if named.workflows or folder.exists():
                applied = workflows.apply(connection, workflows.load(folder))
                narrate(
                    context,
                    f"workflows: {len(applied.changed)} new versions, "
                    f"{applied.unchanged} unchanged",
                )
            yield from _row_counts(connection, filled)

    return configuration


def inbox_assets(tables: Tables) -> dg.AssetsDefinition:
    """The tables that deliveries fill."""
    filled = tables.filled_by("inbox")

    @dg.multi_asset(specs=_specs(filled))
    def inbox(
        context: dg.AssetExecutionContext,
        named: dg.ResourceParam[Named],
        warehouse: Warehouse,
    ) -> Iterator[Any]:
        """Deliver the files that are named, then those in the inbox (S18, S20)."""
        total, refused, passed = NOTHING, 0, 0
        with warehouse.session() as connection:
            for path in named.paths:
                result = deliver(connection, path).result
                narrate(context, f"{path.name}: {describe(result)}")
                total += result
            for item in take_in(connection, warehouse.folder / "inbox"):
                narrate(context, describe_item(item))
                if isinstance(item, Passed):
                    passed += 1 + item.others
                elif item.delivery is None:
                    refused += 1
                else:
                    total += item.delivery.result
            counts = {
                **total._asdict(),
                "refused_files": refused,
                "passed_over": passed,
            }
            for table in _row_counts(connection, filled):
                yield table._replace(metadata={**(table.metadata or {}), **counts})

    return inbox


def source_asset(tables: Tables) -> dg.AssetsDefinition:
    """The readings of the sources that are followed; what they bring is the inbox's."""
    (spec,) = _specs(tables.filled_by("sources"))

    @dg.asset(
        key=spec.key,
        description=spec.description,
        group_name=spec.group_name,
        owners=OWNERS,
        kinds=spec.kinds,
    )
    def sources(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        """Read the sources that are due; a check tells of those that failed."""
        total, refusals = NOTHING, []
        with warehouse.session() as connection:
            for reading in follow_due(connection, warehouse.folder / FOLDER):
                narrate(context, describe_reading(reading))
                total += reading.result
                refusals += [reading.refusal] if reading.refusal else []
            rows = row_count(connection, f"raw.{spec.key.path[-1]}")
        return dg.MaterializeResult(
            metadata={
                **total._asdict(),
                REFUSALS: "\n".join(refusals),
                "dagster/row_count": rows,
            }
        )

    return sources


def describe_reading(reading: Reading) -> str:
    """What came of reading a source, in words."""
    if reading.refusal:
        return reading.refusal
    whole = ", all of it" if reading.is_whole else ""
    known = reading.known_rejects
    before = f" ({known:,} more rejected before)" if known else ""
    return f"{reading.source}{whole}: {describe(reading.result)}{before}"


def describe_item(item: Taken | Passed) -> str:
    """What became of a file of the inbox, or why it stays there, in words."""
    if isinstance(item, Passed):
        return str(item)
    said = item.refusal or (describe(item.delivery.result) if item.delivery else "")
    left = f" {item.left}" if item.left and item.left != item.refusal else ""
    return f"{item.path.name}: {said}{left}"


def describe(result: AppendResult) -> str:
    """The counts of a delivery in words."""
    return (
        f"read {result.read:,} = {result.appended:,} appended + "
        f"{result.duplicate:,} duplicate + {result.rejected:,} rejected"
    )


def cut_asset(tables: Tables) -> dg.AssetsDefinition:
    """The cut that a run reads: all that is raw comes before it."""
    (spec,) = _specs(tables.filled_by("cut"))
    fillers = ("configuration", "inbox", "sources")
    before = [table for filler in fillers for table in tables.filled_by(filler)]

    @dg.asset(
        key=spec.key,
        description=spec.description,
        deps=[["raw", table.name] for table in before],
        group_name=spec.group_name,
        owners=OWNERS,
        kinds=spec.kinds,
    )
    def cut(
        context: dg.AssetExecutionContext, config: CutConfig, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        """Pin the cut of this run; its instant is the tick's (S15).

        A retry's is its own: the run of a later tick may have gone before it.
        """
        is_retry = RETRY_NUMBER_TAG in context.run.tags
        said = None if is_retry else config.as_of
        as_of = datetime.fromisoformat(said) if said else None
        with warehouse.session() as connection:
            pinned = cuts.pin(connection, context.run.run_id, as_of)
            rows = row_count(connection, "raw.cuts")
        narrate(
            context, f"cut {pinned.number} pinned, as of {pinned.as_of.isoformat()}"
        )
        return dg.MaterializeResult(
            metadata={
                "cut": pinned.number,
                "as_of": dg.MetadataValue.timestamp(pinned.as_of),
                "dagster/row_count": rows,
            }
        )

    return cut
