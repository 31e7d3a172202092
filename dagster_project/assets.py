"""The asset graph: raw tables, the cut, the dbt models, the published files.

Bodies read their configuration, call a function and report; SLA logic is in dbt.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
)
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, DbtProject, dbt_assets

from dagster_project import verifications
from dagster_project.judged import (
    EVERYTHING,
    JUDGED,
    JUDGES,
    Ground,
    Part,
    last_batches,
    part_of,
)
from dagster_project.progress import telling
from dagster_project.publish import (
    DATABASE_NAME,
    MANIFEST_NAME,
    TABLES,
    PublishError,
    publish,
)
from dagster_project.resources import (
    TEST,
    Build,
    BuildError,
    Named,
    Warehouse,
    dbt_in_words,
    listening,
)
from dagster_project.verifications import VerificationError
from ingest.append import AppendResult
from ingest.configuration import workflows
from ingest.delivery import NOTHING, deliver
from ingest.errors import StatusEngineError
from ingest.inbox import Passed, Taken, take_in
from ingest.store import cuts
from ingest.store.cuts import Cut
from ingest.store.database import Connection, row_count

OWNERS = ["team:status-engine"]
EVALUATED = {
    AssetCheckExecutionRecordStatus.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED,
}
STILL = "nothing in this run: the failure stands"
# Three ticks without a run are a fault that someone should see.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=15))
# Views for looking up one entity take their time over all of them.
COUNTED = (*TABLES, "sla_daily_counts", "built_cuts")
EQUALS_A_FULL_BUILD = dg.AssetCheckKey(
    dg.AssetKey(["sla", "status_intervals"]), "equals_a_full_build"
)
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

        It says what it judges in a build.
        """
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        judges = part_of(manifest["nodes"][unique_id])
        metadata = {**(spec.metadata or {}), JUDGES: str(judges)}
        return spec._replace(blocking=False, metadata=metadata)


def _narrate(context: dg.AssetExecutionContext, line: str) -> None:
    """A line for the person at the terminal, and in the event log."""
    context.log.info(line, extra={"is_narration": True})


def in_a_sentence(error: StatusEngineError) -> dg.Failure:
    """A step's end whose reason the UI shows before where it was raised."""
    return dg.Failure(str(error), allow_retries=False)


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
        """Build and test everything at the cut of this run; tests alone judge all."""
        if not context.selected_asset_keys:
            yield from _judge(context, dbt, warehouse)
            return
        is_whole = (
            context.selected_asset_keys == derived.keys
            and context.selected_asset_check_keys == derived.check_keys
        )
        pinned = cut_of_run(warehouse, context.run.run_id)
        is_built = False
        try:
            if is_whole and not config.full_refresh and warehouse.advance(pinned):
                _narrate(context, "nothing new: the tables stand as built and tested")
                yield from _unchanged(context, derived, warehouse, pinned)
                return
            with warehouse.building(
                pinned, full_refresh=config.full_refresh, is_whole=is_whole
            ) as build:
                if build.why:
                    _narrate(context, build.why)
                yield from _build(context, dbt, warehouse, build)
            is_built = True
            with warehouse.session() as connection:
                verifications.require_none(connection)
        except VerificationError as error:
            # All stays to be seen: of checks that a failed run did not come to, Dagster
            # would show that they failed.
            if not is_built:
                yield from _last_results(context)
            yield _equality(passed=False, said=str(error), judged=STILL)
            raise in_a_sentence(error) from error
        if build.is_full and is_whole:
            yield _equality(passed=True, said=f"cut {pinned.number} is a full build")

    return derived


def _build(
    context: dg.AssetExecutionContext,
    dbt: DbtCliResource,
    warehouse: Warehouse,
    build: Build,
) -> Iterator[Any]:
    """What dbt builds and tests, and what it had no need to test."""
    with warehouse.session() as connection:
        told = _Told(context, connection, build, Ground.of(connection))
        # What dbt remembers of its files holds for one schema.
        target = warehouse.folder / f"dbt-{build.schema}"
        is_published = False
        waiting: list[Any] = []
        with (
            dbt_in_words(target),
            listening(
                dbt.cli(build.arguments, context=context, target_path=target)
            ) as events,
            telling(warehouse.url, partial(_narrate, context)),
        ):
            for event in events:
                waiting.append(event)
                # Tables are what their events say once all are changed, at once.
                if is_published or _is_of(context, event, "built_cuts"):
                    is_published = True
                    yield from told.of(waiting)
                    waiting.clear()
        yield from told.of(waiting)
        _narrate(context, f"{len(told.passed)} tests passed")
        yield from told.of_the_others()


def _judge(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, warehouse: Warehouse
) -> Iterator[Any]:
    """Tests that are run by hand, without a build: over all rows of what is published.

    A failed one is kept as a failed verification is.
    """
    failed: list[str] = []
    target = warehouse.folder / "dbt-judged"
    with warehouse.judging() as (connection, cut):
        try:
            with (
                dbt_in_words(target),
                listening(dbt.cli(TEST, context=context, target_path=target)) as events,
            ):
                for event in events:
                    if isinstance(event, dg.AssetCheckResult):
                        failed += [] if event.passed else [str(event.check_name)]
                        event = _saying(event, f"{EVERYTHING}, of cut {cut.number}")
                    yield event
        except BuildError as error:
            if not failed:
                raise
            said = f"over all rows, {', '.join(failed)} failed"
            failure = verifications.record_failure(connection, cut, said)
            raise in_a_sentence(VerificationError(str(failure))) from error


