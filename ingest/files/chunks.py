"""What every reader hands on: a bounded chunk of text rows, and where each came from.

Which columns it has belongs in layout.py, how a format is read in its own module.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from ingest.files.layout import Layout

# A batch is one short transaction and a few tens of megabytes (design: write side).
CHUNK_ROWS = 50_000
CHUNK_BYTES = 64 << 20
# No table has longer ones; a compressed file of a few megabytes may hold gigabytes.
LONGEST_LINE = 64 << 20


class Malformed(NamedTuple):
    """A row that is no row of its format."""

    row_number: int
    code: str
    detail: str
    column: str | None


class SourceRow(NamedTuple):
    """A row as an exact reader sees it; `code` and `detail` where it is malformed."""

    line_number: int | None
    byte_offset: int | None
    original: bytes
    values: list[str | None]
    code: str | None = None
    detail: str = ""
    column: str | None = None


class Origins(ABC):
    """Where the rows of a chunk came from."""

    @abstractmethod
    def of(self, row_numbers: list[int]) -> pl.DataFrame:
        """row_number, line_number, byte_offset, original of the rows asked for."""

    @staticmethod
    def frame(
        row_numbers: list[int],
        lines: Sequence[int | None],
        offsets: Sequence[int | None],
        originals: list[bytes],
    ) -> pl.DataFrame:
        """The frame that `of` returns."""
        return pl.DataFrame(
            [row_numbers, lines, offsets, originals],
            schema={
                "row_number": pl.Int64,
                "line_number": pl.Int64,
                "byte_offset": pl.Int64,
                "original": pl.Binary,
            },
        )


class RowOrigins(Origins):
    """Of rows that are kept one by one, in their order from row `first` on."""

    def __init__(self, rows: list[SourceRow], first: int) -> None:
        self._rows = rows
        self._first = first

    def of(self, row_numbers: list[int]) -> pl.DataFrame:
        """The rows asked for."""
        rows = [self._rows[number - self._first] for number in row_numbers]
        return self.frame(
            row_numbers,
            [row.line_number for row in rows],
            [row.byte_offset for row in rows],
            [row.original for row in rows],
        )


class FrameOrigins(Origins):
    """Of rows that have no bytes of their own: each as a JSON object of its texts."""

    def __init__(self, texts: pl.DataFrame, first: int) -> None:
        self._texts = texts
        self._first = first

    def of(self, row_numbers: list[int]) -> pl.DataFrame:
        """The rows asked for; they have no line and no bytes in a text."""
        rows = self._texts[[number - self._first for number in row_numbers]]
        spelled = rows.select(pl.struct(pl.all()).struct.json_encode()).to_series()
        originals = [text.encode() for text in spelled]
        nowhere = [None] * len(row_numbers)
        return self.frame(row_numbers, nowhere, nowhere, originals)


class Form(NamedTuple):
    """How the original bytes of one record read, kept with its file for a replay.

    format: `csv`, a record under `header`; or `json`, an object with a member a column.
    """

    format: str = "json"
    delimiter: str | None = None
    header: tuple[str, ...] = ()
    encoding: str | None = None
    accepts_unended: bool = False


class Chunk(NamedTuple):
    """Up to CHUNK_ROWS source rows.

    records: `row_number` and the layout's columns as String; the readable rows.
    row_count: of all rows, the malformed ones included. origins: of every row.
    """

    records: pl.DataFrame
    row_count: int
    origins: Origins
    malformed: list[Malformed]
    form: Form = Form()


def chunk_of_rows(
    rows: Iterator[SourceRow], layout: Layout, first: int
) -> Chunk | None:
    """The next chunk of rows read one by one, the first of them number `first`."""
    taken: list[SourceRow] = []
    size = 0
    while len(taken) < CHUNK_ROWS and size < CHUNK_BYTES:
        row = next(rows, None)
        if row is None:
            break
        taken.append(row)
        size += len(row.original)
    if not taken:
        return None
    numbered = list(enumerate(taken, start=first))
    columns = dict.fromkeys(layout.columns, pl.String)
    records = pl.DataFrame(
        [(number, *row.values) for number, row in numbered if row.code is None],
        schema={"row_number": pl.Int64, **columns},
        orient="row",
    )
    malformed = [
        Malformed(n, row.code, row.detail, row.column)
        for n, row in numbered
        if row.code
    ]
    return Chunk(records, len(taken), RowOrigins(taken, first), malformed)
