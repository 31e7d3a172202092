"""The asset graph: raw tables, the cut, the dbt models, the published files.

Bodies read their configuration, call a function and report; SLA logic is in dbt.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from graphlib import TopologicalSorter
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from dagster_project.publish import DATABASE_NAME, MANIFEST_NAME, TABLES, publish
from dagster_project.resources import Named, Warehouse, dbt_in_words
from ingest import cuts, workflows
from ingest.append import AppendResult
from ingest.cuts import Cut
from ingest.database import Connection, row_count
from ingest.delivery import NOTHING, deliver
from ingest.errors import StatusEngineError
from ingest.inbox import Passed, Taken, take_in

OWNERS = ["team:status-engine"]
# Three ticks without a run are a fault that someone should see.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=15))
# Views for looking up one entity take their time over all of them.
COUNTED = (*TABLES, "sla_daily_counts", "built_cuts")
RAW_TABLES = {
    "batches": "The ledger, one row per committed batch (S20).",
    "status_transitions": "One row per transition, as it was delivered.",
    "rejected_transitions": "One row per refused source row, with its bytes.",
}
CONFIGURATION_TABLES = {
    "status_workflows": "One row per workflow version (S7).",
    "status_workflow_steps": "One row per status of a workflow version.",
    "calendars": "One row per version of a business calendar (S12).",
    "calendar_windows": "One row per opening window of a calendar version, in UTC.",
    "calendar_pages": "One row per calendar version and span of days, for look-ups.",
    "user_accounts": "One row per version of a user with their roles.",
    "business_entities": "One row per version of a business entity.",
}


class CutConfig(dg.Config):
    """The run's instant, ISO 8601 with an offset; the database's clock by default."""

    as_of: str | None = None


class BuildConfig(dg.Config):
    """Whether every stored table is rebuilt from the first transition on."""

    full_refresh: bool = False


class Translator(DagsterDbtTranslator):
    """Keys are layer and table; groups and owners as those of the other assets."""

    def get_asset_key(self, dbt_resource_props: Any) -> dg.AssetKey:
        """The layer, such as sla, and the table's name."""
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey(["raw", dbt_resource_props["name"]])
        return dg.AssetKey(
            [self.get_group_name(dbt_resource_props), dbt_resource_props["name"]]
        )

    def get_group_name(self, dbt_resource_props: Any) -> str:
        """The layer: the folder under models."""
        return str(dbt_resource_props["fqn"][1])

    def get_asset_spec(
        self, manifest: Any, unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        """Of one team."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(owners=OWNERS)

    def get_asset_check_spec(
        self,
        asset_spec: dg.AssetSpec,
        manifest: Any,
        unique_id: str,
        project: DbtProject | None,
    ) -> dg.AssetCheckSpec | None:
        """Blocking nothing: a failed test fails its step, and publishing asks for all.

        Dagster would warn of each test that a build has no need to run.
        """
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec and spec._replace(blocking=False)


def _narrate(context: dg.AssetExecutionContext, line: str) -> None:
    """A line for the person at the terminal, and in the event log."""
    context.log.info(line, extra={"is_narration": True})


def _raw_specs(tables: dict[str, str]) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            ["raw", name],
            description=description,
            group_name="raw",
            owners=OWNERS,
            kinds={"postgres", "python"},
        )
        for name, description in tables.items()
    ]


def _row_counts(
    connection: Connection, tables: dict[str, str]
) -> Iterator[dg.MaterializeResult[Any]]:
    for name in tables:
        rows = row_count(connection, f"raw.{name}")
        yield dg.MaterializeResult(
            asset_key=["raw", name], metadata={"dagster/row_count": rows}
        )


@dg.multi_asset(specs=_raw_specs(CONFIGURATION_TABLES))
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
            _narrate(
                context,
                f"workflows: {len(applied.changed)} new versions, "
                f"{applied.unchanged} unchanged",
            )
        yield from _row_counts(connection, CONFIGURATION_TABLES)


@dg.multi_asset(specs=_raw_specs(RAW_TABLES))
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
            _narrate(context, f"{path.name}: {describe(result)}")
            total += result
        for item in take_in(connection, warehouse.folder / "inbox"):
            _narrate(context, describe_item(item))
            if isinstance(item, Passed):
                passed += 1 + item.others
            elif item.delivery is None:
                refused += 1
            else:
                total += item.delivery.result
        counts = {**total._asdict(), "refused_files": refused, "passed_over": passed}
        for table in _row_counts(connection, RAW_TABLES):
            yield table._replace(metadata={**(table.metadata or {}), **counts})


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


@dg.asset(
    key=["raw", "cuts"],
    description="One row per pinned cut: the batches that a run reads (S17).",
    deps=[["raw", name] for name in (*RAW_TABLES, *CONFIGURATION_TABLES)],
    group_name="raw",
    owners=OWNERS,
    kinds={"postgres", "python"},
)
def cut(
    context: dg.AssetExecutionContext, config: CutConfig, warehouse: Warehouse
) -> dg.MaterializeResult[Any]:
    """Pin the cut of this run; its instant is the tick's (S15)."""
    as_of = datetime.fromisoformat(config.as_of) if config.as_of else None
    with warehouse.session() as connection:
        pinned = cuts.pin(connection, context.run.run_id, as_of)
        rows = row_count(connection, "raw.cuts")
    _narrate(context, f"cut {pinned.number} pinned, as of {pinned.as_of.isoformat()}")
    return dg.MaterializeResult(
        metadata={
            "cut": pinned.number,
            "as_of": dg.MetadataValue.timestamp(pinned.as_of),
            "dagster/row_count": rows,
        }
    )


def cut_of_run(warehouse: Warehouse, run_id: str) -> Cut:
    """The run's own cut; the newest where a run was started behind the pin."""
    with warehouse.session() as connection:
        pinned = cuts.of_run(connection, run_id) or cuts.newest(connection)
    if pinned is None:
        msg = "No cut is pinned yet: materialize raw/cuts, or run status-engine build."
        raise StatusEngineError(msg)
    return pinned


def derived_assets(project: DbtProject) -> dg.AssetsDefinition:
    """The dbt models and their tests as assets and checks."""

    @dbt_assets(manifest=project.manifest_path, dagster_dbt_translator=Translator())
    def derived(
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        dbt: DbtCliResource,
        warehouse: Warehouse,
    ) -> Iterator[Any]:
        """Build and test everything at the cut of this run."""
        pinned = cut_of_run(warehouse, context.run.run_id)
        is_whole = (
            context.selected_asset_keys == derived.keys
            and context.selected_asset_check_keys == derived.check_keys
        )
        if is_whole and not config.full_refresh and warehouse.advance(pinned):
            _narrate(context, "nothing new: the tables stand as built and tested")
            yield from _unchanged(context, derived)
            return
        with (
            warehouse.building(
                pinned, full_refresh=config.full_refresh, is_whole=is_whole
            ) as build,
            warehouse.session() as connection,
        ):
            if build.is_full and not config.full_refresh:
                _narrate(context, "by these models for the first time: all is built")
            # What dbt remembers of its files holds for one schema.
            target = warehouse.folder / f"dbt-{build.schema}"
            events = dbt.cli(build.arguments, context=context, target_path=target)
            passed, is_published = 0, False
            waiting: list[Any] = []
            with dbt_in_words(target):
                for event in events.stream():
                    passed += isinstance(event, dg.AssetCheckResult) and event.passed
                    waiting.append(event)
                    # Tables are what their events say once all are changed, at once.
                    if is_published or _is_of(context, event, "built_cuts"):
                        is_published = True
                        yield from _reported(context, connection, waiting, build.schema)
                        waiting.clear()
            yield from _reported(context, connection, waiting, build.schema)
            _narrate(context, f"{passed} tests passed")

    return derived


def _unchanged(
    context: dg.AssetExecutionContext, derived: dg.AssetsDefinition
) -> Iterator[dg.MaterializeResult[Any]]:
    """Each asset after those that it reads, with the rows that it had."""
    inner = {key: deps & derived.keys for key, deps in derived.asset_deps.items()}
    for key in TopologicalSorter(inner).static_order():
        last = context.instance.get_latest_materialization_event(key)
        known = last.asset_materialization if last else None
        rows = known.metadata.get("dagster/row_count") if known else None
        yield dg.MaterializeResult(
            asset_key=key, metadata={"dagster/row_count": rows} if rows else {}
        )


def _is_of(context: dg.AssetExecutionContext, event: Any, table: str) -> bool:
    if not isinstance(event, dg.Output):
        return False
    path: Sequence[str] = context.asset_key_for_output(event.output_name).path
    return path[-1] == table


def _reported(
    context: dg.AssetExecutionContext,
    connection: Connection,
    events: list[Any],
    schema: str,
) -> Iterator[Any]:
    """Events of published tables with their rows; failed tests are told by name."""
    for event in events:
        if isinstance(event, dg.AssetCheckResult) and not event.passed:
            _narrate(context, f"test {event.check_name} failed")
        table = next((t for t in COUNTED if _is_of(context, event, t)), None)
        if table is None:
            yield event
            continue
        rows = row_count(connection, f"{schema}.{table}")
        if table != "built_cuts":
            _narrate(context, f"built sla.{table}: {rows:,} rows")
        yield event.with_metadata({**event.metadata, "dagster/row_count": rows})


def _published_specs() -> list[dg.AssetSpec]:
    tables = [
        dg.AssetSpec(
            ["published", table],
            deps=[["sla", table]],
            description=f"{table}.parquet: sla.{table} of the last tested cut.",
            kinds={"parquet"},
        )
        for table in TABLES
    ]
    analytics = dg.AssetSpec(
        ["published", "analytics"],
        deps=[["sla", table] for table in TABLES],
        description=f"{DATABASE_NAME}: all published tables in one file, with its cut.",
        kinds={"duckdb"},
    )
    return [
        dg.apply_freshness_policy(
            spec.replace_attributes(group_name="published", owners=OWNERS), FRESHNESS
        )
        for spec in (*tables, analytics)
    ]


@dg.multi_asset(specs=_published_specs())
def published(context: dg.AssetExecutionContext, warehouse: Warehouse) -> Iterator[Any]:
    """Write the files of the built cut and switch to them at once (S17)."""
    with warehouse.session() as connection:
        result = publish(connection, warehouse.folder)
    _narrate(context, f"published cut {result.cut.number}")
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
