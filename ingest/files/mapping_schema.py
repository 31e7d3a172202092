"""The JSON Schema of a mapping file, and what of one is wrong that no schema says.

Run as a module, this writes mapping.schema.json beside it. What a mapping makes of rows
belongs in mapping.py.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from ingest.configuration.schema_checks import (
    NAME,
    Schema,
    key,
    list_of,
    mapping_of,
    schema_defects,
)
from ingest.configuration.yaml_files import Located, shown
from ingest.errors import SourceError
from ingest.files.encodings import check_encoding
from ingest.files.time_formats import format_flaw
from ingest.instants import check_zone
from ingest.kinds import COLUMNS, KINDS, TRANSITIONS, Kind

# Of what a mapping puts into each of the 50,000 rows of a chunk.
LONGEST_TEXT = 1_000
# The order has a key of its own, since several columns may make it.
FIELDS = tuple(column for column in COLUMNS if column != "source_order")
TIMES = {column for kind in KINDS.values() for column in kind.times}
JSON_COLUMNS = {column for kind in KINDS.values() for column in kind.json_columns}
# What polars takes for several columns, and the readers' own column.
PATTERN = re.compile(r"\^.*\$$|\*$", re.DOTALL)
TAKEN = ("", "row_number")
POLARS_RAISES = (
    pl.exceptions.PolarsError,
    pl.exceptions.PolarsWarning,
    pl.exceptions.PanicException,
)

_TEXT = {"type": "string", "maxLength": LONGEST_TEXT}
_COLUMN = {**NAME, "maxLength": LONGEST_TEXT}
_WHOLE = {"minimum": -(2**63), "maximum": 2**63 - 1}
_PARTS: dict[str, Schema] = {
    "column": key(_COLUMN, "The column of the source that it is in."),
    "columns": key(
        list_of(_COLUMN, minItems=1), "Columns whose values are joined; a null is not."
    ),
    "separator": key(_TEXT, "What is between joined values; a space by default."),
    "constant": key(
        {"type": ["string", "boolean", "integer"], "maxLength": LONGEST_TEXT, **_WHOLE},
        "The same in every row.",
    ),
    "values": key(
        {
            "type": "object",
            "minProperties": 1,
            "propertyNames": _TEXT,
            "additionalProperties": {
                "type": ["string", "boolean", "number"],
                "maxLength": LONGEST_TEXT,
            },
        },
        "What values of the column become; others stay.",
    ),
}
_OF_KEYS: dict[str, Schema] = {
    "key": key(
        {"type": "boolean"}, "Whether the values are texts that ids are made of."
    ),
}
_OF_ENTITIES: dict[str, Schema] = {
    **_OF_KEYS,
    "namespace": key(_TEXT, "Whose text keys they are: equal ones of another differ."),
}
_OF_TIMES: dict[str, Schema] = {
    "format": key(
        {**_TEXT, "examples": ["%d/%m/%Y %H:%M"]},
        "How an instant is written, in the directives of strptime.",
    ),
}


def _field(description: str, parts: dict[str, Schema]) -> Schema:
    return {
        "description": description,
        **mapping_of({**_PARTS, **parts}, optional=(*_PARTS, *parts)),
        "type": ["string", "object", "null"],
        "minLength": 1,
        "maxLength": LONGEST_TEXT,
    }


_OWN_PARTS = {"entity_id": _OF_ENTITIES, "triggered_by_user_id": _OF_KEYS}
_MEMBERS = {
    "description": "A column that is a JSON object, or the columns that make one, by "
    "name where they are named.",
    "type": ["string", "array", "object", "null"],
    "minLength": 1,
    "maxLength": LONGEST_TEXT,
    "items": _COLUMN,
    "minItems": 1,
    "minProperties": 1,
    "propertyNames": _TEXT,
    "additionalProperties": {
        **_field("", {}),
        "type": ["string", "object"],
        "description": "Where a member comes from.",
    },
}
_FIELDS: dict[str, Schema] = {
    name: _MEMBERS
    if name in JSON_COLUMNS
    else _field(
        f"Where {name} comes from: a column, or what makes it.",
        _OF_TIMES if name in TIMES else _OWN_PARTS.get(name, {}),
    )
    for name in FIELDS
}
_OPTIONS: dict[str, Schema] = {
    "kind": key(
        {"type": "string", "enum": list(KINDS)},
        "What the rows are: transitions (the default), or entries of audit_logs.",
        or_null=True,
    ),
    "source": key(
        _TEXT, "The source's name in the ledger; the file's by default.", or_null=True
    ),
    "timezone": key(
        {**NAME, "examples": ["Europe/Amsterdam"]},
        "The IANA zone of times without an offset.",
        or_null=True,
    ),
    "fold": key(
        {"type": "string", "enum": ["earlier", "later", "reject"]},
        "Which instant a local time means that exists twice: earlier, later, or reject "
        "(the default).",
        or_null=True,
    ),
    "gap": key(
        {"type": "string", "enum": ["forward", "reject"]},
        "What a local time becomes that never was: forward reads it by the offset "
        "before the change (02:30 is 03:30); reject is the default.",
        or_null=True,
    ),
    "delimiter": key(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 1,
            "pattern": '[^"\\r\\n]',
            "examples": ["';'"],
        },
        "What is between the values of delimited text.",
        or_null=True,
    ),
    "encoding": key(
        {**NAME, "examples": ["cp1252"]}, "Of text; UTF-8 by default.", or_null=True
    ),
    "accept_unended": key(
        {"type": "boolean"},
        "Whether a last line without a line end is whole.",
        or_null=True,
    ),
    "nulls": key(
        list_of({"type": "string"}, examples=["['', '?']"]),
        "Texts that stand for no value.",
        or_null=True,
    ),
}
_SCALARS = ["string", "boolean", "number", "null"]
_VALUES = {
    **list_of({"type": _SCALARS, "maxLength": LONGEST_TEXT}, minItems=1),
    "type": [*_SCALARS, "array"],
    "maxLength": LONGEST_TEXT,
}
_CONDITION = mapping_of(
    {
        "column": key(_COLUMN, "The column that is looked at."),
        "is": key(_VALUES, "The value, or one of several; null where there is none."),
        "is_not": key(_VALUES, "Not this value, or none of several."),
        "matches": key(_TEXT, "A regular expression of which some part is found."),
    },
    optional=("is", "is_not", "matches"),
)
_ROWS: dict[str, Schema] = {
    "where": key(
        list_of(_CONDITION, minItems=1),
        "Rows of which all this holds are transitions; others are skipped.",
    ),
    "identity": key(
        list_of(_COLUMN, minItems=1),
        "Columns that tell an event from all others of its entity, such as its own id; "
        "without them it is all that is mapped.",
    ),
    "order": key(
        list_of(_COLUMN, minItems=1, maxItems=4),
        "Columns of whole numbers that order transitions of one instant (S2).",
    ),
}
MAPPING = mapping_of(
    {
        **_OPTIONS,
        **_ROWS,
        **_FIELDS,
        "transitions": key(
            list_of(mapping_of(_FIELDS, optional=FIELDS), minItems=1)
            | {"uniqueItems": False},
            "Of a wide table: the transitions that a row makes, with what differs.",
        ),
    },
    optional=(*_OPTIONS, *_ROWS, *FIELDS, "transitions"),
)
CHECKS: dict[str, Callable[[str], str | None]] = {
    "timezone": check_zone,
    "encoding": check_encoding,
}


def json_schema() -> Schema:
    """The published JSON Schema of a mapping file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mapping",
        **MAPPING,
    }


