"""Mapping files: what they make of a row, and what is refused before any row."""

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import jsonschema
import polars as pl
import pytest
import yaml

from ingest import Mapping, Settings, SourceError, deliver, load_mapping
from ingest.files import mapping_schema
from ingest.files.mapping import restore_mapping
from ingest.identity import key_to_bigint, key_to_uuid
from ingest.store.database import Connection

Write = Callable[[str, str | bytes], Path]
Load = Callable[[str], Mapping]

AT = "2026-01-01T00:00:00Z"
MAPPINGS = Path(__file__).parent / "mappings"
BASE = """
entity_type: {constant: order}
entity_id: order
created_at: at
to_status: status
"""
WIDE = """
entity_type: {constant: order}
entity_id: order
transitions:
  - {created_at: opened, to_status: {constant: open}}
  - {created_at: closed, to_status: {constant: closed}}
"""


def _apply(mapping: Mapping, *rows: dict[str, str | None]) -> pl.DataFrame:
    schema = {
        "row_number": pl.Int64,
        **dict.fromkeys(mapping.layout.columns, pl.String),
    }
    numbered = [{"row_number": n, **row} for n, row in enumerate(rows, start=1)]
    return mapping.apply(pl.DataFrame(numbered, schema=schema)).texts


def _one(mapping: Mapping, column: str, **row: str | None) -> object:
    """What one row, good but for `row`, has in a column."""
    texts = _apply(mapping, {"order": "1", "at": AT, "status": "new", **row})
    return texts[column].item()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour: red\n", "colour"),
        ("from_status: 5\n", "from_status"),
        ("from_status: [a]\n", "from_status"),
        ("from_status: {}\n", "from_status"),
        ("from_status: {column: a, constant: b}\n", "from_status"),
        ("from_status: {columns: [a], column: b}\n", "from_status"),
        ("from_status: {column: a, colour: b}\n", "colour"),
        ("from_status: {column: 5}\n", "column"),
        ("from_status: {columns: a}\n", "columns"),
        ("from_status: {constant: 1.5}\n", "constant"),
        ("from_status: {constant: }\n", "constant"),
        ("from_status: {column: a, values: [b]}\n", "values"),
        ("from_status: {column: a, key: true}\n", "key"),
        ("sla_deadline: {column: a, format: 5}\n", "format"),
        ("triggered_by_user_id: {column: a, key: 1}\n", "key"),
        ("metadata: 5\n", "metadata"),
        ("timezone: Europe/Nowhere\n", "timezone"),
        ("timezone: 5\n", "timezone"),
        ("nulls: text\n", "nulls"),
        ("nulls: 5\n", "nulls"),
        ("transitions: []\n", "transitions"),
        ("transitions: text\n", "transitions"),
        ("transitions: [text]\n", "transitions"),
        ("transitions: [{colour: red}]\n", "colour"),
        ("transitions: [{}, {to_status: 5}]\n", "to_status"),
        ("transitions: [{metadata: 5}]\n", "metadata"),
    ],
)
def test_bad_key_is_named_with_its_file(write: Write, text: str, key: str) -> None:
    _assert_names_key(write("bad.yml", BASE + text), key)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("timezone: [UTC]\n", "timezone"),
        ("source: 5\n", "source"),
        ("source: [a]\n", "source"),
        ("delimiter: 5\n", "delimiter"),
        ("delimiter: ';;'\n", "delimiter"),
        ("from_status: {columns: []}\n", "columns"),
        ("from_status: ''\n", "from_status"),
        ("from_status: {column: ''}\n", "column"),
        ("business_context: {}\n", "business_context"),
        ("metadata: []\n", "metadata"),
        ("1: a\ncolour: red\n", "1"),
    ],
)
def test_bad_value_is_named_with_its_file(write: Write, text: str, key: str) -> None:
    _assert_names_key(write("bad.yml", BASE + text), key)


def _assert_names_key(path: Path, key: str) -> None:
    with pytest.raises(SourceError) as caught:
        load_mapping(path)
    lines = path.read_text().splitlines()
    # Of a list, the line on which it begins.
    line = max(n for n, text in enumerate(lines, 1) if key in text)
    assert re.match(
        rf"{re.escape(str(path))}, line {line}: (an item of |key )?'?{key}'? ",
        str(caught.value),
    )


