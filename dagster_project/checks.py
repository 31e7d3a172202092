"""Checks of what was delivered and published; truth about data is tested in dbt."""

from pathlib import Path

import dagster as dg
import duckdb

from dagster_project.aside import verify
from dagster_project.publish import DATABASE_NAME, read_manifest
from dagster_project.resources import Warehouse
from ingest.inbox import survey
from ingest.names import readable


@dg.asset_check(asset=["raw", "batches"])
def every_file_was_accepted(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No file lies in the folder of refused files, and none could not be put away."""
    texts = (warehouse.folder / "refused").rglob("*.txt")
    refused = sorted(path for path in texts if path.is_file())
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
    )


def _reason(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"{readable(str(path))}: {error.strerror or error}"


@dg.asset_check(asset=["published", "analytics"])
def files_hold_what_the_manifest_says(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Each Parquet file and each DuckDB table has the manifest's rows."""
    folder = warehouse.folder / "published" / "current"
    manifest = read_manifest(folder)
    wrong = {}
    with duckdb.connect(folder / DATABASE_NAME, read_only=True) as analytics:
        for table, said in manifest.tables.items():
            parquet = analytics.read_parquet(str(folder / said.file)).shape[0]
            stored = analytics.table(table).shape[0]
            if not parquet == stored == said.rows:
                wrong[table] = f"{said.rows} said, {parquet} Parquet, {stored} DuckDB"
    return dg.AssetCheckResult(
        passed=not wrong, metadata={"cut": manifest.cut, "wrong": wrong}
    )


@dg.asset_check(asset=["sla", "status_intervals"])
def equals_a_full_build(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every row is what a full build of the same cut makes (S5); run nightly."""
    verified = verify(warehouse)
    return dg.AssetCheckResult(
        passed=not verified.differences,
        metadata={
            "cut": verified.cut.number,
            "rows": dict(verified.rows),
            "differing": len(verified.differences),
            "first_differing": "\n".join(map(str, verified.differences[:20])),
        },
    )
