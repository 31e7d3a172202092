"""Checks of what was delivered and published; truth about data is tested in dbt."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb

from dagster_project.alerts.delivery import standing_failures
from dagster_project.aside import verify
from dagster_project.assets import in_a_sentence
from dagster_project.assets.derived import EQUALS_A_FULL_BUILD
from dagster_project.assets.raw import REFUSALS
from dagster_project.judged import EVERYTHING, JUDGED
from dagster_project.publish import DATABASE_NAME, read_manifest
from dagster_project.resources import Warehouse
from dagster_project.verifications import VerificationError, require_none
from ingest.errors import SourceError, StatusEngineError
from ingest.followed_source import FOLDER, load_source, source_paths
from ingest.following import state_of
from ingest.inbox import survey
from ingest.names import readable
from ingest.shelves import refusals

READINGS = dg.AssetKey(["raw", "source_readings"])


@dg.asset_check(asset=["raw", "batches"])
def every_file_was_accepted(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No file lies in the folder of refused files, and none could not be put away."""
    refused = refusals(warehouse.folder)
    found = survey(warehouse.folder / "inbox")
    left = [readable(str(file.path)) for file in found.waiting if file.is_taken]
    return dg.AssetCheckResult(
        passed=not refused and not left,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "refused": len(refused),
            "reasons": "\n".join(map(_reason, refused)),
            "left": "\n".join(left),
            "passed_over": "\n".join(map(str, found.passed)),
        },
        description=_to_do(
            refused or left,
            "Mend each file by the reason below and put it into the folder `inbox` "
            "again; what came in of it before is not doubled. Delete it, with its "
            "`.txt`, from the folder `refused` then. The next run takes up what is "
            "left; what stays there can't be moved: look at the rights of the "
            "folder, and at the room on the disk.",
        ),
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "every_source_was_read",
            asset=READINGS,
            description="The last reading of each source that is followed brought its "
            "rows; a run that reads one in vain fails here, after all else came in.",
        )
    ]
)
def sources_that_were_read(
    context: dg.AssetCheckExecutionContext, warehouse: Warehouse
) -> Iterator[dg.AssetCheckResult]:
    """Tell of sources that fail; a step of its own, so that the rest is built.

    Raises:
        Failure: this run could not read one.
    """
    failing = []
    with warehouse.session() as connection:
        for path in source_paths(warehouse.folder / FOLDER):
            try:
                refusal = state_of(connection, load_source(path)).refusal
            except SourceError as error:
                refusal = str(error)
            failing += [refusal] if refusal else []
    yield dg.AssetCheckResult(
        passed=not failing,
        metadata={"failing": len(failing), "reasons": "\n".join(failing)},
    )
    event = context.instance.get_latest_materialization_event(READINGS)
    if event is not None and event.run_id == context.run.run_id:
        materialization = event.asset_materialization
        assert materialization is not None
        if refused := str(materialization.metadata[REFUSALS].value):
            raise in_a_sentence(StatusEngineError(" ".join(refused.splitlines())))


@dg.asset_check(asset=["alerts", "alert_deliveries"])
def every_alert_was_delivered(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No channel of alerts lacks its address, or did not take what is due for it."""
    with warehouse.session() as connection:
        standing = standing_failures(connection)
    return dg.AssetCheckResult(
        passed=not standing,
        metadata={
            "channels": "\n".join(standing) or "all took what is due for them",
        },
        description=_to_do(
            standing,
            "Set the environment variable of a channel without an address, and "
            "start the UI anew; where a receiver refuses, try "
            "`status-engine alerts test CHANNEL`. Nothing is lost meanwhile; job "
            "`deliver_alerts` tries at once.",
        ),
    )


def _to_do(failed: object, what: str) -> str | None:
    """What to do, where there is something; the UI shows it beside the result."""
    return what if failed else None


def _reason(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"{readable(str(path))}: {error.strerror or error}"


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "files_hold_what_the_manifest_says",
            asset=["published", "analytics"],
            description="Each Parquet file and DuckDB table has the manifest's rows.",
        )
    ]
)
def published_files(warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
    """Hold the files against their manifest; a difference fails the run.

    Raises:
        Failure: rows are missing, or too many.
    """
    folder = warehouse.folder / "published" / "current"
    manifest = read_manifest(folder)
    wrong = {}
    with duckdb.connect(folder / DATABASE_NAME, read_only=True) as analytics:
        for table, said in manifest.tables.items():
            parquet = analytics.read_parquet(str(folder / said.file)).shape[0]
            stored = analytics.table(table).shape[0]
            if not parquet == stored == said.rows:
                wrong[table] = f"{said.rows} said, {parquet} Parquet, {stored} DuckDB"
    yield dg.AssetCheckResult(
        passed=not wrong,
        metadata={
            "cut": manifest.cut,
            "wrong": wrong,
        },
        description=_to_do(
            wrong,
            "Launch job `publish`: it writes all files of the built cut. Where it "
            "fails too, look at the room on the disk, and at what else writes into "
            "the folder `published`.",
        ),
    )
    if wrong:
        tables = "; ".join(f"{table}: {rows}" for table, rows in wrong.items())
        msg = (
            f"The files in {folder} don't hold the rows that their manifest says "
            f"({tables}). Run: status-engine publish."
        )
        raise in_a_sentence(StatusEngineError(msg))


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            EQUALS_A_FULL_BUILD.name,
            asset=EQUALS_A_FULL_BUILD.asset_key,
            description="Every row is what a full build of the same cut makes (S5); "
            "run nightly.",
        )
    ]
)
def verification(warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
    """Build in full beside what is published; a row that differs fails the run.

    Raises:
        Failure: rows differ. It is kept with the tables.
    """
    verified = verify(warehouse)
    yield dg.AssetCheckResult(
        passed=not verified.differences,
        metadata={
            JUDGED: f"{EVERYTHING}, of cut {verified.cut.number}",
            "cut": verified.cut.number,
            "rows": dict(verified.rows),
            "differing": len(verified.differences),
            "first_differing": verified.first_lines,
        },
        description=_to_do(
            verified.differences,
            "Launch job `full_refresh`; until then nothing is published. The lines "
            "below name the entities; `status-engine explain TYPE ID` tells how "
            "each came to be. Keep them: it is a defect, or somebody changed a "
            "table of schema sla by hand.",
        ),
    )
    try:
        with warehouse.session() as connection:
            require_none(connection)
    except VerificationError as error:
        raise in_a_sentence(error) from error
