"""Whatever bytes a file holds: read or refused, in time, and every row accounted for.

NIGHTLY=1 tries more of them.
"""

import io
import json
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import DeliveryResult, Settings, SourceError, deliver, load_mapping
from ingest.configuration import workflows
from ingest.errors import WorkflowError
from ingest.files.mapping import restore_mapping
from ingest.kinds import TRANSITIONS
from ingest.store.database import PROJECT, Connection
from ingest.transition import JSON_COLUMNS, TIMES

TIMES_MORE = tries(1, 50)
# Seconds of the processor for one small file.
LONGEST = 5
EXAMPLES = [path.read_bytes() for path in sorted(PROJECT.glob("examples/*.yml"))]
CONFIGURATION = [path.read_bytes() for path in sorted(PROJECT.glob("workflows/*.yml"))]
AT = "2026-01-01T00:00:00Z"


def _tried(examples: int) -> settings:
    return settings(
        max_examples=examples * TIMES_MORE,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
        ],
    )


def _attempt(
    refusal: type[Exception], function: Callable[..., Any], *arguments: object
) -> tuple[Any, str]:
    """What a function returns, or its refusal; in time in any case."""
    started = time.process_time()
    try:
        return function(*arguments), ""
    except refusal as error:
        return None, str(error)
    finally:
        assert time.process_time() - started < LONGEST


# What means something in YAML, or in what it becomes.
_tokens = st.sampled_from(
    [
        *(": ", "- ", "? ", " #", "\n", "\n  ", "\t", "'", '"', "|\n", ">-\n", "\r"),
        *("[", "]", "{", "}", ",", "&a ", "*a", "<<: ", "<<: *a", "---\n", "...\n"),
        *(
            "!",
            "!!str ",
            "!!int ",
            "!!binary ",
            "!!set ",
            "!!python/none ",
            "%YAML 1.1\n",
        ),
        *("~", "yes", "0x_", "0o7", "1_0", "190:20:30", ".nan", "-.inf", "2026-13-45"),
        *("1" * 5_000, "[" * 100, "- " * 100, '"\\0"', '"\\ud800"', "=", "\\"),
        *("\0", "\x01", "\x85", "\u2028", "\ufeff", "é", "%I", "%f", "%Y-%m-%d"),
    ]
).map(lambda text: text.encode()) | st.binary(max_size=3)


@st.composite
def _mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A sound file, some places of it replaced."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        after = place + draw(st.integers(0, 6))
        content = content[:place] + draw(_tokens) + content[after:]
    return content


_texts = st.text(max_size=5) | st.sampled_from(
    [
        "",
        "\0",
        "a\0b",
        "%I",
        "%Y-%m-%d",
        "%f",
        "^.*$",
        "*",
        "row_number",
        "_id",
        "x" * 2_000,
    ]
)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=3)
    | _texts
)
_anything = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_scalars, inner, max_size=3)
    ),
    max_leaves=6,
)


