"""XES, the event logs of process mining (IEEE 1849), as one row per event.

A column is the key of an event's attribute, `case:` and the key of one of its trace, or
`xes:position`: the event's place in its trace, from 1. Values are the texts as written.
Lists, containers, and what is inside an attribute are no columns, and passed over. The
XML says its encoding itself; an encoding or a delimiter that a mapping names does not
matter, as with Parquet.

How XML is parsed belongs here; what a value means, in transition.py and mapping.py.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BufferedIOBase
from itertools import chain
from typing import Any, NamedTuple, NoReturn
from xml.parsers import expat

import polars as pl

from ingest.errors import SourceError
from ingest.files import chunks
from ingest.files.chunks import Chunk, Malformed, Origins
from ingest.files.layout import Layout

READ_BYTES = 1 << 18
# Of a tag, a comment or an instruction: the parser holds it whole, and begins it anew
# with each piece of it that is read.
LONGEST_TAG = 8 << 20
# The parser keeps a tag for each level that is open, and names for ever.
DEEPEST = 100
MOST_NAMES = 10_000
# What an attribute takes beside its text, so that many short ones are no small row.
ATTRIBUTE_BYTES = 64
# As many names of columns are remembered for a message.
REMEMBERED = 1_000
# Deeper than any element.
NOWHERE = DEEPEST + 2

CASE = "case:"
POSITION = "xes:position"
KINDS = ("string", "date", "int", "float", "boolean", "id")

Texts = dict[str, str]
Pairs = list[tuple[str, str]]


class _Case:
    """What the events of a trace share; `flaw` where it can't be read.

    size: about as many bytes as it holds.
    """

    __slots__ = ("flaw", "size", "texts")

    def __init__(self) -> None:
        self.texts: Texts = {}
        self.flaw = ""
        self.size = 0


class _Flaw(NamedTuple):
    """Why an event can't be read, and the values that no column has room for."""

    detail: str
    repeated: Pairs


class _Events(NamedTuple):
    """Events in their order, a list for each part of them.

    An object for each took as long as all of the parsing: the collector of garbage
    goes through all that are kept.
    """

    lines: list[int]
    positions: list[int]
    cases: list[_Case]
    texts: list[Texts]
    flaws: list[_Flaw | None]

    def add(self, other: "_Events", start: int, end: int | None) -> None:
        """Add some events of others."""
        self.lines.extend(other.lines[start:end])
        self.positions.extend(other.positions[start:end])
        self.cases.extend(other.cases[start:end])
        self.texts.extend(other.texts[start:end])
        self.flaws.extend(other.flaws[start:end])

    def pairs(self, place: int) -> Pairs:
        """All that is known of an event, by column."""
        flaw, position = self.flaws[place], self.positions[place]
        return [
            *self.cases[place].texts.items(),
            *self.texts[place].items(),
            *(flaw.repeated if flaw else ()),
            *([(POSITION, str(position))] if position else ()),
        ]

    def has(self, columns: set[str]) -> set[str]:
        """Those of the columns that an event has."""
        found: set[str] = set()
        for texts, case in zip(self.texts, self.cases, strict=True):
            found.update(columns & texts.keys(), columns & case.texts.keys())
            if len(found) == len(columns):
                break
        return found


OUTSIDE = _Case()


def _none() -> _Events:
    return _Events([], [], [], [], [])


def read_xes(
    reopen: Callable[[], BufferedIOBase], layout: Layout, name: str
) -> Iterator[Chunk]:
    """Chunks of up to CHUNK_ROWS events, ended early where they hold CHUNK_BYTES.

    A log has no header. A column that the first chunk has not is looked for in the rest
    of the file before a row is handed out, in one further reading.

    Args:
        reopen: the file from its start, decompressed.
        layout: the columns looked for.
        name: of the file, for messages.

    Raises:
        SourceError: it is no event log, is cut off, can't be read safely, or no event
            has one of the required columns, and none is declared for all. What came
            before a tear is handed out first.
    """
    log = _Log(name, layout)
    parts = _parts(_blocks(reopen(), log))
    taken = next(parts, None)
    if taken is None:
        return
    missing = set(layout.required) - log.declared - {POSITION}
    missing -= taken.has(missing)
    if missing:
        _search(missing, chain([taken], parts), layout, name)
        parts = _parts(_blocks(reopen(), _Log(name, layout)))
        taken = next(parts, None)
    first = 1
    while taken is not None:
        yield _chunk(taken, layout, first)
        first += len(taken.lines)
        taken = next(parts, None)


