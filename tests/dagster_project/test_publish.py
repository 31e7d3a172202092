"""Published files: the rows of Postgres, of one tested cut, switched as a whole."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import polars as pl
import psycopg
import pytest
from psycopg.types.string import TextLoader

from dagster_project import publish as module
from dagster_project import swap, unchanged
from dagster_project.builds import BUILD_AND_TEST
from dagster_project.dbt_process import DBT, known_tables
from dagster_project.publish import PublishError, publish, read_manifest
from dagster_project.resources import Warehouse
from ingest import append
from ingest.configuration import workflows
from ingest.store import cuts, database
from ingest.store.cuts import Cut
from ingest.store.database import PROJECT, Connection

Build = Callable[..., Cut]
FreshDatabase = Callable[..., AbstractContextManager[str]]
PUBLISHED = [table.name for table in known_tables().published]
AS_OF = datetime(2026, 3, 10, 12, 0, 0, 1, tzinfo=UTC)
# Texts that a CSV between two databases could spoil.
STATUSES = ("new", "", "NULL", 'a "b", c\\d\n', "é 🚗", "confirmed", "\\N", " x ")


def _rows() -> pl.DataFrame:
    day = datetime(2026, 3, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "created_at": [day.replace(hour=n, microsecond=n) for n in range(16)],
            "entity_type": ["order", "quote"] * 8,
            "entity_id": [2**63 - 1, *range(1, 16)],
            "to_status": [*STATUSES, *STATUSES],
            "from_status": [None, ""] * 8,
        }
    )


@pytest.fixture(scope="module")
def template(
    fresh_database: FreshDatabase, built_empty: str, build_tested: Build
) -> Iterator[tuple[str, Cut]]:
    """The name of a database with a built and tested cut, and that cut."""
    with fresh_database(built_empty) as url:
        with database.connect(url) as connection:
            workflows.apply(
                connection,
                workflows.load(PROJECT / "workflows"),
                at=datetime(2026, 1, 1, tzinfo=UTC),
            )
            append(connection, _rows().filter(pl.col("to_status") != ""))
            connection.execute(
                "insert into raw.entity_keys (entity_type, entity_id, namespace,"
                " entity_key, batch_id) select 'quote', 3, 'erp', 'Q''3', max(batch_id)"
                " from raw.batches"
            )
        cut = build_tested(url, AS_OF)
        yield database.environment(url)["PGDATABASE"], cut


@pytest.fixture
def database_url(
    fresh_database: FreshDatabase, template: tuple[str, Cut]
) -> Iterator[str]:
    with fresh_database(template[0]) as url:
        yield url


@pytest.fixture
def built(template: tuple[str, Cut]) -> Cut:
    """The cut that is built and tested in the test's database."""
    return template[1]


def _advance(url: str) -> None:
    """To another cut, with nothing new: that takes no build."""
    with database.connect(url) as connection:
        unchanged.remember(connection, DBT)
        cut = cuts.pin(connection, uuid4().hex, AS_OF)
    assert Warehouse(database_url=url).advance(cut)


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(str(value) if isinstance(value, UUID) else value for value in row)


def _in_postgres(url: str, cut: Cut, table: str) -> list[tuple[Any, ...]]:
    with database.connect(url) as connection:
        connection.execute(
            "select set_config('status_engine.as_of', %s, false)",
            [cut.as_of.isoformat()],
        )
        connection.adapters.register_loader("jsonb", TextLoader)
        rows = connection.execute(f"select * from sla.{table}").fetchall()
    return sorted(map(_plain, rows), key=repr)


def _in_files(query: str, file: Path | None = None) -> list[tuple[Any, ...]]:
    with duckdb.connect(file or ":memory:", read_only=file is not None) as analytics:
        analytics.execute("set timezone = 'UTC'")
        return analytics.execute(query).fetchall()


