"""Text ahead of a reader: its lines, its records, and where each of them begins.

What the lines mean belongs in delimited.py and json_lines.py.
"""

import codecs
import io
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest.errors import SourceError
from ingest.files import chunks
from ingest.files.chunks import LONGEST_LINE, Origins
from ingest.files.encodings import READ_BYTES, Transcoded

QUOTE, NEWLINE = b'"\n'
BOM = b"\xef\xbb\xbf"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Of which the length of a record is guessed.
SAMPLE_BYTES = 1 << 16
# Lines that one quoted value may span.
LONGEST_RECORD = 1_000


class TextAhead:
    """The text of a file ahead of the reader, as UTF-8, and where its next line begins.

    line_number counts from 1; byte_offset from the start of the file, decompressed, in
    its own encoding, which is None for UTF-8.
    """

    def __init__(
        self, stream: io.BufferedIOBase, name: str, encoding: str | None = None
    ) -> None:
        """Begin behind a byte order mark.

        Raises:
            SourceError: the file is UTF-16 or UTF-32, and nobody said so.
        """
        self._name = name
        recoded = Transcoded(encoding, stream, name) if encoding else None
        self._codec = recoded.codec if recoded else None
        self._stream = recoded or stream
        self.encoding = self._codec.name if self._codec else None
        self._data = b""
        self._place = 0
        self._has_ended = False
        self._error: Exception | None = None
        self.line_number = 1
        self.byte_offset = 0
        head = bytes(self.look(4))
        if head.startswith(BOM):
            self.skip(len(BOM), 0)
        elif self._codec is None and (head.startswith(UTF_16) or 0 in head):
            msg = f"{name}: it is no UTF-8. Say what it is, as in --encoding utf-16."
            raise SourceError(msg)

    def original(self, text: bytes) -> bytes:
        """The bytes of the file that became this run of whole lines."""
        return self._codec.original(text) if self._codec else text

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
        skipped = self._data[self._place : self._place + size] if self._codec else b""
        self.byte_offset += len(self.original(skipped)) if self._codec else size
        self._place += size
        self.line_number += lines

    def line(self, offset: int = 0) -> bytes:
        """The line that begins `offset` bytes ahead, with its end; empty at the end.

        Raises:
            SourceError: it is longer than LONGEST_LINE.
        """
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
            if size > LONGEST_LINE:
                msg = (
                    f"{self._name}, line {self.line_number}: it goes on for more than "
                    f"{LONGEST_LINE:,} bytes. Deliver the file with shorter lines."
                )
                raise SourceError(msg)
            size *= 2

    def record(self) -> bytes:
        """The next record, with the lines that its quoted values span; skips it.

        A quote that doesn't close within LONGEST_RECORD lines spoils its own line only;
        one that is open where the file ends takes all before the end with it, since a
        file that was cut off within a quoted value looks no other.
        """
        first = self.line()
        lines, size, parts = 1, len(first), [first]
        is_open = first.count(b'"') % 2 == 1
        while is_open and (line := self.line(size)):
            if lines == LONGEST_RECORD or size > LONGEST_LINE:
                lines, parts = 1, [first]
                break
            parts.append(line)
            size, lines = size + len(line), lines + 1
            is_open = line.count(b'"') % 2 == 0
        record = b"".join(parts)
        self.skip(len(record), lines)
        return record


class Region(NamedTuple):
    """A run of records: its bytes, and where records and lines end in it."""

    data: memoryview
    ends: npt.NDArray[np.int64]
    newlines: npt.NDArray[np.int64]


def region_ahead(
    text: TextAhead, *, has_quotes: bool, takes_rest: bool
) -> Region | None:
    """The next CHUNK_ROWS records, or those that CHUNK_BYTES hold; None without any.

    A line end between quotes ends no record, if `has_quotes`; the last record of the
    file is taken without a line end, if `takes_rest`.
    """
    sample = bytes(text.look(SAMPLE_BYTES))
    # To look at CHUNK_BYTES every time took half of the reading.
    size = SAMPLE_BYTES
    size += len(sample) // (sample.count(b"\n") + 1) * chunks.CHUNK_ROWS * 5 // 4
    while True:
        size = min(size, chunks.CHUNK_BYTES)
        ahead = text.look(size)
        view = np.frombuffer(ahead, dtype=np.uint8)
        newlines = np.flatnonzero(view == NEWLINE)
        quotes = np.flatnonzero(view == QUOTE) if has_quotes else newlines[:0]
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
        is_rest = len(ahead) < size
        if is_rest or len(ends) >= chunks.CHUNK_ROWS or size == chunks.CHUNK_BYTES:
            break
        size *= 2
    has_rest = len(view) and view[-1] != NEWLINE and len(quotes) % 2 == 0
    if takes_rest and has_rest and is_rest and text.has_ended:
        ends = np.append(ends, len(view))
    ends = ends[: chunks.CHUNK_ROWS]
    if not len(ends):
        return None
    end = int(ends[-1])
    return Region(ahead[:end], ends, newlines[newlines < end])


class RegionOrigins(Origins):
    """Where the rows of a region came from, found only for those asked for."""

    def __init__(self, region: Region, first: int, text: TextAhead) -> None:
        """The region is ahead in the text; its first row is number `first`."""
        self._region = region
        self._first = first
        self._line_number = text.line_number
        self._byte_offset = text.byte_offset
        self._original = text.original

    def of(self, row_numbers: list[int]) -> pl.DataFrame:
        """The rows asked for, in the order asked."""
        data, ends = self._region.data, self._region.ends
        places = [number - self._first for number in row_numbers]
        starts = [int(ends[place - 1]) if place else 0 for place in places]
        lines = np.searchsorted(self._region.newlines, starts) + self._line_number
        offsets = self._offsets(starts)
        return Origins.frame(
            row_numbers,
            lines.tolist(),
            [offsets[start] for start in starts],
            [
                self._original(bytes(data[start : ends[place]]))
                for place, start in zip(places, starts, strict=True)
            ],
        )

    def _offsets(self, starts: list[int]) -> dict[int, int]:
        """In the file, of places in the region."""
        found, place, offset = {}, 0, self._byte_offset
        for start in sorted(starts):
            offset += len(self._original(bytes(self._region.data[place:start])))
            place = start
            found[start] = offset
        return found