def _search(
    missing: set[str], parts: Iterable[_Events], layout: Layout, name: str
) -> None:
    """Read until the missing columns were seen; refuse the file where they are not."""
    found: dict[str, None] = {}
    count = 0
    for part in parts:
        missing = missing - part.has(missing)
        if not missing:
            return
        count += len(part.lines)
        for texts, case in zip(part.texts, part.cases, strict=True):
            if len(found) < REMEMBERED:
                found.update(dict.fromkeys(chain(case.texts, texts)))
    known = [column for column in layout.required if column not in missing]
    names = dict.fromkeys([*found, *known, POSITION])
    layout.check(list(names), name, f"in all its {count:,} events: the log")


def _chunk(events: _Events, layout: Layout, first: int) -> Chunk:
    columns = {
        column: pl.Series(_values(events, column), dtype=pl.String)
        for column in layout.columns
    }
    rows = len(events.lines)
    numbers = pl.int_range(first, first + rows, dtype=pl.Int64, eager=True)
    records = pl.DataFrame({"row_number": numbers, **columns})
    known = None if layout.is_open else {*layout.columns, POSITION}
    malformed = [
        Malformed(first + place, "row_is_well_formed", detail, None)
        for place in range(rows)
        if (detail := _flaw(events, place, known))
    ]
    if malformed:
        unreadable = [row.row_number for row in malformed]
        records = records.filter(~pl.col("row_number").is_in(unreadable))
    return Chunk(records, rows, _EventOrigins(events, first), malformed)


def _values(events: _Events, column: str) -> list[str | None]:
    if column == POSITION:
        return [str(position) if position else None for position in events.positions]
    if column.startswith(CASE):
        both = zip(events.cases, events.texts, strict=True)
        return [case.texts.get(column, texts.get(column)) for case, texts in both]
    return [texts.get(column) for texts in events.texts]


def _flaw(events: _Events, place: int, known: set[str] | None) -> str:
    """What is wrong with an event, if anything; `known`, where no other key may be."""
    flaw, case, texts = events.flaws[place], events.cases[place], events.texts[place]
    if flaw or case.flaw:
        return flaw.detail if flaw else case.flaw
    if POSITION in texts or not case.texts.keys().isdisjoint(texts):
        twice = next(key for key in texts if key in case.texts or key == POSITION)
        return f"the event and its trace both have {twice!r}"
    if known is not None:
        others = (key for key in chain(case.texts, texts) if key not in known)
        return "".join(f"unknown key {key!r}" for key in list(others)[:1])
    return ""


class _EventOrigins(Origins):
    """Of events: each as a JSON object of all its texts, mapped or not."""

    def __init__(self, events: _Events, first: int) -> None:
        self._events = events
        self._first = first

    def of(self, row_numbers: list[int]) -> pl.DataFrame:
        """The rows asked for, with the line that each event begins on."""
        places = [number - self._first for number in row_numbers]
        return self.frame(
            row_numbers,
            [self._events.lines[place] for place in places],
            [None] * len(places),
            [_json_object(self._events.pairs(place)) for place in places],
        )


def _json_object(pairs: Pairs) -> bytes:
    """An object with a member for each pair; a key that is there twice stays so."""
    spelled = (
        f"{json.dumps(key, ensure_ascii=False)}:{json.dumps(text, ensure_ascii=False)}"
        for key, text in pairs
    )
    return f"{{{','.join(spelled)}}}".encode()


def _parts(blocks: Iterator[_Events]) -> Iterator[_Events]:
    """The events of a chunk each; where a part ends does not depend on the blocks.

    What ends the reading is raised behind the events before it.
    """
    part, size = _none(), 0
    while True:
        try:
            block = next(blocks, None)
        except (SourceError, OSError, EOFError, zlib.error):
            if part.lines:
                yield part
            raise
        if block is None:
            break
        start = 0
        for place, (texts, case) in enumerate(
            zip(block.texts, block.cases, strict=True), start=1
        ):
            size += sum(map(len, texts)) + sum(map(len, texts.values()))
            size += ATTRIBUTE_BYTES * len(texts) + case.size
            rows = len(part.lines) + place - start
            if rows >= chunks.CHUNK_ROWS or size >= chunks.CHUNK_BYTES:
                part.add(block, start, place)
                yield part
                part, size, start = _none(), 0, place
        part.add(block, start, None)
    if part.lines:
        yield part