def mapping_defects(content: Located) -> Iterator[str]:
    """What of a mapping is not as it must be, a sentence each, with file and line."""
    defects = list(schema_defects(content, MAPPING))
    yield from defects
    if defects:
        return
    for name, check in CHECKS.items():
        if content.get(name) is not None:
            try:
                check(content[name])
            except SourceError as error:
                yield f"{content.at(name)}: {shown(name)} can't be so: {error}"
    kind = KINDS[content.get("kind") or TRANSITIONS.name]
    entries = content.get("transitions", [content])
    for name in kind.required:
        if any(entry.get(name, content.get(name)) is None for entry in entries):
            yield (
                f"{content.at()}: key {name!r} is missing: name its column, or a "
                "constant."
            )
    yield from _row_defects(content, entries)
    parts = [content, *(entry for entry in entries if entry is not content)]
    for part in parts:
        yield from _kind_defects(part, kind)
        for name in part:
            if name in FIELDS:
                yield from _field_defects(part, name)


def _kind_defects(part: Located, kind: Kind) -> Iterator[str]:
    """Keys that say something of rows of another kind."""
    others = () if kind is TRANSITIONS else ("order", "transitions")
    strange = {*FIELDS, *others}.difference(kind.columns)
    for name in filter(strange.__contains__, part):
        yield (
            f"{part.at(name)}: {shown(name)} is no key of a mapping of {kind.noun}. "
            "Leave it out, or say by 'kind' what the rows are."
        )


