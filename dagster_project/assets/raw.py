"""Tables of schema raw as assets: configuration, the inbox, the pinned cut."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString

import dagster as dg
from dagster._core.storage.tags import RETRY_NUMBER_TAG
from pydantic import Field

from dagster_project.assets import (
    EVERY_TICK,
    OWNERS,
    WHEN_RED,
    Stopwatch,
    narrate,
)
from dagster_project.columns import schemas_of_raw
from dagster_project.resources import (
    Named,
    Warehouse,
)
from dagster_project.tables import Table, Tables
from ingest.configuration import workflows
from ingest.delivery import NOTHING, deliver
from ingest.followed_source import FOLDER
from ingest.following import Reading, follow_due
from ingest.inbox import Passed, Taken, take_in
from ingest.store import cuts
from ingest.store.cuts import Cut
from ingest.store.database import Connection, row_count

# By the server's clock, whatever the run takes for now.
_LAG: LiteralString = """
select round(extract(epoch from clock_timestamp() - max(recorded_at)), 3)
from raw.batches
where cut <= %s
"""
FILLED_BY = {
    "configuration": "Each run applies the workflow, calendar and other files that "
    "changed, as new versions.",
    "inbox": "Each run takes in what lies in the inbox; `status-engine ingest` and "
    "`record` write here at any time.",
    "sources": "Each run reads the sources that are followed and due.",
    "cut": "Each run pins one: the batches that were committed by then are what it "
    "reads.",
}
# Why sources could not be read in a run, a line each.
REFUSALS = "refusals"


class CutConfig(dg.Config):
    """When a run is."""

    as_of: str | None = Field(
        default=None,
        description="The instant that is now for this run, ISO 8601 with an offset, as "
        "2026-03-07T12:05:00+00:00: what is overdue is overdue as of it. By default, "
        "and for what the schedule starts, the clock.",
    )


def _specs(tables: Sequence[Table]) -> list[dg.AssetSpec]:
    return [
        dg.apply_freshness_policy(
            dg.AssetSpec(
                ["raw", table.name],
                description=f"{table.description} {FILLED_BY[table.filled_by]}\n\n"
                f"{WHEN_RED['raw']}",
                group_name="raw",
                owners=OWNERS,
                kinds={"postgres", "python", "table"},
            ),
            EVERY_TICK,
        )
        for table in tables
    ]


def tables_filled(
    connection: Connection,
    tables: Sequence[Table],
    stopwatch: Stopwatch,
    said: Mapping[str, Any],
    group: str = "raw",
) -> Iterator[dg.MaterializeResult[Any]]:
    """Tables of schema raw after a step: rows, columns, its seconds, what it says."""
    schemas = schemas_of_raw(connection, tables)
    for table in tables:
        yield dg.MaterializeResult(
            asset_key=[group, table.name],
            metadata={
                "dagster/row_count": row_count(connection, f"raw.{table.name}"),
                "dagster/column_schema": schemas[table.name],
                "seconds": stopwatch.seconds,
                **said,
            },
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
        stopwatch, changed = Stopwatch(), 0
        with warehouse.session() as connection:
            if named.workflows or folder.exists():
                applied = workflows.apply(connection, workflows.load(folder))
                changed = len(applied.changed)
                narrate(
                    context,
                    f"workflows: {changed} new versions, {applied.unchanged} unchanged",
                )
            said = {"new_versions": changed}
            yield from tables_filled(connection, filled, stopwatch, said)

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
        stopwatch = Stopwatch()
        with warehouse.session() as connection:
            for path in named.paths:
                result = deliver(connection, path).result
                narrate(context, f"{path.name}: {result.in_words}")
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
            yield from tables_filled(connection, filled, stopwatch, counts)

    return inbox


def source_asset(tables: Tables) -> dg.AssetsDefinition:
    """The readings of the sources that are followed; what they bring is the inbox's."""
    filled = tables.filled_by("sources")
    (spec,) = _specs(filled)

    @dg.asset(
        key=spec.key,
        description=spec.description,
        group_name=spec.group_name,
        owners=OWNERS,
        kinds=spec.kinds,
        freshness_policy=EVERY_TICK,
    )
    def sources(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        """Read the sources that are due; a check tells of those that failed."""
        total, refusals, stopwatch = NOTHING, [], Stopwatch()
        with warehouse.session() as connection:
            for reading in follow_due(connection, warehouse.folder / FOLDER):
                narrate(context, describe_reading(reading))
                total += reading.result
                refusals += [reading.refusal] if reading.refusal else []
            said = {**total._asdict(), REFUSALS: "\n".join(refusals)}
            (result,) = tables_filled(connection, filled, stopwatch, said)
        return result

    return sources


def describe_reading(reading: Reading) -> str:
    """What came of reading a source, in words."""
    if reading.refusal:
        return reading.refusal
    whole = ", all of it" if reading.is_whole else ""
    known = reading.known_rejects
    before = f" ({known:,} more rejected before)" if known else ""
    return f"{reading.source}{whole}: {reading.result.in_words}{before}"


def describe_item(item: Taken | Passed) -> str:
    """What became of a file of the inbox, or why it stays there, in words."""
    if isinstance(item, Passed):
        return str(item)
    said = item.refusal or (item.delivery.result.in_words if item.delivery else "")
    left = f" {item.left}" if item.left and item.left != item.refusal else ""
    return f"{item.path.name}: {said}{left}"


def _lag(connection: Connection, pinned: Cut) -> dict[str, float]:
    """How old the newest batch is as its cut is pinned; nothing where there is none."""
    row = connection.execute(_LAG, [pinned.number]).fetchone()
    return {"lag_seconds": float(row[0])} if row and row[0] is not None else {}


def cut_asset(tables: Tables) -> dg.AssetsDefinition:
    """The cut that a run reads: all that is raw comes before it."""
    filled = tables.filled_by("cut")
    (spec,) = _specs(filled)
    fillers = ("configuration", "inbox", "sources")
    before = [table for filler in fillers for table in tables.filled_by(filler)]

    @dg.asset(
        key=spec.key,
        description=spec.description,
        deps=[["raw", table.name] for table in before],
        group_name=spec.group_name,
        owners=OWNERS,
        kinds=spec.kinds,
        freshness_policy=EVERY_TICK,
    )
    def cut(
        context: dg.AssetExecutionContext, config: CutConfig, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        """Pin the cut of this run; its instant is the tick's (S15).

        A retry's is its own: the run of a later tick may have gone before it.
        """
        is_retry = RETRY_NUMBER_TAG in context.run.tags
        told = None if is_retry else config.as_of
        as_of = datetime.fromisoformat(told) if told else None
        stopwatch = Stopwatch()
        with warehouse.session() as connection:
            pinned = cuts.pin(connection, context.run.run_id, as_of)
            said = {
                "cut": pinned.number,
                "as_of": dg.MetadataValue.timestamp(pinned.as_of),
                **_lag(connection, pinned),
            }
            (result,) = tables_filled(connection, filled, stopwatch, said)
        narrate(
            context, f"cut {pinned.number} pinned, as of {pinned.as_of.isoformat()}"
        )
        return result

    return cut
