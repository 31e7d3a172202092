"""Published files: Parquet and one DuckDB file of a tested cut, switched as a whole.

What the tables mean is decided in dbt; this copies them. Of tables whose rows change
with their entities, it copies the rows of those that builds changed since the last
publication, and begins with that publication's files; a file of which nothing changed
is the same file. Columns that the clock changes are told in the DuckDB file by a view
over the others; Parquet holds what that shows.
"""

import fcntl
import hashlib
import shutil
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import duckdb
import msgspec
from psycopg.sql import SQL, Literal

from dagster_project.dbt_process import known_tables
from dagster_project.swap import exists, no_swap
from dagster_project.tables import Table
from dagster_project.verifications import standing_failure
from ingest.errors import StatusEngineError
from ingest.store.cuts import Cut
from ingest.store.database import Connection, row_count

# Where builds tell the entities of which they changed rows.
LOG = "changed_entities"
# Entities that are named one by one to find their rows; a view is read whole for more.
FEW = 10_000
ENTITY = {"entity_type": "VARCHAR", "entity_id": "BIGINT"}
DATABASE_NAME = "analytics.duckdb"
# Rows of a CSV file, while they are taken in.
INCOMING = "incoming"
# Bytes that are copied and digested at once.
BLOCK = 2**22
# As PostgreSQL's floor of an epoch; DuckDB's division of integers goes towards zero.
WHOLE_SECONDS = """
create or replace macro whole_seconds(earlier, later) as (
    epoch_us(later) - epoch_us(earlier)
    - ((epoch_us(later) - epoch_us(earlier)) % 1000000 + 1000000) % 1000000
) // 1000000
"""
MANIFEST_NAME = "manifest.json"
# The one that readers may still have open, and the one before it.
KEPT = 2
# Ids and JSON are text: Parquet readers disagree on them.
TYPES = {
    "bigint": "BIGINT",
    "integer": "INTEGER",
    "jsonb": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "double precision": "DOUBLE",
    "numeric(18,6)": "DECIMAL(18, 6)",
    "text": "VARCHAR",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "uuid": "VARCHAR",
}


class PublishError(StatusEngineError):
    """The tables can't be published: untested, wrong, or not of one cut."""


class Published(NamedTuple):
    """Where the files are, of which cut, and the rows of each table."""

    folder: Path
    cut: Cut
    rows: dict[str, int]


class PublishedTable(msgspec.Struct):
    """What the manifest tells of a table: DuckDB's type of each column, in order."""

    file: str
    columns: dict[str, str]
    rows: int = 0
    sha256: str = ""


class Manifest(msgspec.Struct):
    """What is published; `log` is the one that tells what builds changed since."""

    cut: int
    as_of: str
    log: int | None
    database: str
    tables: dict[str, PublishedTable]
    database_sha256: str = ""


class Base(NamedTuple):
    """The files to begin with: which entities changed since, as a query; how many.

    In the tables that are named, nothing but rows of these entities did.
    """

    folder: Path
    manifest: Manifest
    changed: str
    changed_count: int
    tables: frozenset[str]


def publish(connection: Connection, home: Path, schema: str = "sla") -> Published:
    """Write the published tables of the built cut, then switch `current` to them.

    Args:
        connection: open, outside a transaction; all tables are read in one snapshot.
        home: files go to its folder `published`; readers follow `published/current`.
        schema: where the tables are.

    Raises:
        PublishError: nothing is built, the tables are of different cuts, the cut's
            tests did not pass, a verification failed, or the files can't be written,
            as on a full disk. What is published stays as it was.
    """
    root = home / "published"
    root.mkdir(parents=True, exist_ok=True)
    try:
        return _publish(connection, root, schema)
    # On a full disk DuckDB's first complaint may be of a table that is not there.
    except (OSError, duckdb.Error) as error:
        reason = str(error).partition("\n")[0]
        msg = (
            f"The files can't be written to {root}, where {_free(root)} are free: "
            f"{reason}. What was published before stays. Run: status-engine publish."
        )
        raise PublishError(msg) from error


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder.parent).free / 2**20:,.0f} MB"


