"""A file as bounded chunks of text rows: CSV, JSON Lines or Parquet, plain or gzip.

Readers know bytes, lines and columns; whether a value is right is decided in
transition.py, and which column means what in mapping.py.
"""

import gzip
import hashlib
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import SourceError
from ingest.transition import COLUMNS, REQUIRED, as_text, parse_json, spell_json

# A batch is one short transaction and a few tens of megabytes (design: write side).
CHUNK_ROWS = 50_000
# Lines that one quoted value may span.
LONGEST_RECORD = 1_000
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
BOM = b"\xef\xbb\xbf"


class Layout(NamedTuple):
    """Which columns a reader looks for.

    columns: those handed on, missing ones as null; required: those that must be there;
    is_open: whether others may be there too.
    """

    columns: tuple[str, ...] = COLUMNS
    required: tuple[str, ...] = REQUIRED
    is_open: bool = False
    delimiter: str | None = None


class Malformed(NamedTuple):
    """A row that is no row of its format."""

    row_number: int
    code: str
    detail: str


class Chunk(NamedTuple):
    """Up to CHUNK_ROWS source rows.

    records: `row_number` and the layout's columns as String; the readable rows.
    origins: row_number, line_number, original (Binary); every row.
    malformed: the unreadable rows.
    """

    records: pl.DataFrame
    origins: pl.DataFrame
    malformed: list[Malformed]


class _Row(NamedTuple):
    line_number: int | None
    original: bytes
    values: list[str | None]
    code: str | None = None
    detail: str = ""


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex.

    Raises:
        SourceError: the file is missing, empty or can't be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        is_empty = path.stat().st_size == 0
    except OSError as error:
        msg = f"{path}: {error.strerror or error}. Check the path."
        raise SourceError(msg) from error
    if is_empty:
        msg = f"{path}: the file is empty, without even a header. Deliver it again."
        raise SourceError(msg)
    return digest


def read(path: Path, layout: Layout) -> Iterator[Chunk]:
    """Read a file as chunks, in its order; row numbers count from 1.

    Raises:
        SourceError: the file can't be read, or its header is not the layout's. Chunks
            handed out before stay valid; a header is judged before the first chunk.
    """
    kind = _format(path)
    if kind == "parquet":
        yield from _read_parquet(path, layout)
        return
    try:
        with _open(path) as stream:
            lines = _lines(stream)
            rows = _csv(path, lines, layout) if kind == "csv" else _json(lines, layout)
            yield from _chunks(rows, layout)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path}: it can't be read to its end: {error}. Deliver it again."
        raise SourceError(msg) from error


def _format(path: Path) -> str:
    kind = FORMATS.get(_suffix(path))
    if kind is None:
        known = ", ".join(FORMATS)
        msg = f"{path}: its name ends in none of {known} (.gz may follow). Rename it."
        raise SourceError(msg)
    return kind


def _suffix(path: Path) -> str:
    """The last suffix, .gz aside, in lower case."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, start=1):
        yield number, line.removeprefix(BOM) if number == 1 else line


def _chunks(rows: Iterator[_Row], layout: Layout) -> Iterator[Chunk]:
    first = 1
    while chunk := list(islice(rows, CHUNK_ROWS)):
        numbered = list(enumerate(chunk, start=first))
        first += len(chunk)
        readable = [(n, *row.values) for n, row in numbered if row.code is None]
        yield Chunk(
            pl.DataFrame(
                readable,
                schema={
                    "row_number": pl.Int64,
                    **dict.fromkeys(layout.columns, pl.String),
                },
                orient="row",
            ),
            pl.DataFrame(
                [(n, row.line_number, row.original) for n, row in numbered],
                schema={
                    "row_number": pl.Int64,
                    "line_number": pl.Int64,
                    "original": pl.Binary,
                },
                orient="row",
            ),
            [Malformed(n, row.code, row.detail) for n, row in numbered if row.code],
        )


def _csv(
    path: Path, lines: Iterator[tuple[int, bytes]], layout: Layout
) -> Iterator[_Row]:
    delimiter = layout.delimiter or ("\t" if _suffix(path) == ".tsv" else ",")
    field = _field_pattern(delimiter)
    records = _records(lines)
    _, header = next(records, (0, b""))
    if not header:
        msg = (
            f"{path}: there is no line with the names of the columns. Deliver it again."
        )
        raise SourceError(msg)
    names = _fields(header.decode("utf-8", "replace"), delimiter, field)
    places = _places(path, names, layout)
    for number, record in records:
        try:
            values = _fields(record.decode(), delimiter, field)
        except UnicodeDecodeError as error:
            yield _Row(number, record, [], "row_is_utf8", f"byte {error.start + 1}")
            continue
        if values is None:
            yield _Row(
                number, record, [], "row_is_well_formed", "a quote is out of place"
            )
        elif len(values) != len(names or ()):
            detail = f"{len(values)} values under {len(names or ())} columns"
            yield _Row(number, record, [], "row_is_well_formed", detail)
        else:
            yield _Row(
                number, record, [None if p is None else values[p] for p in places]
            )


def _records(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Join the lines of a record whose quoted values hold line ends.

    A quote that doesn't close within LONGEST_RECORD lines spoils its own line only.
    """
    ahead: deque[tuple[int, bytes]] = deque()
    while True:
        number, line = ahead.popleft() if ahead else next(lines, (0, b""))
        if not line:
            return
        parts = [line]
        is_open = line.count(b'"') % 2 == 1
        while is_open and len(parts) < LONGEST_RECORD:
            if len(parts) > len(ahead):
                following = next(lines, None)
                if following is None:
                    break
                ahead.append(following)
            parts.append(ahead[len(parts) - 1][1])
            is_open = parts[-1].count(b'"') % 2 == 0
        if not is_open:
            for _ in parts[1:]:
                ahead.popleft()
        record = line if is_open else b"".join(parts)
        if record.strip(b"\r\n"):
            yield number, record


