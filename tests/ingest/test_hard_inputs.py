"""Whatever arrives: each row is appended as it is, or rejected with its bytes."""

import gzip
import io
import json
import re
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nights import NIGHTLY

from ingest import Mapping, Settings, SourceError, deliver
from ingest.store.database import Connection

Write = Callable[[str, str | bytes], Path]
Load = Callable[[str], Mapping]
Appended = list[tuple[int, str, str | None]]
Rejected = list[tuple[int, str, str | None, bytes]]

AT = "2026-01-01T00:00:00Z"
NEEDED = "created_at,entity_type,entity_id,to_status"
HEADER = f"{NEEDED},transition_reason"
GOOD = f"{AT},order,1,new,\n"


def _appended(connection: Connection) -> Appended:
    return connection.execute(
        "select entity_id, to_status, transition_reason from raw.status_transitions"
        " order by entity_id, batch_row"
    ).fetchall()


def _rejected(connection: Connection) -> Rejected:
    return connection.execute(
        "select row_number, code, column_name, original from raw.rejected_transitions"
        " order by row_number"
    ).fetchall()


def _count(connection: Connection, table: str) -> int:
    row = connection.execute(f"select count(*) from raw.{table}").fetchone()
    assert row is not None
    return int(row[0])


def _check(
    connection: Connection, path: Path, appended: Appended, rejected: Rejected
) -> None:
    """Deliver a file; its rows are these, and no others."""
    found = deliver(connection, path)
    total = len(appended) + len(rejected)
    assert found.source_rows == total
    assert found.result == (total, len(appended), 0, len(rejected))
    assert _appended(connection) == appended
    assert _rejected(connection) == rejected