@pytest.mark.parametrize(
    "name", ["entity_type", "entity_id", "created_at", "to_status"]
)
@pytest.mark.parametrize("is_null", [False, True])
def test_needed_column_that_is_not_mapped_is_named(
    write: Write, name: str, is_null: bool
) -> None:
    lines = [line for line in BASE.splitlines() if not line.startswith(f"{name}:")]
    text = "\n".join([*lines, f"{name}:" if is_null else ""])
    with pytest.raises(SourceError, match=f"bad.yml, line 2: key '{name}' is missing"):
        load_mapping(write("bad.yml", text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "- a list",
        "a: [unclosed",
        "a: b: c",
        "\tkey: tab",
        b"\xff\xfe",
        "a: !x b",
    ],
    ids=str,
)
def test_file_that_is_no_mapping_is_a_source_error(
    write: Write, text: str | bytes
) -> None:
    with pytest.raises(SourceError, match=r"bad\.yml"):
        load_mapping(write("bad.yml", text))


def test_missing_mapping_file_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        load_mapping(tmp_path / "absent.yml")


def test_yaml_error_names_its_line(write: Write) -> None:
    with pytest.raises(SourceError, match=r"bad\.yml, line 3"):
        load_mapping(write("bad.yml", "a: b\nc: d\n e: f\n"))


@pytest.mark.parametrize(
    ("field", "row", "expected"),
    [
        ("from_status: a", {"a": "old"}, "old"),
        ("from_status: a", {"a": None}, None),
        ("from_status: {column: a}", {"a": ""}, ""),
        ("from_status: {constant: old}", {}, "old"),
        ("from_status: {constant: ''}", {}, ""),
        ("from_status: {constant: 5}", {}, "5"),
        ("is_milestone: {constant: true}", {}, "true"),
        ("is_milestone: {constant: false}", {}, "false"),
        ("from_status: {columns: [a, b]}", {"a": "x", "b": "y"}, "x y"),
        ("from_status: {columns: [a, b], separator: /}", {"a": "x", "b": "y"}, "x/y"),
        ("from_status: {columns: [a, b]}", {"a": None, "b": "y"}, "y"),
        ("from_status: {column: a, values: {N: new}}", {"a": "N"}, "new"),
        ("from_status: {column: a, values: {N: new}}", {"a": "X"}, "X"),
        ("from_status: {column: a, values: {N: new}}", {"a": None}, None),
        ("from_status: {column: a, values: {1: one, 2: two}}", {"a": "1"}, "one"),
        ("nulls: ['', '?']\nfrom_status: a", {"a": "?"}, None),
        ("nulls: ['', '?']\nfrom_status: a", {"a": ""}, None),
        ("nulls: ['', '?']\nfrom_status: a", {"a": "??"}, "??"),
        ("nulls: ['?']\nfrom_status: {columns: [a, b]}", {"a": "x", "b": "?"}, "x"),
        ("from_status:", {}, None),
    ],
)
def test_field_makes_its_text(
    mapping: Load, field: str, row: dict[str, str | None], expected: str | None
) -> None:
    name = field.splitlines()[-1].partition(":")[0]
    assert _one(mapping(f"{BASE}{field}\n"), name, **row) == expected


def test_joined_columns_that_are_all_null_are_null(mapping: Load) -> None:
    joined = mapping(f"{BASE}from_status: {{columns: [a, b]}}\n")
    assert _one(joined, "from_status", a=None, b=None) is None


def test_translation_of_mixed_keys_is_read(mapping: Load) -> None:
    mixed = mapping(f"{BASE}from_status: {{column: a, values: {{1: one, x: two}}}}\n")
    assert _one(mixed, "from_status", a="1") == "one"
    assert _one(mixed, "from_status", a="x") == "two"


@pytest.mark.parametrize("members", ["{colour: a, size: b}", "[a, b]"])
def test_json_column_is_an_object_of_its_members(mapping: Load, members: str) -> None:
    found = mapping(f"{BASE}metadata: {members}\n")
    names = ("colour", "size") if "colour" in members else ("a", "b")
    assert _one(found, "metadata", a='"red"', b=None) == (
        f'{{"{names[0]}":"\\"red\\"","{names[1]}":null}}'
    )


def test_layout_is_the_columns_that_are_read_once_each(mapping: Load) -> None:
    found = mapping(BASE + "from_status: {columns: [status, a]}\nmetadata: [b, at]\n")
    assert sorted(found.layout.columns) == ["a", "at", "b", "order", "status"]
    assert found.layout.required == found.layout.columns
    assert found.layout.is_open