def _often(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what fits."""
    return st.integers(0, 19).flatmap(lambda n: sound if n else _anything)


_column = st.sampled_from(["a", "b", "c", "at", "ü "]) | st.sampled_from(
    ["a", "b", "c", "at", "ü ", "row_number", "^.*$", "*", "no"]
)
_format = st.text(st.sampled_from("%YmdHMSfzIp+s-.: TZ"), max_size=8)
_formats = (
    st.sampled_from(["%Y-%m-%d", "%d/%m/%Y %H:%M", "%Y-%m-%d %Z", "unix", "%Y"])
    | _format
)


def _field(name: str = "") -> st.SearchStrategy[Any]:
    """What a column of a transition takes."""
    values = st.dictionaries(_texts | st.integers(), _texts, min_size=1, max_size=3)
    of_column: dict[str, st.SearchStrategy[Any]] = {"values": values}
    if name in ("entity_id", "triggered_by_user_id"):
        of_column |= {"key": st.booleans(), "namespace": _texts}
    if name in TIMES:
        of_column |= {"format": _formats}
    columns = st.lists(_column, min_size=1, max_size=3)
    return _often(
        _column
        | st.fixed_dictionaries({"column": _column}, optional=of_column)
        | st.fixed_dictionaries({"columns": columns}, optional={"separator": _texts})
        | st.fixed_dictionaries({"constant": _texts | st.integers() | st.just(AT)})
    )


_members = _often(
    st.lists(_column, min_size=1, max_size=3)
    | st.dictionaries(
        _texts | st.integers() | st.dates(), _field(), min_size=1, max_size=3
    )
)
_fields: dict[str, st.SearchStrategy[Any]] = {
    name: _members if name in JSON_COLUMNS else _field(name)
    for name in TRANSITIONS.content
}
_entry = st.fixed_dictionaries({}, optional=_fields)
_needed: dict[str, Any] = {
    "entity_type": {"constant": "order"},
    "entity_id": {"column": "b", "key": True},
    "created_at": "at",
    "to_status": "b",
}
_mapping = st.fixed_dictionaries(
    {name: st.just(field) | _fields[name] for name, field in _needed.items()},
    optional={
        **{name: field for name, field in _fields.items() if name not in _needed},
        "source": _often(_texts),
        "timezone": _often(st.sampled_from(["UTC", "Europe/Paris"])),
        "delimiter": _often(st.sampled_from([",", ";", "\t", "é", "\0"])),
        "encoding": _often(st.sampled_from(["utf-8", "cp1252", "utf-16", "utf-7"])),
        "accept_unended": _often(st.booleans()),
        "nulls": _often(st.lists(_texts, max_size=3)),
        "where": _often(st.lists(st.deferred(lambda: _condition), max_size=2)),
        "identity": _often(st.lists(_column, min_size=1, max_size=2, unique=True)),
        "order": _often(st.lists(_column, min_size=1, max_size=3, unique=True)),
        "fold": _often(st.sampled_from(["earlier", "later", "reject"])),
        "gap": _often(st.sampled_from(["forward", "reject"])),
        "transitions": _often(st.lists(_entry, min_size=1, max_size=3)),
    },
)


_value = _texts | st.integers() | st.booleans() | st.none()
_values = st.lists(_value, min_size=1, max_size=3) | _value
_condition = st.fixed_dictionaries({"column": _column, "is": _values}) | (
    st.fixed_dictionaries({"column": _column, "is_not": _values})
    | st.fixed_dictionaries({"column": _column, "matches": _texts})
)


def _dumped(content: object) -> bytes:
    """YAML of a content; what can't be written as such is written as it is shown."""
    try:
        return yaml.safe_dump(content, allow_unicode=True).encode()
    except (yaml.YAMLError, ValueError):
        return repr(content).encode(errors="surrogatepass")


_sound_mapping_files = _mapping.map(_dumped)
_mapping_files = st.binary(max_size=60) | _mutated(EXAMPLES) | _sound_mapping_files


def _altered(content: bytes) -> st.SearchStrategy[bytes]:
    """A sound configuration file with one value replaced."""
    sound = yaml.safe_load(content)
    paths = list(_paths(sound))

    def replace(choice: tuple[list[Any], Any]) -> bytes:
        altered = inner = yaml.safe_load(content)
        path, value = choice
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value
        return _dumped(altered)

    return st.tuples(st.sampled_from(paths), _anything).map(replace)


def _paths(content: Any) -> Iterator[list[Any]]:
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield [key]
        if isinstance(value, dict | list):
            yield from ([key, *path] for path in _paths(value))


# Calendars make windows of 110 years, and take a second.
SHORT = [
    re.sub(rb"(?m)^covers:.*\n", b"", content) + b"covers: [2026, 2026]\n"
    if b"calendar_name" in content
    else content
    for content in CONFIGURATION
]
_configuration_files = (
    st.binary(max_size=60) | _mutated(SHORT) | st.sampled_from(SHORT).flatmap(_altered)
)


@_tried(120)
@given(content=_mapping_files)
def test_mapping_file_is_loaded_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mapping.yml"
    path.write_bytes(content)
    mapping, refusal = _attempt(SourceError, load_mapping, path)
    if mapping is None:
        # A line a defect, each by itself no longer than before all were told.
        for line in refusal.split("\n"):
            assert line.startswith(str(path))
            assert len(line) < len(str(path)) + 1_000
    else:
        kept = restore_mapping(mapping.content)
        assert restore_mapping(kept.content) == kept


@_tried(120)
@given(content=_configuration_files)
def test_configuration_file_is_loaded_or_refused(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file.yml"
    path.write_bytes(content)
    for read in (workflows.load, workflows.check):
        found, refusal = _attempt(WorkflowError, read, path)
        assert found or all(x.startswith(str(path)) for x in refusal.split("\n"))


ROWS = [
    ["1", "new", "x", AT],
    ["2", "", "\0", "2026-01-01"],
    ["2", "née", '"', "31/12/2025 10:11"],
    ["", "x" * 300, "", ""],
    ["9223372036854775808", "b;\tb", "{}", "2026-03-29T02:30:00"],
]
HEADER = ["a", "b", "c", "at", "ü ", "row_number", "^.*$", "*"]


def _csv() -> bytes:
    lines = [HEADER, *([*row, "u", "7", "p", "s"] for row in ROWS)]
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in x] for x in lines]
    return "".join(",".join(line) + "\n" for line in quoted).encode()


