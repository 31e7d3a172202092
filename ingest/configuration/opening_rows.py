"""A calendar's windows and pages as rows of PostgreSQL's binary COPY.

As text, a value at a time, psycopg took three times as long for them as all else takes
that is done to apply a calendar. When one is open is decided in calendars.py.
"""

import uuid
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from struct import Struct

from ingest.configuration.calendars import Opening

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
BEFORE_ROWS = b"PGCOPY\n\xff\r\n\0" + bytes(8)
AFTER_ROWS = b"\xff\xff"
WINDOW_COPY = "copy {}.calendar_windows from stdin (format binary)"
PAGE_COPY = "copy {}.calendar_pages from stdin (format binary)"
MICROSECONDS = 1_000_000
TIMESTAMP_OID = 1114
# How many values a row has, then each after its length in bytes; that of a null is -1.
_WINDOW = Struct("!hi16s")
_PAGE = Struct("!hi16si?iiiq")
_INSTANT = Struct("!iq")
_NULL = Struct("!i").pack(-1)
# Length, dimensions, whether there are nulls, type; then size and lower bound.
_ARRAY = Struct("!iiiIii")


def opening_copies(
    calendar_id: uuid.UUID, opening: Opening, schema: str
) -> Iterator[tuple[str, bytes]]:
    """Statements, each with what it copies: a calendar version's windows and pages."""
    columns = [_instants(column) for column in opening.edges]
    yield WINDOW_COPY.format(schema), _copied(_window_rows(calendar_id, *columns))
    yield PAGE_COPY.format(schema), _copied(_page_rows(calendar_id, opening, columns))


def _copied(rows: Iterable[bytes]) -> bytes:
    return b"".join(chain((BEFORE_ROWS,), rows, (AFTER_ROWS,)))


def _instants(seconds: list[int]) -> list[bytes]:
    """Values of rows and of arrays alike."""
    microseconds = [second * MICROSECONDS for second in seconds]
    return list(map(_INSTANT.pack, repeat(8), microseconds))


def _window_rows(
    calendar_id: uuid.UUID,
    opens: list[bytes],
    closes: list[bytes],
    clocks: list[bytes],
) -> Iterator[bytes]:
    """Values of rows, one after another."""
    key = _WINDOW.pack(5, 16, calendar_id.bytes)
    following = [*opens[1:], _NULL]
    rows = zip(repeat(key), opens, closes, following, clocks, strict=False)
    return chain.from_iterable(rows)


def _page_rows(
    calendar_id: uuid.UUID, opening: Opening, columns: list[list[bytes]]
) -> Iterator[bytes]:
    """Values of rows, one after another."""
    until = opening.edges.closes[-1] * MICROSECONDS
    key = (7, 16, calendar_id.bytes, 1)
    for number, is_by_clock, places, _ in opening.pages():
        yield _PAGE.pack(*key, is_by_clock, 4, number, 8, until)
        count = len(places)
        length = _ARRAY.size - 4 + count * _INSTANT.size
        head = _ARRAY.pack(length, 1, 0, TIMESTAMP_OID, count, 1)
        for column in columns:
            yield head
            yield b"".join(column[places.start : places.stop])
