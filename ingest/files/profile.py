"""The first rows of a file, and what their columns look like; for guessing a mapping.

What a column is guessed to mean belongs in mapping_draft.py.
"""

import codecs
import gzip
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl
import pyarrow.parquet as pq

from ingest.errors import SourceError
from ingest.files.content import Content
from ingest.files.delimited import addressable, fields
from ingest.files.layout import DELIMITERS, Layout
from ingest.files.sources import format_of, read, suffix
from ingest.files.time_formats import COUNTS, to_iso
from ingest.files.xes import POSITION
from ingest.instants import LocalTimes, parse_time
from ingest.json_text import parse_json
from ingest.transition import BIGINT_PATTERN, ORDER_PATTERN

# What is looked at to tell an encoding and a delimiter; and to guess with.
HEAD_BYTES = 1 << 20
HEAD_LINES = 100
HEAD_EVENTS = 5_000
# Distinct values of a column that times are tried on.
TRIED_VALUES = 1_000
FIRST_TRIED = 10
# Texts that stand for no value, wherever they are met.
NULLS = ("", "?", "NULL", "null", "\\N", "NaN", "N/A")
# Of the values of a column of times, so many must be of one format.
MOST = 0.95
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    "T%H:%M:%S",
    " %I:%M %p",
    " %I:%M:%S %p",
    " %H:%M:%S %z",
    " %H:%M:%S%z",
)
_DATES = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d.%m.%Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %B %Y",
    "%Y%m%d",
    "%a %b %d %Y",
)
FORMATS = tuple(date + clock for date in _DATES for clock in _CLOCKS)
# Counts since 1970 that are instants of these years.
COUNTED_YEARS = (1990, 2060)


class Sample(NamedTuple):
    """The first rows of a file as text, and how it is to be read.

    rows: of String, those texts null that stand for no value; nulls: these texts.
    """

    rows: pl.DataFrame
    layout: Layout
    nulls: tuple[str, ...]


class Times(NamedTuple):
    """How the instants of a column are written.

    formats: those that fit, ISO 8601 as None, the likeliest first; has_offset: whether
    each says its offset or zone.
    """

    formats: tuple[str | None, ...]
    has_offset: bool


class Column(NamedTuple):
    """What the values of a column are, those aside that are null."""

    name: str
    value_count: int
    distinct_count: int
    examples: tuple[str, ...]
    times: Times | None
    is_bigint: bool
    is_whole: bool


def sample(path: Path) -> Sample:
    """The first rows of a file.

    Raises:
        SourceError: the file can't be read, or holds no row.
    """
    kind = format_of(path)
    with Content(path) as content:
        if kind == "csv":
            layout = _delimited(content, path)
        elif kind == "parquet":
            layout = _open(pq.read_schema(content).names)
        elif kind == "xes":
            layout = _open(_attributes(content))
        else:
            layout = _open(_members(content, path))
        first = next(read(content, layout), None)
    if first is None or first.records.is_empty():
        msg = f"{path}: no row of it can be read. Look at its first lines."
        raise SourceError(msg)
    rows = first.records.drop("row_number")
    found = rows.select(
        pl.any_horizontal((pl.all() == text).any()).alias(text) for text in NULLS
    ).row(0, named=True)
    nulls = tuple(text for text, is_there in found.items() if is_there)
    rows = rows.with_columns(pl.when(~pl.all().is_in(nulls)).then(pl.all()))
    return Sample(rows, layout, nulls)


def profile(rows: pl.DataFrame) -> list[Column]:
    """What each column of a sample looks like."""
    return [_column(column) for column in rows.iter_columns()]


def _open(names: list[str]) -> Layout:
    columns = tuple(dict.fromkeys(names))
    return Layout(columns, (), is_open=True, accepts_unended=True)


def _head(content: Content, path: Path) -> bytes:
    """The first bytes of a file, decompressed."""
    content.seek(0)
    try:
        if path.suffix.lower() == ".gz":
            return gzip.GzipFile(fileobj=content).read(HEAD_BYTES)
        return content.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path}: it can't be read: {error}. Deliver it again."
        raise SourceError(msg) from error