def test_source_without_a_mapped_column_is_a_source_error(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write("rows.csv", "order,at\n1,2026-01-01T00:00:00Z\n")
    with pytest.raises(SourceError, match="no column 'status'"):
        deliver(connection, path, Settings(mapping(BASE)))


def test_wide_row_makes_its_transitions_in_the_mapping_s_order(mapping: Load) -> None:
    texts = _apply(
        mapping(WIDE),
        {"order": "1", "opened": AT, "closed": AT},
        {"order": "2", "opened": None, "closed": AT},
        {"order": "3", "opened": None, "closed": None},
        {"order": "4", "opened": AT, "closed": None},
    )
    assert texts.select("row_number", "entity_id", "to_status").rows() == [
        (1, "1", "open"),
        (1, "1", "closed"),
        (2, "2", "closed"),
        (4, "4", "open"),
    ]


def test_long_row_without_an_instant_is_kept_to_be_rejected(mapping: Load) -> None:
    texts = _apply(mapping(BASE), {"order": "1", "at": None, "status": "new"})
    assert texts.height == 1


def test_own_field_of_a_transition_holds_before_the_shared_one(mapping: Load) -> None:
    text = WIDE + "  - {created_at: opened, to_status: status, entity_type: kind}\n"
    texts = _apply(
        mapping(text), {"order": "1", "opened": AT, "status": "x", "kind": "quote"}
    )
    assert texts["entity_type"].to_list() == ["order", "quote"]


def test_wide_instant_of_joined_columns_that_are_null_makes_none(mapping: Load) -> None:
    text = WIDE.replace("created_at: closed", "created_at: {columns: [day, hour]}")
    row = {"order": "1", "opened": AT, "day": None, "hour": None}
    assert _apply(mapping(text), row)["to_status"].to_list() == ["open"]


def test_each_transition_of_a_wide_row_has_its_own_format(
    connection: Connection, write: Write, mapping: Load
) -> None:
    closed = "created_at: {column: closed, format: '%d/%m/%Y %H:%M'}"
    text = "timezone: UTC\n" + WIDE.replace("created_at: closed", closed)
    path = write(
        "rows.csv", "order,opened,closed\n1,2026-01-01T00:00:00,02/01/2026 03:04\n"
    )
    assert deliver(connection, path, Settings(mapping(text))).result == (2, 2, 0, 0)


def test_text_key_of_an_entity_becomes_its_bigint(mapping: Load) -> None:
    keyed = BASE.replace(
        "entity_id: order", "entity_id: {column: order, key: true, namespace: shop}"
    )
    found = _one(mapping(keyed), "entity_id", order="A-1")
    assert found == str(key_to_bigint("shop", "A-1"))


@pytest.mark.parametrize("is_own", [False, True], ids=["shared", "own"])
def test_text_key_of_a_user_becomes_a_uuid(mapping: Load, is_own: bool) -> None:
    user = "triggered_by_user_id: {column: user, key: true}"
    own = "status: {constant: closed}"
    text = WIDE.replace(own, f"{own}, {user}") if is_own else f"{WIDE}{user}\n"
    row = {"order": "1", "closed": AT, "user": "Ann"}
    texts = _apply(mapping(text), row)
    assert texts["triggered_by_user_id"].to_list() == [key_to_uuid("Ann")]


def test_format_and_zone_decide_the_instant(
    connection: Connection, write: Write, mapping: Load
) -> None:
    text = BASE.replace("at\n", "{column: at, format: '%d/%m/%Y %H:%M'}\n", 1)
    text += "timezone: Europe/Berlin\nsource: shop\ndelimiter: ;\n"
    path = write("rows.csv", "order;at;status\n1;01/07/2026 12:00;new\n")
    assert deliver(connection, path, Settings(mapping(text))).result == (1, 1, 0, 0)
    rows = connection.execute(
        "select created_at::text, source from raw.status_transitions"
        " join raw.batches using (batch_id)"
    ).fetchall()
    assert rows == [("2026-07-01 10:00:00+00", "shop")]
    tokyo = Settings(mapping(text), timezone="Asia/Tokyo", source="till")
    assert deliver(connection, path, tokyo).result == (1, 1, 0, 0)


def test_all_that_is_wrong_in_a_file_is_told_at_once(write: Write) -> None:
    path = write("bad.yml", f"{BASE}from_status: 5\ncolour: red\ntimezone: [a]\n")
    with pytest.raises(SourceError) as caught:
        load_mapping(path)
    places = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert sorted(places) == [f"{path}, line {line}" for line in (6, 7, 8)]


def test_published_schema_is_the_one_that_is_checked() -> None:
    published = Path(mapping_schema.__file__).with_name("mapping.schema.json")
    schema = mapping_schema.json_schema()
    assert json.loads(published.read_text()) == schema
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for path in (*Path("examples").glob("*.yml"), *MAPPINGS.glob("*.yml")):
        validator.validate(yaml.safe_load(path.read_text()))
        load_mapping(path)


def test_identity_of_a_mapping_is_what_it_says_not_how(mapping: Load) -> None:
    digest = mapping(BASE).sha256
    turned = "\n".join(reversed(BASE.strip().splitlines()))
    assert mapping(f"# a comment\n{turned}\n").sha256 == digest
    assert mapping(BASE.replace(": status", ": state")).sha256 != digest


# One value of each kind of YAML, wherever a mapping takes it.
TYPES = r"""
source: !!str 5
timezone: Europe/Amsterdam
delimiter: "\t"
encoding: cp1252
accept_unended: on
nulls: &empty ["", "\x01", '2026-01-01', !!str 1]
entity_type: {constant: 0x1F}
entity_id: {columns: [b, "a\x01"], separator: "-", key: true, namespace: "\u00fc \x85"}
from_status: {constant: 190:20:30}
triggered_by_system: ! {constant: yes}
is_milestone: {constant: 0b1_0}
triggered_by_user_id:
  column: >-
    folded
    text
sla_deadline:
transition_reason:
  column: why
  values: {yes: no, 2: 2.50, 010: 1_0, 1.5e+3: -1e3, -0.0: y, 'null': off, 1e9: 1:30.5,
    "<<": "=", é: x}
business_context: &members
  ~: a
  "2026-1-1": b
  "2026-01-01T00:00:00Z": c
  3.0: d
  true: {column: e}
  text: {constant: !!int "7"}
metadata: {<<: *members, text: f}
transitions:
  - &first {created_at: {column: at, format: "%Y-%m-%d"}, to_status: {constant: "n\
      ew"}}
  - <<: [{sla_deadline: due}, *first]
    to_status: status
"""
HASHES = {
    "boston_311": "d551fd7aa9113ba2713e4dd40b75795cc1aa83284d15d48e78685e76b1f8902f",
    "bpic2013_incidents": (
        "6faa2ee43ae8e5a3e736f0c0bac004f9b97c9595efb76d99695934308cea4e99"
    ),
    "helpdesk": "5b0721a907ebd435b6add1871916f426e8e13e5e349b38c1cf55c386bfa79c67",
    "olist_orders": "bd5ea9c09a4f36f842402644fca9b35bacd9e170207a5ab99ef02b8d7db6ff29",
    "order_status_history": (
        "a894b50262ee58adb0ea353123669c5b09b2522cffbde2ed01b366395548b2bf"
    ),
    "receipt_permits": (
        "182606a4a6dd9744c2da63f8d238f16797cd2da374218f9df6d74268bee1282b"
    ),
    "types": "8a5d1e094d82657ea5cacbcc95499b8f1d51120f2fb985ef15e15a9dad7bcd27",
}


@pytest.mark.parametrize("name", HASHES)
def test_identity_of_a_mapping_is_the_same_in_every_version(
    write: Write, name: str
) -> None:
    # The examples as they were when their hashes were taken.
    kept = MAPPINGS / f"{name}.yml"
    path = write("types.yml", TYPES) if name == "types" else kept
    assert load_mapping(path).sha256 == HASHES[name]


def test_kept_mapping_is_the_one_that_was_loaded(mapping: Load) -> None:
    loaded = mapping(
        """
        source: shop
        timezone: Europe/Amsterdam
        delimiter: "\\t"
        fold: later
        gap: forward
        where: [{column: a, is: [b, 1, null, true]}, {column: a, matches: "^x"}]
        identity: [a, b]
        order: [n]
        nulls: ["", "?"]
        entity_type: {constant: order}
        entity_id: {columns: [b, a], separator: "-", key: true, namespace: "ü"}
        is_milestone: {constant: yes}
        business_context: {z: a, flag: {constant: 1}}
        transition_reason: {column: why, values: {yes: no, 2: 2.50, 3.0: x, -0.0: y}}
        transitions:
          - {created_at: {column: at, format: "%Y-%m-%d"}, to_status: {constant: "new"}}
        """
    )
    assert restore_mapping(loaded.content) == loaded


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('source: "a\\0"\n', "line 6", "as JSON"),
        ('from_status: {constant: "a\\0"}\n', "line 6", "as JSON"),
        (
            f"from_status: {{constant: {'1' * 2000}}}\n",
            "constant",
            "at most",
        ),
        (
            f"from_status: {{constant: {'a' * 2000}}}\n",
            "constant",
            "at most",
        ),
        ('metadata: {a: {columns: [a], separator: "\\0"}}\n', "line 6", "as JSON"),
        ('from_status: {column: a, values: {b: "\\0"}}\n', "line 6", "as JSON"),
        ("from_status: row_number\n", "from_status", "otherwise in the source"),
        ("from_status: '*'\n", "from_status", "otherwise in the source"),
        ("metadata: ['^a$']\n", "metadata", "otherwise in the source"),
        ("metadata: {a: {columns: ['^.*$']}}\n", "columns", "otherwise in the source"),
    ],
)
def test_text_that_no_row_could_have_is_refused(
    write: Write, text: str, key: str, words: str
) -> None:
    path = write("bad.yml", BASE + text)
    with pytest.raises(SourceError) as caught:
        load_mapping(path)
    assert str(caught.value).startswith(f"{path}, line 6: ")
    assert key in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("%I", "it reads no year"),
        ("%d/%m", "it reads no year"),
        ("%H:%M:%S", "it reads no year"),
        ("", "it reads no year"),
        ("yyyy/MM/dd", "it reads no year"),
        ("%%z", "it reads no year"),
        ("%Y", "it reads no day"),
        ("%Y-%m", "it reads no day"),
        ("%Y-%d", "it reads no day"),
        ("%Y-%m-%d %S", "%S needs the minute as well"),
        ("%Y-%m-%d %M", "%M needs the hour as well"),
        ("%Y-%m-%d %H:%M.%f", "%f needs the second as well"),
        ("%Y-%m-%d %I:%M", "only together; for 24 hours there is %H"),
        ("%Y-%m-%d %H %p", "only together; for 24 hours there is %H"),
        ("%Y-%m-%d %H %I %p", "%H and %I say the same"),
        ("%Y-%m-%d %b", "%m and %b say the same"),
        ("%Y-%m-%d %d", "%d stands there more than once"),
        ("%Y-%m-%d %z %Z", "%z and %Z say the same"),
        ("%Y-%m-%d %Q", "%Q is no directive here; known are %Y, %y, %m"),
        ("%Y-%m-%d %H:%M:%S%.f", "%. is no directive here"),
        ("%Y-%m-%d %", "% is no directive here"),
        ("%s", "%s is no directive here; known are"),
        ("%+", "the whole formats unix, unix_ms, unix_us"),
        ("%Y" + " " * 1_000, "a text of at most 1000 characters"),
    ],
)
@pytest.mark.parametrize("name", ["created_at", "sla_deadline"])
def test_format_that_reads_no_instant_is_refused(
    write: Write, name: str, given: str, words: str
) -> None:
    text = f"{BASE}sla_deadline: due\n"
    column = re.search(f"(?m)^{name}: (.*)$", text)
    assert column is not None
    field = f"{name}:\n  column: {column[1]}\n  format: '{given}'"
    path = write("bad.yml", text.replace(column[0], field))
    line = path.read_text().splitlines().index(f"  format: '{given}'") + 1
    with pytest.raises(SourceError) as caught:
        load_mapping(path)
    where = f"{path}, line {line}: 'format' "
    assert str(caught.value).startswith(where)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "text", "instant"),
    [
        ("%Y-%m-%d", "2026-07-01", "2026-06-30 22:00:00"),
        ("%d.%m.%y %H:%M", "01.07.26 3:04", "2026-07-01 01:04:00"),
        ("%Y-%j %I:%M %p", "2026-182 03:04 PM", "2026-07-01 13:04:00"),
        ("%Y-%m-%d %H:%M:%S.%f", "2026-07-01 03:04:05.6", "2026-07-01 01:04:05.6"),
        (
            "%Y-%m-%d %H:%M:%S.%f",
            "2026-07-01 03:04:05.000250",
            "2026-07-01 01:04:05.00025",
        ),
        ("%Y-%m-%dT%H:%M:%S%z", "2026-07-01T03:04:05+0100", "2026-07-01 02:04:05"),
        ("%Y-%m-%d %H:%M %Z", "2026-07-01 03:04 Asia/Tokyo", "2026-06-30 18:04:00"),
        ("%Y-%m-%d %H:%M %Z", "2026-07-01 03:04 EST", "2026-07-01 08:04:00"),
        ("unix", "1782874800", "2026-07-01 03:00:00"),
        ("%%s %Y-%m-%d", "%s 2026-07-01", "2026-06-30 22:00:00"),
        ("%Y-%m-%d %H", "2026-07-01 03", "2026-07-01 01:00:00"),
    ],
)
def test_format_decides_the_instant(
    connection: Connection,
    write: Write,
    mapping: Load,
    given: str,
    text: str,
    instant: str,
) -> None:
    yaml = BASE.replace("at\n", f"{{column: at, format: '{given}'}}\n", 1)
    path = write("rows.csv", f"order,at,status\n1,{text},new\n")
    found = deliver(connection, path, Settings(mapping(yaml), timezone="Europe/Paris"))
    assert found.result == (1, 1, 0, 0)
    row = connection.execute(
        "select (created_at at time zone 'UTC')::text from raw.status_transitions"
    ).fetchone()
    assert row == (instant,)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("%Y-%m-%d %H:%M:%S.%f", "2026-07-01 03:04:05.1234567"),
        ("%Y-%m-%d %H:%M %Z", "2026-07-01 03:04 CEST"),
        ("%Y-%m-%d", "14-07-01"),
        ("%d/%m/%Y", "2026-07-01"),
    ],
)
def test_what_is_not_of_its_format_is_rejected(
    connection: Connection, write: Write, mapping: Load, given: str, text: str
) -> None:
    yaml = BASE.replace("at\n", f"{{column: at, format: '{given}'}}\n", 1)
    path = write("rows.csv", f"order,at,status\n1,{text},new\n")
    deliver(connection, path, Settings(mapping(yaml), timezone="UTC"))
    rows = connection.execute("select code from raw.rejected_transitions").fetchall()
    assert rows == [("created_at_is_instant",)]


