"""Files of each format as the same text rows; what is no file of its format."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import SourceError
from ingest.files.chunks import Chunk
from ingest.files.content import Content
from ingest.files.layout import Layout
from ingest.files.sources import read
from ingest.transition import COLUMNS

AT = "2026-01-01T00:00:00Z"
HEADER = "created_at,entity_type,entity_id,to_status,transition_reason"
NEEDED = ("created_at", "entity_type", "entity_id", "to_status")
OPEN = Layout(("a", "b"), ("a", "b"), is_open=True)
Write = Callable[[str, str | bytes], Path]


def _chunks(path: Path, layout: Layout) -> Iterator[Chunk]:
    with Content(path) as content:
        yield from read(content, layout)


def _rows(path: Path, layout: Layout = OPEN) -> list[tuple[Any, ...]]:
    """The values of the layout's columns, row by row."""
    frames = [chunk.records for chunk in _chunks(path, layout)]
    return pl.concat(frames).select(layout.columns).rows() if frames else []


def _malformed(path: Path, layout: Layout = OPEN) -> list[tuple[int, int, str, bytes]]:
    """Row number, line number, code and bytes of the unreadable rows."""
    found = []
    for chunk in _chunks(path, layout):
        for row in chunk.malformed:
            (origin,) = chunk.origins.of([row.row_number]).iter_rows()
            number, line, _, raw = origin
            found.append((number, line, row.code, raw))
    return found


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("a,b\n1,2\n", [("1", "2")], id="plain"),
        pytest.param("\ufeffa,b\n1,2\n", [("1", "2")], id="byte order mark"),
        pytest.param("a,b\r\n1,2\r\n", [("1", "2")], id="CRLF"),
        pytest.param("a,b\n1,\n", [("1", None)], id="bare empty is null"),
        pytest.param('a,b\n1,""\n', [("1", "")], id="quoted empty is the empty text"),
        pytest.param('a,b\n"",x\n', [("", "x")], id="quoted empty first"),
        pytest.param('a,b\n"1\n\r\n2",3\n', [("1\n\r\n2", "3")], id="quoted newline"),
        pytest.param('a,b\n"x,y","z"\n', [("x,y", "z")], id="quoted comma"),
        pytest.param('a,b\n"say ""x""",\n', [('say "x"', None)], id="doubled quote"),
        pytest.param('a,b\n"""",""""""\n', [('"', '""')], id="only quotes"),
        pytest.param("b,c,a\n1,2,3\n", [("3", "1")], id="other order and columns"),
        pytest.param("a,b\n\n1,2\n\n", [("1", "2")], id="blank lines"),
        pytest.param("a,b\n 1 ,\t2\n", [(" 1 ", "\t2")], id="spaces are kept"),
        pytest.param("a,b\né,😀\n", [("é", "😀")], id="beyond ASCII"),
        pytest.param('"a","b"\n1,2\n', [("1", "2")], id="quoted header"),
        pytest.param("a,b\n", [], id="header only"),
        pytest.param("a,b", [], id="header only, no newline"),
        pytest.param("a,b\nNULL,null\n", [("NULL", "null")], id="words are no nulls"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_is_read(
    write: Write, suffix: str, text: str, rows: list[tuple[Any, ...]]
) -> None:
    assert _rows(write(f"file{suffix}", text)) == rows


@pytest.mark.parametrize(
    ("row", "code"),
    [
        pytest.param(b"1\n", "row_is_well_formed", id="too few values"),
        pytest.param(b"1,2,3\n", "row_is_well_formed", id="too many values"),
        pytest.param(b'1,x"y"z\n', "row_is_well_formed", id="quote inside"),
        pytest.param(b'1,"x"y\n', "row_is_well_formed", id="text after a quote"),
        pytest.param(b'"x" ,1\n', "row_is_well_formed", id="space after a quote"),
        pytest.param(b"1,\xff\n", "row_is_utf8", id="no UTF-8"),
        pytest.param(b"1,\xed\xa0\x80\n", "row_is_utf8", id="a surrogate"),
        pytest.param(b"1\r\n", "row_is_well_formed", id="too few, CRLF"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_malformed_csv_row_is_kept_and_the_others_are_read(
    write: Write, suffix: str, row: bytes, code: str
) -> None:
    path = write(f"file{suffix}", b'a,b\n"0\n",0\n' + row + b"8,9\n")
    assert _rows(path) == [("0\n", "0"), ("8", "9")]
    assert _malformed(path) == [(2, 4, code, row)]


def test_quote_that_is_open_at_the_end_takes_all_before_it_along(write: Write) -> None:
    path = write("file.csv", 'a,b\n1,2\n3,"4\n5,6\n')
    assert _rows(path) == [("1", "2")]
    assert _malformed(path) == [(2, 3, "row_is_well_formed", b'3,"4\n5,6\n')]


@pytest.mark.parametrize("row", [b"1,2", b"1,2\r", b'1,"2"', b"1", b"\xff"])
def test_last_row_without_an_end_is_refused_unless_it_is_accepted(
    write: Write, row: bytes
) -> None:
    path = write("file.csv", b"a,b\n0,0\n" + row)
    assert _rows(path) == [("0", "0")]
    assert _malformed(path) == [(2, 3, "row_is_ended", row)]
    accepting = OPEN._replace(accepts_unended=True)
    whole = [("0", "0"), ("1", "2")] if b"2" in row else [("0", "0")]
    assert _rows(path, accepting) == whole
    assert len(_malformed(path, accepting)) == 2 - len(whole)


@pytest.mark.parametrize("row", [b"1,2\r3,4\n", b"1,x\ry\n", b'1,"x"\r"y"\n'])
def test_carriage_return_that_ends_no_line_is_never_part_of_a_bare_value(
    write: Write, row: bytes
) -> None:
    path = write("file.csv", b"a,b\n" + row + b'5,"6\r7"\r\n')
    assert _rows(path) == [("5", "6\r7")]
    assert _malformed(path) == [(1, 2, "row_is_well_formed", row)]


def test_column_of_a_broken_character_is_named_where_it_is_known(write: Write) -> None:
    rows = b'1,"x\xff,"\n\xff,1\n1,\xff,2\n\xff,\xff\n"\xef\xbf\xbd\xff",1\n'
    (chunk,) = _chunks(write("file.csv", b"a,b\n" + rows), OPEN)
    assert [row.column for row in chunk.malformed] == ["b", "a", None, None, "a"]
    assert [row.detail for row in chunk.malformed] == [
        f"byte {n}" for n in (5, 1, 3, 1, 5)
    ]


def test_quote_that_closes_too_late_spoils_its_own_line_only(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.files.ahead.LONGEST_RECORD", 3)
    path = write("file.csv", 'a,b\n3,"4\n5,6\n7,8\n1,"2\n3"\n')
    assert _rows(path) == [("5", "6"), ("7", "8"), ("1", "2\n3")]
    assert _malformed(path) == [(1, 2, "row_is_well_formed", b'3,"4\n')]


@pytest.mark.parametrize("name", ["file.tsv", "file.tsv.gz", "FILE.TSV"])
def test_tsv_is_separated_by_tabs(write: Write, name: str) -> None:
    assert _rows(write(name, 'a\tb\n1,5\t"x\ty"\n\t""\n')) == [
        ("1,5", "x\ty"),
        (None, ""),
    ]


@pytest.mark.parametrize("delimiter", [";", "|", "^", "."])
def test_delimiter_of_the_layout_holds(write: Write, delimiter: str) -> None:
    text = 'a,b\n1,"x,y"\n'.replace(",", delimiter)
    layout = OPEN._replace(delimiter=delimiter)
    assert _rows(write("file.csv", text), layout) == [("1", f"x{delimiter}y")]


@pytest.mark.parametrize("name", ["f.jsonl", "f.ndjson", "f.jsonl.gz"])
def test_jsonl_keeps_text_digits_and_nesting(write: Write, name: str) -> None:
    text = (
        '\ufeff{"a": 1.50, "b": {"y": [1, 2.0], "x": null}}\n'
        "\n  \r\n"
        '{"b": "", "a": null}\r\n'
        '{"a": 123456789012345678901234567890, "b": true, "c": 1}\n'
        '{"a": "é\\n"}'
    )
    assert _rows(write(name, text)) == [
        ("1.50", '{"x":null,"y":[1,2.0]}'),
        (None, ""),
        ("123456789012345678901234567890", "true"),
        ("é\n", None),
    ]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b'{"a": 1', "row_is_well_formed"),
        (b"[1, 2]", "row_is_well_formed"),
        (b"1", "row_is_well_formed"),
        (b'{"a": 1} {"a": 2}', "row_is_well_formed"),
        (b'{"a": 1, "a": 2}', "row_is_well_formed"),
        (b'{"a": NaN}', "row_is_well_formed"),
        (b'{"a": "\\ud800"}', "row_is_well_formed"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "row_is_well_formed"),
        (b'{"a": "\xff"}', "row_is_utf8"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_malformed_json_line_is_kept_and_the_others_are_read(
    write: Write, row: bytes, code: str
) -> None:
    path = write("file.jsonl", b'\n{"a": "0"}\n' + row + b'\n{"a": "9"}\n')
    assert _rows(path) == [("0", None), ("9", None)]
    assert _malformed(path) == [(2, 3, code, row + b"\n")]


def test_cut_off_last_line_is_one_malformed_row(write: Write) -> None:
    path = write("file.jsonl", '{"a": "0"}\n{"a": "1')
    assert _rows(path) == [("0", None)]
    assert _malformed(path) == [(2, 2, "row_is_well_formed", b'{"a": "1')]


def test_unknown_json_key_is_malformed_where_the_layout_is_closed(write: Write) -> None:
    row = dict.fromkeys(NEEDED, "x") | {"colour": "red"}
    path = write("file.jsonl", json.dumps(row))
    assert [code for _, _, code, _ in _malformed(path, Layout())] == [
        "row_is_well_formed"
    ]


def _parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_types_become_their_exact_text(tmp_path: Path) -> None:
    at = datetime(2026, 1, 1, 0, 0, 0, 1, UTC)
    columns = {
        "utc": pa.array([at], pa.timestamp("us", "UTC")),
        "zoned": pa.array([at], pa.timestamp("us", "America/New_York")),
        "local": pa.array([at.replace(tzinfo=None)], pa.timestamp("us")),
        "milli": pa.array([at.replace(microsecond=5000)], pa.timestamp("ms", "UTC")),
        "nano": pa.array([1_000_000_001], pa.timestamp("ns", "UTC")),
        "whole": pa.array([2**63 - 1], pa.int64()),
        "small": pa.array([7], pa.int8()),
        "flag": pa.array([True]),
        "real": pa.array([1.0]),
        "exact": pa.array([Decimal("1.50")], pa.decimal128(5, 2)),
        "text": pa.array([""]),
        "none": pa.array([None], pa.string()),
        "members": pa.array([{"x": 1, "y": None}]),
        "word": pa.array(["new"]).dictionary_encode(),
        "large": pa.array(["big"], pa.large_string()),
    }
    path = _parquet(tmp_path / "file.parquet", **columns)
    layout = Layout(tuple(columns), tuple(columns), is_open=True)
    (row,) = _rows(path, layout)
    assert dict(zip(columns, row, strict=True)) == {
        "utc": "2026-01-01T00:00:00.000001+00:00",
        "zoned": "2025-12-31T19:00:00.000001-05:00",
        "local": "2026-01-01T00:00:00.000001",
        "milli": "2026-01-01T00:00:00.005+00:00",
        "nano": "1970-01-01T00:00:01.000000001+00:00",
        "whole": "9223372036854775807",
        "small": "7",
        "flag": "true",
        "real": "1.0",
        "exact": "1.50",
        "text": "",
        "none": None,
        "members": '{"x":1,"y":null}',
        "word": "new",
        "large": "big",
    }


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(pa.array([[1, 2]]), id="list"),
        pytest.param(pa.array([b"\xff"]), id="bytes"),
    ],
)
def test_parquet_column_that_is_no_text_is_a_source_error(
    tmp_path: Path, values: pa.Array
) -> None:
    path = _parquet(tmp_path / "file.parquet", a=values, b=pa.array(["x"]))
    with pytest.raises(SourceError, match="'a'"):
        list(_chunks(path, OPEN))


def test_parquet_rows_keep_their_order_over_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.files.chunks.CHUNK_ROWS", 3)
    table = pa.table({"b": list(range(10)), "a": [str(n) for n in range(10)]})
    pq.write_table(table, tmp_path / "file.parquet", row_group_size=4)
    chunks = list(_chunks(tmp_path / "file.parquet", OPEN))
    numbers = pl.concat([chunk.records for chunk in chunks])
    assert numbers["row_number"].to_list() == list(range(1, 11))
    assert numbers["a"].to_list() == [str(n) for n in range(10)]
    assert max(chunk.records.height for chunk in chunks) <= 3


def test_unreadable_parquet_is_a_source_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no readable Parquet"):
        list(_chunks(write("file.parquet", b"PAR1 but not really PAR1"), OPEN))
    whole = _parquet(tmp_path / "whole.parquet", a=pa.array(["x"] * 999)).read_bytes()
    torn = write("torn.parquet", whole[:8] + b"\xff" * 60 + whole[68:])
    with pytest.raises(SourceError, match="Deliver it again"):
        list(_chunks(torn, Layout(("a",), ("a",))))


@pytest.mark.parametrize("name", ["f.csv.gz", "f.tsv.gz", "f.jsonl.gz"])
def test_cut_off_gzip_is_a_source_error(write: Write, name: str) -> None:
    path = write(name, '{"a":"1"}\n' * 10_000)
    path.write_bytes(path.read_bytes()[:-12])
    layout = OPEN if "json" in name else Layout(('{"a":"1"}',), (), is_open=True)
    with pytest.raises(
        SourceError, match=r"can't be read to its end.*Deliver it again"
    ):
        list(_chunks(path, layout))


def test_broken_gzip_is_a_source_error(write: Write) -> None:
    path = write("file.csv.gz", "a,b\n" + "1,2\n" * 1000)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SourceError):
        list(_chunks(path, OPEN))
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(SourceError):
        list(_chunks(path, OPEN))


def test_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,") + gzip.compress(b"2\n3,4\n"))
    assert _rows(path) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("created_at,entity_type,entity_id", "no column 'to_status'"),
        (f"{HEADER},colour", "unknown column 'colour'"),
        (f"{HEADER},to_status", "more than one column 'to_status'"),
        ("", "no column 'created_at'"),
        (f'{HEADER},"x"y', "no column"),
        (HEADER.replace(",", ";"), "no column"),
        (HEADER.upper(), "no column"),
    ],
)
def test_wrong_header_is_a_source_error_before_any_row(
    write: Write, header: str, words: str
) -> None:
    path = write("file.csv", f"{header or ','}\n1,2,3,4,5\n")
    with pytest.raises(SourceError, match=words) as caught:
        next(_chunks(path, Layout()))
    assert str(caught.value).startswith(f"{path}, line 1: ")
    assert "--mapping" in str(caught.value)