def _field_pattern(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'(?:"((?:[^"]|"")*)"|([^"{mark}]*))({mark}|$)')


def _fields(
    record: str, delimiter: str, field: re.Pattern[str]
) -> list[str | None] | None:
    """The values of a record, a bare empty one as None; None if quotes are wrong."""
    record = record.rstrip("\r\n")
    if '"' not in record:
        return [value or None for value in record.split(delimiter)]
    values: list[str | None] = []
    place = 0
    while match := field.match(record, place):
        quoted, bare, end = match.groups()
        values.append(bare or None if quoted is None else quoted.replace('""', '"'))
        place = match.end()
        if not end:
            break
    return values if match and place == len(record) else None


def _places(
    path: Path, names: list[str | None] | None, layout: Layout
) -> list[int | None]:
    """Where each column of the layout stands in the header."""
    found = [name or "" for name in names or []]
    _check_columns(path, found, layout)
    return [found.index(c) if c in found else None for c in layout.columns]


def _check_columns(path: Path, found: list[str], layout: Layout) -> None:
    missing = [c for c in layout.required if c not in found]
    unknown = [] if layout.is_open else [c for c in found if c not in layout.columns]
    repeated = sorted({c for c in found if found.count(c) > 1 and c in layout.columns})
    hint = "" if layout.is_open else " Another table comes in with --mapping FILE."
    for words, columns in (
        ("has no column", missing),
        ("has an unknown column", unknown),
        ("has more than one column", repeated),
    ):
        if columns:
            names = ", ".join(repr(c) for c in columns[:5])
            msg = f"{path}, line 1: the header {words} {names}.{hint}"
            raise SourceError(msg)


def _json(lines: Iterable[tuple[int, bytes]], layout: Layout) -> Iterator[_Row]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield _Row(number, line, _members(line.decode(), layout))
        except UnicodeDecodeError as error:
            yield _Row(number, line, [], "row_is_utf8", f"byte {error.start + 1}")
        except (ValueError, RecursionError) as error:
            yield _Row(number, line, [], "row_is_well_formed", str(error))


def _members(text: str, layout: Layout) -> list[str | None]:
    value = parse_json(text)
    if not isinstance(value, dict):
        msg = "the line is no JSON object"
        raise ValueError(msg)
    unknown = value.keys() - set(layout.columns)
    if unknown and not layout.is_open:
        msg = f"unknown key {sorted(unknown)[0]!r}"
        raise ValueError(msg)
    values = [_json_text(value.get(column)) for column in layout.columns]
    "".join(v for v in values if v is not None).encode()
    return values


def _json_text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else spell_json(value)


def _read_parquet(path: Path, layout: Layout) -> Iterator[Chunk]:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        msg = f"{path}: it is no readable Parquet file: {reason}. Deliver it again."
        raise SourceError(msg) from error
    with file:
        _check_columns(path, file.schema_arrow.names, layout)
        present = [c for c in layout.columns if c in file.schema_arrow.names]
        first = 1
        try:
            for batch in file.iter_batches(CHUNK_ROWS, columns=present):
                yield _parquet_chunk(batch, layout, first)
                first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            msg = (
                f"{path}: unreadable after row {first - 1}: {error}. Deliver it again."
            )
            raise SourceError(msg) from error


def _parquet_chunk(batch: pa.RecordBatch, layout: Layout, first: int) -> Chunk:
    frame = pl.DataFrame(batch)
    texts = as_text(frame)
    absent = [
        pl.lit(None, pl.String).alias(c)
        for c in layout.columns
        if c not in texts.columns
    ]
    numbered = texts.with_columns(
        *absent,
        row_number=pl.int_range(first, first + frame.height, dtype=pl.Int64),
    )
    origins = numbered.select(
        "row_number",
        line_number=pl.lit(None, pl.Int64),
        original=pl.struct(texts.columns).struct.json_encode().cast(pl.Binary),
    )
    return Chunk(numbered.select("row_number", *layout.columns), origins, [])
