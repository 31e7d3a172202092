"""Mapping files: how another table's columns make transitions, or audit entries.

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

from ingest import audit_entry
from ingest.configuration.yaml_files import read_yaml
from ingest.errors import SourceError
from ingest.files.layout import Layout
from ingest.files.mapping_schema import (
    FIELDS,
    JSON_COLUMNS,
    POLARS_RAISES,
    mapping_defects,
)
from ingest.files.time_formats import format_flaw, to_iso
from ingest.identity import key_to_bigint, key_to_uuid, named_uuid
from ingest.instants import Fold, Gap
from ingest.kinds import AUDIT_LOGS, KINDS, TRANSITIONS, Kind
from ingest.transition import NO_KEYS


@dataclass(frozen=True)
class Field:
    """Where one column of a row comes from.

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
            return pl.lit(_text(self.constant))
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
    """texts: `row_number` and the kind's columns as String, one row a transition.

    keys: the text keys met: entity_type, entity_id, namespace, entity_key.
    skipped_rows: how many rows the mapping leaves out.
    """

    texts: pl.DataFrame
    keys: pl.DataFrame
    skipped_rows: int = 0


@dataclass(frozen=True)
class Condition:
    """What of a column makes a row one of transitions; a null is no text.

    Exactly one of `values` (is one of, or with `is_not` none of) and `matches`.
    """

    column: str
    values: tuple[str | None, ...] = ()
    is_not: bool = False
    matches: str | None = None

    def holds(self) -> pl.Expr:
        """Whether it holds, never null."""
        value = pl.col(self.column)
        if self.matches is not None:
            return value.str.contains(self.matches).fill_null(value=False)
        named = [text for text in self.values if text is not None]
        found = value.is_in(named).fill_null(value=None in self.values)
        return ~found if self.is_not else found


class _Part(NamedTuple):
    texts: pl.DataFrame
    keys: pl.DataFrame


@dataclass(frozen=True)
class Mapping:
    """A mapping file, checked; `apply` is all a caller needs.

    kind: what it makes; of audit logs, `transitions` is one entry, too. content: all
    that it says, as `restore_mapping` reads it.
    """

    kind: Kind
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
    where: tuple[Condition, ...]
    identity: tuple[str, ...]
    order: tuple[str, ...]
    content: str
    sha256: str

    @property
    def entity_types(self) -> list[str]:
        """Those that it gives to all rows alike."""
        fields = (entry["entity_type"] for entry in self.transitions)
        return [
            str(field.constant)
            for field in fields
            if isinstance(field, Field) and field.constant is not None
        ]

    @property
    def tells_events(self) -> bool:
        """Whether it says what makes two rows one event; else all that is mapped."""
        return bool(self.identity) or any("id" in entry for entry in self.transitions)

    @property
    def layout(self) -> Layout:
        """The columns that a source must have."""
        names: dict[str, None] = {}
        for fields in self.transitions:
            for field in fields.values():
                parts = [field] if isinstance(field, Field) else field.values()
                for part in parts:
                    names.update(dict.fromkeys(part.sources))
        names.update(dict.fromkeys(condition.column for condition in self.where))
        names.update(dict.fromkeys((*self.identity, *self.order)))
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
        kept = records
        for condition in self.where:
            kept = kept.filter(condition.holds())
        parts = [
            self._transitions(kept, fields, place)
            for place, fields in enumerate(self.transitions)
        ]
        texts = pl.concat([part.texts for part in parts]).sort("row_number", "place")
        keys = pl.concat([part.keys for part in parts]).unique(maintain_order=True)
        return Mapped(texts.drop("place"), keys, records.height - kept.height)

    def _transitions(
        self, records: pl.DataFrame, fields: Members[str, Any], place: int
    ) -> _Part:
        """The transitions of one entry of the mapping, with the keys it met."""
        made = {
            name: _json_object(field) if isinstance(field, dict) else _timed(field)
            for name, field in fields.items()
        }
        if self.order:
            made["source_order"] = _ordered(self.order)
        texts = records.select(
            "row_number",
            place=pl.lit(place),
            event=_event(self.identity),
            **{c: made.get(c, pl.lit(None)).cast(pl.String) for c in self.kind.columns},
        )
        if self.is_wide:
            texts = texts.filter(pl.col("created_at").is_not_null())
        user, entity = fields.get("triggered_by_user_id"), fields["entity_id"]
        if user is not None and user.key:
            texts = _translate(texts, "triggered_by_user_id", key_to_uuid)
        keys = NO_KEYS
        if entity.key:
            keys = _keys(texts, entity.namespace)
            translate = partial(key_to_bigint, entity.namespace)
            texts = _translate(texts, "entity_id", translate)
        if self.identity:
            texts = texts.with_columns(id=_ids(texts, self.kind))
        return _Part(texts.drop("event"), keys)


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


