"""Mapping files: how another table's columns make transitions.

A mapping is YAML; `docs` of its keys stand in the README. Wide tables, where each
of several timestamp columns is one transition, list them under `transitions`.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Callable
from collections.abc import Mapping as Members
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import polars as pl

from ingest.configuration.yaml_files import Located, read_yaml, shown
from ingest.errors import SourceError
from ingest.files.chunks import Layout
from ingest.files.encodings import check_encoding
from ingest.transition import (
    COLUMNS,
    JSON_COLUMNS,
    NO_KEYS,
    TIMES,
    check_zone,
    key_to_bigint,
    key_to_uuid,
)

OPTION_TYPES: dict[str, type[Any]] = {
    "source": str,
    "timezone": str,
    "delimiter": str,
    "encoding": str,
    "accept_unended": bool,
    "nulls": list,
}
OPTION_CHECKS: dict[str, Callable[[str], str | None]] = {
    "timezone": check_zone,
    "encoding": check_encoding,
}
OPTIONS = {*OPTION_TYPES, "transitions"}
FIELDS = set(COLUMNS) - {"id"}
SCALARS = (str, int, float)
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
# Directives of an instant that need no zone: %s counts seconds from 1970 in UTC.
ZONE_FORMAT = re.compile(r"%(?:[:#]*z|\+|s)")
# What polars takes for several columns, and the readers' own column.
PATTERN = re.compile(r"\^.*\$$|\*$", re.DOTALL)
TAKEN = ("", "row_number")
# Of what a mapping puts into each of the 50,000 rows of a chunk.
LONGEST_TEXT = 1_000
STORABLE = f"write at most {LONGEST_TEXT:,} characters, without NUL"
TRIED = datetime(2001, 12, 31, 23, 58, 59, 123456, UTC)
POLARS_RAISES = (
    pl.exceptions.PolarsError,
    pl.exceptions.PolarsWarning,
    pl.exceptions.PanicException,
)
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
            joined = pl.concat_str(
                self.columns, separator=self.separator, ignore_nulls=True
            )
            return pl.when(pl.any_horizontal(pl.col(self.columns).is_not_null())).then(
                joined
            )
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
    """A mapping file, checked; `apply` is all a caller needs.

    content: all that it says, as `restore_mapping` reads it.
    """

    transitions: tuple[Members[str, Field | Members[str, Field]], ...]
    is_wide: bool
    source: str | None
    timezone: str | None
    delimiter: str | None
    encoding: str | None
    accept_unended: bool
    nulls: tuple[str, ...]
    content: str
    sha256: str

    @property
    def layout(self) -> Layout:
        """The columns that a source must have."""
        names: dict[str, None] = {}
        for fields in self.transitions:
            for field in fields.values():
                parts = [field] if isinstance(field, Field) else field.values()
                for part in parts:
                    names.update(dict.fromkeys(part.sources))
        columns = tuple(names)
        return Layout(
            columns,
            columns,
            is_open=True,
            delimiter=self.delimiter,
            encoding=self.encoding,
            accepts_unended=self.accept_unended,
        )

    def apply(self, records: pl.DataFrame) -> Mapped:
        """Make the transitions of a chunk; a null instant of a wide table makes none.

        Args:
            records: `row_number` and the layout's columns as String, n rows.

        Raises:
            SourceError: polars can't do what the mapping says.
        """
        try:
            return self._apply(records)
        except POLARS_RAISES as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            msg = f"The mapping can't be applied: {reason}. Mend it."
            raise SourceError(msg) from error

    def _apply(self, records: pl.DataFrame) -> Mapped:
        if self.nulls:
            cleaned = pl.col(self.layout.columns)
            records = records.with_columns(
                pl.when(~cleaned.is_in(self.nulls)).then(cleaned)
            )
        parts = [
            _texts(records, fields, place, is_wide=self.is_wide)
            for place, fields in enumerate(self.transitions)
        ]
        texts = pl.concat([part.texts for part in parts]).sort("row_number", "place")
        keys = pl.concat([part.keys for part in parts]).unique(maintain_order=True)
        return Mapped(texts.drop("place"), keys)


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Raises:
        SourceError: the file or a key of it is not what it must be; names the key.
    """
    defects: list[str] = []
    content = read_yaml(path, defects, is_typed=True)
    if content is None:
        raise SourceError(defects[0])
    return _checked(str(path), content)


