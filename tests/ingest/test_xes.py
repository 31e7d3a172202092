"""XES: event logs as rows, read whole, in pieces, torn, and refused where hostile."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import Mapping, Settings, SourceError, deliver
from ingest.append import AppendResult, append_batch, known_types
from ingest.delivery import validated
from ingest.files import chunks, xes
from ingest.files.chunks import Chunk
from ingest.files.content import Content
from ingest.files.layout import Layout
from ingest.files.sources import read
from ingest.rejects import replay
from ingest.store.database import PROJECT, Connection, server_clock

Write = Callable[[str, str | bytes], Path]
Load = Callable[[str], Mapping]

NAMES = ("case:concept:name", "concept:name", "time:timestamp", "xes:position")
LAYOUT = Layout(NAMES, NAMES, is_open=True)
ANY = Layout(NAMES, (), is_open=True)
XMLNS = "http://www.xes-standard.org/"
AT = "2011-10-01T00:38:44.546+02:00"
MAPPING = """
entity_type: {constant: order}
entity_id: {column: case:concept:name, key: true, namespace: log}
created_at: time:timestamp
to_status: concept:name
order: [xes:position]
"""
# As OpenXES, in ProM and in Disco, writes them.
OPENXES = f"""<?xml version="1.0" encoding="UTF-8" ?>
<!-- This file has been generated with the OpenXES library. -->
<log xes.version="1.0" xes.features="nested-attributes" openxes.version="1.0RC7"
    xmlns="{XMLNS}">
  <extension name="Concept" prefix="concept" uri="{XMLNS}concept.xesext"/>
  <global scope="trace"><string key="concept:name" value="__INVALID__"/></global>
  <global scope="event"><string key="concept:name" value="__INVALID__"/></global>
  <classifier name="Event Name" keys="concept:name"/>
  <string key="concept:name" value="the log"/>
  <trace>
    <string key="concept:name" value="173688"/>
    <float key="AMOUNT_REQ" value="20000.0"/>
    <event>
      <string key="org:resource" value="112"/>
      <string key="concept:name" value="A_SUBMITTED">
        <string key="concept:name" value="nested"/>
        <int key="depth" value="2"><id key="deeper" value="3"/></int>
      </string>
      <date key="time:timestamp" value="{AT}"/>
      <list key="items"><values><string key="concept:name" value="1"/></values></list>
      <container key="more"><string key="concept:name" value="2"/></container>
    </event>
    <event>
      <string value="A_PARTLY" key="concept:name" lang="en"></string>
      <boolean key="flag" value="true"/>
      <int key="count" value="007"/>
    </event>
  </trace>
  <trace><string key="concept:name" value="empty"/></trace>
  <event><string key="concept:name" value="alone"/></event>
</log>
"""
# As pm4py writes them.
PM4PY = """<?xml version='1.0' encoding='UTF-8'?>
<log xes.version="1849-2016" xes.features="nested-attributes">
\t<string key="origin" value="csv" />
\t<trace>
\t\t<string key="concept:name" value="1" />
\t\t<event>
\t\t\t<string key="concept:name" value="a &amp; b" />
\t\t\t<date key="time:timestamp" value="2010-12-30T14:32:00+00:00" />
\t\t</event>
\t</trace>
</log>"""


def _chunks(path: Path, layout: Layout = LAYOUT) -> Iterator[Chunk]:
    with Content(path) as content:
        yield from read(content, layout)


def _rows(path: Path, layout: Layout = LAYOUT) -> list[tuple[Any, ...]]:
    frames = [chunk.records for chunk in _chunks(path, layout)]
    # By name: a column may be called *, which polars takes for all of them.
    return [
        tuple(row[name] for name in layout.columns)
        for frame in frames
        for row in frame.iter_rows(named=True)
    ]


def _malformed(path: Path, layout: Layout = ANY) -> list[tuple[Any, ...]]:
    """Row, line, code, detail, and what is kept of the events that can't be read."""
    found = []
    for chunk in _chunks(path, layout):
        for row in chunk.malformed:
            ((_, line, offset, kept),) = chunk.origins.of([row.row_number]).rows()
            assert offset is None
            found.append((row.row_number, line, row.code, row.detail, kept.decode()))
    return found


def _refusal(path: Path, layout: Layout = ANY) -> tuple[int, str]:
    """How many rows were read before, and the sentence."""
    counts: list[int] = []
    with pytest.raises(SourceError) as caught:
        counts.extend(chunk.row_count for chunk in _chunks(path, layout))
    assert str(caught.value).startswith(str(path))
    return sum(counts), str(caught.value)