def _publish(connection: Connection, root: Path, schema: str) -> Published:
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Of publications that were killed.
        for left in root.glob(f".{'[0-9a-f]' * 32}"):
            shutil.rmtree(left)
        scratch = root / f".{uuid.uuid4().hex}"
        try:
            cut, manifest = _write(connection, schema, scratch, root / "current")
            folder = _switch(root, scratch, cut)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    rows = {table: said.rows for table, said in manifest.tables.items()}
    return Published(folder, cut, rows)


def read_manifest(folder: Path) -> Manifest:
    """What a publication's folder says of its files.

    Raises:
        OSError, msgspec.MsgspecError: there is none, or it is of another shape.
    """
    return msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)


def _write(
    connection: Connection, schema: str, folder: Path, current: Path | None
) -> tuple[Cut, Manifest]:
    """Write all files of the built cut, beginning with those of `current` if it can."""
    folder.mkdir()
    tables = known_tables().published
    with ThreadPoolExecutor(2) as pool:
        with no_swap(connection):
            cut = _built_cut(connection, schema)
            _set_session(connection, cut)
            manifest = _manifest(connection, schema, cut, tables)
            base = _base(connection, schema, current, manifest, tables)
            # Meanwhile the database is at work.
            copying = pool.submit(_begin, base, folder)
            _unload(connection, schema, folder, manifest, base, tables)
            logged = [t.name for t in tables if base and t.is_logged]
            counts = {t: row_count(connection, f"{schema}.{t}") for t in logged}
        is_sound = copying.result() and _convert(folder, manifest, base, tables, pool)
    if not is_sound or any(manifest.tables[t].rows != n for t, n in counts.items()):
        # Somebody changed the files, or something else than a build the tables.
        shutil.rmtree(folder)
        return _write(connection, schema, folder, current=None)
    return cut, manifest


def _manifest(
    connection: Connection, schema: str, cut: Cut, tables: Sequence[Table]
) -> Manifest:
    log = connection.execute(
        "select to_regclass(%s)::oid::bigint", [f"{schema}.{LOG}"]
    ).fetchone()
    files = {
        table.name: PublishedTable(
            f"{table.name}.parquet",
            _columns(connection, schema, table.name),
        )
        for table in tables
    }
    as_of = cut.as_of.astimezone(UTC).isoformat()
    return Manifest(cut.number, as_of, log[0] if log else None, DATABASE_NAME, files)


def _base(
    connection: Connection,
    schema: str,
    current: Path | None,
    manifest: Manifest,
    tables: Sequence[Table],
) -> Base | None:
    """The files of `current`, if the log tells all that changed since.

    So they are of this database and of its last full build or a later one, and have the
    columns of now. That they are as they were written shows as they are read.
    """
    if current is None:
        return None
    try:
        last = read_manifest(current)
        changed = _changed(schema, last.cut, manifest.cut)
        kept = _changed_by_entity(connection, changed, last.cut, manifest.cut, tables)
        files = {t: last.tables[t] for t in kept}
    except (OSError, msgspec.MsgspecError, KeyError):
        return None
    instant = connection.execute(
        "select as_of from raw.cuts where cut = %s", [last.cut]
    ).fetchone()
    if (
        instant is None
        or instant[0].astimezone(UTC).isoformat() != last.as_of
        or manifest.log is None
        or manifest.log != last.log
        or manifest.database != last.database
        or manifest.tables.keys() != last.tables.keys()
        or any(manifest.tables[t].columns != said.columns for t, said in files.items())
    ):
        return None
    changed_count = row_count(connection, f"({changed}) as changed")
    return Base(current.resolve(), last, changed, changed_count, kept)


def _begin(base: Base | None, folder: Path) -> bool:
    """Copy the DuckDB file to begin with; whether it is as it was written."""
    if base is None:
        return True
    digest = hashlib.sha256()
    name = base.manifest.database
    try:
        with (
            (base.folder / name).open("rb") as source,
            (folder / name).open("wb") as to,
        ):
            while block := source.read(BLOCK):
                digest.update(block)
                to.write(block)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == base.manifest.database_sha256


def _changed(schema: str, since: int, until: int) -> str:
    """A query of the entities of which rows changed between two cuts.

    Builds log those of which they changed rows; audit entries change rows of a view.
    """
    return f"""
        select entity_type, entity_id from {schema}.{LOG} where cut > {since}
        union
        select entries.entity_type, entries.entity_id
        from raw.audit_entries as entries
        inner join raw.batches using (batch_id)
        where batches.cut > {since} and batches.cut <= {until}
    """