@pytest.mark.parametrize(
    ("choice", "instants"),
    [
        ("", []),
        ("fold: earlier\n", ["2026-10-25 00:30:00"]),
        ("fold: later\n", ["2026-10-25 01:30:00"]),
        ("gap: forward\n", ["2026-03-29 01:30:00"]),
        ("fold: later\ngap: forward\n", ["2026-03-29 01:30:00", "2026-10-25 01:30:00"]),
    ],
)
def test_local_time_at_a_clock_change_is_what_the_mapping_says(
    connection: Connection,
    write: Write,
    mapping: Load,
    choice: str,
    instants: list[str],
) -> None:
    path = write(
        "rows.csv",
        "order,at,status\n1,2026-10-25T02:30,new\n1,2026-03-29T02:30,new\n",
    )
    chosen = mapping(f"{BASE}timezone: Europe/Paris\n{choice}")
    read, appended, _, rejected = deliver(connection, path, Settings(chosen)).result
    assert (read, appended, rejected) == (2, len(instants), 2 - len(instants))
    rows = connection.execute(
        "select (created_at at time zone 'UTC')::text from raw.status_transitions"
        " order by created_at"
    ).fetchall()
    assert [instant for (instant,) in rows] == instants
    # Another choice is another delivery.
    plain = mapping(f"{BASE}timezone: Europe/Paris\n")
    assert (chosen.sha256 == plain.sha256) == (choice == "")