MANY = ",".join(f"column {n}" for n in range(25))


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("when,what", ("; it has 'what', 'when'. Another table",)),
        (MANY, ("; it has 'column 0', 'column 1',", "'column 19' and 5 more. ")),
        ("x" * 200, (f"; it has '{'x' * 100}…'. Another",)),
        ("when;who,me;what", ("one column", "delimiter: ';'.")),
        ("when\twhat", ("one column", 'delimiter: "\\t".')),
        (f"{HEADER},colour", ("an unknown column 'colour'; it has 'created_at',",)),
    ],
)
def test_wrong_header_is_told_with_its_columns_and_suspects_the_delimiter(
    write: Write, header: str, parts: tuple[str, ...]
) -> None:
    quoted = f'"{header}"' if ";" in header else header
    with pytest.raises(SourceError) as caught:
        next(_chunks(write("file.csv", f"{quoted}\n1\n"), Layout()))
    assert [part for part in parts if part not in str(caught.value)] == []
    assert ("one column" in str(caught.value)) == ("one column" in parts)


def test_parquet_with_a_repeated_column_is_a_source_error(tmp_path: Path) -> None:
    values = [pa.array(["1"])] * 3
    path = tmp_path / "file.parquet"
    pq.write_table(pa.Table.from_arrays(values, ["a", "a", "b"]), path)
    with pytest.raises(SourceError, match="more than one column 'a'"):
        list(_chunks(path, OPEN))


