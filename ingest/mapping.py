"""Mapping files: how another table's columns make transitions.

A mapping is YAML; `docs` of its keys stand in the README. Wide tables, where each
of several timestamp columns is one transition, list them under `transitions`.
"""

import hashlib
import json
from collections.abc import Mapping as Members
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from zoneinfo import available_timezones

import polars as pl
import yaml

from ingest.errors import SourceError
from ingest.sources import Layout
from ingest.transition import COLUMNS, JSON_COLUMNS, TIMES, key_to_bigint, key_to_uuid

OPTIONS = {"source", "timezone", "delimiter", "nulls", "transitions"}
FIELDS = set(COLUMNS) - {"id"}
FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    "column": str,
    "columns": list,
    "constant": (str, bool, int),
    "format": str,
    "key": bool,
    "namespace": str,
    "separator": str,
    "values": dict,
}
NEEDED = ("entity_type", "entity_id", "created_at", "to_status")


@dataclass(frozen=True)
class Field:
    """Where one column of a transition comes from.

    Exactly one of `column`, `columns` (joined by `separator`) and `constant`.
    `values` translates; `key` turns a text key into a stable id within `namespace`;
    `format` is a strftime pattern of an instant.
    """

    column: str | None = None
    columns: tuple[str, ...] = ()
    separator: str = " "
    constant: str | bool | int | None = None
    values: Members[str, str] | None = None
    key: bool = False
    namespace: str = ""
    format: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns of the source that it reads."""
        return (self.column,) if self.column else self.columns

    def text(self) -> pl.Expr:
        """The value as text, before keys are translated."""
        if self.constant is not None:
            is_flag = isinstance(self.constant, bool)
            text = str(self.constant)
            return pl.lit(text.lower() if is_flag else text)
        if self.column is None:
            # A row without one of the parts is joined from the others.
            return pl.concat_str(self.columns, separator=self.separator, ignore_nulls=True)
        value = pl.col(self.column)
        return value.replace(dict(self.values)) if self.values else value


class Mapped(NamedTuple):
    """texts: `row_number` and COLUMNS as String, one row a transition.

    keys: the text keys met: entity_type, entity_id, namespace, entity_key.
    """

    texts: pl.DataFrame
    keys: pl.DataFrame


@dataclass(frozen=True)
class Mapping:
    """A mapping file, checked; `apply` is all a caller needs."""

    transitions: tuple[Members[str, Field | Members[str, str]], ...]
    is_wide: bool
    source: str | None
    timezone: str | None
    delimiter: str | None
    nulls: tuple[str, ...]
    sha256: str

    @property
    def layout(self) -> Layout:
        """The columns that a source must have."""
        names: dict[str, None] = {}
        for fields in self.transitions:
            for field in fields.values():
                sources = field.sources if isinstance(field, Field) else tuple(field.values())
                names.update(dict.fromkeys(sources))
        columns = tuple(names)
        return Layout(columns, columns, is_open=True, delimiter=self.delimiter)

    @property
    def formats(self) -> dict[str, str]:
        """The strftime patterns of the instants that have one."""
        found = {}
        for fields in self.transitions:
            for name in TIMES:
                field = fields.get(name)
                if isinstance(field, Field) and field.format:
                    found[name] = field.format
        return found

    def apply(self, records: pl.DataFrame) -> Mapped:
        """Make the transitions of a chunk; a null instant of a wide table makes none.

        Args:
            records: `row_number` and the layout's columns as String, n rows.
        """
        if self.nulls:
            cleaned = pl.col(self.layout.columns)
            records = records.with_columns(
                pl.when(~cleaned.is_in(self.nulls)).then(cleaned)
            )
        parts = [
            _texts(records, fields, place, is_wide=self.is_wide)
            for place, fields in enumerate(self.transitions)
        ]
        texts = pl.concat(parts).sort("row_number", "place").drop("place")
        return _translate_keys(texts, self.transitions[0])


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        SourceError: the file or a key of it is not what it must be; names the key.
    """
    content = _load_yaml(path)
    unknown = sorted(content.keys() - OPTIONS - FIELDS)
    if unknown:
        _fail(path, unknown[0], f"is unknown; known are {', '.join(sorted(OPTIONS | FIELDS))}")
    shared = {k: _field(path, k, v) for k, v in content.items() if k in FIELDS and v is not None}
    entries = content.get("transitions", [{}])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries) or not entries:
        _fail(path, "transitions", "must be a list of mappings")
    transitions = tuple(_entry(path, shared, n, entry) for n, entry in enumerate(entries))
    zone = content.get("timezone")
    if zone is not None and zone not in available_timezones():
        _fail(path, "timezone", f"{zone!r} is no IANA time zone, such as Europe/Amsterdam")
    nulls = content.get("nulls") or []
    if not isinstance(nulls, list):
        _fail(path, "nulls", "must be a list of texts, such as ['', '?']")
    return Mapping(
        transitions=transitions,
        is_wide="transitions" in content,
        source=content.get("source"),
        timezone=zone,
        delimiter=content.get("delimiter"),
        nulls=tuple(str(text) for text in nulls),
        # What it says counts, not how it is laid out.
        sha256=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
    )


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path}: {error.strerror or error}. Check the path."
        raise SourceError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        msg = f"{path}{line}: it is no YAML: {getattr(error, 'problem', error)}."
        raise SourceError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: a mapping is a YAML mapping of columns; this is none."
        raise SourceError(msg)
    return content


