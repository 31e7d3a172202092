"""A file that changes while it is read: no row of the other bytes is taken."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import SourceError, deliver
from ingest.files import chunks, content
from ingest.files.content import Content
from ingest.store.database import Connection

Write = Callable[[str, str | bytes], Path]
Change = Callable[[Path], object]

COLUMNS = ("created_at", "entity_type", "entity_id", "to_status", "transition_reason")
ROWS = 30
# Incompressible, so that gzip too reads the file bit by bit.
REASONS = [random.Random(n).randbytes(300).hex() for n in range(ROWS)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small file is many blocks and batches, and is read bit by bit."""
    monkeypatch.setattr(content, "BLOCK_BYTES", 64)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 10)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 512)
    monkeypatch.setattr("ingest.files.ahead.READ_BYTES", 128)
    monkeypatch.setattr("ingest.files.xes.READ_BYTES", 128)
    monkeypatch.setattr("ingest.files.ahead.SAMPLE_BYTES", 64)


def _rows(status: str) -> list[tuple[str, ...]]:
    at = "2026-01-01T00:00:00Z"
    return [(at, "order", f"{n}", status, reason) for n, reason in enumerate(REASONS)]


def _csv(status: str) -> bytes:
    lines = [COLUMNS, *_rows(status)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


def _jsonl(status: str) -> bytes:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in _rows(status)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(status: str) -> bytes:
    buffer = io.BytesIO()
    columns = zip(*_rows(status), strict=True)
    table = pa.table(dict(zip(COLUMNS, map(list, columns), strict=True)))
    pq.write_table(table, buffer, row_group_size=10, use_dictionary=False)
    return buffer.getvalue()


def _xes(status: str) -> bytes:
    rows = (zip(COLUMNS, row, strict=True) for row in _rows(status))
    events = "".join(
        "<event>"
        + "".join(f'<string key="{key}" value="{text}"/>' for key, text in row)
        + "</event>\n"
        for row in rows
    )
    return f"<log>\n{events}</log>".encode()


MAKERS = {
    "csv": _csv,
    "csv.gz": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "xes": _xes,
}


def _overwrite(path: Path, other: bytes) -> None:
    with path.open("r+b") as file:
        file.write(other)


def _replace(path: Path, other: bytes) -> None:
    new = path.with_name("new")
    new.write_bytes(other)
    new.rename(path)


def _append(path: Path, other: bytes) -> None:
    with path.open("ab") as file:
        file.write(other)


def _truncate(path: Path, other: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate(len(other) // 2)


def _once(change: Callable[[], None]) -> Callable[[int], None]:
    """A progress callback that changes the file after its first batch."""
    done: list[int] = []

    def progress(rows: int) -> None:
        if not done:
            done.append(rows)
            change()

    return progress


def _statuses(connection: Connection) -> set[str]:
    query = "select distinct to_status from raw.status_transitions"
    return {status for (status,) in connection.execute(query)}


@pytest.mark.parametrize("suffix", MAKERS)
@pytest.mark.parametrize("change", [_overwrite, _truncate])
def test_file_changed_in_place_is_refused_and_no_other_row_is_taken(
    connection: Connection,
    write: Write,
    suffix: str,
    change: Callable[[Path, bytes], None],
) -> None:
    path = write(f"rows.{suffix}", MAKERS[suffix]("old"))
    other = write(f"other.{suffix}", MAKERS[suffix]("NEW")).read_bytes()
    whole = path.read_bytes()
    with pytest.raises(SourceError, match=r"changed while it was read.*again"):
        deliver(connection, path, progress=_once(lambda: change(path, other)))
    assert _statuses(connection) == {"old"}
    path.write_bytes(whole)
    again = deliver(connection, path)
    assert again.source_rows == ROWS
    assert again.result == (ROWS, ROWS, 0, 0)


@pytest.mark.parametrize("suffix", MAKERS)
@pytest.mark.parametrize("change", [_append, _replace])
def test_file_grown_or_replaced_by_name_is_read_as_it_was(
    connection: Connection,
    write: Write,
    suffix: str,
    change: Callable[[Path, bytes], None],
) -> None:
    path = write(f"rows.{suffix}", MAKERS[suffix]("old"))
    other = write(f"other.{suffix}", MAKERS[suffix]("NEW")).read_bytes()
    found = deliver(connection, path, progress=_once(lambda: change(path, other)))
    assert found.result == (ROWS, ROWS, 0, 0)
    assert _statuses(connection) == {"old"}


@settings(max_examples=50)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 700), st.sampled_from([0, 1, 2]), st.integers(-1, 200))
    )
)
def test_content_is_read_as_the_file_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("content") / "file"
    path.write_bytes(bytes(n % 251 for n in range(600)))
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        patch.setattr(content, "BLOCK_BYTES", 64)
        with Content(path) as found:
            for place, whence, size in steps:
                offset = place if whence == 0 else -min(place, file.tell())
                offset = -min(place, 600) if whence == 2 else offset
                assert found.seek(offset, whence) == file.seek(offset, whence)
                assert found.read(size) == file.read(size)
                assert found.tell() == file.tell()