def _unchanged(
    context: dg.AssetExecutionContext,
    derived: dg.AssetsDefinition,
    warehouse: Warehouse,
    pinned: Cut,
) -> Iterator[Any]:
    """Each asset after those that it reads, with its rows, and the results it had."""
    with warehouse.session() as connection:
        ground = Ground.of(connection)
        last = last_batches(connection, pinned.number)
    results: dict[dg.AssetKey, list[dg.AssetCheckResult]] = {}
    for spec in derived.check_specs:
        said = ground.stands(spec.metadata[JUDGES], last)
        if said:
            results.setdefault(spec.asset_key, []).append(_standing(spec, said))
    inner = {key: deps & derived.keys for key, deps in derived.asset_deps.items()}
    for key in TopologicalSorter(inner).static_order():
        known = context.instance.get_latest_materialization_event(key)
        event = known.asset_materialization if known else None
        rows = event.metadata.get("dagster/row_count") if event else None
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={"dagster/row_count": rows} if rows else {},
            check_results=results.get(key, []),
        )
    if ground.is_equal(last):
        said = f"equal to a full build as of cut {ground.equal_cut}: nothing came since"
        yield _equality(passed=True, said=said)


def _last_results(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """What each check of this run found when it was last evaluated, as it was said."""
    history = context.instance.event_log_storage.get_asset_check_execution_history
    for key in sorted(context.selected_asset_check_keys):
        for record in history(key, limit=1, status=EVALUATED):
            last = record.evaluation
            if last is not None:
                yield dg.AssetCheckResult(
                    passed=last.passed,
                    asset_key=key.asset_key,
                    check_name=key.name,
                    metadata=last.metadata,
                    severity=last.severity,
                    description=last.description,
                )


def _standing(spec: dg.AssetCheckSpec, said: str) -> dg.AssetCheckResult:
    """What a check found that has no need to look again."""
    return dg.AssetCheckResult(
        passed=True,
        asset_key=spec.asset_key,
        check_name=spec.name,
        metadata={JUDGED: said},
    )


def _saying(event: dg.AssetCheckResult, said: str) -> dg.AssetCheckResult:
    metadata = {**event.metadata, JUDGED: dg.MetadataValue.text(said)}
    return event._replace(metadata=metadata)


def _equality(*, passed: bool, said: str, judged: str = "") -> dg.AssetCheckEvaluation:
    """What is known without the verification being run again."""
    return dg.AssetCheckEvaluation(
        asset_key=EQUALS_A_FULL_BUILD.asset_key,
        check_name=EQUALS_A_FULL_BUILD.name,
        passed=passed,
        description=said,
        metadata={JUDGED: judged or said},
    )


class _Told:
    """Events of dbt as they are told: rows of tables, and what tests have judged."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        connection: Connection,
        build: Build,
        ground: Ground,
    ) -> None:
        self.context, self.connection = context, connection
        self.build, self.ground = build, ground
        specs = context.assets_def.check_specs
        self.waiting = {
            spec.key: spec
            for spec in specs
            if spec.key in context.selected_asset_check_keys
        }
        self.passed: list[dg.AssetCheckKey] = []

    def of(self, events: list[Any]) -> Iterator[Any]:
        """Published tables with their rows, tests with what they judged."""
        for event in events:
            if isinstance(event, dg.AssetCheckResult):
                yield self._of_test(event)
                continue
            table = next((t for t in COUNTED if _is_of(self.context, event, t)), None)
            if table is None:
                yield event
                continue
            rows = row_count(self.connection, f"{self.build.schema}.{table}")
            if table != "built_cuts":
                _narrate(self.context, f"built sla.{table}: {rows:,} rows")
            yield event.with_metadata({**event.metadata, "dagster/row_count": rows})

    def _of_test(self, event: dg.AssetCheckResult) -> dg.AssetCheckResult:
        assert event.asset_key is not None
        assert event.check_name is not None
        key = dg.AssetCheckKey(event.asset_key, event.check_name)
        if event.passed:
            self.passed.append(key)
        else:
            _narrate(self.context, f"test {event.check_name} failed")
        spec = self.waiting.pop(key, None)
        if spec is None:
            return event
        part = spec.metadata[JUDGES]
        return _saying(event, self.ground.judged(part, is_full=self.build.is_full))

    def of_the_others(self) -> Iterator[dg.AssetCheckResult]:
        """Tests that only full builds make, with what the last one found."""
        for spec in self.waiting.values():
            said = self.ground.judged(spec.metadata[JUDGES], is_full=False)
            if said and spec.metadata[JUDGES] == Part.NOTHING:
                yield _standing(spec, said)


def _is_of(context: dg.AssetExecutionContext, event: Any, table: str) -> bool:
    if not isinstance(event, dg.Output):
        return False
    path: Sequence[str] = context.asset_key_for_output(event.output_name).path
    return path[-1] == table


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
    try:
        with warehouse.session() as connection:
            result = publish(connection, warehouse.folder)
    except PublishError as error:
        raise in_a_sentence(error) from error
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