def _log(*traces: list[dict[str, str]], head: str = "") -> str:
    """A log of traces with events as dictionaries; the traces are numbered from 1."""
    log = ET.Element("log")
    for number, events in enumerate(traces, start=1):
        trace = ET.SubElement(log, "trace")
        ET.SubElement(trace, "string", key="concept:name", value=str(number))
        for event in events:
            element = ET.SubElement(trace, "event")
            for key, value in event.items():
                ET.SubElement(element, "string", key=key, value=value)
    return head + ET.tostring(log, encoding="unicode")


def _events(count: int) -> list[dict[str, str]]:
    return [{"concept:name": f"s{n}", "time:timestamp": AT} for n in range(count)]


@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz", "LOG.XES"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(OPENXES, id="namespace"),
        pytest.param(OPENXES.replace(f'xmlns="{XMLNS}"', ""), id="none"),
        pytest.param(
            OPENXES.replace("</", "\0")
            .replace("<", "<x:")
            .replace("\0", "</x:")
            .replace("<x:?", "<?")
            .replace("<x:!", "<!")
            .replace("xmlns=", "xmlns:x="),
            id="prefix",
        ),
        pytest.param(OPENXES.replace("\n", "\r\n"), id="CRLF"),
    ],
)
def test_log_of_openxes_is_a_row_per_event(write: Write, name: str, text: str) -> None:
    path = write(name, text)
    more = (*NAMES, "case:AMOUNT_REQ", "org:resource", "flag", "count")
    empty = (None,) * 3
    assert _rows(path, Layout(more, more, is_open=True)) == [
        ("173688", "A_SUBMITTED", AT, "1", "20000.0", "112", None, None),
        ("173688", "A_PARTLY", None, "2", "20000.0", None, "true", "007"),
        (None, "alone", None, None, None, *empty),
    ]
    assert _malformed(path) == []


def test_log_of_pm4py_is_read(write: Write) -> None:
    assert _rows(write("log.xes", PM4PY)) == [
        ("1", "a & b", "2010-12-30T14:32:00+00:00", "1")
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "cp1252"])
def test_log_is_read_in_the_encoding_that_it_declares(
    write: Write, encoding: str
) -> None:
    text = _log(
        [{"concept:name": "née"}], head=f'<?xml version="1.0" encoding="{encoding}"?>'
    )
    path = write("log.xes", text.encode(encoding))
    ours = ANY._replace(encoding="cp1251", delimiter=";", accepts_unended=True)
    assert _rows(path, ours) == [("1", "née", None, "1")]