def mapping_of_content(content: dict[str, Any]) -> Mapping:
    """The mapping that a part of another file is; checked by its caller."""
    return _mapping(content)


def restore_mapping(content: str) -> Mapping:
    """The mapping of a content that was kept, the same as when it was loaded.

    It is read as it was when its file came in, without being checked again.
    """
    return _mapping(json.loads(content))


def own_mapping(kind: str | None) -> Mapping | None:
    """How a file is read that comes without a mapping; None: by its own columns."""
    return _mapping(audit_entry.MAPPING) if kind == AUDIT_LOGS.name else None


def _mapping(content: dict[str, Any]) -> Mapping:
    shared = _fields(content)
    entries = content.get("transitions", [{}])
    return Mapping(
        kind=KINDS[content.get("kind") or TRANSITIONS.name],
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
        where=tuple(map(_condition, content.get("where") or ())),
        identity=tuple(content.get("identity") or ()),
        order=tuple(content.get("order") or ()),
        content=json.dumps(content),
        # What it says counts, not how it is laid out.
        sha256=hashlib.sha256(repr(_sorted(content)).encode()).hexdigest(),
    )


def _condition(content: dict[str, Any]) -> Condition:
    name, given = next(item for item in content.items() if item[0] != "column")
    if name == "matches":
        return Condition(content["column"], matches=given)
    several = given if isinstance(given, list) else [given]
    values = tuple(None if value is None else _text(value) for value in several)
    return Condition(content["column"], values, is_not=name == "is_not")


def _text(value: str | bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fields(content: dict[str, Any]) -> dict[str, Field | dict[str, Field]]:
    return {
        name: _field(value)
        if isinstance(value, str) or name not in JSON_COLUMNS
        else _members(value)
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


def _event(identity: tuple[str, ...]) -> pl.Expr:
    """What tells an event from others, as one text; JSON keeps values apart."""
    if not identity:
        return pl.lit(None, pl.String)
    named = [pl.col(name).alias(str(place)) for place, name in enumerate(identity)]
    return pl.struct(named).struct.json_encode()


def _ids(texts: pl.DataFrame, kind: Kind) -> pl.Series:
    """The id of each row by its kind, entity, entry of the mapping, and event."""
    marked = pl.concat_str(
        "entity_type", "entity_id", "place", "event", separator="\x00"
    ).fill_null("")
    contents = texts.select(marked).to_series()
    return pl.Series(
        [named_uuid(f"{kind.mark}identity\x00{text}") for text in contents],
        dtype=pl.String,
    )


def _ordered(columns: tuple[str, ...]) -> pl.Expr:
    """The order as one whole number; what is none stays text, and is refused."""
    if len(columns) == 1:
        return pl.col(columns[0])
    bits = 62 // len(columns)
    numbers = [pl.col(c).cast(pl.Int64, strict=False) for c in columns]
    is_fit = pl.all_horizontal((n >= 0) & (n < 2**bits) for n in numbers)
    packed = sum(n * 2 ** (bits * place) for place, n in enumerate(reversed(numbers)))
    is_absent = pl.all_horizontal(pl.col(c).is_null() for c in columns)
    as_it_is = pl.concat_str(
        [pl.col(c).fill_null("nothing") for c in columns], separator=" and "
    )
    return (
        pl.when(is_absent)
        .then(None)
        .when(is_fit)
        .then(packed)
        .cast(pl.String)
        .fill_null(pl.when(~is_absent).then(as_it_is))
    )


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