def test_dates_of_parquet_are_midnights_of_the_named_zone(
    connection: Connection, tmp_path: Path, mapping: Load
) -> None:
    path = tmp_path / "rows.parquet"
    frame = pl.DataFrame({"order": [1], "at": [date(2026, 7, 1)], "status": ["new"]})
    frame.write_parquet(path)
    found = mapping(f"{BASE}timezone: Europe/Paris\n")
    assert deliver(connection, path, Settings(found)).result == (1, 1, 0, 0)
    row = connection.execute(
        "select (created_at at time zone 'UTC')::text from raw.status_transitions"
    ).fetchone()
    assert row == ("2026-06-30 22:00:00",)


ROWS = (
    "order,at,status,kind,event\n"
    "1,2026-01-01T00:00:00Z,new,status,1\n"
    "1,2026-01-01T01:00:00Z,seen,comment,2\n"
    "1,2026-01-01T02:00:00Z,paid,,3\n"
    "1,2026-01-01T02:00:00Z,paid,Status change,4\n"
)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("{column: kind, is: status}", [1]),
        ("{column: kind, is: [status, comment]}", [1, 2]),
        ("{column: kind, is: null}", [3]),
        ("{column: kind, is: [null, comment]}", [2, 3]),
        ("{column: kind, is_not: comment}", [1, 3, 4]),
        ("{column: kind, is_not: [comment, null]}", [1, 4]),
        ("{column: kind, matches: '(?i)^status'}", [1, 4]),
        ("{column: event, is: 4}", [4]),
        ("{column: kind, is_not: comment}, {column: event, is_not: [1, 4]}", [3]),
    ],
)
def test_rows_that_are_no_transitions_are_skipped_and_counted(
    connection: Connection, write: Write, mapping: Load, where: str, kept: list[int]
) -> None:
    path = write("rows.csv", ROWS)
    found = mapping(f"{BASE}where: [{where}]\nidentity: [event]\nmetadata: [event]\n")
    first = deliver(connection, path, Settings(found))
    assert first.result == (len(kept), len(kept), 0, 0)
    assert (first.source_rows, first.skipped_rows) == (4, 4 - len(kept))
    rows = connection.execute(
        "select (metadata ->> 'event')::int from raw.status_transitions order by 1"
    ).fetchall()
    assert rows == [(event,) for event in kept]
    again = deliver(connection, path, Settings(found))
    assert again.result == (len(kept), 0, len(kept), 0)
    assert (again.source_rows, again.skipped_rows) == (4, 4 - len(kept))
    for ledger, count in (("batches", 1), ("deliveries", 2)):
        found_rows = connection.execute(
            f"select source_row_count, skipped_row_count from raw.{ledger}"
        ).fetchall()
        assert found_rows == [(4, 4 - len(kept))] * count