def _sorted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    utc = [
        tuple(v.astimezone(UTC) if isinstance(v, datetime) else v for v in row)
        for row in rows
    ]
    return sorted(utc, key=repr)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_every_row_is_in_both_formats_as_it_is_in_postgres(
    database_url: str, connection: Connection, built: Cut, home: Path
) -> None:
    folder = publish(connection, home).folder
    for table in PUBLISHED:
        rows = _sorted(_in_postgres(database_url, built, table))
        # Nothing was restated, and nobody is named twice.
        assert (rows == []) is (table in ("restatements", "handovers")), table
        parquet = _in_files(f"select * from read_parquet('{folder / table}.parquet')")
        assert _sorted(parquet) == rows, table
        stored = _in_files(f"select * from {table}", folder / "analytics.duckdb")
        assert _sorted(stored) == rows, table


def test_the_manifest_says_what_is_there(
    database_url: str, connection: Connection, built: Cut, home: Path
) -> None:
    result = publish(connection, home)
    folder = home / "published" / "current"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["cut"], manifest["as_of"]) == (
        built.number,
        "2026-03-10T12:00:00.000001+00:00",
    )
    assert (result.cut, set(result.rows)) == (built, set(PUBLISHED))
    assert manifest["tables"].keys() == set(PUBLISHED)
    assert manifest["database_sha256"] == _sha256(folder / manifest["database"])
    for table, said in manifest["tables"].items():
        file = folder / said["file"]
        assert _sha256(file) == said["sha256"]
        rows = _in_postgres(database_url, built, table)
        assert said["rows"] == result.rows[table] == len(rows)
        columns = _in_files(f"describe select * from read_parquet('{file}')")
        assert {c[0]: c[1] for c in columns} == {
            name: kind.replace(" ", "") if kind.startswith("DEC") else kind
            for name, kind in said["columns"].items()
        }
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "analytics.duckdb",
        *(f"{table}.parquet" for table in PUBLISHED),
    }


COUNTED = "select entity_type, count(*), min(visit) from status_intervals group by all"


def _spoil(connection: Connection) -> None:
    """Mark built rows of entities that nothing changes as only a copy shows them."""
    connection.execute(
        "update sla.status_intervals set visit = 7 where entity_type = 'quote'"
    )


def test_a_key_that_comes_with_repeated_rows_alone_is_published(
    database_url: str, connection: Connection, build_tested: Build, home: Path
) -> None:
    publish(connection, home)
    assert append(connection, _rows().head(1)).duplicate == 1
    connection.execute(
        "insert into raw.entity_keys (entity_type, entity_id, namespace, entity_key,"
        " batch_id) select 'quote', 5, 'erp', 'Q5', max(batch_id) from raw.batches"
    )
    cut = build_tested(database_url, AS_OF)
    folder = publish(connection, home).folder
    rows = _in_files("select * from entities", folder / "analytics.duckdb")
    assert _sorted(rows) == _sorted(_in_postgres(database_url, cut, "entities"))
    assert "Q5" in {key for row in rows for key in row}
    keys = (
        "select entity_key, entity_key_namespace from entity_current_status"
        " where entity_key is not null order by 1"
    )
    found = _in_files(keys, folder / "analytics.duckdb")
    assert found == [("Q'3", "erp"), ("Q5", "erp")]
    in_postgres = keys.replace("from ", "from sla.")
    assert connection.execute(in_postgres).fetchall() == found


def test_a_new_name_is_published_with_entities_that_did_not_change(
    database_url: str,
    connection: Connection,
    build_tested: Build,
    home: Path,
    tmp_path: Path,
) -> None:
    fleet = "729ed482-9c14-4980-99f6-7aa66bbbbdb6"
    context = json.dumps({"business_entity_id": fleet})
    given = {"entity_id": pl.lit(77), "business_context": pl.lit(context)}
    append(connection, _rows().head(1).with_columns(**given))
    build_tested(database_url, AS_OF)
    publish(connection, home)
    file = tmp_path / "renamed.yml"
    file.write_text(f"business_entities: [{{id: {fleet}, name: Vloot}}]")
    workflows.apply(connection, workflows.load(file))
    cut = build_tested(database_url, AS_OF)
    folder = publish(connection, home).folder
    rows = _in_files("select * from entities", folder / "analytics.duckdb")
    assert _sorted(rows) == _sorted(_in_postgres(database_url, cut, "entities"))
    assert "Vloot" in {name for row in rows for name in row}


