"""Parquet: the batches of ordinary files stay, those of bombs are small."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import SourceError
from ingest.files import chunks
from ingest.files.chunks import Chunk
from ingest.files.content import Content
from ingest.files.layout import Layout
from ingest.files.sources import read
from ingest.frame_text import as_text
from ingest.store.database import Connection

AT = "2026-01-01T00:00:00Z"
LONG = "x" * 300_000
# Of a process that delivers a file; one chunk of 64 MiB is copied some twenty times on
# its way, whatever its format.
MOST_BYTES = 2 << 30
# Delivers a file in a process of its own; prints its peak and what came of it.
DELIVER = r"""
import re, resource, sys
from pathlib import Path
from ingest import SourceError, deliver
from ingest.store import database

# A test that fails must not take the machine along.
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
with database.session(sys.argv[1]) as connection:
    try:
        said = deliver(connection, Path(sys.argv[2])).result
    except SourceError as error:
        said = error
# What getrusage says is of the parent as well.
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(peak, said)
"""


def _chunks(path: Path, layout: Layout) -> list[Chunk]:
    with Content(path) as content:
        return list(read(content, layout))


def _all(*names: str) -> Layout:
    return Layout(names, names, is_open=True)


def _repeated(value: Any, rows: int) -> pa.Array:
    """One value for all rows, held once."""
    places = pa.array(np.zeros(rows, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(places, pa.array([value]))


def _transitions(rows: int, **columns: pa.Array) -> pa.Table:
    common = {
        "created_at": [AT] * rows,
        "entity_type": ["order"] * rows,
        "entity_id": range(rows),
        "to_status": ["new"] * rows,
    }
    return pa.table({**common, **columns})


def _texts(rows: int) -> pa.Array:
    """Long texts that differ only in their ends."""
    return pa.array(f"{LONG[10:]}{number:010}" for number in range(rows))


def _members(array: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([array], ["k"])


def _one_list(elements: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array([0, len(elements)]), elements)


def _write(path: Path, table: pa.Table, **options: Any) -> Path:
    """Without dictionaries in its schema, as most writers do."""
    pq.write_table(table, path, store_schema=False, **options)
    return path


PLAIN = {"use_dictionary": False, "compression": "zstd"}
DELTA = {"transition_reason": "DELTA_BYTE_ARRAY"}
BOMBS: dict[str, Callable[[Path], Path]] = {
    # Fifteen gigabytes.
    "dictionary": lambda p: _write(
        p, _transitions(50_000, to_status=_repeated(LONG, 50_000))
    ),
    "dictionary of a member": lambda p: _write(
        p,
        _transitions(
            50_000,
            to_status=_repeated("", 50_000),
            metadata=_members(_repeated(LONG, 50_000)),
        ),
    ),
    "name of a member": lambda p: _write(
        p,
        _transitions(
            50_000,
            to_status=_repeated("", 50_000),
            metadata=pa.StructArray.from_arrays(
                [pa.array(range(50_000))], ["k" * 1_000_000]
            ),
        ),
    ),
    "elements of text": lambda p: _write(
        p,
        _transitions(1, metadata=_members(_one_list(_repeated(LONG, 10**7)))),
    ),
    "elements of numbers": lambda p: _write(
        p,
        _transitions(
            1, metadata=_members(_one_list(pa.array(np.zeros(7 * 10**7, np.int8))))
        ),
    ),
    "list": lambda p: _write(
        p, _transitions(1, metadata=_one_list(pa.array(np.zeros(10**7, np.int8))))
    ),
}
# A third of a gigabyte each, all of it good.
LARGE: dict[str, Callable[[Path], Path]] = {
    "dictionary": lambda p: _write(
        p, _transitions(1_000, transition_reason=_repeated(LONG, 1_000))
    ),
    "nulls before": lambda p: _write(
        p,
        _transitions(
            1_009,
            transition_reason=pa.DictionaryArray.from_arrays(
                pa.array([None] * 9 + [0] * 1_000, pa.int32()), [LONG]
            ),
        ),
    ),
    "plain": lambda p: _write(
        p, _transitions(1_000, transition_reason=_texts(1_000)), **PLAIN
    ),
    "delta": lambda p: _write(
        p,
        _transitions(1_000, transition_reason=_texts(1_000)),
        column_encoding=DELTA,
        **PLAIN,
    ),
    "fixed": lambda p: _write(
        p,
        _transitions(
            1_000,
            transition_reason=pa.array([LONG.encode()] * 1_000, pa.binary(len(LONG))),
        ),
    ),
}


def _kinds(files: Iterable[str]) -> list[Any]:
    """By day those that are furthest from each other."""
    by_day = ("dictionary", "list", "plain")
    nightly = pytest.mark.nightly
    return [k if k in by_day else pytest.param(k, marks=nightly) for k in files]


def _delivered(url: str, path: Path) -> str:
    """What a process of its own says of the file; it is bounded in memory."""
    command = [sys.executable, "-c", DELIVER, url, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, _, said = done.stdout.strip().partition(" ")
    assert int(peak) << 10 < MOST_BYTES
    return said


@pytest.mark.parametrize("kind", _kinds(BOMBS))
@pytest.mark.usefixtures("connection")
def test_bomb_is_refused_in_bounded_memory(
    database_url: str, tmp_path: Path, kind: str
) -> None:
    path = BOMBS[kind](tmp_path / "bomb.parquet")
    assert path.stat().st_size < 5_000_000
    said = _delivered(database_url, path)
    assert said.startswith(str(path))
    assert said.endswith(".")


@pytest.mark.parametrize("kind", _kinds(LARGE))
def test_long_values_are_delivered_in_bounded_memory(
    connection: Connection, database_url: str, tmp_path: Path, kind: str
) -> None:
    path = LARGE[kind](tmp_path / "large.parquet")
    rows = pq.ParquetFile(path).metadata.num_rows
    said = _delivered(database_url, path)
    assert said == (
        f"AppendResult(read={rows}, appended={rows}, duplicate=0, rejected=0)"
    )
    largest = connection.execute(
        "select max(source_row_count), min(source_row_count) from raw.batches"
    ).fetchone()
    assert largest is not None
    assert largest[0] * len(LONG) <= chunks.CHUNK_BYTES + len(LONG) * 10


def test_row_that_is_too_long_is_a_source_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "LONGEST_LINE", 10)
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": ["x" * 9, "y", "z" * 11]}), path)
    with pytest.raises(SourceError, match=r"row 3: it holds more than 10 bytes"):
        _chunks(path, _all("a"))
    pq.write_table(pa.table({"a": ["x" * 9, "y", "z" * 10]}), path)
    assert _chunks(path, _all("a"))[0].row_count == 3


def test_rows_that_arrow_leaves_out_are_missed(tmp_path: Path) -> None:
    members = pa.array([None, {"l": ["x"]}], pa.struct([("l", pa.list_(pa.string()))]))
    # A page that is full before it begins is written empty, and ends Arrow's reading.
    table = pa.table({"a": members})
    path = _write(tmp_path / "f.parquet", table, data_page_size=1, row_group_size=1)
    file = pq.ParquetFile(path)
    assert sum(batch.num_rows for batch in file.iter_batches()) < 2
    with pytest.raises(SourceError, match=r"of 1 rows .* only 0 can be read"):
        _chunks(path, _all("a"))


_TEXT = st.none() | st.text("ab", max_size=9)
_COLUMNS = {
    "text": (_TEXT, pa.string()),
    "large": (_TEXT, pa.large_string()),
    "view": (_TEXT, pa.string_view()),
    "bytes": (st.none() | st.binary(max_size=5).map(lambda b: b.hex().encode()), None),
    "fixed": (st.none() | st.sampled_from([b"abc", b"xyz"]), pa.binary(3)),
    "number": (st.none() | st.integers(0, 99), pa.int64()),
    "word": (_TEXT, pa.dictionary(pa.int32(), pa.string())),
    "members": (
        st.none() | st.fixed_dictionaries({"x": _TEXT, "n": st.integers(0, 9)}),
        pa.struct([("x", pa.string()), ("n", pa.int64())]),
    ),
    "listed": (
        st.none() | st.fixed_dictionaries({"l": st.lists(_TEXT, max_size=4)}),
        pa.struct([("l", pa.list_(pa.string()))]),
    ),
}


@st.composite
def _tables(draw: st.DrawFn) -> pa.Table:
    names = draw(st.lists(st.sampled_from(list(_COLUMNS)), min_size=1, unique=True))
    rows = draw(st.integers(0, 40))
    columns = {}
    for name in names:
        values, kind = _COLUMNS[name]
        # Few distinct ones, so that dictionaries are worth it.
        few = draw(st.lists(values, min_size=1, max_size=4))
        picked = draw(st.lists(st.sampled_from(few), min_size=rows, max_size=rows))
        columns[name] = pa.array(picked, kind or pa.binary())
    return pa.table(columns)


_OPTIONS = st.fixed_dictionaries(
    {
        "use_dictionary": st.booleans(),
        "row_group_size": st.sampled_from([1, 4, 7, 64]),
        "store_schema": st.booleans(),
        "data_page_size": st.sampled_from([8, 1 << 20]),
        "dictionary_pagesize_limit": st.sampled_from([1, 1 << 20]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
    }
)


def _whole(path: Path, names: list[str]) -> list[tuple[Any, ...]]:
    """Each row by another reader's batches, of one row group each."""
    file = pq.ParquetFile(path, pre_buffer=False)
    groups = [file.read_row_group(n, names) for n in range(file.num_row_groups)]
    return [row for group in groups for row in as_text(pl.DataFrame(group)).rows()]