def _changed_by_entity(
    connection: Connection,
    changed: str,
    since: int,
    until: int,
    tables: Sequence[Table],
) -> frozenset[str]:
    """Tables of which between two cuts only rows of these entities changed."""
    row = connection.execute(
        f"""
        with batches as (
            select * from raw.batches where cut > %(since)s and cut <= %(until)s
        )

        select
            exists (select from batches where kind = 'configuration')
            -- A key that came with nothing but repeated transitions.
            or exists (
                select from raw.entity_keys as keys
                inner join batches using (batch_id)
                where not exists (
                    select from ({changed}) as changed
                    where
                        changed.entity_type = keys.entity_type
                        and changed.entity_id = keys.entity_id
                )
            )
        """,
        {"since": since, "until": until},
    ).fetchone()
    return frozenset(
        table.name
        for table in tables
        if table.is_logged or (table.is_by_entity and row == (False,))
    )


def _built_cut(connection: Connection, schema: str) -> Cut:
    """The one cut that every stored table is of, tested, of no failure (S17)."""
    if not exists(connection, schema):
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
    failure = standing_failure(connection, schema)
    if failure:
        raise PublishError(str(failure))
    return Cut(cut, as_of)


def _set_session(connection: Connection, cut: Cut) -> None:
    """For this transaction: the views show the built cut at its instant."""
    connection.execute(
        "select set_config('status_engine.cut', %s, true), "
        "set_config('status_engine.as_of', %s, true)",
        [str(cut.number), cut.as_of.isoformat()],
    )


def _columns(connection: Connection, schema: str, table: str) -> dict[str, str]:
    """Names and DuckDB's types, in order."""
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
    return {name: TYPES[kind] for name, kind in rows}


def _unload(
    connection: Connection,
    schema: str,
    folder: Path,
    manifest: Manifest,
    base: Base | None,
    tables: Sequence[Table],
) -> None:
    """Write the rows to convert as CSV, and the entities that changed, if any did."""
    queries = {
        table.name: f"select {', '.join(_stored(table, manifest))} "
        f"from {schema}.{table.name}"
        for table in tables
    }
    if base and base.changed_count:
        queries[LOG] = base.changed
        where = f"(entity_type, entity_id) in ({queries[LOG]})"
        if base.changed_count <= FEW:
            where = _named_entities(connection, queries[LOG])
        for table in base.tables:
            queries[table] += f" where {where}"
    elif base:
        for table in base.tables:
            del queries[table]
    for name, query in queries.items():
        _copy(connection, query, folder / f"{name}.csv")


def _named_entities(connection: Connection, query: str) -> str:
    """A condition that names entities; unlike a join, it reaches into a view."""
    rows = connection.execute(
        f"select entity_type, array_agg(entity_id) from ({query}) as changed group by 1"
    ).fetchall()
    named = SQL(" or ").join(
        SQL("entity_type = {} and entity_id = any({})").format(
            Literal(kind), Literal(ids)
        )
        for kind, ids in rows
    )
    return named.as_string(connection)


def _copy(connection: Connection, query: str, path: Path) -> None:
    statement = f"copy ({query}) to stdout (format csv, encoding 'UTF8')"
    with connection.cursor().copy(statement) as copy, path.open("wb") as file:
        for block in copy:
            file.write(block)


def _stored(table: Table, manifest: Manifest) -> dict[str, str]:
    """The columns that are copied, with DuckDB's types."""
    columns = manifest.tables[table.name].columns
    return {name: kind for name, kind in columns.items() if name not in table.ages}