def test_events_that_are_equal_but_for_their_identity_are_two(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write("rows.csv", ROWS)
    first = deliver(connection, path, Settings(mapping(BASE)))
    assert (first.result, first.equal) == ((4, 3, 1, 0), 1)
    assert deliver(connection, path, Settings(mapping(BASE))).equal == 0
    # The rows that are there have other ids.
    told_apart = mapping(f"{BASE}identity: [event]\n")
    assert deliver(connection, path, Settings(told_apart)).result == (4, 4, 0, 0)
    # Duplicates of another file of the source are as they should be.
    more = write("more.csv", ROWS + ROWS.splitlines()[1] + "\n")
    found = deliver(connection, more, Settings(mapping(BASE)))
    assert (found.result, found.equal) == ((5, 0, 5, 0), 0)


def test_one_identity_is_one_event_whatever_else_it_says(
    connection: Connection, write: Write, mapping: Load
) -> None:
    found = Settings(mapping(f"{BASE}identity: [event]\n"))
    text = "order,at,status,event\n1,{0},new,1\n2,{0},new,1\n1,{0},old,1\n1,{0},new,1\n"
    # Of another entity it is another event (S20: same id, other content).
    path = write("rows.csv", text.format(AT))
    assert deliver(connection, path, found).result == (4, 2, 1, 1)
    codes = connection.execute("select code from raw.rejected_transitions").fetchall()
    assert codes == [("id_conflict",)]


def test_transitions_of_a_wide_row_have_identities_of_their_own(
    connection: Connection, write: Write, mapping: Load
) -> None:
    text = f"order,opened,closed,event\n1,{AT},{AT},1\n1,{AT},,2\n"
    found = Settings(mapping(f"{WIDE}identity: [event]\n"))
    path = write("rows.csv", text)
    assert deliver(connection, path, found).result == (3, 3, 0, 0)


def test_id_of_the_source_is_kept(
    connection: Connection, write: Write, mapping: Load
) -> None:
    name = "0f8fad5b-d9cb-469f-a165-70867728950e"
    path = write("rows.csv", f"order,at,status,event\n1,{AT},new,{name}\n")
    found = Settings(mapping(f"{BASE}id: event\n"))
    assert deliver(connection, path, found).result == (1, 1, 0, 0)
    row = connection.execute("select id::text from raw.status_transitions").fetchone()
    assert row == (name,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("where: []\n", "'where' must be a non-empty list"),
        ("where: [{column: a}]\n", "exactly one of is, is_not and matches"),
        ("where: [{column: a, is: b, is_not: c}]\n", "exactly one of is, is_not and"),
        ("where: [{is: a}]\n", "key 'column' is missing"),
        ("where: [{column: a, matches: '('}]\n", "'matches' can't be '('"),
        ("where: [{column: '*', is: a}]\n", "otherwise in the source"),
        ("where: [{column: a, is: {b: c}}]\n", "'is' must be"),
        ("identity: event\n", "'identity' must be a non-empty list"),
        ("identity: [a, a]\n", "'identity' holds 'a' more than once"),
        ("identity: [a]\nid: b\n", "'identity' makes an id, and id names one"),
        ("order: [a, b, c, d, e]\n", "'order' must be a non-empty list of at most 4"),
        ("order: [row_number]\n", "otherwise in the source"),
        (
            "id: a\ntransitions: [{to_status: b}, {to_status: c}]\n",
            "Name identity instead",
        ),
    ],
)
def test_what_is_said_of_rows_is_checked(write: Write, text: str, words: str) -> None:
    path = write("bad.yml", BASE + text)
    with pytest.raises(SourceError) as caught:
        load_mapping(path)
    assert re.match(rf"{re.escape(str(path))}, line [678]: ", str(caught.value))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "rows", "orders"),
    [
        ("[n]", ["1,", "-5,", ",", "007,"], [1, -5, None, 7]),
        ("[n, m]", ["0,5", "1,0", ","], [5, 2**31, None]),
        ("[m, n]", ["0,5", "1,0"], [5 * 2**31, 1]),
    ],
)
def test_order_is_stored_with_its_row(
    connection: Connection,
    write: Write,
    mapping: Load,
    columns: str,
    rows: list[str],
    orders: list[int | None],
) -> None:
    lines = [f"{number},{AT},new,{row}" for number, row in enumerate(rows)]
    path = write("rows.csv", "\n".join(["order,at,status,n,m", *lines, ""]))
    found = Settings(mapping(f"{BASE}order: {columns}\n"))
    count = len(rows)
    assert deliver(connection, path, found).result == (count, count, 0, 0)
    stored = connection.execute(
        "select source_order from raw.status_transitions order by entity_id"
    ).fetchall()
    assert stored == [(order,) for order in orders]


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("[n]", "1.5,"),
        ("[n]", "first,"),
        ("[n]", "9223372036854775807,"),
        ("[n, m]", "1,"),
        ("[n, m]", "-1,2"),
        ("[n, m]", f"{2**31},2"),
        ("[n, m]", "a,2"),
    ],
)
def test_order_that_is_none_rejects_its_row(
    connection: Connection,
    write: Write,
    mapping: Load,
    columns: str,
    row: str,
) -> None:
    path = write("rows.csv", f"order,at,status,n,m\n1,{AT},new,{row}\n")
    found = Settings(mapping(f"{BASE}order: {columns}\n"), max_rejected_ratio=1)
    assert deliver(connection, path, found).result == (1, 0, 0, 1)
    codes = connection.execute(
        "select code, column_name from raw.rejected_transitions"
    ).fetchall()
    assert codes == [("source_order_is_whole", "source_order")]


def test_rows_that_differ_from_known_ones_in_their_order_are_kept_as_rejects(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write("rows.csv", f"order,at,status,n\n1,{AT},new,1\n1,{AT},old,2\n")
    assert deliver(connection, path, Settings(mapping(BASE))).result == (2, 2, 0, 0)
    ordered = Settings(mapping(f"{BASE}order: [n]\n"))
    assert deliver(connection, path, ordered).result == (2, 0, 0, 2)
    codes = connection.execute("select code from raw.rejected_transitions").fetchall()
    assert codes == [("id_conflict",)] * 2
    assert deliver(connection, path, ordered).is_repeated


def test_what_polars_refuses_of_a_kept_mapping_is_a_source_error(mapping: Load) -> None:
    text = BASE.replace("at\n", "{column: at, format: '%Y-%m-%d'}\n", 1)
    kept = restore_mapping(mapping(text).content.replace("%Y-%m-%d", "%I"))
    with pytest.raises(
        SourceError,
        match=r"^The mapping can't be applied: format '%I': it reads no year",
    ):
        _apply(kept, {"order": "1", "at": AT, "status": "new"})