def _entry(
    path: Path, shared: dict[str, Any], number: int, entry: dict[str, Any]
) -> dict[str, Any]:
    """One kind of transition: the shared fields, and those of its own."""
    unknown = sorted(entry.keys() - FIELDS)
    if unknown:
        _fail(path, f"transitions[{number}].{unknown[0]}", "is unknown")
    own = {k: _field(path, f"transitions[{number}].{k}", v) for k, v in entry.items() if v is not None}
    fields = {**shared, **own}
    for name in NEEDED:
        if name not in fields:
            _fail(path, name, "is missing: name its column, or a constant")
    return fields


def _field(path: Path, key: str, value: object) -> Field | dict[str, str]:
    name = key.rpartition(".")[2]
    if name in JSON_COLUMNS:
        return _members(path, key, value)
    if isinstance(value, str):
        return Field(column=value)
    if not isinstance(value, dict):
        _fail(path, key, "must be a column's name, or a mapping such as {constant: order}")
    for part, given in value.items():
        if part not in FIELD_TYPES:
            known = ", ".join(FIELD_TYPES)
            _fail(path, f"{key}.{part}", f"is unknown; known are {known}")
        if not isinstance(given, FIELD_TYPES[part]):
            _fail(path, f"{key}.{part}", f"can't be {given!r}")
    if sum(part in value for part in ("column", "columns", "constant")) != 1:
        _fail(path, key, "needs exactly one of column, columns and constant")
    if value.get("key") and name not in ("entity_id", "triggered_by_user_id"):
        _fail(path, f"{key}.key", "is for entity_id and triggered_by_user_id only")
    return Field(**{part: _plain(given) for part, given in value.items()})


def _plain(given: Any) -> Any:
    """A field's part as Field holds it: texts, and a flag for `key` alone."""
    if isinstance(given, list):
        return tuple(str(item) for item in given)
    if isinstance(given, dict):
        return {str(old): str(new) for old, new in given.items()}
    return given


def _members(path: Path, key: str, value: object) -> dict[str, str]:
    """The members of a JSON column: their names, and the columns they come from."""
    if isinstance(value, list):
        return {str(column): str(column) for column in value}
    if isinstance(value, dict):
        return {str(name): str(column) for name, column in value.items()}
    _fail(path, key, "must be a list of columns, or a mapping of names to columns")


def _fail(path: Path, key: str, words: str) -> NoReturn:
    msg = f"{path}: key {key!r} {words}."
    raise SourceError(msg)


def _texts(
    records: pl.DataFrame, fields: Members[str, Any], place: int, *, is_wide: bool
) -> pl.DataFrame:
    made = {
        name: _json_object(field) if isinstance(field, dict) else field.text()
        for name, field in fields.items()
    }
    texts = records.select(
        "row_number",
        place=pl.lit(place),
        **{c: made.get(c, pl.lit(None)).cast(pl.String) for c in COLUMNS},
    )
    return texts.filter(pl.col("created_at").is_not_null()) if is_wide else texts


def _json_object(members: dict[str, str]) -> pl.Expr:
    struct = pl.struct(pl.col(column).alias(name) for name, column in members.items())
    return struct.struct.json_encode()


def _translate_keys(texts: pl.DataFrame, fields: Members[str, Any]) -> Mapped:
    schema = {
        "entity_type": pl.String,
        "entity_id": pl.Int64,
        "namespace": pl.String,
        "entity_key": pl.String,
    }
    keys = pl.DataFrame(schema=schema)
    user, entity = fields.get("triggered_by_user_id"), fields["entity_id"]
    if user is not None and user.key:
        texts = _replace(texts, "triggered_by_user_id", key_to_uuid)
    if entity.key:
        keys = _keys(texts, entity.namespace)
        ids = keys.select("entity_key", "entity_id").unique("entity_key")
        texts = texts.with_columns(
            entity_id=pl.col("entity_id").replace_strict(
                ids["entity_key"], ids["entity_id"].cast(pl.String), return_dtype=pl.String
            )
        )
    return Mapped(texts, keys.select(*schema))


def _keys(texts: pl.DataFrame, namespace: str) -> pl.DataFrame:
    found = texts.select("entity_type", entity_key="entity_id").drop_nulls().unique(maintain_order=True)
    ids = [key_to_bigint(namespace, key) for key in found["entity_key"]]
    return found.with_columns(
        namespace=pl.lit(namespace), entity_id=pl.Series(ids, dtype=pl.Int64)
    )


def _replace(texts: pl.DataFrame, column: str, translate: Any) -> pl.DataFrame:
    old = texts[column].drop_nulls().unique().to_list()
    new = [translate(text) for text in old]
    return texts.with_columns(
        pl.col(column).replace_strict(old, new, return_dtype=pl.String)
    )
