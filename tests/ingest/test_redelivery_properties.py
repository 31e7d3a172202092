"""S5: split, order and repetition of the same rows never matter."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import append, deliver
from ingest.store.database import Connection, connect

COLUMNS = (
    "id",
    "created_at",
    "entity_type",
    "entity_id",
    "from_status",
    "to_status",
    "transition_reason",
    "metadata",
)
START = datetime(2026, 1, 1, tzinfo=UTC)
Row = tuple[str | None, ...]
Way = tuple[str, list[Row]]

_text = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6
)
_instants = st.integers(-(10**14), 0).map(
    lambda us: (START + timedelta(microseconds=us)).isoformat()
)
_contents = st.tuples(
    _instants,
    st.sampled_from(["order", "visit"]),
    st.sampled_from(["0", "7", str(2**63 - 1)]),
    st.none() | _text | st.just(""),
    _text,
    st.none() | _text | st.just(""),
    st.none() | st.just('{"a":[1.0,{"b":null}]}'),
)


@st.composite
def _deliveries(draw: st.DrawFn) -> tuple[list[Row], list[Way]]:
    """Rows, and files of them that together hold each row at least once."""
    contents = draw(st.lists(_contents, min_size=1, max_size=12))
    ids = [f"00000000-0000-4000-8000-{n:012d}" for n in range(len(contents))]
    rows: list[Row] = [(i, *c) for i, c in zip(ids, contents, strict=True)]
    repeated = draw(st.lists(st.sampled_from(rows), max_size=8))
    shuffled = draw(st.permutations([*rows, *repeated]))
    files: list[Way] = []
    while shuffled:
        size = draw(st.integers(1, len(shuffled)))
        way = draw(st.sampled_from(["csv", "jsonl", "parquet", "append"]))
        files.append((way, shuffled[:size]))
        shuffled = shuffled[size:]
    return rows, files


def _deliver(connection: Connection, way: str, rows: list[Row], path: Path) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    if way == "append":
        assert append(connection, frame).rejected == 0
        return
    if way == "parquet":
        frame.write_parquet(path)
    elif way == "csv":
        path.write_bytes(_csv(rows))
    else:
        lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    result = deliver(connection, path).result
    assert (result.read, result.rejected) == (len(rows), 0)


def _csv(rows: list[Row]) -> bytes:
    quoted = [
        ",".join("" if v is None else '"' + v.replace('"', '""') + '"' for v in row)
        for row in rows
    ]
    return "".join(f"{line}\n" for line in [",".join(COLUMNS), *quoted]).encode()


def _stored(connection: Connection) -> set[tuple[Any, ...]]:
    rows = connection.execute(
        "select id::text, created_at, entity_type, entity_id::text, from_status,"
        " to_status, transition_reason, metadata::text from raw.status_transitions"
    ).fetchall()
    assert len(rows) == len({row[0] for row in rows})
    return set(rows)


def _expected(rows: list[Row]) -> set[tuple[Any, ...]]:
    return {
        (
            row[0],
            datetime.fromisoformat(str(row[1])),
            *row[2:7],
            row[7] and '{"a": [1.0, {"b": null}]}',
        )
        for row in rows
    }


@settings(max_examples=tries(12, 60), deadline=None)
@given(drawn=_deliveries())
def test_split_order_and_repetition_of_rows_never_matter(
    drawn: tuple[list[Row], list[Way]],
    fresh_database: Callable[..., AbstractContextManager[str]],
    check_conservation: Callable[[Connection], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows, files = drawn
    folder = tmp_path_factory.mktemp("files")
    with fresh_database() as url, connect(url) as connection:
        for number, (way, part) in enumerate(files):
            _deliver(connection, way, part, folder / f"{number}.{way}")
        assert _stored(connection) == _expected(rows)
        check_conservation(connection)