BIG = "x" * 3_000_000
LAST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "appended"),
    [
        pytest.param(f"\ufeff{HEADER}\n{GOOD}", [(1, "new", None)], id="BOM"),
        pytest.param(
            f"{HEADER}\r\n{AT},order,1,new,x\r\n", [(1, "new", "x")], id="CRLF"
        ),
        pytest.param(
            f'{HEADER}\n{AT},order,1,new,"a\r\n\n\rb"\n',
            [(1, "new", "a\r\n\n\rb")],
            id="quoted line ends",
        ),
        pytest.param(f"{HEADER}\n\n{GOOD}\r\n", [(1, "new", None)], id="blank lines"),
        pytest.param(f"{NEEDED}\n{AT},order,1,new\n", [(1, "new", None)], id="missing"),
        pytest.param(
            f"to_status,entity_id,created_at,entity_type\nnew,1,{AT},order\n",
            [(1, "new", None)],
            id="reordered",
        ),
        pytest.param(f"{HEADER}\n", [], id="header only"),
        pytest.param(
            f"{HEADER}\n{AT},order,{LAST}, new ,{BIG}\n",
            [(LAST, " new ", BIG)],
            id="huge field, largest id, spaces",
        ),
        pytest.param(
            f'{HEADER}\n{AT},order,1,new,""\n{AT},order,2,NULL,null\n',
            [(1, "new", ""), (2, "NULL", "null")],
            id="empty text and words",
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_unusual_csv_is_appended_as_it_is(
    connection: Connection, write: Write, suffix: str, text: str, appended: Appended
) -> None:
    _check(connection, write(f"rows.{suffix}", text), appended, [])


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        (f"{AT},order,1,new,\x00", "text_has_no_nul", None),
        (f"{AT},order,\x001,new,", "entity_id_is_bigint", "entity_id"),
        (f"{AT},order,1", "row_is_well_formed", None),
        (f"{AT},order,1,new,,", "row_is_well_formed", None),
        (f'{AT},order,1,new,"', "row_is_well_formed", None),
        (f"{AT},order,1,new,a\rb", "row_is_well_formed", None),
        (f"{AT},order,1,new,\udcff", "row_is_utf8", "transition_reason"),
        (f"{AT},order,1,new\ud834,", "row_is_utf8", "to_status"),
        ("2026-01-01T00:00:00,order,1,new,", "created_at_has_offset", "created_at"),
        ("infinity,order,1,new,", "created_at_is_instant", "created_at"),
        ("0000-01-01T00:00:00Z,order,1,new,", "created_at_is_instant", "created_at"),
        ("0001-01-01T00:00:00+01:00,order,1,new,", "row_is_storable", None),
        ("9999-12-31T00:00:00Z,order,1,new,", "created_at_is_not_ahead", "created_at"),
        ("10000-01-01T00:00:00Z,order,1,new,", "created_at_is_instant", "created_at"),
        ("2026-01-01T24:00:00Z,order,1,new,", "created_at_is_instant", "created_at"),
        ("2016-12-31T23:59:60Z,order,1,new,", "created_at_is_instant", "created_at"),
        (f"{AT},order,1.0,new,", "entity_id_is_bigint", "entity_id"),
        (f"{AT},order, 1,new,", "entity_id_is_bigint", "entity_id"),
        (f"{AT},order,-1,new,", "entity_id_is_bigint", "entity_id"),
        (f"{AT},order,9223372036854775808,new,", "entity_id_is_bigint", "entity_id"),
        (f"{AT},order,1e3,new,", "entity_id_is_bigint", "entity_id"),
    ],
    ids=lambda value: ascii(value)[:32],
)
def test_hard_csv_row_is_rejected_with_its_bytes_and_no_other(
    connection: Connection, write: Write, row: str, code: str, column: str | None
) -> None:
    raw = f"{row}\n".encode(errors="surrogatepass").replace(b"\xed\xb3\xbf", b"\xff")
    # An odd quote would pair with one further down; see the test of open quotes.
    after = GOOD * ('"' not in row)
    path = write("rows.csv", f"{HEADER}\n{GOOD}".encode() + raw + after.encode())
    found = deliver(connection, path)
    assert _rejected(connection) == [(2, code, column, raw)]
    assert found.result == (2 + len(after) // len(GOOD), 1, len(after) // len(GOOD), 1)
    assert _appended(connection) == [(1, "new", None)]


def _json_row(**members: str) -> bytes:
    """A good line with some members as they are spelled here."""
    spelled = {"created_at": f'"{AT}"', "entity_type": '"order"', "entity_id": "2"}
    spelled |= {"to_status": '"new"', **members}
    return ("{" + ",".join(f'"{k}":{v}' for k, v in spelled.items()) + "}\n").encode()


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        (_json_row(transition_reason=r'"\u0000"'), "text_has_no_nul", None),
        (_json_row(transition_reason=r'"\ud800"'), "row_is_well_formed", None),
        (
            _json_row(metadata=r'{"a":"\u0000"}'),
            "metadata_is_json_object",
            "metadata",
        ),
        (_json_row(metadata="[]"), "metadata_is_json_object", "metadata"),
        (_json_row(metadata='{"a":NaN}'), "row_is_well_formed", None),
        (_json_row(metadata='{"a":1,"a":1}'), "row_is_well_formed", None),
        (_json_row(metadata='{"a":1e999999}'), "row_is_storable", None),
        (
            _json_row(metadata='{"a":' * 100_000 + "1" + "}" * 100_000),
            "row_is_well_formed",
            None,
        ),
        (_json_row(colour='"red"'), "row_is_well_formed", None),
        (_json_row(entity_id="-0"), "entity_id_is_bigint", "entity_id"),
        (_json_row(entity_id="2.0"), "entity_id_is_bigint", "entity_id"),
        (_json_row(entity_id="1e3"), "entity_id_is_bigint", "entity_id"),
        (
            _json_row(entity_id="9223372036854775808"),
            "entity_id_is_bigint",
            "entity_id",
        ),
        (_json_row(entity_id="true"), "entity_id_is_bigint", "entity_id"),
        (_json_row(created_at="1767225600"), "created_at_is_instant", "created_at"),
        (_json_row()[:-2] + b',"entity_id":2}\n', "row_is_well_formed", None),
        (_json_row()[:-1] + _json_row(), "row_is_well_formed", None),
        (_json_row()[:-1] + b"\r" + _json_row(), "row_is_well_formed", None),
        (b"\x00\n", "row_is_well_formed", None),
    ],
    ids=lambda value: ascii(value)[-40:],
)
def test_hard_json_line_is_rejected_with_its_bytes_and_no_other(
    connection: Connection, write: Write, row: bytes, code: str, column: str | None
) -> None:
    good = _json_row(entity_id=str(LAST), metadata=f'{{"b":1.50,"a":[{LAST}0.0]}}')
    _check(
        connection,
        write("rows.jsonl", good + row + _json_row(entity_id="0")),
        [(0, "new", None), (LAST, "new", None)],
        [(2, code, column, row)],
    )
    texts = "select metadata::text from raw.status_transitions where entity_id > 0"
    assert connection.execute(texts).fetchall() == [
        (f'{{"a": [{LAST}0.0], "b": 1.50}}',)
    ]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (f"{NEEDED},to_status", "more than one column 'to_status'"),
        ("created_at,entity_type,entity_id", "no column 'to_status'"),
        (f"{NEEDED},colour", "unknown column 'colour'"),
        (f"{HEADER}\r{AT},order,1,new,\r", "lone carriage returns.*tr "),
    ],
)
def test_header_that_is_none_writes_nothing(
    connection: Connection, write: Write, header: str, words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        deliver(connection, write("rows.csv", f"{header}\n{AT},order,1,new,x\n"))
    assert [_count(connection, table) for table in ("files", "batches")] == [0, 0]


def test_lines_of_json_that_end_in_lone_carriage_returns_are_told_apart(
    connection: Connection, write: Write
) -> None:
    content = _json_row().replace(b"\n", b"\r") * 3
    deliver(connection, write("rows.jsonl", content))
    assert _rejected(connection) == [(1, "row_is_well_formed", None, content)]
    (message,) = connection.execute("select message from raw.rejected_transitions")
    assert "lone carriage returns" in message[0]


def test_deadline_of_the_year_9999_is_kept(
    connection: Connection, write: Write
) -> None:
    line = _json_row(sla_deadline='"9999-12-31T23:59:59.999999Z"')
    assert deliver(connection, write("rows.jsonl", line)).result == (1, 1, 0, 0)
    (found,) = connection.execute("select sla_deadline from raw.status_transitions")
    assert found[0] == datetime.max.replace(tzinfo=UTC)


MAPPED = """
entity_type: {constant: order}
entity_id: order
created_at: at
to_status: status
transition_reason: note
"""


def test_other_delimiters_and_columns_come_in_with_a_mapping(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write("rows.csv", f'at;x;order;status;note;x\n{AT};;1;"a;b";c,d;\n')
    found = deliver(connection, path, Settings(mapping(f"{MAPPED}delimiter: ;\n")))
    assert found.result == (1, 1, 0, 0)
    assert _appended(connection) == [(1, "a;b", "c,d")]


def _parquet(path: Path, **columns: pa.Array) -> Path:
    given: dict[str, Any] = {
        "created_at": pa.array([AT] * 2),
        "entity_type": pa.array(["order"] * 2),
        "entity_id": pa.array([1, 2]),
        "to_status": pa.array(["new"] * 2),
    }
    pq.write_table(pa.table(given | columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "code", "column"),
    [
        (
            {"created_at": pa.array([1_000, 1_001], pa.timestamp("ns", "UTC"))},
            "created_at_is_instant",
            "created_at",
        ),
        (
            {"created_at": pa.array([0, None], pa.timestamp("s", "UTC"))},
            "created_at_is_given",
            "created_at",
        ),
        ({"entity_id": pa.array([1, -2])}, "entity_id_is_bigint", "entity_id"),
        (
            {"entity_id": pa.array([1, 2**63], pa.uint64())},
            "entity_id_is_bigint",
            "entity_id",
        ),
        ({"entity_id": pa.array(["1", "2.0"])}, "entity_id_is_bigint", "entity_id"),
        (
            {"to_status": pa.array(["new", ""]).dictionary_encode()},
            "to_status_is_given",
            "to_status",
        ),
        (
            {"metadata": pa.array([{"a": 1, "b": "x"}, {"a": 2, "b": "\x00"}])},
            "metadata_is_json_object",
            "metadata",
        ),
    ],
    ids=["nanoseconds", "seconds", "negative", "unsigned", "text", "words", "nested"],
)
def test_hard_parquet_value_is_rejected_and_no_other(
    connection: Connection,
    tmp_path: Path,
    columns: dict[str, pa.Array],
    code: str,
    column: str,
) -> None:
    path = _parquet(tmp_path / "rows.parquet", **columns)
    assert deliver(connection, path).result == (2, 1, 0, 1)
    assert _appended(connection) == [(1, "new", None)]
    ((number, found, name, original),) = _rejected(connection)
    assert (number, found, name) == (2, code, column)
    assert json.loads(original).keys() == {*NEEDED.split(","), *columns}
    places = "select line_number, byte_offset from raw.rejected_transitions"
    assert connection.execute(places).fetchall() == [(None, None)]


def test_floats_never_pass_for_ids(connection: Connection, tmp_path: Path) -> None:
    path = _parquet(tmp_path / "rows.parquet", entity_id=pa.array([1.0, 2.0]))
    assert deliver(connection, path).result == (2, 0, 0, 2)


def test_parquet_cut_anywhere_appends_nothing(
    connection: Connection, write: Write, tmp_path: Path
) -> None:
    whole = _parquet(tmp_path / "whole.parquet").read_bytes()
    for size in range(1, len(whole), 7):
        path = write("torn.parquet", whole[:size])
        with pytest.raises(SourceError, match="Deliver it again"):
            deliver(connection, path)
    assert _count(connection, "batches") == 0


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw + b"garbage", lambda raw: raw[:-6] + b"\xff" + raw[-5:]],
    ids=["trailing garbage", "wrong check sum"],
)
def test_damaged_gzip_is_refused_and_completes_no_delivery(
    connection: Connection, write: Write, damage: Callable[[bytes], bytes]
) -> None:
    path = write("rows.csv.gz", f"{HEADER}\n{GOOD}")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match="can't be read to its end"):
        deliver(connection, path)
    assert _appended(connection) in ([], [(1, "new", None)])
    assert _count(connection, "deliveries") == 0


