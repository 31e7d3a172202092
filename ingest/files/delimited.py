"""CSV and TSV in two lanes: a fast one for sound chunks, an exact one for the others.

Both give the same rows; the exact one knows bytes, lines and what is wrong with them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from ingest.errors import SourceError
from ingest.files.ahead import (
    NEWLINE,
    QUOTE,
    Region,
    RegionOrigins,
    TextAhead,
    region_ahead,
)
from ingest.files.chunks import Chunk, Form, SourceRow, chunk_of_rows
from ingest.files.encodings import Codec
from ingest.files.layout import Layout

RETURN = b"\r"[0]


def read_delimited(text: TextAhead, layout: Layout, name: str) -> Iterator[Chunk]:
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
    found = _names(header, delimiter, name)
    if layout.is_open:
        found = addressable(found)
    layout.check(found, name)
    form = Form("csv", delimiter, tuple(found), text.encoding, layout.accepts_unended)
    first = 1
    while True:
        chunk = _read_fast(text, layout, found, first, delimiter)
        if chunk is None:
            rows = _exact_rows(text, layout, form)
            chunk = chunk_of_rows(rows, layout, first)
        if chunk is None:
            return
        yield chunk._replace(form=form)
        first += chunk.row_count


def _names(header: bytes, delimiter: str, name: str) -> list[str]:
    try:
        values = fields(header.decode(), delimiter)
    except UnicodeDecodeError as error:
        msg = (
            f"{name}, line 1: byte {error.start + 1} of the header is not in the "
            "file's encoding. Name the right one, as in --encoding cp1252."
        )
        raise SourceError(msg) from error
    if values is None and b'"' not in header:
        msg = (
            f"{name}: its lines end in lone carriage returns. "
            "Convert them to line feeds, as in: tr '\\r' '\\n'."
        )
        raise SourceError(msg)
    return [column or "" for column in values or []]


def addressable(names: list[str]) -> list[str]:
    """Names that tell columns apart: those that repeat, or are none, by their place.

    Of two columns `a` the first is `a#1`, the second `a#2`; a column without a name in
    the third place is `#3`.
    """
    counts, seen = Counter(names), Counter[str]()
    found = []
    for place, name in enumerate(names, start=1):
        seen[name] += 1
        is_repeated = name and counts[name] > 1
        found.append(f"{name}#{seen[name]}" if is_repeated else name or f"#{place}")
    # A name such as a#1 may be there by itself.
    return found if len(set(found)) == len(found) else names


def _read_fast(
    text: TextAhead, layout: Layout, names: list[str], first: int, delimiter: str
) -> Chunk | None:
    """The next chunk where all of it is sound; None, and nothing skipped, elsewhere."""
    if len(names) < 2 or len(delimiter.encode()) > 1:
        return None
    region = region_ahead(text, has_quotes=True, takes_rest=layout.accepts_unended)
    if region is None or not _is_sound(region, len(names), delimiter.encode()[0]):
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
    origins = RegionOrigins(region, first, text)
    text.skip(len(region.data), len(region.newlines))
    return Chunk(records, rows, origins, [])


def _is_sound(region: Region, width: int, delimiter: int) -> bool:
    """Whether each of its records has so many values and its quotes in their places."""
    view = np.frombuffer(region.data, dtype=np.uint8)
    quotes = np.flatnonzero(view == QUOTE)
    if not _quotes_are_sound(view, quotes, delimiter):
        return False
    if np.count_nonzero(view == RETURN) != bytes(region.data).count(b"\r\n"):
        return False
    delimiters = np.flatnonzero(view == delimiter)
    outside = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
    counts = np.diff(np.searchsorted(outside, region.ends), prepend=0)
    return bool(np.all(counts == width - 1))


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


def _exact_rows(text: TextAhead, layout: Layout, form: Form) -> Iterator[SourceRow]:
    read = _reader(layout, form)
    while True:
        number, offset = text.line_number, text.byte_offset
        record = text.record()
        if not record:
            return
        if record.strip(b"\r\n"):
            row = read(record, text.original(record))
            yield row._replace(line_number=number, byte_offset=offset)


def reread_record(original: bytes, layout: Layout, form: Form) -> SourceRow:
    """A record by itself, read as it was in its file; it has no place."""
    record = Codec(form.encoding).to_utf8(original) if form.encoding else original
    return _reader(layout, form)(record, original)


def _reader(layout: Layout, form: Form) -> Callable[[bytes, bytes], SourceRow]:
    """What makes the row of a record, as UTF-8 and as it came."""
    names, delimiter = form.header, form.delimiter or ","
    places = [names.index(c) if c in names else None for c in layout.columns]

    def read(record: bytes, original: bytes) -> SourceRow:
        place = None, None, original
        if not (record.endswith(b"\n") or form.accepts_unended):
            return SourceRow(*place, [], "row_is_ended", "the file ends before it does")
        try:
            values = fields(record.decode(), delimiter)
        except UnicodeDecodeError:
            return SourceRow(*place, [], "row_is_utf8", *_flaw(original, form))
        if values is None:
            detail = "a quote or a carriage return is out of place"
            return SourceRow(*place, [], "row_is_well_formed", detail)
        if len(values) != len(names):
            detail = f"{len(values)} values under {len(names)} columns"
            return SourceRow(*place, [], "row_is_well_formed", detail)
        return SourceRow(*place, [None if p is None else values[p] for p in places])

    return read


def _flaw(original: bytes, form: Form) -> tuple[str, str | None]:
    """Where a row is not of its encoding: in words, and the column if that is known."""
    encoding = form.encoding or "utf-8"
    try:
        original.decode(encoding)
    except UnicodeDecodeError as error:
        text = original.decode(encoding, "replace")
        values = fields(text, form.delimiter or ",") or []
        cells = zip(form.header, values, strict=False)
        flawed = [name for name, cell in cells if "\ufffd" in (cell or "")]
        is_known = len(values) == len(form.header) and len(flawed) == 1
        return f"byte {error.start + 1}", flawed[0] if is_known else None
    return f"{encoding} spells it otherwise", None


@cache
def _field_pattern(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'(?:"((?:[^"]|"")*)"|([^"\r{mark}]*))({mark}|\Z)')


def fields(record: str, delimiter: str) -> list[str | None] | None:
    """The values of a record, a bare empty one as None.

    Returns:
        None where a quote, or a carriage return that ends no line, is out of place.
    """
    record = record.removesuffix("\n").removesuffix("\r")
    if '"' not in record and "\r" not in record:
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