def restore_mapping(content: str) -> Mapping:
    """The mapping of a content that was kept, the same as when it was loaded."""
    return _checked("the kept mapping", json.loads(content))


def _checked(where: str, content: dict[str, Any]) -> Mapping:
    unknown = sorted(map(str, content.keys() - OPTIONS - FIELDS))
    if unknown:
        _fail(
            _within(where, content, unknown[0]),
            unknown[0],
            f"is unknown; known are {', '.join(sorted(OPTIONS | FIELDS))}",
        )
    shared = {
        k: _field(_within(where, content, k), k, v)
        for k, v in content.items()
        if k in FIELDS and v is not None
    }
    entries = content.get("transitions", [{}])
    if (
        not isinstance(entries, list)
        or not all(isinstance(e, dict) for e in entries)
        or not entries
    ):
        at = _within(where, content, "transitions")
        _fail(at, "transitions", "must be a list of mappings")
    transitions = tuple(
        _entry(where, shared, n, entry) for n, entry in enumerate(entries)
    )
    options = {
        name: _option(_within(where, content, name), name, content.get(name))
        for name in OPTION_TYPES
    }
    return Mapping(
        transitions=transitions,
        is_wide="transitions" in content,
        source=options["source"],
        timezone=options["timezone"],
        delimiter=options["delimiter"],
        encoding=options["encoding"],
        accept_unended=bool(options["accept_unended"]),
        nulls=tuple(options["nulls"] or ()),
        content=json.dumps(_keyed_by_text(content)),
        # What it says counts, not how it is laid out.
        sha256=hashlib.sha256(repr(_sorted(content)).encode()).hexdigest(),
    )


def _option(where: str, name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, OPTION_TYPES[name]):
        _fail(where, name, f"can't be {shown(value)}")
    if name in OPTION_CHECKS:
        try:
            return OPTION_CHECKS[name](value)
        except SourceError as error:
            _fail(where, name, f"{str(error).rstrip('.')}")
    if name == "delimiter" and (len(value) != 1 or value in '"\r\n'):
        _fail(where, name, f"must be one character, not {shown(value)}")
    if name == "source" and "\0" in value:
        _fail(where, name, f"can't be {shown(value)}; write it without NUL")
    if name == "nulls" and not all(isinstance(text, str) for text in value):
        _fail(where, name, "must be a list of texts, such as ['', '?']")
    return value


def _sorted(value: Any) -> Any:
    """The content with its mappings in the order of their keys."""
    if isinstance(value, dict):
        return sorted(((str(k), _sorted(v)) for k, v in value.items()), key=repr)
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _keyed_by_text(value: Any) -> Any:
    """The content as JSON holds it: `yes` and 1 as keys are texts, as in _plain."""
    if isinstance(value, dict):
        return {str(k): _keyed_by_text(v) for k, v in value.items()}
    return [_keyed_by_text(v) for v in value] if isinstance(value, list) else value


def _entry(
    where: str, shared: dict[str, Any], number: int, entry: dict[str, Any]
) -> dict[str, Any]:
    """One kind of transition: the shared fields, and those of its own."""
    unknown = sorted(map(str, entry.keys() - FIELDS))
    if unknown:
        at = _within(where, entry, unknown[0])
        _fail(at, f"transitions[{number}].{unknown[0]}", "is unknown")
    own = {
        k: _field(_within(where, entry, k), f"transitions[{number}].{k}", v)
        for k, v in entry.items()
        if v is not None
    }
    fields = {**shared, **own}
    for name in NEEDED:
        if name not in fields:
            _fail(where, name, "is missing: name its column, or a constant")
    return fields