def test_gzip_of_several_members_and_padding_is_read_to_its_end(
    connection: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv.gz"
    parts = (f"{HEADER}\n{AT},or", "der,1,new,\n", "", f"{AT},order,2,new,\n")
    members = b"".join(gzip.compress(part.encode()) for part in parts)
    path.write_bytes(members + b"\x00" * 512)
    _check(connection, path, [(1, "new", None), (2, "new", None)], [])


# By day each suffix and each encoding; by night each with each.
BOMBS = [
    ("csv.gz", None, b"a"),
    ("jsonl.gz", "latin-1", b"\x00"),
    ("csv.gz", "utf-16-le", b"a"),
]
if NIGHTLY:
    BOMBS += [
        ("jsonl.gz", None, b"a"),
        ("csv.gz", "latin-1", b"\x00"),
        ("jsonl.gz", "utf-16-le", b"a"),
    ]


@pytest.mark.parametrize(("suffix", "encoding", "fill"), BOMBS)
def test_bomb_is_never_held_in_memory(
    connection: Connection, write: Write, suffix: str, encoding: str | None, fill: bytes
) -> None:
    head = HEADER + "\n" if suffix == "csv.gz" else _json_row().decode()
    path = write(f"rows.{suffix}", head.encode(encoding or "utf-8"))
    member = gzip.compress(fill * (10 << 20))
    with path.open("ab") as file:
        # 10 GB, were it unpacked.
        file.writelines(member for _ in range(1000))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="line 2: it goes on for more than"):
            deliver(connection, path, Settings(encoding=encoding))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 600 << 20


