"""The dbt models and their tests as assets and checks."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject, dbt_assets
from pydantic import Field

from dagster_project import failures, lineage, verifications
from dagster_project.assets import (
    EVERY_TICK,
    OWNERS,
    WHEN_RED,
    in_a_sentence,
    narrate,
)
from dagster_project.builds import TEST, Build
from dagster_project.columns import lineage_of, telling_origin
from dagster_project.dbt_process import (
    DBT,
    BuildError,
    Dbt,
    dbt_in_words,
    known_tables,
    listening,
)
from dagster_project.judged import (
    EVALUATED,
    EVERYTHING,
    JUDGED,
    JUDGES,
    Ground,
    Part,
    last_batches,
    part_of,
)
from dagster_project.lineage import Lineage
from dagster_project.progress import telling
from dagster_project.resources import Warehouse
from dagster_project.verifications import VerificationError
from ingest.errors import StatusEngineError
from ingest.store import cuts
from ingest.store.cuts import Cut
from ingest.store.database import Connection, row_count

STILL = "nothing in this run: the failure stands"


KINDS = {"standing_view": "view", "owner_function": "function"}
# What dagster-dbt tells, by the names that it has here, the same for each step; what
# no operator asks for has none.
NAMED = {
    "Execution Duration": "seconds",
    "dagster_dbt/failed_row_count": "failed_rows",
    "unique_id": "",
    "invocation_id": "",
}
# The model that changes all tables at once.
LAST = "built_cuts"
EQUALS_A_FULL_BUILD = dg.AssetCheckKey(
    dg.AssetKey(["sla", "status_intervals"]), "equals_a_full_build"
)


class BuildConfig(dg.Config):
    """How much is built."""

    full_refresh: bool = Field(
        default=False,
        description="Build every stored table anew, from the first transition on, in a "
        "schema of its own, and put it in the place of what there is once its tests "
        "passed. Without it, only what new batches touched is built.",
    )


class Translator(DagsterDbtTranslator):
    """Keys are layer and table; groups and owners as those of the other assets.

    Args:
        made_of: of each model's columns, those that they are made of.
    """

    def __init__(self, made_of: Lineage) -> None:
        super().__init__()
        self.made_of = made_of
        self.specs: dict[str, dg.AssetSpec] = {}

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
        """Of one team, fresh at each tick, with the origin of its columns.

        Each is asked for again for whatever reads it.
        """
        if unique_id not in self.specs:
            self.specs[unique_id] = self._spec(manifest, unique_id, project)
        return self.specs[unique_id]

    def _spec(
        self, manifest: Any, unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec: dg.AssetSpec = super().get_asset_spec(manifest, unique_id, project)
        made_of = self.made_of.get(spec.key.path[-1], {})
        metadata = dict(spec.metadata)
        schema = metadata.get("dagster/column_schema")
        if schema and made_of:
            metadata["dagster/column_schema"] = telling_origin(schema, made_of)
            metadata["dagster/column_lineage"] = lineage_of(made_of)
        node = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
        made_as = node["config"].get("materialized", "")
        return spec.replace_attributes(
            owners=OWNERS,
            metadata=metadata,
            kinds={*spec.kinds, KINDS.get(made_as, "table")},
            freshness_policy=EVERY_TICK if spec.group_name == "sla" else None,
        )

    def get_description(self, dbt_resource_props: Any) -> str:
        """What the rows are, what it is for, and what to do when it is red."""
        layer = self.get_group_name(dbt_resource_props)
        described = dbt_resource_props["description"].strip()
        return f"{described}\n\n{WHEN_RED[layer]}"

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
        node = manifest["nodes"][unique_id]
        metadata = {
            **(spec.metadata or {}),
            JUDGES: str(part_of(node)),
            failures.TO_DO: failures.to_do(node),
            failures.QUERY_FILE: failures.query_file(node),
        }
        return spec._replace(blocking=False, metadata=metadata)


def cut_of_run(warehouse: Warehouse, run_id: str) -> Cut:
    """The run's own cut; the newest where a run was started behind the pin."""
    with warehouse.session() as connection:
        pinned = cuts.of_run(connection, run_id) or cuts.newest(connection)
    if pinned is None:
        msg = "No cut is pinned yet: materialize raw/cuts, or run status-engine build."
        raise StatusEngineError(msg)
    return pinned