def _field(where: str, key: str, value: object) -> Field | dict[str, Field]:
    name = key.rpartition(".")[2]
    if name in JSON_COLUMNS:
        return _members(where, key, value)
    if isinstance(value, str) and value:
        if flaw := _flaw("column", value):
            _fail(where, key, f"can't be {shown(value)}; {flaw}")
        return Field(column=value)
    if not isinstance(value, dict):
        words = "must be a column's name, or a mapping such as {constant: order}"
        _fail(where, key, words)
    _check_parts(where, key, name, value)
    return Field(**{part: _plain(given) for part, given in value.items()})


def _check_parts(where: str, key: str, name: str, value: dict[str, Any]) -> None:
    for part, given in value.items():
        at, inner = _within(where, value, part), f"{key}.{part}"
        if part not in FIELD_TYPES:
            _fail(at, inner, f"is unknown; known are {', '.join(FIELD_TYPES)}")
        if not _is_sound(part, given):
            _fail(at, inner, f"can't be {shown(given)}")
        # What was kept with a file is read as it was when that came in.
        if isinstance(value, Located) and (flaw := _flaw(part, given)):
            _fail(at, inner, f"can't be {shown(given)}; {flaw}")
    if sum(part in value for part in ("column", "columns", "constant")) != 1:
        _fail(where, key, "needs exactly one of column, columns and constant")
    if value.get("key") and name not in ("entity_id", "triggered_by_user_id"):
        _fail(where, f"{key}.key", "is for entity_id and triggered_by_user_id only")
    if value.get("format") is not None and name not in TIMES:
        _fail(where, f"{key}.format", "is for created_at and sla_deadline only")
    if value.get("values") is not None and "column" not in value:
        _fail(where, f"{key}.values", "translates a column, and there is none")


def _is_sound(part: str, given: Any) -> bool:
    if not isinstance(given, FIELD_TYPES[part]):
        return False
    if part == "columns":
        return bool(given) and all(isinstance(name, str) and name for name in given)
    if part == "values":
        pairs = (*given.keys(), *given.values())
        return bool(given) and all(isinstance(item, SCALARS) for item in pairs)
    return part != "column" or bool(given)


def _flaw(part: str, given: Any) -> str | None:
    """What is wrong with a part that has its type; None if nothing."""
    if part in ("column", "columns"):
        names = [given] if part == "column" else given
        is_taken = any(name in TAKEN or PATTERN.match(name) for name in names)
        return "name that column otherwise in the source" if is_taken else None
    if part == "format":
        return _flaw_of_format(given)
    texts = given.values() if part == "values" else [given]
    return None if all(_is_storable(str(text)) for text in texts) else STORABLE


def _is_storable(text: str) -> bool:
    return "\0" not in text and len(text) <= LONGEST_TEXT


def _flaw_of_format(given: str) -> str | None:
    """Why instants can't be read by a format, as far as polars and a trial tell."""
    if len(given) > LONGEST_TEXT:
        return STORABLE
    try:
        with warnings.catch_warnings():
            # A warning is of %f, which polars takes for nanoseconds.
            warnings.simplefilter("error")
            _read_instants(pl.Series(["x"]), given)
            try:
                written = pl.Series([TRIED]).dt.to_string(given)
            except pl.exceptions.PolarsError:
                # Some directives can be read and not be written.
                return None
            read = _read_instants(written, given).dt.year().item()
    except POLARS_RAISES as error:
        return str(error).partition("\n")[0].rstrip(".")
    if read is None:
        return "it reads nothing"
    return None if read == TRIED.year else "it reads no year"


def _read_instants(texts: pl.Series, given: str) -> pl.Series:
    return texts.str.to_datetime(given, time_unit="us", strict=False)


def _plain(given: Any) -> Any:
    """A field's part as Field holds it: texts, and a flag for `key` alone."""
    if isinstance(given, list):
        return tuple(str(item) for item in given)
    if isinstance(given, dict):
        return {str(old): str(new) for old, new in given.items()}
    return given


