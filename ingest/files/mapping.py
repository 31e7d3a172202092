"""Mapping files: how another table's columns make transitions.

What such a file may say belongs in mapping_schema.py. Wide tables, where each of
several timestamp columns is one transition, list them under `transitions`.
"""

import hashlib
import json
from collections.abc import Callable
from collections.abc import Mapping as Members
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ingest.configuration.yaml_files import read_yaml
from ingest.errors import SourceError
from ingest.files.layout import Layout
from ingest.files.mapping_schema import FIELDS, POLARS_RAISES, mapping_defects
from ingest.files.time_formats import format_flaw, to_iso
from ingest.identity import key_to_bigint, key_to_uuid
from ingest.instants import Fold, Gap
from ingest.transition import COLUMNS, JSON_COLUMNS, NO_KEYS


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
    fold: Fold
    gap: Gap
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
        SourceError: the file or a key of it is not what it must be; a line a defect.
    """
    defects: list[str] = []
    content = read_yaml(path, defects, kind="a mapping file")
    if content is not None:
        defects += mapping_defects(content)
    if content is None or defects:
        raise SourceError("\n".join(defects))
    return _mapping(content)


def restore_mapping(content: str) -> Mapping:
    """The mapping of a content that was kept, the same as when it was loaded.

    It is read as it was when its file came in, without being checked again.
    """
    return _mapping(json.loads(content))


def _mapping(content: dict[str, Any]) -> Mapping:
    shared = _fields(content)
    entries = content.get("transitions", [{}])
    return Mapping(
        transitions=tuple({**shared, **_fields(entry)} for entry in entries),
        is_wide="transitions" in content,
        source=content.get("source"),
        timezone=content.get("timezone"),
        fold=content.get("fold") or "reject",
        gap=content.get("gap") or "reject",
        delimiter=content.get("delimiter"),
        encoding=content.get("encoding"),
        accept_unended=bool(content.get("accept_unended")),
        nulls=tuple(content.get("nulls") or ()),
        content=json.dumps(content),
        # What it says counts, not how it is laid out.
        sha256=hashlib.sha256(repr(_sorted(content)).encode()).hexdigest(),
    )


def _fields(content: dict[str, Any]) -> dict[str, Field | dict[str, Field]]:
    return {
        name: _members(value) if name in JSON_COLUMNS else _field(value)
        for name, value in content.items()
        if name in FIELDS and value is not None
    }


def _field(value: str | dict[str, Any]) -> Field:
    if isinstance(value, str):
        return Field(column=value)
    return Field(**{part: _plain(given) for part, given in value.items()})


def _members(value: list[str] | dict[str, Any]) -> dict[str, Field]:
    """The members of a JSON column: their names, and where they come from."""
    if isinstance(value, list):
        return {column: Field(column=column) for column in value}
    return {name: _field(given) for name, given in value.items()}


def _plain(given: Any) -> Any:
    """A field's part as Field holds it."""
    if isinstance(given, list):
        return tuple(given)
    if isinstance(given, dict):
        return {old: str(new) for old, new in given.items()}
    return given


def _sorted(value: Any) -> Any:
    """The content with its mappings in the order of their keys."""
    if isinstance(value, dict):
        return sorted(((str(k), _sorted(v)) for k, v in value.items()), key=repr)
    return [_sorted(item) for item in value] if isinstance(value, list) else value


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
    # One that another release took may have been kept.
    if flaw := format_flaw(field.format):
        msg = f"The mapping can't be applied: format {field.format!r}: {flaw}. Mend it."
        raise SourceError(msg)
    # What doesn't fit the format must not pass because it happens to be ISO 8601.
    return pl.coalesce(
        to_iso(text, field.format), text + pl.lit(f" is not {field.format}")
    )


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