def test_repeated_column_that_nobody_reads_is_no_defect(write: Write) -> None:
    assert _rows(write("file.csv", "a,x,x,b\n1,2,3,4\n")) == [("1", "4")]


@pytest.mark.parametrize("content", ["\n\n", "\ufeff", "\ufeff\r\n"])
@pytest.mark.parametrize("name", ["file.csv", "file.tsv.gz"])
def test_file_without_a_header_is_a_source_error(
    write: Write, name: str, content: str
) -> None:
    with pytest.raises(SourceError):
        list(_chunks(write(name, content), OPEN))


def test_gzip_of_nothing_is_a_source_error(write: Write) -> None:
    with pytest.raises(SourceError):
        list(_chunks(write("file.csv.gz", ""), OPEN))


@pytest.mark.parametrize(
    "name", ["file", "file.txt", "file.gz", "file.csv.zip", "file.json", "csv"]
)
def test_unknown_ending_is_a_source_error(write: Write, name: str) -> None:
    with pytest.raises(
        SourceError, match=r"\.csv, \.tsv, \.jsonl, \.ndjson, \.parquet, \.xes"
    ):
        list(_chunks(write(name, "a,b\n"), OPEN))


def test_missing_empty_or_unreadable_file_is_a_source_error(
    write: Write, tmp_path: Path
) -> None:
    for path, words in (
        (tmp_path / "absent.csv", "No such file"),
        (write("empty.csv", ""), "empty"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            Content(path)
        assert str(path) in str(caught.value)


def test_content_hash_is_sha256_of_the_bytes(write: Write) -> None:
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with Content(write("file.csv", "abc")) as content:
        assert content.sha256 == digest


def test_closed_layout_hands_on_every_column_of_a_transition(write: Write) -> None:
    (chunk,) = _chunks(write("file.csv", f"{HEADER}\n{AT},order,1,new,\n"), Layout())
    assert chunk.records.columns == ["row_number", *COLUMNS]
    assert chunk.records.rows() == [
        (1, None, AT, "order", "1", None, "new", *[None] * 8)
    ]


def test_chunks_cover_the_file_and_count_every_row(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.files.chunks.CHUNK_ROWS", 2)
    chunks = list(_chunks(write("file.csv", "a,b\n1,\nx\n2,\n3,\n4,\n"), OPEN))
    assert [chunk.row_count for chunk in chunks] == [2, 2, 1]
    lines = [
        chunk.origins.of([n]).rows()[0]
        for chunk, n in zip(chunks, (2, 4, 5), strict=True)
    ]
    assert lines == [(2, 3, 7, b"x\n"), (4, 5, 12, b"3,\n"), (5, 6, 15, b"4,\n")]
    assert [len(chunk.malformed) for chunk in chunks] == [1, 0, 0]
    records = pl.concat([chunk.records for chunk in chunks])
    assert records["a"].to_list() == ["1", "2", "3", "4"]


LINES = st.lists(
    st.one_of(
        st.tuples(
            st.text('ab",;\r\n\x00é ', max_size=6), st.text('a" ', max_size=3)
        ).map(lambda pair: ",".join('"' + v.replace('"', '""') + '"' for v in pair)),
        st.tuples(st.text("abé ", max_size=4), st.text("ab", max_size=3)).map(",".join),
        st.text('a",\r', max_size=6),
    ),
    max_size=12,
)


@settings(max_examples=tries(50, 150), deadline=None)
@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\r\n"]),
    has_end=st.booleans(),
    encoding=st.sampled_from([None, "utf-16-le", "cp1252"]),
    accepts=st.booleans(),
)
def test_fast_lane_reads_what_the_exact_lane_reads(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    end: str,
    has_end: bool,
    encoding: str | None,
    accepts: bool,
) -> None:
    path = tmp_path_factory.mktemp("lanes") / "file.csv"
    text = end.join(["a,b", *lines]) + end * has_end
    path.write_text(text, encoding or "utf-8", newline="")
    _lanes_agree(path, OPEN._replace(encoding=encoding, accepts_unended=accepts))


_VALUES = st.one_of(
    st.sampled_from(["1", "-0", "1.50", "1e5", "null", "true", "NaN", ""]),
    st.sampled_from(['""', '"x y"', r'"\u0041"', r'"\ud800"', '"\x00"']),
    st.sampled_from(['{"y": 1, "x": []}', '{"x":1,"x":1}', "[" * 250 + "]" * 250]),
)
_MEMBERS = st.tuples(
    st.sampled_from(['"a"', '"b"', '"c"', '"\\u0061"']),
    st.sampled_from([":", ": ", " :\t"]),
    _VALUES,
).map("".join)
_OBJECTS = st.lists(_MEMBERS, max_size=3).flatmap(
    lambda members: st.sampled_from([",", ", "]).map(
        lambda comma: "{" + comma.join(members) + "}"
    )
)
_JSON_LINES = st.lists(
    st.one_of(
        _OBJECTS,
        _OBJECTS,
        st.tuples(_OBJECTS, st.sampled_from(["", " ", "\r"]), _OBJECTS).map("".join),
        st.sampled_from(["", " ", "[]", "1", '{"a":', "1}", '"', "\x0c", '{"é":"é"}']),
    ),
    max_size=9,
)


@settings(max_examples=tries(100, 300), deadline=None)
@example(lines=['{"a":' + "[" * 200 + "]" * 200 + "}"], end="\n", has_end=True)
@given(lines=_JSON_LINES, end=st.sampled_from(["\n", "\r\n"]), has_end=st.booleans())
def test_fast_json_lane_reads_what_the_exact_lane_reads(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, has_end: bool
) -> None:
    path = tmp_path_factory.mktemp("lanes") / "file.jsonl"
    path.write_text("\ufeff" + end.join(lines) + end * has_end, "utf-8", newline="")
    _lanes_agree(path, OPEN)


def _lanes_agree(path: Path, layout: Layout) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest.files.chunks.CHUNK_ROWS", 3)
        both = _everything(path, layout)
        for lane in ("delimited._read_fast", "json_lines._read_fast"):
            patch.setattr(f"ingest.files.{lane}", lambda *_: None)
        assert both == _everything(path, layout)


def _everything(path: Path, layout: Layout) -> list[Any]:
    """What a reader says of each row: its values, its place and bytes, its defect.

    The bytes must be in the file where they are said to be, and nowhere twice.
    """
    found: list[Any] = []
    content, end = path.read_bytes(), 0
    for chunk in _chunks(path, layout):
        first = len(found) + 1
        values = {row[0]: row[1:] for row in chunk.records.rows()}
        defects = {row.row_number: row.code for row in chunk.malformed}
        origins = chunk.origins.of(list(range(first, first + chunk.row_count)))
        for _, _, offset, original in origins.iter_rows():
            assert offset >= end
            end = offset + len(original)
            assert content[offset:end] == original
        found += [
            (*origin, values.get(origin[0]), defects.get(origin[0]))
            for origin in origins.iter_rows()
        ]
    return found
