"""JSON Lines in two lanes: a fast one for sound chunks, an exact one for the others.

Both give the same rows; the exact one says what is wrong with a line.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from ingest import chunks
from ingest.chunks import Chunk, Layout, Row, chunk_of_rows
from ingest.json_text import DEEPEST, parse_json, parse_lines, spell_each
from ingest.text import Region, RegionOrigins, Text

NEWLINE, BRACE, BRACKET = b"\n"[0], b"{"[0], b"["[0]


def read_json_lines(text: Text, layout: Layout) -> Iterator[Chunk]:
    """Chunks of a file that holds a JSON object a line; blank lines are no rows."""
    first = 1
    while True:
        chunk = _read_fast(text, layout, first)
        if chunk is None:
            chunk = chunk_of_rows(_exact_rows(text, layout), layout, first)
        if chunk is None:
            return
        yield chunk
        first += chunk.row_count


def _read_fast(text: Text, layout: Layout, first: int) -> Chunk | None:
    """The next chunk where all of it is sound; None, and nothing skipped, elsewhere."""
    region = _sound_region(text)
    if region is None:
        return None
    rows = parse_lines(bytes(region.data))
    if rows is None or len(rows) != len(region.ends):
        return None
    known = set(layout.columns)
    if not layout.is_open and not all(map(known.issuperset, rows)):
        return None
    numbers = pl.int_range(first, first + len(rows), dtype=pl.Int64, eager=True)
    values = {c: spell_each([row.get(c) for row in rows]) for c in layout.columns}
    records = pl.DataFrame(
        {"row_number": numbers, **values},
        schema_overrides=dict.fromkeys(layout.columns, pl.String),
    )
    origins = RegionOrigins(region, first, text.line_number)
    text.skip(len(region.data), len(region.newlines))
    return Chunk(records, len(rows), origins, [])


def _sound_region(text: Text) -> Region | None:
    """The next CHUNK_ROWS lines, if they are none too deep."""
    ahead = text.look(chunks.CHUNK_BYTES)
    view = np.frombuffer(ahead, dtype=np.uint8)
    newlines = np.flatnonzero(view == NEWLINE)
    ends = newlines + 1
    if text.has_ended and len(view) and view[-1] != NEWLINE:
        ends = np.append(ends, len(view))
    ends = ends[: chunks.CHUNK_ROWS]
    if not len(ends):
        return None
    view = view[: int(ends[-1])]
    opening = np.flatnonzero((view == BRACE) | (view == BRACKET))
    if np.bincount(np.searchsorted(ends, opening, "right")).max(initial=0) > DEEPEST:
        return None
    return Region(ahead[: len(view)], ends, newlines[newlines < len(view)])


def _exact_rows(text: Text, layout: Layout) -> Iterator[Row]:
    while line := text.line():
        number = text.line_number
        text.skip(len(line), 1)
        if not line.strip():
            continue
        yield reread_line(line, layout)._replace(line_number=number)


def reread_line(line: bytes, layout: Layout) -> Row:
    """A line by itself, read exactly; it has no number."""
    try:
        return Row(None, line, _members(line, layout))
    except UnicodeDecodeError as error:
        return Row(None, line, [], "row_is_utf8", f"byte {error.start + 1}")
    except ValueError as error:
        return Row(None, line, [], "row_is_well_formed", str(error))


def _members(line: bytes, layout: Layout) -> list[str | None]:
    """The values of a JSON line, one a column of the layout.

    Raises:
        UnicodeDecodeError: it is no UTF-8.
        ValueError: it is no JSON object that can be kept, or has an unknown key.
    """
    value = parse_json(line.rstrip(b"\r\n"))
    if not isinstance(value, dict):
        msg = "the line is no JSON object"
        raise ValueError(msg)
    if not layout.is_open and (unknown := value.keys() - set(layout.columns)):
        msg = f"unknown key {sorted(unknown)[0]!r}"
        raise ValueError(msg)
    return spell_each([value.get(column) for column in layout.columns])