def test_encoding_nobody_knows_is_refused(write: Write) -> None:
    for encoding in ("klingon", "shift_jis"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        count, said = _refusal(write("log.xes", head + "<log/>"))
        assert (count, "encoding" in said) == (0, True)


def test_line_and_all_texts_of_an_event_are_kept(write: Write) -> None:
    (chunk,) = _chunks(write("log.xes", OPENXES))
    numbers, lines, _, kept = zip(*chunk.origins.of([3, 1]).rows(), strict=True)
    assert (numbers, lines) == ((3, 1), (30, 13))
    assert json.loads(kept[1]) == {
        "case:concept:name": "173688",
        "case:AMOUNT_REQ": "20000.0",
        "org:resource": "112",
        "concept:name": "A_SUBMITTED",
        "time:timestamp": AT,
        "xes:position": "1",
    }


@pytest.mark.parametrize(
    ("inside", "detail", "kept"),
    [
        (
            '<int key="a" value="1"/><id key="a" value="2"/>',
            "the event has 'a' twice",
            '{"case:x":"0","a":"1","a":"2","xes:position":"2"}',
        ),
        (
            '<string key="case:x" value="1"/>',
            "the event and its trace both have 'case:x'",
            '{"case:x":"0","case:x":"1","xes:position":"2"}',
        ),
        (
            '<string key="xes:position" value="1"/>',
            "the event and its trace both have 'xes:position'",
            '{"case:x":"0","xes:position":"1","xes:position":"2"}',
        ),
        (
            '<string key="a"/>',
            "'a' has no value",
            '{"case:x":"0","xes:position":"2"}',
        ),
        (
            '<string value="a"/>',
            "an attribute has no key",
            '{"case:x":"0","xes:position":"2"}',
        ),
    ],
)
def test_event_that_says_two_things_is_kept_and_the_others_are_read(
    write: Write, inside: str, detail: str, kept: str
) -> None:
    name = '<string key="concept:name" value="s"/>'
    events = f"<event>{name}</event>\n<event>{inside}</event>\n<event>{name}</event>"
    trace = f'<trace><string key="x" value="0"/>{events}</trace>'
    path = write("log.xes", f"<log>\n{trace}\n</log>")
    assert [row[1::2] for row in _rows(path, ANY)] == [("s", "1"), ("s", "3")]
    assert _malformed(path) == [(2, 3, "row_is_well_formed", detail, kept)]


def test_trace_that_says_two_things_spoils_its_events(write: Write) -> None:
    twice = '<id key="a" value="1"/>' * 2
    text = f"<log><trace>{twice}<event/><event/></trace><trace><event/></trace></log>"
    path = write("log.xes", text)
    assert [row[3] for row in _malformed(path)] == ["the trace has 'a' twice"] * 2
    assert len(_rows(path, ANY)) == 1


def test_attribute_behind_events_of_its_trace_is_refused_where_it_is_mapped(
    write: Write,
) -> None:
    late = '<string key="{}" value="1"/></trace>'
    text = _log(_events(1))
    other = write("log.xes", text.replace("</trace>", late.format("other")))
    assert len(_rows(other)) == 1
    wanted = write("log.xes", text.replace("</trace>", late.format("concept:name")))
    count, said = _refusal(wanted)
    assert (count, "'case:concept:name' is behind events" in said) == (1, True)


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 18])
def test_chunks_end_at_the_same_events_however_the_file_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(xes, "READ_BYTES", size)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    path = write("log.xes", _log(_events(3), [], _events(2)))
    found = list(_chunks(path))
    numbers = [chunk.records["row_number"].to_list() for chunk in found]
    assert numbers == [[1, 2], [3, 4], [5]]
    places = pl.concat(chunk.records for chunk in found)["xes:position"].to_list()
    assert places == ["1", "2", "3", "1", "2"]


def test_chunk_ends_where_its_text_is_long(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1_000)
    long = [{**event, "note": "x" * 400} for event in _events(5)]
    counts = [chunk.row_count for chunk in _chunks(write("log.xes", _log(long)))]
    assert counts == [2, 2, 1]
    # What a trace holds is in each of its rows.
    trace = _log(_events(3)).replace('value="1"', f'value="{"1" * 900}"')
    counts = [chunk.row_count for chunk in _chunks(write("log.xes", trace))]
    assert counts == [1, 1, 1]