# The last reason holds what looks like a row, and quotes that look like closing ones.
WHOLE = f"""{HEADER}
{AT},order,11,new,
{AT},order,12,paid,plain text
{AT},order,13,"paid, so",""
{AT},order,14,new,"said ""yes"", then
{AT},order,9,new,x
and ""no"" "
{AT},order,15,new,é
"""
ROWS = [
    (11, "new", None),
    (12, "paid", "plain text"),
    (13, "paid, so", ""),
    (14, "new", f'said "yes", then\n{AT},order,9,new,x\nand "no" '),
    (15, "new", "é"),
]


def _json_lines() -> str:
    names = ("entity_id", "to_status", "transition_reason")
    rows = (dict(zip(names, row, strict=True)) for row in ROWS)
    common = {"created_at": AT, "entity_type": "order"}
    # Some are enough: each is several times as long as a line of CSV.
    return "".join(json.dumps(common | row) + "\n" for row in list(rows)[2:])


def _sizes(parts: list[bytes]) -> list[int]:
    """Where to cut a file: at some bytes and beside its parts; by night at each."""
    beside = {end + more for end in accumulate(map(len, parts)) for more in (-1, 0, 1)}
    every = range(1, sum(map(len, parts)) + 1)
    if NIGHTLY:
        return [*every]
    return [size for size in every if size in beside or size % 17 == 0]