def _json_lines() -> bytes:
    lines = [dict(zip(HEADER, [*row, "u", 7, [1], None], strict=True)) for row in ROWS]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _parquet(rows: list[list[str]], names: list[str]) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(stream)
    return stream.getvalue()


def _xes(rows: list[list[str]], names: list[str]) -> bytes:
    log = ET.Element("log")
    for row in rows:
        event = ET.SubElement(log, "event")
        for name, text in zip(names, row, strict=True):
            ET.SubElement(event, "string", key=name, value=text.replace("\0", ""))
    return ET.tostring(log)


DATA = {
    "rows.csv": _csv(),
    "rows.jsonl": _json_lines(),
    "rows.parquet": _parquet(ROWS, HEADER[:4]),
    "rows.xes": _xes(ROWS, HEADER[:4]),
}


def _assert_accounted(found: DeliveryResult) -> None:
    read, appended, duplicate, rejected = found.result
    assert read == appended + duplicate + rejected
    assert min(found.result) >= 0


@_tried(60)
@given(content=_sound_mapping_files, name=st.sampled_from(sorted(DATA)))
def test_mapping_that_is_loaded_accounts_for_every_row(
    connection: Connection, tmp_path: Path, content: bytes, name: str
) -> None:
    mapping_file, path = tmp_path / "mapping.yml", tmp_path / name
    mapping_file.write_bytes(content)
    path.write_bytes(DATA[name])
    mapping, _ = _attempt(SourceError, load_mapping, mapping_file)
    if mapping is None:
        return
    given = Settings(mapping, max_rejected_ratio=1.0)
    found, _ = _attempt(SourceError, deliver, connection, path, given)
    if found is None:
        return
    _assert_accounted(found)
    if mapping.encoding is None:
        assert found.source_rows == len(ROWS)
    if not mapping.is_wide:
        assert found.result.read == found.source_rows - found.skipped_rows


NEEDED = ["created_at", "entity_type", "entity_id", "to_status"]
SOUND = [[AT, "order", str(number), "new"] for number in range(3)]
FILES = {
    "csv": "".join(",".join(row) + "\n" for row in [NEEDED, *SOUND]).encode(),
    "jsonl": "".join(
        json.dumps(dict(zip(NEEDED, row, strict=True))) + "\n" for row in SOUND
    ).encode(),
    "parquet": _parquet(SOUND, NEEDED),
    "xes": _xes(SOUND, NEEDED),
}
_data_files = st.sampled_from(sorted(FILES)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.binary(max_size=60)
        | _mutated([FILES[kind]])
        # Behind a header that is right.
        | st.binary(max_size=60).map(FILES[kind].__add__),
    )
)


@_tried(100)
@given(file=_data_files)
def test_data_file_is_delivered_or_refused(
    connection: Connection, tmp_path: Path, file: tuple[str, bytes]
) -> None:
    kind, content = file
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content)
    given = Settings(max_rejected_ratio=1.0)
    found, refusal = _attempt(SourceError, deliver, connection, path, given)
    if found is None:
        assert refusal.startswith(str(path))
        return
    _assert_accounted(found)
    assert found.result.read == found.source_rows
    if kind == "jsonl":
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert found.source_rows == sum(bool(line.strip()) for line in lines)
