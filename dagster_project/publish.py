"""Published files: Parquet and one DuckDB file of a tested cut, switched as a whole.

What the tables mean is decided in dbt; this copies them.
"""

import fcntl
import hashlib
import json
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from ingest.cuts import Cut
from ingest.database import Connection
from ingest.errors import StatusEngineError

TABLES = (
    "status_intervals",
    "entity_current_status",
    "workflow_violations",
    "sla_performance",
    "restatements",
)
DATABASE_NAME = "analytics.duckdb"
MANIFEST_NAME = "manifest.json"
# The one that readers may still have open, and the one before it.
KEPT = 2
# Ids are text: Parquet readers disagree on UUIDs.
TYPES = {
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "double precision": "DOUBLE",
    "numeric(18,6)": "DECIMAL(18, 6)",
    "text": "VARCHAR",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "uuid": "VARCHAR",
}


class PublishError(StatusEngineError):
    """The tables can't be published: untested, or not of one cut."""


class Published(NamedTuple):
    """Where the files are, of which cut, and the rows of each table."""

    folder: Path
    cut: Cut
    rows: dict[str, int]


def publish(connection: Connection, home: Path, schema: str = "sla") -> Published:
    """Write the published tables of the built cut, then switch `current` to them.

    Args:
        connection: open, outside a transaction; all tables are read in one snapshot.
        home: files go to its folder `published`; readers follow `published/current`.
        schema: where the tables are.

    Raises:
        PublishError: nothing is built, the tables are of different cuts, or the cut's
            tests did not pass. What is published stays as it was.
    """
    root = home / "published"
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch = root / f".{uuid.uuid4().hex}"
        scratch.mkdir()
        try:
            with connection.transaction():
                connection.execute("set transaction isolation level repeatable read")
                cut = _built_cut(connection, schema)
                _set_session(connection, cut)
                columns = {t: _columns(connection, schema, t) for t in TABLES}
                for table in TABLES:
                    _unload(connection, schema, table, scratch / f"{table}.csv")
            rows = _convert(scratch, columns, cut)
            _write_manifest(scratch, columns, rows, cut)
            folder = _switch(root, scratch, cut)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Published(folder, cut, rows)


def _built_cut(connection: Connection, schema: str) -> Cut:
    """The one cut that every stored table is of, built whole and tested (S17)."""
    if connection.execute(
        "select to_regclass(%s)", [f"{schema}.built_cuts"]
    ).fetchone() == (None,):
        msg = "Nothing is built yet. Run: status-engine build."
        raise PublishError(msg)
    rows = connection.execute(
        f"""
        select built.cut, cuts.as_of, tested.cut is not null
        from (select distinct cut from {schema}.built_cuts) as built
        join raw.cuts as cuts using (cut)
        left join {schema}.tested_cuts as tested using (cut)
        """
    ).fetchall()
    if len(rows) != 1:
        msg = (
            f"The tables are of {len(rows)} cuts, not of one. Run: status-engine build."
        )
        raise PublishError(msg)
    cut, as_of, is_tested = rows[0]
    if not is_tested:
        msg = f"The tests of cut {cut} did not all pass; nothing new is published."
        raise PublishError(msg)
    return Cut(cut, as_of)


def _set_session(connection: Connection, cut: Cut) -> None:
    """For this transaction: the views show the built cut at its instant."""
    connection.execute(
        "select set_config('status_engine.cut', %s, true), "
        "set_config('status_engine.as_of', %s, true)",
        [str(cut.number), cut.as_of.isoformat()],
    )


def _columns(connection: Connection, schema: str, table: str) -> dict[str, str]:
    """Names and PostgreSQL types, in order."""
    rows = connection.execute(
        """
        select attname, format_type(atttypid, atttypmod)
        from pg_attribute
        where attrelid = %s::regclass and attnum > 0 and not attisdropped
        order by attnum
        """,
        [f"{schema}.{table}"],
    ).fetchall()
    strange = [f"{name} {kind}" for name, kind in rows if kind not in TYPES]
    if strange:
        msg = (
            f"{schema}.{table} has {', '.join(strange)}, which is of another release. "
            "Run: status-engine build --full-refresh."
        )
        raise PublishError(msg)
    return dict(rows)


def _unload(connection: Connection, schema: str, table: str, path: Path) -> None:
    query = f"copy (select * from {schema}.{table}) to stdout (format csv)"
    with connection.cursor().copy(query) as copy, path.open("wb") as file:
        for block in copy:
            file.write(block)


def _convert(
    folder: Path, columns: dict[str, dict[str, str]], cut: Cut
) -> dict[str, int]:
    """CSV to Parquet, and all tables into one DuckDB file beside it."""
    rows = {}
    with duckdb.connect(folder / DATABASE_NAME) as analytics:
        analytics.execute("set timezone = 'UTC'")
        for table, names in columns.items():
            types = {name: TYPES[kind] for name, kind in names.items()}
            source = analytics.read_csv(
                str(folder / f"{table}.csv"),
                header=False,
                columns=types,
                na_values="",
                allow_quoted_nulls=False,
                auto_detect=False,
            )
            source.create(table)
            parquet = folder / f"{table}.parquet"
            analytics.table(table).write_parquet(str(parquet), compression="zstd")
            (folder / f"{table}.csv").unlink()
            found = analytics.execute(f"select count(*) from {table}").fetchone()
            rows[table] = found[0] if found else 0
        analytics.execute(
            "create table publication as "
            "select ?::bigint as cut, ?::timestamptz as as_of",
            [cut.number, cut.as_of],
        )
    return rows


def _write_manifest(
    folder: Path, columns: dict[str, dict[str, str]], rows: dict[str, int], cut: Cut
) -> None:
    tables = {
        table: {
            "file": f"{table}.parquet",
            "rows": rows[table],
            "sha256": _sha256(folder / f"{table}.parquet"),
            "columns": {name: TYPES[kind] for name, kind in columns[table].items()},
        }
        for table in columns
    }
    manifest = {
        "cut": cut.number,
        "as_of": cut.as_of.astimezone(UTC).isoformat(),
        "database": DATABASE_NAME,
        "tables": tables,
    }
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _switch(root: Path, scratch: Path, cut: Cut) -> Path:
    """Make the finished folder the current one, in one rename of a link."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    folder = root / f"cut-{cut.number}-{stamp}"
    scratch.rename(folder)
    link = root / f".current-{stamp}"
    link.symlink_to(folder.name)
    link.replace(root / "current")
    folders = sorted(root.glob("cut-*"), key=lambda p: p.stat().st_mtime)
    for old in folders[:-KEPT]:
        shutil.rmtree(old)
    return folder