@pytest.mark.parametrize(
    ("suffix", "end"),
    [
        ("csv", "\n"),
        ("csv", "\r\n"),
        ("csv.gz", "\n"),
        ("jsonl", "\n"),
        ("jsonl.gz", "\n"),
    ],
)
def test_file_cut_at_any_byte_appends_only_rows_of_the_whole(
    connection: Connection, tmp_path: Path, suffix: str, end: str
) -> None:
    text = _json_lines() if "jsonl" in suffix else WHOLE
    whole = text.replace("\n", end).encode()
    # Lines, and the first byte of a letter of two.
    parts = re.split(rb"(?<=[\n\xc3])", whole)
    if suffix.endswith("gz"):
        # Two members: a cut between them looks like the end of the file.
        middle = len(whole) // 2
        parts = [gzip.compress(p, mtime=0) for p in (whole[:middle], whole[middle:])]
        whole = b"".join(parts)
    path = tmp_path / f"rows.{suffix}"
    rows = [(*row[:2], row[2] and row[2].replace("\n", end)) for row in ROWS]
    expected = ROWS[2:] if "jsonl" in suffix else rows
    for size in _sizes(parts):
        path.write_bytes(whole[:size])
        try:
            deliver(connection, path)
        except SourceError:
            assert size < len(whole)
        assert _appended(connection) == expected[: len(_appended(connection))]
    assert _appended(connection) == expected


def test_last_line_without_an_end_is_taken_where_that_is_asked_for(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write("rows.csv", f"{HEADER}\n{GOOD}{AT},order,2,new,x")
    assert deliver(connection, path).result == (2, 1, 0, 1)
    accepted = deliver(connection, path, Settings(accept_unended=True))
    assert accepted.result == (2, 1, 1, 0)
    assert _appended(connection) == [(1, "new", None), (2, "new", "x")]
    mapped = write("mapped.csv", f"at,order,status,note\n{AT},3,new,y")
    settings = Settings(mapping(f"{MAPPED}accept_unended: true\n"))
    assert deliver(connection, mapped, settings).result == (1, 1, 0, 0)


def test_json_object_on_a_line_without_an_end_is_whole(
    connection: Connection, write: Write
) -> None:
    _check(connection, write("rows.jsonl", _json_row()[:-1]), [(2, "new", None)], [])


def test_empty_parquet_is_a_complete_delivery_of_nothing(
    connection: Connection, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    names = NEEDED.split(",")
    pq.write_table(
        pa.table({name: pa.array([], pa.string()) for name in names}), buffer
    )
    path = tmp_path / "rows.parquet"
    path.write_bytes(buffer.getvalue())
    _check(connection, path, [], [])
