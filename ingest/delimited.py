"""CSV and TSV in two lanes: a fast one for sound chunks, an exact one for the others.

Both give the same rows; the exact one knows bytes, lines and what is wrong with them.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest import chunks
from ingest.chunks import Chunk, Form, Layout, Row, chunk_of_rows
from ingest.errors import SourceError
from ingest.text import Region, RegionOrigins, Text

QUOTE, NEWLINE, RETURN = b'"'[0], b"\n"[0], b"\r"[0]
# Of which the length of a record is guessed.
SAMPLE_BYTES = 1 << 16


def read_delimited(text: Text, layout: Layout, name: str) -> Iterator[Chunk]:
    """Chunks of a file whose first record names its columns.

    Raises:
        SourceError: there is no header, or it is not the layout's.
    """
    delimiter = layout.delimiter or ","
    header = text.record()
    while header and not header.strip(b"\r\n"):
        header = text.record()
    if not header:
        msg = (
            f"{name}: there is no line with the names of the columns. Deliver it again."
        )
        raise SourceError(msg)
    names = _fields(header.decode("utf-8", "replace"), delimiter) or []
    found = [column or "" for column in names]
    layout.check(found, name)
    form = Form("csv", delimiter, tuple(found))
    first = 1
    while True:
        chunk = _read_fast(text, layout, found, first, delimiter)
        if chunk is None:
            rows = _exact_rows(text, layout, found, delimiter)
            chunk = chunk_of_rows(rows, layout, first)
        if chunk is None:
            return
        yield chunk._replace(form=form)
        first += chunk.row_count


def _read_fast(
    text: Text, layout: Layout, names: list[str], first: int, delimiter: str
) -> Chunk | None:
    """The next chunk where all of it is sound; None, and nothing skipped, elsewhere."""
    if len(names) < 2 or len(delimiter.encode()) > 1:
        return None
    region = _sound_region(text, len(names), delimiter.encode()[0])
    if region is None:
        return None
    wanted = sorted({names.index(c) for c in layout.columns if c in names})
    try:
        frame = pl.read_csv(
            bytes(region.data),
            has_header=False,
            columns=wanted,
            new_columns=[names[place] for place in wanted],
            separator=delimiter,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError:
        return None
    rows = len(region.ends)
    if frame.height != rows:
        return None
    records = frame.select(
        pl.int_range(first, first + rows, dtype=pl.Int64).alias("row_number"),
        *(
            pl.col(c) if c in names else pl.lit(None, pl.String).alias(c)
            for c in layout.columns
        ),
    )
    origins = RegionOrigins(region, first, text.line_number)
    text.skip(len(region.data), len(region.newlines))
    return Chunk(records, rows, origins, [])


class _Ahead(NamedTuple):
    """Bytes ahead of the reader, and where quotes, lines and records are in them."""

    data: memoryview
    quotes: npt.NDArray[np.int64]
    newlines: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


def _look_ahead(text: Text) -> _Ahead | None:
    """The bytes of the next CHUNK_ROWS records; None at the end."""
    sample = bytes(text.look(SAMPLE_BYTES))
    if not sample:
        return None
    # To look at CHUNK_BYTES every time took half of the reading.
    size = SAMPLE_BYTES
    size += len(sample) // (sample.count(b"\n") + 1) * chunks.CHUNK_ROWS * 5 // 4
    while True:
        size = min(size, chunks.CHUNK_BYTES)
        data = text.look(size)
        view = np.frombuffer(data, dtype=np.uint8)
        quotes = np.flatnonzero(view == QUOTE)
        newlines = np.flatnonzero(view == NEWLINE)
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
        is_rest = len(data) < size
        if is_rest or len(ends) >= chunks.CHUNK_ROWS or size == chunks.CHUNK_BYTES:
            break
        size *= 2
    is_ended = is_rest and text.has_ended and len(quotes) % 2 == 0
    if is_ended and view[-1] != NEWLINE:
        ends = np.append(ends, len(view))
    return _Ahead(data, quotes, newlines, ends[: chunks.CHUNK_ROWS])


def _sound_region(text: Text, width: int, delimiter: int) -> Region | None:
    """The next CHUNK_ROWS records, if all of them are sound."""
    ahead = _look_ahead(text)
    if ahead is None or not len(ahead.ends):
        return None
    data, quotes, newlines, ends = ahead
    size = int(ends[-1])
    quotes, view = quotes[quotes < size], np.frombuffer(data, dtype=np.uint8)[:size]
    if not _quotes_are_sound(view, quotes, delimiter):
        return None
    if np.count_nonzero(view == RETURN) != bytes(data[:size]).count(b"\r\n"):
        return None
    delimiters = np.flatnonzero(view == delimiter)
    outside = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    counts = np.diff(np.searchsorted(outside, ends), prepend=0)
    if not np.all(counts == width - 1):
        return None
    return Region(data[:size], ends, newlines[newlines < size])


def _quotes_are_sound(
    view: npt.NDArray[np.uint8], quotes: npt.NDArray[np.int64], delimiter: int
) -> bool:
    """Whether each quote opens, closes or doubles where it may."""
    opening, closing = quotes[0::2], quotes[1::2]
    if len(opening) != len(closing):
        return False
    before = view[opening[opening > 0] - 1]
    after = view[closing[closing + 1 < len(view)] + 1]
    return bool(
        np.isin(before, (delimiter, NEWLINE, QUOTE)).all()
        and np.isin(after, (delimiter, NEWLINE, RETURN, QUOTE)).all()
    )


def _exact_rows(
    text: Text, layout: Layout, names: list[str], delimiter: str
) -> Iterator[Row]:
    places = _places(layout, names)
    while True:
        number = text.line_number
        record = text.record()
        if not record:
            return
        if record.strip(b"\r\n"):
            row = _row(record, places, len(names), delimiter)
            yield row._replace(line_number=number)


def reread_record(record: bytes, layout: Layout, form: Form) -> Row:
    """A record by itself, read as it was in its file; it has no line."""
    assert form.delimiter is not None
    places = _places(layout, form.header)
    return _row(record, places, len(form.header), form.delimiter)


def _places(layout: Layout, names: Sequence[str]) -> list[int | None]:
    return [names.index(c) if c in names else None for c in layout.columns]


def _row(record: bytes, places: list[int | None], width: int, delimiter: str) -> Row:
    try:
        values = _fields(record.decode(), delimiter)
    except UnicodeDecodeError as error:
        return Row(None, record, [], "row_is_utf8", f"byte {error.start + 1}")
    if values is None:
        return Row(None, record, [], "row_is_well_formed", "a quote is out of place")
    if len(values) != width:
        detail = f"{len(values)} values under {width} columns"
        return Row(None, record, [], "row_is_well_formed", detail)
    return Row(None, record, [None if p is None else values[p] for p in places])


@cache
def _field_pattern(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'(?:"((?:[^"]|"")*)"|([^"{mark}]*))({mark}|$)')


def _fields(record: str, delimiter: str) -> list[str | None] | None:
    """The values of a record, a bare empty one as None; None if quotes are wrong."""
    record = record.rstrip("\r\n")
    if '"' not in record:
        return [value or None for value in record.split(delimiter)]
    field = _field_pattern(delimiter)
    values: list[str | None] = []
    place = 0
    while match := field.match(record, place):
        quoted, bare, end = match.groups()
        values.append(bare or None if quoted is None else quoted.replace('""', '"'))
        place = match.end()
        if not end:
            break
    return values if match and place == len(record) else None