def test_column_that_is_not_in_the_first_chunk_is_looked_for_in_the_others(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    names = (*NAMES, "late")
    layout = Layout(names, names, is_open=True)
    events = [*_events(6), {"concept:name": "s", "late": "1"}]
    rows = _rows(write("log.xes.gz", _log(events)), layout)
    assert [row[-1] for row in rows] == [None] * 6 + ["1"]
    count, said = _refusal(write("log.xes", _log(_events(6))), layout)
    assert count == 0
    assert (
        "in all its 6 events: the log has no column 'late'; it has 'case:conc" in said
    )
    assert "'concept:name'" in said
    declared = '<log><global scope="{}"><string key="{}" value=""/></global>'
    for scope, key, is_told in (
        ("event", "late", True),
        ("trace", "late", False),
        ("event", "other", False),
    ):
        text = _log(_events(6)).replace("<log>", declared.format(scope, key))
        path = write("log.xes", text)
        if is_told:
            assert len(_rows(path, layout)) == 6
        else:
            assert _refusal(path, layout)[0] == 0


def test_log_without_a_mapping_is_refused_with_what_it_has(write: Write) -> None:
    _, said = _refusal(write("log.xes", _log(_events(3))), Layout())
    assert "has no column 'created_at'" in said
    assert "--mapping" in said


def test_unknown_key_is_malformed_where_the_layout_is_closed(write: Write) -> None:
    row = dict.fromkeys(Layout().required, "x")
    path = write("log.xes", _log([row]).replace("concept:name", "created"))
    assert [r[3] for r in _malformed(path, Layout())] == ["unknown key 'case:created'"]
    bare = _log([row]).replace('<string key="concept:name" value="1" />', "")
    assert len(_rows(write("log.xes", bare), Layout())) == 1


@pytest.mark.parametrize("text", ["<log/>", "<log><trace/><trace></trace></log>"])
def test_log_without_events_has_no_rows(write: Write, text: str) -> None:
    assert list(_chunks(write("log.xes", text))) == []


BOMB = "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<trace/>", "'trace', not 'log'"),
        ('<log xmlns="a"><trace></log>', "mismatched tag"),
        ("<html><body/></html>", "'html', not 'log'"),
        ("created_at,entity_type\n1,2\n", "no well-formed XML"),
        (" <?xml version='1.0'?><log/>", "no well-formed XML"),
        ("<LOG/>", "'LOG', not 'log'"),
        ("<log/><log/>", "no well-formed XML"),
        ("<log><a:event/></log>", "unbound prefix"),
        ("<log>&a;</log>", "undefined entity"),
        ("<log>\x00</log>", "no well-formed XML"),
        (b"<log>\xff</log>", "no well-formed XML"),
        ('<log><id key="&#0;" value=""/></log>', "invalid character number"),
        ("<!DOCTYPE log><log/>", "DOCTYPE"),
        ('<!DOCTYPE log SYSTEM "file:///etc/passwd"><log/>', "DOCTYPE"),
        (f"<!DOCTYPE log [{BOMB}]><log>&a9;</log>", "DOCTYPE"),
        ("<log>" + "<list>" * 200 + "</list>" * 200 + "</log>", "elements are open"),
        ("<log>" + "".join(f"<a{n}/>" for n in range(11_000)) + "</log>", "names"),
        (
            "<log>" + "".join(f'<a xmlns:a{n}="u"/>' for n in range(11_000)) + "</log>",
            "names",
        ),
    ],
    ids=lambda value: str(value)[:24],
)
@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz"])
def test_what_is_no_log_or_is_hostile_is_refused(
    write: Write, name: str, text: str | bytes, words: str
) -> None:
    count, said = _refusal(write(name, text))
    assert (count, words in said) == (0, True), said
    assert said.endswith(".")


def test_empty_gzip_is_refused(write: Write) -> None:
    assert "cut off" in _refusal(write("log.xes.gz", ""))[1]


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ('<event><string key="a" value="{}"/></event>', "a tag or comment"),
        ("<!--{}-->", "a tag or comment"),
        ("<event>" + '<list key="a"/>{}' * 9 + "</event>", "an event or a trace's"),
        ("<trace>" + '<id key="a" value="{}"/>' * 9, "an event or a trace's"),
    ],
)
def test_event_or_tag_that_goes_on_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, inside: str, words: str
) -> None:
    monkeypatch.setattr(xes, "LONGEST_TAG", 10_000)
    monkeypatch.setattr(chunks, "LONGEST_LINE", 40_000)
    monkeypatch.setattr(xes, "READ_BYTES", 1_000)
    long = 20_000 if "tag" in words else 9_000
    path = write("log.xes.gz", f"<log><event/>{inside.replace('{}', 'x' * long)}")
    count, said = _refusal(path)
    assert (count, words in said) == (1, True), said


