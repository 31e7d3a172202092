"""Text in other encodings: read rightly, refused with its bytes, never misread."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import Mapping, Settings, SourceError, deliver
from ingest.files.encodings import Transcoded, check_encoding
from ingest.store.database import Connection

Write = Callable[[str, str | bytes], Path]

HEADER = "created_at,entity_type,entity_id,to_status,transition_reason\n"
ROW = "2026-01-01T00:00:00Z,order,{},new,{}\n"
NAMED = """
entity_type: {constant: order}
entity_id: größe
created_at: at
to_status: {constant: new}
"""
ENCODINGS = ["latin-1", "cp1252", "utf-16-le", "utf-16-be", "utf-32-le", "cp932"]
ENCODINGS += ["gb18030", "euc_kr", "iso2022_jp", "utf-7", "mac_roman"]


def _stored(connection: Connection) -> list[tuple[int, str]]:
    return connection.execute(
        "select entity_id, transition_reason from raw.status_transitions"
        " order by entity_id"
    ).fetchall()


def _rejects(connection: Connection) -> list[tuple[int, int, str, str | None, bytes]]:
    return connection.execute(
        "select line_number, byte_offset, code, column_name, original"
        " from raw.rejected_transitions order by row_number"
    ).fetchall()


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl"])
@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("latin-1", "café ¤"),
        ("cp1252", "10 € — “né”"),
        ("utf-16", "ਅ, café 😀"),
        ("utf-16-be", "ਅ, café 😀"),
        ("utf-32", "😀"),
        ("shift_jis", "テスト表"),
        ("utf-8-sig", "é"),
    ],
)
def test_named_encoding_is_read(
    connection: Connection, write: Write, encoding: str, reason: str, suffix: str
) -> None:
    text = HEADER + ROW.format(1, f'"{reason}"') + ROW.format(2, '"a\nb"')
    if suffix == "jsonl":
        line = '{{"created_at":"2026-01-01T00:00:00Z","entity_type":"order",'
        line += '"entity_id":{},"to_status":"new","transition_reason":"{}"}}\n'
        text = line.format(1, reason) + line.format(2, r"a\nb")
    path = write(f"rows.{suffix}", text.encode(encoding))
    found = deliver(connection, path, Settings(encoding=encoding))
    assert found.result == (2, 2, 0, 0)
    assert _stored(connection) == [(1, reason), (2, "a\nb")]


def test_bytes_that_are_not_of_the_encoding_are_rejected_exactly(
    connection: Connection, write: Write
) -> None:
    rows = [ROW.format(n, reason) for n, reason in enumerate(["é", "X", '"a\nX"', "z"])]
    lines = [row.encode("cp1252").replace(b"X", b"\x81") for row in [HEADER, *rows]]
    path = write("rows.csv", b"".join(lines))
    found = deliver(connection, path, Settings(encoding="cp1252"))
    assert found.result == (4, 2, 0, 2)
    assert _stored(connection) == [(0, "é"), (3, "z")]
    assert _rejects(connection) == [
        (3, len(b"".join(lines[:2])), "row_is_utf8", "transition_reason", lines[2]),
        (4, len(b"".join(lines[:3])), "row_is_utf8", "transition_reason", lines[3]),
    ]


def test_reject_of_a_good_row_in_utf_16_keeps_its_bytes_and_place(
    connection: Connection, write: Write
) -> None:
    lines = [HEADER, ROW.format("x", "😀"), ROW.format(1, "é")]
    path = write("rows.csv", "".join(lines).encode("utf-16"))
    deliver(connection, path, Settings(encoding="utf-16"))
    place = 2 + len(HEADER) * 2
    original = lines[1].encode("utf-16-le")
    assert _rejects(connection) == [
        (2, place, "entity_id_is_bigint", "entity_id", original)
    ]
    assert _stored(connection) == [(1, "é")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl.gz"])
def test_utf_16_that_nobody_named_is_told_apart(
    connection: Connection, write: Write, encoding: str, suffix: str
) -> None:
    path = write(f"rows.{suffix}", HEADER.encode(encoding))
    with pytest.raises(SourceError, match=r"no UTF-8.*--encoding utf-16"):
        deliver(connection, path)


def test_header_in_another_encoding_says_what_to_do(
    connection: Connection, write: Write, mapping: Callable[[str], Mapping]
) -> None:
    path = write("rows.csv", "at,größe\n2026-01-01T00:00:00Z,1\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"byte 6 of the header.*--encoding cp1252"):
        deliver(connection, path, Settings(mapping(NAMED)))
    named = mapping(f"{NAMED}encoding: cp1252\n")
    assert deliver(connection, path, Settings(named)).result == (1, 1, 0, 0)


def test_same_bytes_in_another_encoding_are_another_file(
    connection: Connection, write: Write
) -> None:
    path = write("rows.csv", (HEADER + ROW.format(1, "é")).encode())
    assert deliver(connection, path).result == (1, 1, 0, 0)
    latin = deliver(connection, path, Settings(encoding="latin-1"))
    assert latin.result == (1, 1, 0, 0)
    assert deliver(connection, path, Settings(encoding="UTF8")).is_repeated
    assert deliver(connection, path, Settings(encoding="iso-8859-1")).is_repeated


@pytest.mark.parametrize("name", ["utf8", "UTF-8", "utf-8-sig"])
def test_utf_8_needs_no_name(name: str) -> None:
    assert check_encoding(name) is None


@pytest.mark.parametrize("name", ["klingon", "rot13", "hex", "", "a\x00b"])
def test_encoding_that_is_none_is_a_source_error(name: str) -> None:
    with pytest.raises(SourceError, match="no encoding of text"):
        check_encoding(name)


def test_encoding_with_other_line_ends_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="Convert the file"):
        check_encoding("cp500")


def test_mapping_with_an_unknown_encoding_names_the_key(
    mapping: Callable[[str], Mapping],
) -> None:
    words = "'encoding' can't be so: 'klingon' is no encoding"
    with pytest.raises(SourceError, match=words):
        mapping(f"{NAMED}encoding: klingon\n")


def test_utf_16_without_a_byte_order_mark_has_to_be_named() -> None:
    with pytest.raises(SourceError, match="Name utf-16-le or utf-16-be"):
        Transcoded("utf-16", io.BytesIO("a,b\n".encode("utf-16-le")), "file.csv")


_lines = st.lists(
    st.one_of(st.text(max_size=8), st.sampled_from(["ਅ\ud800", '"', "a\r", "表|"])),
    max_size=6,
)


@settings(max_examples=tries(100, 300), deadline=None)
@given(
    encoding=st.sampled_from(ENCODINGS),
    lines=_lines,
    noise=st.binary(max_size=9),
    place=st.integers(0, 40),
)
def test_every_byte_comes_back_whatever_the_encoding(
    encoding: str, lines: list[str], noise: bytes, place: int
) -> None:
    text = "\n".join(lines).encode(encoding, "replace")
    content = text[:place] + noise + text[place:]
    stream = Transcoded(encoding, io.BytesIO(content), "file.csv")
    parts = []
    while part := stream.read1():
        parts.append(part)
    found, codec = b"".join(parts), stream.codec
    assert codec.to_utf8(content) == found
    assert codec.original(found) == content
    for line in found.split(b"\n"):
        assert codec.original(line + b"\n") in content + codec.original(b"\n")