@pytest.mark.parametrize("few", [0, module.FEW])
def test_only_rows_of_entities_that_changed_are_copied_again(
    database_url: str,
    connection: Connection,
    build_tested: Build,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
) -> None:
    monkeypatch.setattr(module, "FEW", few)
    first = publish(connection, home).folder
    _spoil(connection)
    # Nothing new: the very files.
    build_tested(database_url, AS_OF)
    second = publish(connection, home).folder
    for table in ("status_intervals", "workflow_violations"):
        parquet = f"{table}.parquet"
        assert _sha256(first / parquet) == _sha256(second / parquet)
    # Of orders, one of them late: theirs alone.
    late = _rows().head(1).with_columns(created_at=AS_OF.replace(month=2))
    another = late.with_columns(entity_id=pl.lit(99, pl.Int64))
    append(connection, pl.concat([late, another]))
    build_tested(database_url, AS_OF)
    folder = publish(connection, home).folder
    found = _in_files(COUNTED, folder / "analytics.duckdb")
    assert sorted(found) == [("order", 9, 1), ("quote", 6, 1)]
    parquet = COUNTED.replace(
        "status_intervals", f"read_parquet('{folder}/status_intervals.parquet')"
    )
    assert sorted(_in_files(parquet)) == sorted(found)


def _append_to(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


@pytest.mark.parametrize(
    "trouble",
    [
        "a full refresh",
        "another database",
        "another release",
        "no manifest",
        "a manifest cut short",
        "a changed file",
        "a changed database file",
        "rows that no build removed",
    ],
)
def test_all_is_copied_where_the_last_files_may_not_be_begun_with(
    database_url: str,
    connection: Connection,
    build_tested: Build,
    home: Path,
    trouble: str,
) -> None:
    folder = publish(connection, home).folder
    manifest = folder / "manifest.json"
    if trouble == "a full refresh":
        build_tested(database_url, AS_OF, full_refresh=True)
    _spoil(connection)
    if trouble == "another database":
        manifest.write_text(manifest.read_text().replace("00.000001+", "00.000002+"))
    elif trouble == "another release":
        manifest.write_text(manifest.read_text().replace('"visit": "BIGINT",', ""))
    elif trouble == "no manifest":
        manifest.unlink()
    elif trouble == "a manifest cut short":
        manifest.write_text(manifest.read_text()[:-9])
    elif trouble == "a changed file":
        _append_to(folder / "workflow_violations.parquet")
    elif trouble == "a changed database file":
        with duckdb.connect(folder / "analytics.duckdb") as analytics:
            analytics.execute("delete from status_intervals")
    elif trouble == "rows that no build removed":
        connection.execute("delete from sla.status_intervals where entity_id = 3")
    result = publish(connection, home)
    found = _in_files(COUNTED, result.folder / "analytics.duckdb")
    removed = trouble == "rows that no build removed"
    assert sorted(found) == [("order", 8, 1), ("quote", 6 - removed, 7)]
    again = publish(connection, home)
    assert _sha256(again.folder / "status_intervals.parquet") == _sha256(
        result.folder / "status_intervals.parquet"
    )


def test_a_file_that_is_gone_is_made_anew_and_one_that_stays_is_the_same(
    connection: Connection, home: Path
) -> None:
    first = publish(connection, home).folder
    (first / "workflow_violations.parquet").unlink()
    second = publish(connection, home).folder
    inodes = [(f / "status_intervals.parquet").stat().st_ino for f in (first, second)]
    assert len(set(inodes)) == 1
    manifest = read_manifest(second)
    for said in manifest.tables.values():
        assert _sha256(second / said.file) == said.sha256
        assert (
            said.rows
            == _in_files(f"select count(*) from read_parquet('{second / said.file}')")[
                0
            ][0]
        )


@pytest.mark.parametrize("seconds", [0, 1, 86_400 * 30])
def test_what_ages_is_told_by_the_files_as_the_view_tells_it(
    database_url: str,
    connection: Connection,
    build_tested: Build,
    home: Path,
    seconds: int,
) -> None:
    """S15: other instants, without a transition; before and after each deadline."""
    publish(connection, home)
    for instant in (
        AS_OF - timedelta(days=9, seconds=seconds, microseconds=1),
        AS_OF + timedelta(seconds=seconds),
    ):
        cut = build_tested(database_url, instant)
        folder = publish(connection, home).folder
        table = "entity_current_status"
        rows = _sorted(_in_postgres(database_url, cut, table))
        assert _sorted(_in_files(f"from {table}", folder / "analytics.duckdb")) == rows
        assert _sorted(_in_files(f"from '{folder / table}.parquet'")) == rows


def test_all_is_copied_where_the_manifest_names_a_file_that_never_was(
    connection: Connection, home: Path
) -> None:
    manifest = publish(connection, home).folder / "manifest.json"
    said = json.loads(manifest.read_text())
    said |= {"database": "other.duckdb", "database_sha256": ""}
    manifest.write_text(json.dumps(said))
    assert publish(connection, home).rows["status_intervals"] == 14


def test_a_full_refresh_is_swapped_in_after_a_publication_not_within_it(
    database_url: str,
    connection: Connection,
    build_tested: Build,
    built: Cut,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S17: its names are those of one build, from its first statement on."""
    append(connection, _rows().head(3).with_columns(entity_id=pl.lit(77)))
    with monkeypatch.context() as patched:
        patched.setattr(swap, "swap", lambda _: None)
        build_tested(database_url, AS_OF, full_refresh=True)

    def exchange() -> None:
        with database.connect(database_url) as other:
            swap.swap(other)

    swapping = threading.Thread(target=exchange)
    copy = module._copy

    def copy_beside_a_swap(reading: Connection, query: str, path: Path) -> None:
        if path.stem == PUBLISHED[1]:
            swapping.start()
            swapping.join(timeout=1)
        copy(reading, query, path)

    monkeypatch.setattr(module, "_copy", copy_beside_a_swap)
    with database.connect(database_url) as reading:
        result = publish(reading, home)
    swapping.join()
    assert result.cut == built
    counts = {result.rows[t] for t in ("status_intervals", "entity_current_status")}
    assert counts == {14}
    assert len(_in_postgres(database_url, built, "status_intervals")) > 14


def test_rows_appended_after_the_build_are_not_published(
    database_url: str, connection: Connection, built: Cut, home: Path
) -> None:
    before = _in_postgres(database_url, built, "entity_current_status")
    append(connection, _rows().head(3).with_columns(entity_id=pl.lit(77)))
    assert len(_in_postgres(database_url, built, "entity_current_status")) > len(before)
    folder = publish(connection, home).folder
    file = folder / "analytics.duckdb"
    rows = _in_files("select * from entity_current_status", file)
    assert _sorted(rows) == _sorted(before)


def test_current_is_one_link_and_two_folders_are_kept(
    database_url: str, connection: Connection, home: Path
) -> None:
    root = home / "published"
    folders = [publish(connection, home).folder]
    for _ in range(3):
        _advance(database_url)
        folders.append(publish(connection, home).folder)
    assert (root / "current").is_symlink()
    assert (root / "current").resolve() == folders[-1].resolve()
    kept = {path.name for path in root.iterdir() if not path.name.startswith(".lock")}
    assert kept == {"current", folders[-2].name, folders[-1].name}


def test_nothing_built_is_not_published(
    fresh_database: FreshDatabase, home: Path
) -> None:
    with (
        fresh_database() as url,
        database.connect(url) as connection,
        pytest.raises(PublishError, match="Nothing is built yet"),
    ):
        publish(connection, home)
    assert not (home / "published" / "current").exists()


def test_tables_of_two_cuts_are_not_published(
    database_url: str, connection: Connection, home: Path
) -> None:
    before = publish(connection, home).folder
    _advance(database_url)
    # As no build can leave them.
    connection.execute(
        "update sla.built_cuts set cut = cut - 1 where relation_name = 'restatements'"
    )
    with pytest.raises(PublishError, match="of 2 cuts"):
        publish(connection, home)
    assert (home / "published" / "current").resolve() == before.resolve()


def test_a_cut_that_was_built_but_not_tested_is_not_published(
    database_url: str, connection: Connection, build: Build, home: Path
) -> None:
    before = publish(connection, home).folder
    build(database_url, AS_OF)
    with pytest.raises(PublishError, match="did not all pass"):
        publish(connection, home)
    assert (home / "published" / "current").resolve() == before.resolve()
    build(database_url, AS_OF, *BUILD_AND_TEST)
    assert publish(connection, home).folder != before


def test_a_cut_whose_test_failed_is_not_published(
    database_url: str,
    connection: Connection,
    build: Build,
    built: Cut,
    home: Path,
) -> None:
    before = publish(connection, home).folder
    connection.execute(
        "insert into raw.batches (kind, source, source_row_count, read_count,"
        " appended_count, duplicate_count, rejected_count)"
        " values ('transitions', 'test', 1, 1, 1, 0, 0)"
    )
    with pytest.raises(AssertionError, match="assert_every_read_transition"):
        build(database_url, AS_OF, *BUILD_AND_TEST)
    # Nothing of that cut is in the tables; its number alone would be wrong.
    again = publish(connection, home)
    assert again.cut == built
    before = again.folder
    connection.execute("delete from sla.tested_cuts")
    with pytest.raises(PublishError, match="did not all pass"):
        publish(connection, home)
    assert (home / "published" / "current").resolve() == before.resolve()


def test_publishing_that_fails_leaves_the_files_and_no_scraps(
    connection: Connection, home: Path
) -> None:
    before = publish(connection, home).folder
    connection.execute("alter table sla.workflow_violations add column x point")
    with pytest.raises(PublishError, match="x point"):
        publish(connection, home)
    # The last table fails when the others are copied already.
    connection.execute("alter table sla.workflow_violations drop column x")
    with pytest.MonkeyPatch.context() as patch:
        tables = known_tables()
        trouble = tables.published[0]._replace(name="trouble")
        more = tables._replace(derived=(*tables.derived, trouble))
        patch.setattr(module, "known_tables", lambda: more)
        connection.execute(
            "create view sla.trouble as select 1 / count(x) as x"
            " from generate_series(1, 0) as x"
        )
        with pytest.raises(psycopg.errors.DivisionByZero):
            publish(connection, home)
    root = home / "published"
    assert (root / "current").resolve() == before.resolve()
    assert {path.name for path in root.iterdir()} == {".lock", "current", before.name}


KILLED = """
import os, signal, sys
from pathlib import Path
from dagster_project import publish
from ingest.store import cuts, database
publish._copy = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with database.session(sys.argv[1]) as connection:
    publish.publish(connection, Path(sys.argv[2]))
"""


def test_what_a_killed_publication_left_goes_with_the_next(
    database_url: str, connection: Connection, home: Path
) -> None:
    root = home / "published"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, database_url, str(home)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list(root.glob(".?*"))) == len({".lock", "scratch"})
    folder = publish(connection, home).folder
    assert {path.name for path in root.iterdir()} == {".lock", "current", folder.name}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for few files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_is_published_and_the_next_publication_heals_it(
    connection: Connection, small_disk: Path
) -> None:
    before = publish(connection, small_disk).folder
    root = small_disk / "published"
    filler = small_disk / "filler"
    refusals = []
    # Whatever it is that is written when the room runs out.
    for left in count(0, 8_000_000):
        room = shutil.disk_usage(small_disk).free
        filler.write_bytes(bytes(max(room - left, 0)))
        try:
            folder = publish(connection, small_disk).folder
        except PublishError as error:
            refusals.append(str(error))
            assert (root / "current").resolve() == before.resolve()
            names = {path.name for path in root.iterdir()}
            assert names == {".lock", "current", before.name}
        else:
            break
        finally:
            filler.unlink()
    assert refusals
    assert all(r.startswith("The files can't be written to ") for r in refusals)
    assert (root / "current").resolve() == folder.resolve()
    tables = read_manifest(root / "current").tables
    for said in tables.values():
        digest = hashlib.sha256((root / "current" / said.file).read_bytes()).hexdigest()
        assert digest == said.sha256