@pytest.mark.parametrize("size", [1, 50, 1 << 18])
@pytest.mark.parametrize("name", ["log.xes", "log.xes.gz"])
def test_rows_before_a_tear_are_read_and_then_it_is_told(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    monkeypatch.setattr(xes, "READ_BYTES", size)
    text = _log(_events(5))
    torn = text[: text.index("s4")]
    count, said = _refusal(write(name, torn))
    assert (count, said.endswith(": it is cut off. Deliver it again.")) == (4, True)


def test_torn_gzip_is_told_behind_the_rows_before(write: Write) -> None:
    path = write("log.xes.gz", _log(_events(5_000)))
    path.write_bytes(path.read_bytes()[:-100])
    count, said = _refusal(path)
    assert 0 < count < 5_000
    assert said.endswith("Deliver it again.")
    path.write_bytes(b"\x1f\x8bno gzip")
    assert _refusal(path)[0] == 0


# What XML 1.0 can hold; a lone carriage return must be written as a reference.
_characters = st.characters(
    exclude_categories=["Cs"],
    exclude_characters=[
        *(chr(n) for n in range(32) if chr(n) not in "\t\n\r"),
        "\ufffe",
        "\uffff",
    ],
)
_text = st.text(_characters, max_size=8) | st.sampled_from(
    ["", " ", "&", "&amp;", "<", "'\"", "]]>", "\t\n\r", "\x85\u2028", "😀", "e\u0301"]
)
_texts = st.dictionaries(
    st.sampled_from(["concept:name", "time:timestamp", "note"]) | _text,
    _text,
    max_size=4,
)
_kind = st.sampled_from(["string", "date", "int", "float", "boolean", "id"])
_traces = st.lists(st.tuples(_texts, st.lists(_texts, max_size=4)), max_size=4)


def _written(traces: list[tuple[dict[str, str], list[dict[str, str]]]]) -> bytes:
    log = ET.Element("log", xmlns=XMLNS)
    for shared, events in traces:
        trace = ET.SubElement(log, "trace")
        for element, texts in [(trace, shared)]:
            _add(element, texts)
        for texts in events:
            _add(ET.SubElement(trace, "event"), texts)
    return ET.tostring(log, encoding="utf-8", xml_declaration=True)


def _add(element: ET.Element, texts: dict[str, str]) -> None:
    for key, value in texts.items():
        kind = "string" if len(key) % 2 else "id"
        child = ET.SubElement(element, kind, key=key, value=value)
        ET.SubElement(child, "string", key=key, value="nested")


@settings(max_examples=tries(60, 200), deadline=None)
@example(traces=[({"a": "\r"}, [{"b": "\r\n", "": ""}])], size=1)
@given(traces=_traces, size=st.sampled_from([1, 5, 1 << 18]))
def test_events_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    traces: list[tuple[dict[str, str], list[dict[str, str]]]],
    size: int,
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.xes"
    path.write_bytes(_written(traces))
    expected = [
        {f"case:{key}": text for key, text in shared.items()}
        | texts
        | {"xes:position": str(place)}
        for shared, events in traces
        for place, texts in enumerate(events, start=1)
    ]
    columns = tuple(dict.fromkeys(key for row in expected for key in row))
    layout = Layout(columns, columns, is_open=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xes, "READ_BYTES", size)
        patch.setattr(chunks, "CHUNK_ROWS", 2)
        assert _rows(path, layout) == [tuple(map(r.get, columns)) for r in expected]
        kept = [
            json.loads(original)
            for chunk in _chunks(path, layout)
            for original in chunk.origins.of(list(chunk.records["row_number"]))[
                "original"
            ]
        ]
    assert kept == expected


def _stored(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        """
        select id, created_at, entity_type, entity_id, to_status, source_order
        from raw.status_transitions order by id
        """
    ).fetchall()


_names = st.text(_characters, min_size=1, max_size=4).filter(str.strip)
_logs = st.lists(
    st.tuples(
        _names,
        st.lists(st.tuples(_names, st.integers(0, 59)), max_size=4),
    ),
    min_size=1,
    max_size=4,
).filter(lambda log: any(events for _, events in log))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(log=_logs)
def test_log_stores_what_a_csv_file_of_the_same_rows_does(
    connection: Connection,
    mapping: Load,
    tmp_path: Path,
    log: list[tuple[str, list[tuple[str, int]]]],
) -> None:
    rows = [
        (case, name, f"2026-01-01T00:00:{second:02d}.5+01:00", str(place))
        for case, events in log
        for place, (name, second) in enumerate(events, start=1)
    ]
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([NAMES, *rows])
    table, path = tmp_path / "log.csv", tmp_path / "log.xes"
    table.write_bytes(stream.getvalue().encode())
    traces = [
        (
            {"concept:name": case},
            [
                {
                    "concept:name": n,
                    "time:timestamp": f"2026-01-01T00:00:{s:02d}.5+01:00",
                }
                for n, s in events
            ],
        )
        for case, events in log
    ]
    path.write_bytes(_written(traces))
    given = Settings(mapping(MAPPING), max_rejected_ratio=1.0)
    found = []
    for file in (table, path):
        with connection.transaction(force_rollback=True):
            result = _delivered(connection, file, given)
            found.append((result, _stored(connection)))
    assert found[0] == found[1]


def _delivered(connection: Connection, path: Path, given: Settings) -> AppendResult:
    """What the only chunk of a file appends; `deliver` opens a second connection."""
    (chunk,) = _chunks(path)
    clock = server_clock(connection)
    batch = validated(chunk, given.resolve(), known_types(connection), clock)
    return append_batch(connection, batch, lambda *_: None)


def test_log_is_delivered_again_torn_and_in_small_batches(
    connection: Connection,
    mapping: Load,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    given = Settings(mapping(MAPPING))
    text = _log(_events(3), _events(2))
    torn = write("torn.xes", text[: text.rindex("s1")])
    with pytest.raises(SourceError, match="cut off"):
        deliver(connection, torn, given)
    assert len(_stored(connection)) == 4
    whole = write("log.xes.gz", text)
    assert deliver(connection, whole, given).result == (5, 1, 4, 0)
    assert deliver(connection, whole, given).is_repeated
    orders = [row[-1] for row in _stored(connection)]
    assert sorted(orders) == [1, 1, 2, 2, 3]


def test_rejected_events_are_replayed_by_a_mapping_of_other_attributes(
    connection: Connection, mapping: Load, write: Write
) -> None:
    events = [
        {"concept:name": "new", "time:timestamp": "yesterday", "at": AT},
        {"concept:name": "open", "time:timestamp": AT, "at": AT},
    ]
    twice = '<string key="at" value="1" /></event></trace>'
    text = _log(events, events[1:]).replace("</event></trace></log>", f"{twice}</log>")
    path = write("log.xes", text)
    given = Settings(mapping(MAPPING), max_rejected_ratio=1.0)
    assert deliver(connection, path, given).result == (3, 1, 0, 2)
    rejects = connection.execute(
        "select row_number, line_number, code from raw.rejected_transitions order by 1"
    ).fetchall()
    assert rejects == [(1, 1, "created_at_is_instant"), (3, 1, "row_is_well_formed")]
    other = mapping(MAPPING.replace("created_at: time:timestamp", "created_at: at"))
    replayed = replay(connection, mapping=other)
    assert replayed.open_codes == {"row_is_well_formed": 1}
    assert (replayed.selected, replayed.resolved) == (2, 1)


# Reads a file in a process of its own; prints its peak, and how many rows it has.
READ = r"""
import re, resource, sys
from pathlib import Path
from ingest import SourceError
from ingest.files.content import Content
from ingest.files.layout import Layout
from ingest.files.sources import read
# A test that fails must not take the machine along.
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
rows = 0
with Content(Path(sys.argv[1])) as content:
    try:
        for chunk in read(content, Layout(("a",), (), is_open=True)):
            rows += chunk.row_count
    except SourceError as error:
        rows = error
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(peak, rows)
"""


def _many(part: str, count: int, head: str = "", tail: str = "") -> Iterator[bytes]:
    yield f"<log>{head}".encode()
    for _ in range(100):
        yield part.encode() * (count // 100)
    yield f"{tail}</log>".encode()


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        pytest.param(
            _many(
                '<event><id key="a" value="b"/></event>', 500_000, "<trace>", "</trace>"
            ),
            "500000",
            id="one long trace",
        ),
        pytest.param(
            _many(
                "<event/>",
                2_000,
                f'<trace><id key="a" value="{"x" * 999_999}"/>',
                "</trace>",
            ),
            "2000",
            id="a long value in each of many rows",
        ),
        pytest.param(
            _many(
                "",
                0,
                "<event><id " + " ".join(f'b{n}=""' for n in range(700_000)),
                "/></event>",
            ),
            "names of",
            id="attributes without end",
        ),
        pytest.param(
            _many('<id key="a" value=""/>', 5_000_000, "<event>", "</event>"),
            "an event or",
            id="an event without end",
        ),
    ],
)
def test_memory_is_bounded_whatever_the_log_holds(
    tmp_path: Path, parts: Iterator[bytes], said: str
) -> None:
    path = tmp_path / "log.xes.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.writelines(parts)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, found = done.stdout.split(maxsplit=1)
    assert said in found
    assert int(peak) < 1 << 20


def test_mapping_of_the_readme_reads_a_log(
    connection: Connection, mapping: Load, write: Write
) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(source: loans\n.*?)```", readme, re.DOTALL)
    log = _log([{**event, "lifecycle:transition": "complete"} for event in _events(2)])
    head = '<global scope="event"><string key="org:resource" value=""/></global>'
    amount = '<trace><float key="AMOUNT_REQ" value="1.50"/>'
    log = log.replace("<log>", f"<log>{head}").replace("<trace>", amount)
    result = deliver(connection, write("log.xes.gz", log), Settings(mapping(text)))
    assert result.result == (2, 2, 0, 0)
    query = "select to_status, metadata ->> 'amount' from raw.status_transitions"
    assert sorted(connection.execute(query)) == [
        ("s0 / complete", "1.50"),
        ("s1 / complete", "1.50"),
    ]