@settings(max_examples=tries(30, 100), deadline=None)
@given(table=_tables(), options=_OPTIONS, most=st.integers(1, 60))
def test_bounded_chunks_hold_every_row_once_and_are_the_same_each_time(
    tmp_path_factory: pytest.TempPathFactory,
    table: pa.Table,
    options: dict[str, Any],
    most: int,
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "file.parquet"
    pq.write_table(table, path, **options)
    names = table.schema.names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_ROWS", 9)
        patch.setattr(chunks, "CHUNK_BYTES", most)
        found = _chunks(path, _all(*names))
        again = _chunks(path, _all(*names))
    rows = [row for chunk in found for row in chunk.records.select(names).rows()]
    assert rows == _whole(path, names)
    assert [c.row_count for c in found] == [c.row_count for c in again]
    texts = [n for n in names if n in ("text", "large", "view", "word", "bytes")]
    for chunk in found:
        sizes = [sum(len(v or "") for v in row) for row in chunk.records[texts].rows()]
        assert sum(sizes[:-1]) < most
        assert chunk.row_count <= 9


@settings(max_examples=tries(30, 100), deadline=None)
@given(table=_tables(), options=_OPTIONS)
def test_ordinary_files_have_the_batches_that_arrow_makes(
    tmp_path_factory: pytest.TempPathFactory, table: pa.Table, options: dict[str, Any]
) -> None:
    """A restart counts them: those of a release before must be those of the next."""
    path = tmp_path_factory.mktemp("parquet") / "file.parquet"
    pq.write_table(table, path, **options)
    names = table.schema.names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_ROWS", 9)
        found = [chunk.row_count for chunk in _chunks(path, _all(*names))]
    batches = pq.ParquetFile(path, pre_buffer=False).iter_batches(9, columns=names)
    assert found == [batch.num_rows for batch in batches]