def _members(where: str, key: str, value: object) -> dict[str, Field]:
    """The members of a JSON column: their names, and where they come from."""
    if isinstance(value, list) and value and all(isinstance(c, str) for c in value):
        value = {column: column for column in value}
    if not isinstance(value, dict) or not value:
        words = "must be a list of columns, or a mapping of names to columns"
        _fail(where, key, words)
    members = {}
    for name, given in value.items():
        at = _within(where, value, name)
        field = _field(at, f"{key}.{name}", given)
        if isinstance(field, dict):
            _fail(at, f"{key}.{name}", "can't be nested")
        members[str(name)] = field
    return members


def _within(where: str, value: object, key: object) -> str:
    """Where a key of a value stands; the value's own place if that is all there is."""
    return value.at(key) if isinstance(value, Located) else where


def _fail(where: str, key: str, words: str) -> NoReturn:
    msg = f"{where}: key {shown(key)} {words}."
    raise SourceError(msg)


class _Part(NamedTuple):
    texts: pl.DataFrame
    keys: pl.DataFrame


def _texts(
    records: pl.DataFrame, fields: Members[str, Any], place: int, *, is_wide: bool
) -> _Part:
    """The transitions of one entry of the mapping, with the keys it met."""
    made = {
        name: _json_object(field) if isinstance(field, dict) else _timed(field)
        for name, field in fields.items()
    }
    texts = records.select(
        "row_number",
        place=pl.lit(place),
        **{c: made.get(c, pl.lit(None)).cast(pl.String) for c in COLUMNS},
    )
    if is_wide:
        texts = texts.filter(pl.col("created_at").is_not_null())
    user, entity = fields.get("triggered_by_user_id"), fields["entity_id"]
    if user is not None and user.key:
        texts = _translate(texts, "triggered_by_user_id", key_to_uuid)
    if not entity.key:
        return _Part(texts, NO_KEYS)
    keys = _keys(texts, entity.namespace)
    translate = partial(key_to_bigint, entity.namespace)
    return _Part(_translate(texts, "entity_id", translate), keys)


def _timed(field: Field) -> pl.Expr:
    """The text of a field; an instant in a format of its own becomes ISO 8601."""
    text = field.text()
    if field.format is None:
        return text
    parsed = text.str.to_datetime(field.format, time_unit="us", strict=False)
    zone = "Z" if ZONE_FORMAT.search(field.format.replace("%%", "")) else ""
    # What doesn't fit the format must not pass because it happens to be ISO 8601.
    misfit = text + pl.lit(f" is not {field.format}")
    iso = parsed.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
    return pl.coalesce(iso, misfit)


def _json_object(members: dict[str, Field]) -> pl.Expr:
    struct = pl.struct(field.text().alias(name) for name, field in members.items())
    return struct.struct.json_encode()


def _keys(texts: pl.DataFrame, namespace: str) -> pl.DataFrame:
    found = texts.select("entity_type", entity_key="entity_id").drop_nulls().unique()
    found = found.filter(~pl.col("entity_key").str.contains("\x00", literal=True))
    ids = [key_to_bigint(namespace, key) for key in found["entity_key"]]
    found = found.with_columns(
        namespace=pl.lit(namespace), entity_id=pl.Series(ids, dtype=pl.Int64)
    )
    return found.select(NO_KEYS.columns)


def _translate(
    texts: pl.DataFrame, column: str, translate: Callable[[str], str | int]
) -> pl.DataFrame:
    """Replace each key by its id; one with NUL stays, and is refused as no id."""
    keys = [key for key in texts[column].drop_nulls().unique() if "\x00" not in key]
    found = pl.DataFrame(
        {column: keys, "_id": [str(translate(key)) for key in keys]},
        schema={column: pl.String, "_id": pl.String},
    )
    return (
        texts.join(found, on=column, how="left", maintain_order="left")
        .with_columns(pl.coalesce("_id", column).alias(column))
        .drop("_id")
    )