def derived_assets(project: DbtProject, home: Path) -> dg.AssetsDefinition:
    """The dbt models and their tests as assets and checks.

    Args:
        project: of dbt.
        home: the folder that keeps what columns are made of.
    """
    translator = Translator(lineage.kept(home, DBT))

    @dbt_assets(manifest=project.manifest_path, dagster_dbt_translator=translator)
    def derived(
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        dbt: Dbt,
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
                narrate(context, "nothing new: the tables stand as built and tested")
                yield from _unchanged(context, derived, warehouse, pinned)
                return
            with warehouse.building(
                pinned, full_refresh=config.full_refresh, is_whole=is_whole
            ) as build:
                if build.why:
                    narrate(context, build.why)
                yield from _build(context, dbt, warehouse, build, pinned)
            is_built = True
            with warehouse.session() as connection:
                if build.is_full and is_whole:
                    lineage.keep(connection, warehouse.folder, DBT, build.schema)
                verifications.require_none(connection)
        except VerificationError as error:
            # All stays to be seen: of checks that a failed run did not come to, Dagster
            # would show that they failed.
            if not is_built:
                yield from _last_results(context, context.selected_asset_check_keys)
            yield _equality(passed=False, said=str(error), judged=STILL)
            raise in_a_sentence(error) from error
        if build.is_full and is_whole:
            yield _equality(passed=True, said=f"cut {pinned.number} is a full build")

    return derived


def _build(
    context: dg.AssetExecutionContext,
    dbt: Dbt,
    warehouse: Warehouse,
    build: Build,
    pinned: Cut,
) -> Iterator[Any]:
    """What dbt builds and tests, and what it had no need to test."""
    # What dbt remembers of its files holds for one schema.
    target = warehouse.folder / f"dbt-{build.schema}"
    with warehouse.session() as connection:
        told = _Told(context, connection, build, pinned, target)
        is_published = False
        waiting: list[Any] = []
        try:
            with (
                dbt_in_words(target),
                listening(
                    dbt.start(
                        build.arguments,
                        build.environment,
                        context=context,
                        target_path=target,
                    )
                ) as events,
                telling(warehouse.url, partial(narrate, context)),
            ):
                for event in events:
                    waiting.append(event)
                    # Tables are what their events say once all are changed, at once.
                    if is_published or _table_of(context, event) == LAST:
                        is_published = True
                        yield from told.of(waiting)
                        waiting.clear()
        except BuildError:
            yield from told.of_tests(waiting)
            yield from _last_results(context, told.waiting)
            raise
        yield from told.of(waiting)
        narrate(context, f"{len(told.passed)} tests passed")
        yield from told.of_the_others()


def _judge(
    context: dg.AssetExecutionContext, dbt: Dbt, warehouse: Warehouse
) -> Iterator[Any]:
    """Tests that are run by hand, without a build: over all rows of what is published.

    A failed one is kept as a failed verification is.
    """
    failed: list[str] = []
    target = warehouse.folder / "dbt-judged"
    with warehouse.judging() as (connection, cut, environment):
        try:
            with (
                dbt_in_words(target),
                listening(
                    dbt.start(TEST, environment, context=context, target_path=target)
                ) as events,
            ):
                for event in events:
                    if isinstance(event, dg.AssetCheckResult):
                        event = _saying(event, f"{EVERYTHING}, of cut {cut.number}")
                    if isinstance(event, dg.AssetCheckResult) and not event.passed:
                        failed.append(str(event.check_name))
                        spec = _spec_of(context, event)
                        event = failures.described(connection, event, spec, target, cut)
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


def _last_results(
    context: dg.AssetExecutionContext, keys: Iterable[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckResult]:
    """What each of these checks found when it was last evaluated, as it was said."""
    history = context.instance.event_log_storage.get_asset_check_execution_history
    for key in sorted(keys):
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
    metadata = {**_named(event.metadata), JUDGED: dg.MetadataValue.text(said)}
    return event._replace(metadata=metadata)


def _named(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The same under the names that it has here."""
    named = {NAMED.get(name, name): value for name, value in metadata.items()}
    named.pop("", None)
    return named


def _spec_of(
    context: dg.AssetExecutionContext, event: dg.AssetCheckResult
) -> dg.AssetCheckSpec:
    assert event.asset_key is not None
    assert event.check_name is not None
    key = dg.AssetCheckKey(event.asset_key, event.check_name)
    spec: dg.AssetCheckSpec = context.assets_def.get_spec_for_check_key(key)
    return spec


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
        pinned: Cut,
        target: Path,
    ) -> None:
        self.context, self.connection = context, connection
        self.build, self.pinned, self.target = build, pinned, target
        self.ground = Ground.of(connection)
        specs = context.assets_def.check_specs
        self.waiting = {
            spec.key: spec
            for spec in specs
            if spec.key in context.selected_asset_check_keys
        }
        self.counted = {t.name: t for t in known_tables().derived if t.is_counted}
        self.passed: list[dg.AssetCheckKey] = []

    def of(self, events: list[Any]) -> Iterator[Any]:
        """Published tables with their rows, tests with what they judged."""
        for event in events:
            if isinstance(event, dg.AssetCheckResult):
                yield self._of_test(event)
            elif isinstance(event, dg.Output):
                yield self._of_table(event)
            else:
                yield event

    def of_tests(self, events: list[Any]) -> Iterator[dg.AssetCheckResult]:
        """Tests alone, of tables that are not published."""
        for event in events:
            if isinstance(event, dg.AssetCheckResult):
                yield self._of_test(event)

    def _of_table(self, event: dg.Output[Any]) -> dg.Output[Any]:
        metadata = _named(event.metadata)
        table = self.counted.get(_table_of(self.context, event) or "")
        if table is not None:
            rows = row_count(self.connection, f"{self.build.schema}.{table.name}")
            if table.name != LAST and (table.change or table.reads_clock):
                narrate(self.context, f"built sla.{table.name}: {rows:,} rows")
            metadata["dagster/row_count"] = rows
        return event.with_metadata(metadata)

    def _of_test(self, event: dg.AssetCheckResult) -> dg.AssetCheckResult:
        spec = _spec_of(self.context, event)
        if event.passed:
            self.passed.append(spec.key)
        else:
            narrate(self.context, f"test {event.check_name} failed")
            event = failures.described(
                self.connection, event, spec, self.target, self.pinned
            )
        if self.waiting.pop(spec.key, None) is None:
            return event
        part = spec.metadata[JUDGES]
        return _saying(event, self.ground.judged(part, is_full=self.build.is_full))

    def of_the_others(self) -> Iterator[dg.AssetCheckResult]:
        """Tests that only full builds make, with what the last one found."""
        for spec in self.waiting.values():
            said = self.ground.judged(spec.metadata[JUDGES], is_full=False)
            if said and spec.metadata[JUDGES] == Part.NOTHING:
                yield _standing(spec, said)


def _table_of(context: dg.AssetExecutionContext, event: Any) -> str | None:
    """The name of the table that an event tells of; None where it tells of none."""
    if not isinstance(event, dg.Output):
        return None
    return str(context.asset_key_for_output(event.output_name).path[-1])