def _row_defects(content: Located, entries: list[Located]) -> Iterator[str]:
    """What is wrong in what a mapping says of whole rows."""
    for condition in content.get("where", []):
        yield from _column_defects(condition["column"], condition.at("column"), "where")
        if len(condition) != 2:
            yield (
                f"{condition.at()}: a condition needs exactly one of is, is_not and "
                "matches."
            )
        if flaw := _flaw_of_pattern(condition.get("matches", "")):
            yield (
                f"{condition.at('matches')}: 'matches' can't be "
                f"{shown(condition['matches'])}: {flaw}."
            )
    for name in ("identity", "order"):
        for column in content.get(name, []):
            yield from _column_defects(column, content.at(name), name)
    has_id = any("id" in part for part in (content, *entries))
    if has_id and "identity" in content:
        yield f"{content.at('identity')}: 'identity' makes an id, and id names one."
    if "id" in content and "transitions" in content:
        yield (
            f"{content.at('id')}: 'id' would be that of every transition of a row. "
            "Name identity instead."
        )


def _flaw_of_pattern(pattern: str) -> str | None:
    try:
        pl.Series([""]).str.contains(pattern)
    except POLARS_RAISES as error:
        return " ".join(str(error).split())[:LONGEST_TEXT]
    return None


def _field_defects(within: Located, name: str) -> Iterator[str]:
    """What is wrong with a field, and with the members of a JSON column."""
    field = within[name]
    if isinstance(field, list):
        for column in field:
            yield from _column_defects(column, within.at(name), name)
    elif isinstance(field, Located) and name in JSON_COLUMNS:
        for member in field:
            yield from _part_defects(field, member)
    elif field is not None:
        yield from _part_defects(within, name)


def _part_defects(within: Located, name: str) -> Iterator[str]:
    field = within[name]
    if isinstance(field, str):
        yield from _column_defects(field, within.at(name), name)
        return
    if sum(part in field for part in ("column", "columns", "constant")) != 1:
        yield (
            f"{within.at(name)}: {shown(name)} needs exactly one of column, columns "
            "and constant."
        )
    if "values" in field and "column" not in field:
        yield (
            f"{field.at('values')}: 'values' translates a column; {shown(name)} has "
            "none."
        )
    for part in ("column", "columns"):
        given = field.get(part, [])
        for column in [given] if isinstance(given, str) else given:
            yield from _column_defects(column, field.at(part), part)
    if "format" in field and (flaw := format_flaw(field["format"])):
        yield (
            f"{field.at('format')}: 'format' can't be {shown(field['format'])}; {flaw}."
        )


def _column_defects(column: str, where: str, name: str) -> Iterator[str]:
    if column in TAKEN or PATTERN.match(column):
        yield (
            f"{where}: {shown(name)} can't be {shown(column)}; name that column "
            "otherwise in the source."
        )


if __name__ == "__main__":
    Path(__file__).with_name("mapping.schema.json").write_text(
        json.dumps(json_schema(), indent=2) + "\n"
    )
