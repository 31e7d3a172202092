"""JSON Lines in two lanes: a fast one for sound chunks, an exact one for the others.

Both give the same rows; the exact one says what is wrong with a line.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from ingest.files.ahead import Region, RegionOrigins, TextAhead, region_ahead
from ingest.files.chunks import Chunk, Form, SourceRow, chunk_of_rows
from ingest.files.encodings import Codec
from ingest.files.layout import Layout
from ingest.json_text import DEEPEST, parse_json, parse_lines, spell_each

BRACE, BRACKET = b"{["


def read_json_lines(text: TextAhead, layout: Layout) -> Iterator[Chunk]:
    """Chunks of a file that holds a JSON object a line; blank lines are no rows."""
    form = Form(encoding=text.encoding)
    first = 1
    while True:
        chunk = _read_fast(text, layout, first)
        if chunk is None:
            chunk = chunk_of_rows(_exact_rows(text, layout), layout, first)
        if chunk is None:
            return
        yield chunk._replace(form=form)
        first += chunk.row_count


def _read_fast(text: TextAhead, layout: Layout, first: int) -> Chunk | None:
    """The next chunk where all of it is sound; None, and nothing skipped, elsewhere."""
    region = region_ahead(text, has_quotes=False, takes_rest=True)
    if region is None or not _is_shallow(region):
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
    origins = RegionOrigins(region, first, text)
    text.skip(len(region.data), len(region.newlines))
    return Chunk(records, len(rows), origins, [])


def _is_shallow(region: Region) -> bool:
    """Whether no line opens more than DEEPEST objects and arrays."""
    view = np.frombuffer(region.data, dtype=np.uint8)
    opening = np.flatnonzero((view == BRACE) | (view == BRACKET))
    counts = np.bincount(np.searchsorted(region.ends, opening, "right"))
    return bool(counts.max(initial=0) <= DEEPEST)


def _exact_rows(text: TextAhead, layout: Layout) -> Iterator[SourceRow]:
    while line := text.line():
        number, offset = text.line_number, text.byte_offset
        text.skip(len(line), 1)
        if line.strip():
            row = _row(line, text.original(line), layout)
            yield row._replace(line_number=number, byte_offset=offset)


def reread_line(original: bytes, layout: Layout, form: Form) -> SourceRow:
    """A line by itself, read exactly; it has no place."""
    line = Codec(form.encoding).to_utf8(original) if form.encoding else original
    return _row(line, original, layout)


def _row(line: bytes, original: bytes, layout: Layout) -> SourceRow:
    place = None, None, original
    try:
        return SourceRow(*place, _members(line, layout))
    except UnicodeDecodeError as error:
        return SourceRow(*place, [], "row_is_utf8", f"byte {error.start + 1}")
    except ValueError as error:
        is_mac = b"\r" in line.rstrip(b"\r\n")
        hint = "; its lines may end in lone carriage returns" if is_mac else ""
        return SourceRow(*place, [], "row_is_well_formed", f"{error}{hint}")


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
