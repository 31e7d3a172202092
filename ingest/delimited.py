"""CSV and TSV in two lanes: a fast one for sound chunks, an exact one for the others.

Both give the same rows; the exact one knows bytes, lines and what is wrong with them.
"""

import io
import re
import zlib
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest import chunks
from ingest.chunks import Chunk, Layout, Origins, Row, chunk_of_rows
from ingest.errors import SourceError

QUOTE, NEWLINE, RETURN = b'"'[0], b"\n"[0], b"\r"[0]
BOM = b"\xef\xbb\xbf"
# Lines that one quoted value may span.
LONGEST_RECORD = 1_000
READ_BYTES = 1 << 20
# Of which the length of a record is guessed.
SAMPLE_BYTES = 1 << 16


class Text:
    """The bytes of a text file ahead of the reader, and the number of its next line."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._data = b""
        self._place = 0
        self._has_ended = False
        self._error: Exception | None = None
        self.line_number = 1
        self.look(len(BOM))
        if self._data.startswith(BOM):
            self._place = len(BOM)

    def look(self, size: int) -> memoryview:
        """Up to `size` bytes ahead; fewer only at the end of the file."""
        missing = size - (len(self._data) - self._place)
        if missing > 0 and not self._has_ended and self._error is None:
            parts = [self._data[self._place :]]
            self._place = 0
            while missing > 0 and (part := self._read()):
                parts.append(part)
                missing -= len(part)
            self._data = b"".join(parts)
        return memoryview(self._data)[self._place : self._place + size]

    def _read(self) -> bytes:
        try:
            part = self._stream.read1(READ_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            # What came before the tear is sound; it is told when it is reached.
            self._error = error
            return b""
        self._has_ended = not part
        return part

    @property
    def has_ended(self) -> bool:
        """Whether the file has no bytes behind those that were looked at."""
        return self._has_ended

    def skip(self, size: int, lines: int) -> None:
        """Go on behind `size` bytes that hold `lines` line ends."""
        self._place += size
        self.line_number += lines

    def line(self, offset: int = 0) -> bytes:
        """The line that begins `offset` bytes ahead, with its end; empty at the end."""
        size = READ_BYTES
        while True:
            ahead = self.look(offset + size)
            start = self._place + offset
            end = self._data.find(b"\n", start, start + size)
            if end >= 0:
                return self._data[start : end + 1]
            if len(ahead) < offset + size:
                if self._error is not None:
                    raise self._error
                return self._data[start:]
            size *= 2

    def record(self) -> bytes:
        """The next record, with the lines that its quoted values span; skips it.

        A quote that doesn't close within LONGEST_RECORD lines spoils its own line only.
        """
        first = record = self.line()
        lines, is_open = 1, first.count(b'"') % 2 == 1
        parts, size = [first], len(first)
        while is_open and lines < LONGEST_RECORD:
            line = self.line(size)
            if not line:
                break
            parts.append(line)
            size, lines = size + len(line), lines + 1
            is_open = line.count(b'"') % 2 == 0
        if not is_open:
            record = b"".join(parts)
        self.skip(len(record), 1 if is_open else lines)
        return record


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
    first = 1
    while True:
        chunk = _read_fast(text, layout, found, first, delimiter)
        if chunk is None:
            rows = _exact_rows(text, layout, found, delimiter)
            chunk = chunk_of_rows(rows, layout, first)
        if chunk is None:
            return
        yield chunk
        first += chunk.row_count


class _Region(NamedTuple):
    """A run of sound records: its bytes, and where records and lines end in it."""

    data: memoryview
    ends: npt.NDArray[np.int64]
    newlines: npt.NDArray[np.int64]


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
    origins = _RegionOrigins(region, first, text.line_number)
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


def _sound_region(text: Text, width: int, delimiter: int) -> _Region | None:
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
    return _Region(data[:size], ends, newlines[newlines < size])


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


class _RegionOrigins(Origins):
    """Where the rows of a region came from, found only for those asked for."""

    def __init__(self, region: _Region, first: int, line_number: int) -> None:
        self._region = region
        self._first = first
        self._line_number = line_number

    def of(self, row_numbers: list[int]) -> pl.DataFrame:
        """Line number and bytes of each row, in the order asked."""
        places = [number - self._first for number in row_numbers]
        ends = self._region.ends
        starts = [int(ends[place - 1]) if place else 0 for place in places]
        lines = np.searchsorted(self._region.newlines, starts) + self._line_number
        return Origins.frame(
            row_numbers,
            lines.tolist(),
            [
                bytes(self._region.data[start : ends[place]])
                for place, start in zip(places, starts, strict=True)
            ],
        )


def _exact_rows(
    text: Text, layout: Layout, names: list[str], delimiter: str
) -> Iterator[Row]:
    places = [names.index(c) if c in names else None for c in layout.columns]
    while True:
        number = text.line_number
        record = text.record()
        if not record:
            return
        if not record.strip(b"\r\n"):
            continue
        try:
            values = _fields(record.decode(), delimiter)
        except UnicodeDecodeError as error:
            yield Row(number, record, [], "row_is_utf8", f"byte {error.start + 1}")
            continue
        if values is None:
            detail = "a quote is out of place"
            yield Row(number, record, [], "row_is_well_formed", detail)
        elif len(values) != len(names):
            detail = f"{len(values)} values under {len(names)} columns"
            yield Row(number, record, [], "row_is_well_formed", detail)
        else:
            cells = [None if p is None else values[p] for p in places]
            yield Row(number, record, cells)


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
