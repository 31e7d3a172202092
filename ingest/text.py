"""Text ahead of a reader: its lines, its records, and where each of them begins.

What the lines mean belongs in delimited.py and json_lines.py.
"""

import io
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest.chunks import Origins

BOM = b"\xef\xbb\xbf"
# Lines that one quoted value may span.
LONGEST_RECORD = 1_000
READ_BYTES = 1 << 20


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


class Region(NamedTuple):
    """A run of sound records: its bytes, and where records and lines end in it."""

    data: memoryview
    ends: npt.NDArray[np.int64]
    newlines: npt.NDArray[np.int64]


class RegionOrigins(Origins):
    """Where the rows of a region came from, found only for those asked for."""

    def __init__(self, region: Region, first: int, line_number: int) -> None:
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