def _convert(
    folder: Path,
    manifest: Manifest,
    base: Base | None,
    tables: Sequence[Table],
    pool: ThreadPoolExecutor,
) -> bool:
    """CSV to tables of the DuckDB file, these to Parquet; complete the manifest.

    Returns:
        Whether the files that are kept are as they were written.
    """
    digests = {}
    with duckdb.connect(folder / DATABASE_NAME) as analytics:
        _prepare(analytics, folder, manifest)
        for table in tables:
            said = manifest.tables[table.name]
            is_kept = not _take_in(analytics, folder, table, manifest, base)
            path = folder / said.file
            if (
                is_kept
                and base
                and not table.ages
                and _is_linked(base, said.file, path)
            ):
                kept = base.manifest.tables[table.name].sha256
            else:
                kept = None
                analytics.execute(
                    f"copy {table.name} to ? (format parquet, compression zstd, "
                    "compression_level 1)",
                    [str(path)],
                )
            digests[table.name] = kept, pool.submit(_sha256, path)
            found = analytics.execute(f"select count(*) from {_rows_of(table)}")
            (said.rows,) = found.fetchone() or (0,)
        analytics.execute(f"drop table if exists {LOG}")
    for name, (kept, digest) in digests.items():
        manifest.tables[name].sha256 = digest.result()
        if kept not in (None, digest.result()):
            return False
    manifest.database_sha256 = _sha256(folder / DATABASE_NAME)
    content = msgspec.json.format(msgspec.json.encode(manifest))
    (folder / MANIFEST_NAME).write_bytes(content + b"\n")
    return True


def _prepare(
    analytics: duckdb.DuckDBPyConnection, folder: Path, manifest: Manifest
) -> None:
    """What tables are told by: the instant, and the entities that changed."""
    analytics.execute("set timezone = 'UTC'")
    analytics.execute(WHOLE_SECONDS)
    analytics.execute(
        "create or replace table publication as "
        "select ?::bigint as cut, ?::timestamptz as as_of",
        [manifest.cut, manifest.as_of],
    )
    changed = folder / f"{LOG}.csv"
    if changed.exists():
        _read(analytics, changed, ENTITY).create(LOG)
        changed.unlink()


def _take_in(
    analytics: duckdb.DuckDBPyConnection,
    folder: Path,
    table: Table,
    manifest: Manifest,
    base: Base | None,
) -> bool:
    """Put the rows that were unloaded into their table; whether that changed it."""
    source, target = folder / f"{table.name}.csv", _rows_of(table)
    if not source.exists():
        return False
    _read(analytics, source, _stored(table, manifest)).create_view(INCOMING)
    if base and table.name in base.tables:
        gone = analytics.execute(
            f"delete from {target} where (entity_type, entity_id) in (from {LOG})"
        ).fetchone()
        come = analytics.execute(f"insert into {target} from {INCOMING}").fetchone()
        is_changed = (gone, come) != ((0,), (0,))
    else:
        analytics.execute(f"create or replace table {target} as from {INCOMING}")
        _describe(analytics, table, manifest)
        is_changed = True
    analytics.execute(f"drop view {INCOMING}")
    source.unlink()
    return is_changed


def _describe(
    analytics: duckdb.DuckDBPyConnection, table: Table, manifest: Manifest
) -> None:
    """Comments on a table; where columns age, on the view over it that tells them."""
    if table.ages:
        columns = (
            f"({table.ages[name]})::{kind} as {name}" if name in table.ages else name
            for name, kind in manifest.tables[table.name].columns.items()
        )
        analytics.execute(
            f"create or replace view {table.name} as select {', '.join(columns)} "
            f"from {_rows_of(table)} cross join publication"
        )
    analytics.execute(_comments(table))


def _rows_of(table: Table) -> str:
    """Where the DuckDB file has what is stored of a table."""
    return f"{table.name}_facts" if table.ages else table.name


def _is_linked(base: Base, name: str, path: Path) -> bool:
    """Whether a file of the last publication now is one of this, too."""
    try:
        path.hardlink_to(base.folder / name)
    except OSError:
        return False
    return True


def _comments(table: Table) -> str:
    """Statements that say of a table, and of each column, what it means."""
    kind = "view" if table.ages else "table"
    said = {f"{kind} {table.name}": table.description}
    said |= {f'column {table.name}."{c}"': text for c, text in table.columns.items()}
    texts = {what: text.replace("'", "''") for what, text in said.items()}
    return "; ".join(f"comment on {what} is '{t}'" for what, t in texts.items())


def _read(
    analytics: duckdb.DuckDBPyConnection, path: Path, columns: dict[str, str]
) -> duckdb.DuckDBPyRelation:
    return analytics.read_csv(
        str(path),
        header=False,
        columns=columns,
        na_values="",
        allow_quoted_nulls=False,
        auto_detect=False,
    )


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