def _blocks(stream: BufferedIOBase, log: "_Log") -> Iterator[_Events]:
    """The events of a piece of the file each; raises behind those before a tear."""
    while True:
        error: Exception | None = None
        block = b""
        try:
            block = stream.read1(READ_BYTES)
            log.feed(block)
        except (SourceError, OSError, EOFError, zlib.error) as raised:
            error = raised
        yield log.take()
        if error is not None:
            raise error
        if not block:
            return


class _Log:
    """Events out of the XML of a log, as much of it as was fed.

    declared: the columns that the log declares for all events or traces.
    """

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.declared: set[str] = set()
        self._columns = frozenset(layout.columns)
        self._names: dict[str, str] = {}
        self._parser = _parser(self._names)
        self._parser.StartElementHandler = self._start
        # Called in C: with a function that counted, reading took a tenth longer.
        self._ended: list[str] = []
        self._parser.EndElementHandler = self._ended.append
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartNamespaceDeclHandler = self._note_prefix
        self._fed = self._started = 0
        self._namespace = self._trace_name = self._event_name = ""
        self._kinds: frozenset[str] = frozenset()
        self._scope = ""
        self._case: _Case | None = None
        self._position = 0
        self._texts: Texts = {}
        # Where the attributes of the open event are; nothing is as deep without one.
        self._inside = NOWHERE
        self._line = 0
        self._flaw: _Flaw | None = None
        self._is_noted = False
        self._open_bytes = 0
        self._found = _none()

    def feed(self, block: bytes) -> None:
        """Read on; no bytes are the end of the file.

        Raises:
            SourceError: it is no XML of a log, or can't be held in memory. The events
                before that can be taken.
        """
        self._is_noted = False
        try:
            self._parser.Parse(block, not block)
        except expat.ExpatError as error:
            self._refuse_xml(error, is_end=not block)
        except (LookupError, ValueError) as error:
            self._refuse(f"its encoding can't be read: {error}. Convert it to UTF-8.")
        finally:
            self._settle()
        self._fed += len(block)
        self._check_sizes(len(block))

    def take(self) -> _Events:
        """The events that ended since the last time."""
        found, self._found = self._found, _none()
        return found

    def _settle(self) -> None:
        """Close what ended, as the next tag would."""
        depth = self._started = self._started - len(self._ended)
        self._ended.clear()
        if depth < self._inside - 1:
            self._close_event()

    def _check_sizes(self, size: int) -> None:
        if self._fed - self._parser.CurrentByteIndex > LONGEST_TAG:
            self._refuse(
                f"a tag or comment goes on for more than {LONGEST_TAG:,} bytes. "
                "Deliver the log with shorter values."
            )
        if len(self._names) > MOST_NAMES:
            self._refuse(
                f"it has more than {MOST_NAMES:,} names of elements and attributes. "
                "Deliver a log of XES."
            )
        self._open_bytes = 0 if self._is_noted else self._open_bytes + size
        if self._open_bytes > chunks.LONGEST_LINE:
            self._refuse(
                "an event or a trace's attributes go on for more than "
                f"{chunks.LONGEST_LINE:,} bytes. Deliver the log with shorter ones."
            )

    def _start(self, name: str, attributes: list[str]) -> None:
        self._started += 1
        depth = self._started - len(self._ended)
        if depth == self._inside:
            if name not in self._kinds:
                return
            # Most are these two and no others; whatever else, in `_add`.
            try:
                mark, key, other_mark, text = attributes
            except ValueError:
                self._add(attributes)
                return
            texts = self._texts
            if mark == "key" and other_mark == "value" and key not in texts:
                texts[key] = text
            else:
                self._add(attributes)
        elif depth < self._inside:
            self._close_event()
            if depth == 3:
                self._start_in_part(name, attributes)
            elif depth == 2:
                self._start_part(name, attributes)
            elif depth == 1:
                self._start_log(name)
        if depth > DEEPEST:
            self._refuse(f"more than {DEEPEST} elements are open. Flatten the log.")

    def _start_part(self, name: str, attributes: list[str]) -> None:
        """A part of the log begins: a trace, an event without one, a declaration."""
        self._is_noted = True
        self._case, self._position, self._scope = None, 0, ""
        if name == self._trace_name:
            self._case = _Case()
        elif name == self._event_name:
            self._open_event(depth=2)
        elif name == f"{self._namespace}global":
            self._scope = dict(_pairs(attributes)).get("scope", "event")

    def _start_in_part(self, name: str, attributes: list[str]) -> None:
        """An event or an attribute of a trace begins, or what a global declares."""
        if self._case is None:
            if name in self._kinds:
                self._declare(attributes)
        elif name == self._event_name:
            self._position += 1
            self._open_event(depth=3)
        elif name in self._kinds:
            self._add_to_case(self._case, attributes)

    def _start_log(self, name: str) -> None:
        namespace, _, local = name.rpartition(" ")
        if local != "log":
            self._refuse(
                f"its first element is {local[:40]!r}, not 'log'. Deliver a log of XES."
            )
        self._namespace = f"{namespace} " if namespace else ""
        self._trace_name = f"{self._namespace}trace"
        self._event_name = f"{self._namespace}event"
        self._kinds = frozenset(f"{self._namespace}{kind}" for kind in KINDS)

    def _declare(self, attributes: list[str]) -> None:
        """A global: what all events, or all traces, are said to have."""
        key = dict(_pairs(attributes)).get("key", "")
        column = {"event": key, "trace": f"{CASE}{key}"}.get(self._scope)
        if column in self._columns:
            self.declared.add(column)

    def _open_event(self, depth: int) -> None:
        self._texts, self._flaw = {}, None
        self._line = self._parser.CurrentLineNumber
        self._inside = depth + 1
        self._is_noted = True

    def _close_event(self) -> None:
        if self._inside == NOWHERE:
            return
        found = self._found
        found.lines.append(self._line)
        found.positions.append(self._position)
        found.cases.append(self._case or OUTSIDE)
        found.texts.append(self._texts)
        found.flaws.append(self._flaw)
        self._inside = NOWHERE

    def _add(self, attributes: list[str]) -> None:
        """An attribute of the open event, whatever is wrong with it."""
        given = dict(_pairs(attributes))
        if "key" not in given or "value" not in given:
            self._flaw = self._flaw or _Flaw(_incomplete(given), [])
        elif given["key"] in self._texts:
            detail = f"the event has {given['key']!r} twice"
            self._flaw = self._flaw or _Flaw(detail, [])
            self._flaw.repeated.append((given["key"], given["value"]))
        else:
            self._texts[given["key"]] = given["value"]

    def _add_to_case(self, case: _Case, attributes: list[str]) -> None:
        """An attribute of the open trace."""
        given = dict(_pairs(attributes))
        column = f"{CASE}{given.get('key')}"
        if self._position:
            # The rows of the events before it went on without.
            if column in self._columns:
                self._refuse(
                    f"{column!r} is behind events of its trace. "
                    "Write the attributes of a trace before its events."
                )
        elif "key" not in given or "value" not in given:
            case.flaw = case.flaw or _incomplete(given)
        elif column in case.texts:
            case.flaw = f"the trace has {given['key']!r} twice"
        else:
            case.texts[column] = given["value"]
            case.size += len(column) + len(given["value"]) + ATTRIBUTE_BYTES

    def _note_prefix(self, prefix: str | None, _: str | None) -> None:
        """The parser keeps prefixes of namespaces as it does names."""
        self._names.setdefault(f"xmlns:{prefix}", "")

    def _refuse_doctype(self, *_: Any) -> NoReturn:
        self._refuse(
            "it has a DOCTYPE, which no log needs and which may stand for other "
            "content. Remove it."
        )

    def _refuse_xml(self, error: expat.ExpatError, *, is_end: bool) -> NoReturn:
        reason = expat.ErrorString(error.code)
        said = "it is cut off" if is_end else f"it is no well-formed XML: {reason}"
        msg = f"{self.name}, line {error.lineno}: {said}. Deliver it again."
        raise SourceError(msg) from error

    def _refuse(self, reason: str) -> NoReturn:
        msg = f"{self.name}, line {self._parser.CurrentLineNumber}: {reason}"
        raise SourceError(msg)


def _parser(names: dict[str, str]) -> expat.XMLParserType:
    """A parser that tells names with their namespace, and keeps them in `names`."""
    parser = expat.ParserCreate(None, " ", names)
    parser.ordered_attributes = True
    # Where there is such a thing; else the parser decides when rows before a tear come.
    if hasattr(parser, "SetReparseDeferralEnabled"):
        parser.SetReparseDeferralEnabled(False)
    return parser


def _pairs(attributes: list[str]) -> Iterator[tuple[str, str]]:
    return zip(attributes[::2], attributes[1::2], strict=True)


def _incomplete(given: Texts) -> str:
    if "key" in given:
        return f"{given['key']!r} has no value"
    return "an attribute has no key"