def _text(head: bytes) -> tuple[str, str | None]:
    """The text of the first bytes, and its encoding where that is not UTF-8."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", "ignore"), "utf-16"
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        return decoder.decode(head), None
    except UnicodeDecodeError:
        return head.decode("cp1252", "replace"), "cp1252"


def _delimited(content: Content, path: Path) -> Layout:
    text, encoding = _text(_head(content, path))
    lines = [line for line in text.splitlines() if line][:HEAD_LINES]
    if not lines:
        msg = f"{path}: there is no line with the names of the columns."
        raise SourceError(msg)
    usual = "\t" if suffix(path) == ".tsv" else ","
    # The one that splits most lines into as many values as the header, and into most.
    mark = max((usual, *DELIMITERS), key=lambda m: _fit(lines, m))
    names = addressable([name or "" for name in fields(lines[0], mark) or []])
    return _open(names)._replace(
        delimiter=None if mark == usual else mark, encoding=encoding
    )


def _fit(lines: list[str], mark: str) -> tuple[float, int]:
    widths = Counter(len(fields(line, mark) or []) for line in lines)
    width = len(fields(lines[0], mark) or [])
    return (widths[width] / len(lines) if width > 1 else 0, width)


def _attributes(content: Content) -> list[str]:
    """The columns of the first events of a log; a row's origin has all of its own."""
    names: dict[str, None] = {POSITION: None}
    first = next(read(content, _open([POSITION])), None)
    if first is not None:
        places = list(range(1, min(first.row_count, HEAD_EVENTS) + 1))
        for original in first.origins.of(places)["original"]:
            names.update(dict.fromkeys(msgspec.json.decode(original)))
    return list(names)


def _members(content: Content, path: Path) -> list[str]:
    names: dict[str, None] = {}
    text, _ = _text(_head(content, path))
    for line in text.splitlines()[:HEAD_LINES]:
        try:
            value = parse_json(line.encode())
        except (ValueError, msgspec.DecodeError):
            continue
        if isinstance(value, dict):
            names.update(dict.fromkeys(value))
    if not names:
        msg = f"{path}: none of its first lines is a JSON object."
        raise SourceError(msg)
    return list(names)


def _column(column: pl.Series) -> Column:
    values = column.drop_nulls()
    values = values.filter(values.str.strip_chars() != "")
    distinct = values.unique(maintain_order=True)
    return Column(
        column.name,
        len(values),
        len(distinct),
        tuple(distinct.head(3)),
        _times(distinct.head(TRIED_VALUES)),
        bool(len(values) and values.str.contains(BIGINT_PATTERN).all()),
        bool(len(values) and values.str.contains(ORDER_PATTERN).all()),
    )


def _times(values: pl.Series) -> Times | None:
    """How values are written, where they are instants."""
    # Nothing shorter or longer is one, and each has a digit.
    is_like = values.str.contains("[0-9]") & values.str.len_chars().is_between(6, 64)
    if values.is_empty() or not is_like.all():
        return None
    texts = pl.DataFrame({"at_text": values})
    iso = parse_time(texts, "at", LocalTimes("UTC"))
    if iso["at_local"].null_count() <= (1 - MOST) * texts.height:
        placed = parse_time(texts, "at", LocalTimes())["at_is_placed"]
        return Times((None,), bool(placed.all()))
    few = texts.head(FIRST_TRIED)
    likely = [given for given in (*FORMATS, *COUNTS) if _fits(few, given)]
    found = [given for given in likely if _fits(texts, given)]
    if not found:
        return None
    is_placed = found[0] in COUNTS or "%z" in found[0]
    return Times(tuple(found), is_placed)


def _fits(texts: pl.DataFrame, given: str) -> bool:
    """Whether most texts are instants by a format."""
    read = texts.select(to_iso(pl.col("at_text"), given)).to_series()
    if given in COUNTS:
        year = read.str.slice(0, 4).cast(pl.Int64, strict=False)
        read = read.filter(year.is_between(*COUNTED_YEARS).fill_null(value=False))
    return len(read) - read.null_count() >= MOST * texts.height
