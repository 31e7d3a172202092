"""The record of a transition: its columns, the rules a row must pass, its identity.

Where rows come from belongs in sources.py, where they go in append.py.
"""

import hashlib
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from zoneinfo import available_timezones

import dataframely as dy
import polars as pl

from ingest.errors import SourceError
from ingest.json_text import canonical_each

COLUMNS = (
    "id",
    "created_at",
    "entity_type",
    "entity_id",
    "from_status",
    "to_status",
    "transition_reason",
    "business_context",
    "triggered_by_user_id",
    "triggered_by_system",
    "sla_deadline",
    "is_milestone",
    "metadata",
)
REQUIRED = ("created_at", "entity_type", "entity_id", "to_status")
TIMES = ("created_at", "sla_deadline")
JSON_COLUMNS = ("business_context", "metadata")

# The shape of the text keys behind entity ids, one row a key.
NO_KEYS = pl.DataFrame(
    schema={
        "entity_type": pl.String,
        "entity_id": pl.Int64,
        "namespace": pl.String,
        "entity_key": pl.String,
    }
)

# Identities of rows and keys that came without one are uuid5 within this namespace.
NAMESPACE = uuid.UUID("5b1a3a0c-7a4e-5d55-9c0e-6c9d0f6a2f11")

UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
# A bigint as Postgres writes it; any other spelling would have to be altered.
BIGINT_PATTERN = r"^(0|[1-9]\d{0,18})$"
LOCAL_PATTERN = r"^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:[0-5]\d(?:\.\d{1,6})?)"
OFFSET_PATTERN = r"(Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?$"
LONGEST_STATUS = 255
# As raw.entity_types has it.
TYPE_PATTERN = "^[a-z][a-z0-9_]*$"


class Reject(NamedTuple):
    """Why a source row was refused, and the row as it came."""

    row_number: int
    line_number: int | None
    byte_offset: int | None
    transition_count: int
    code: str
    column_name: str | None
    message: str
    original: bytes


class Validated(NamedTuple):
    """A chunk after validation: n = good rows + the transitions of rejected rows.

    good: `row_number` and COLUMNS, typed; id given; JSON as canonical text.
    defects: one row a rejected source row: row_number, code, transition_count.
    """

    good: pl.DataFrame
    defects: pl.DataFrame


def _text_is_whole(column: str) -> pl.Expr:
    return pl.col(column).is_null() | ~pl.col(column).str.contains("\x00", literal=True)


def _is_instant(column: str) -> pl.Expr:
    return pl.col(f"{column}_text").is_null() | pl.col(f"{column}_local").is_not_null()


def _has_offset(column: str) -> pl.Expr:
    return pl.col(f"{column}_local").is_null() | pl.col(f"{column}_is_placed")


def _exists_once(column: str) -> pl.Expr:
    local, placed = pl.col(f"{column}_local"), pl.col(f"{column}_is_placed")
    return local.is_null() | ~placed | pl.col(column).is_not_null()


class Transition(dy.Schema):
    """The rules of a row, each named by what must hold; the name is the reject's code.

    Evaluated over text beside its parsed values; the first broken rule is reported.
    """

    row_number = dy.Int64()
    id = dy.String(nullable=True)
    created_at = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    entity_type = dy.String(nullable=True)
    entity_id = dy.Int64(nullable=True)
    from_status = dy.String(nullable=True)
    to_status = dy.String(nullable=True)
    transition_reason = dy.String(nullable=True)
    business_context = dy.String(nullable=True)
    triggered_by_user_id = dy.String(nullable=True)
    triggered_by_system = dy.String(nullable=True)
    sla_deadline = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    is_milestone = dy.String(nullable=True)
    metadata = dy.String(nullable=True)
    latest = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    created_at_text = dy.String(nullable=True)
    created_at_local = dy.Datetime(nullable=True, time_unit="us")
    created_at_is_placed = dy.Bool()
    sla_deadline_text = dy.String(nullable=True)
    sla_deadline_local = dy.Datetime(nullable=True, time_unit="us")
    sla_deadline_is_placed = dy.Bool()
    entity_type_is_listed = dy.Bool()
    business_context_is_object = dy.Bool()
    metadata_is_object = dy.Bool()

    @dy.rule()
    def id_is_uuid(cls) -> pl.Expr:
        """The id is a UUID, or left out."""
        return pl.col("id").is_null() | pl.col("id").str.contains(UUID_PATTERN)

    @dy.rule()
    def created_at_is_given(cls) -> pl.Expr:
        """The instant of the transition is there."""
        return pl.col("created_at_text").is_not_null()

    @dy.rule()
    def created_at_is_instant(cls) -> pl.Expr:
        """The instant is ISO 8601, or of its mapping's format, to the microsecond."""
        return _is_instant("created_at")

    @dy.rule()
    def created_at_has_offset(cls) -> pl.Expr:
        """The instant has an offset, or a time zone was named for local times."""
        return _has_offset("created_at")

    @dy.rule()
    def created_at_exists_once(cls) -> pl.Expr:
        """The local time exists exactly once in its zone: no gap, no fold."""
        return _exists_once("created_at")

    @dy.rule()
    def created_at_is_not_ahead(cls) -> pl.Expr:
        """The instant is not further ahead of the server's clock than is tolerated."""
        created_at, latest = pl.col("created_at"), pl.col("latest")
        return created_at.is_null() | latest.is_null() | (created_at <= latest)

    @dy.rule()
    def entity_type_is_known(cls) -> pl.Expr:
        """The entity type is one of raw.entity_types."""
        return pl.col("entity_type_is_listed")

    @dy.rule()
    def entity_id_is_bigint(cls) -> pl.Expr:
        """The entity id is a whole number from 0 to 2^63-1, in digits only."""
        return pl.col("entity_id").is_not_null()

    @dy.rule()
    def to_status_is_given(cls) -> pl.Expr:
        """The new status is there and not empty."""
        return pl.col("to_status").is_not_null() & (pl.col("to_status") != "")

    @dy.rule()
    def to_status_is_short(cls) -> pl.Expr:
        """The new status has at most 255 characters, so that it can be indexed."""
        status = pl.col("to_status")
        return status.is_null() | (status.str.len_chars() <= LONGEST_STATUS)

    @dy.rule()
    def business_context_is_json_object(cls) -> pl.Expr:
        """The business context is a JSON object without repeated keys or NUL."""
        return pl.col("business_context_is_object")

    @dy.rule()
    def triggered_by_user_id_is_uuid(cls) -> pl.Expr:
        """The user is named by a UUID, or not at all."""
        user = pl.col("triggered_by_user_id")
        return user.is_null() | user.str.contains(UUID_PATTERN)

    @dy.rule()
    def sla_deadline_is_instant(cls) -> pl.Expr:
        """The deadline is ISO 8601, or of the mapping's format, to the microsecond."""
        return _is_instant("sla_deadline")

    @dy.rule()
    def sla_deadline_has_offset(cls) -> pl.Expr:
        """The deadline has an offset, or a time zone was named for local times."""
        return _has_offset("sla_deadline")

    @dy.rule()
    def sla_deadline_exists_once(cls) -> pl.Expr:
        """The deadline's local time exists exactly once in its zone."""
        return _exists_once("sla_deadline")

    @dy.rule()
    def is_milestone_is_boolean(cls) -> pl.Expr:
        """The milestone flag is true, false, t or f, or left out."""
        flag = pl.col("is_milestone")
        return flag.is_null() | flag.is_in(["true", "false", "t", "f"])

    @dy.rule()
    def metadata_is_json_object(cls) -> pl.Expr:
        """The metadata is a JSON object without repeated keys or NUL."""
        return pl.col("metadata_is_object")

    @dy.rule()
    def text_has_no_nul(cls) -> pl.Expr:
        """No text holds a NUL character, which PostgreSQL can't store."""
        texts = ("from_status", "to_status", "transition_reason", "triggered_by_system")
        return pl.all_horizontal(*(_text_is_whole(column) for column in texts))


RULES: dict[str, str] = {
    name: factory.validation_fn.__doc__
    for name, factory in vars(Transition).items()
    if hasattr(factory, "validation_fn")
}
# What the readers and the database decide, beside the rules above.
CODES: dict[str, str] = {
    **RULES,
    "row_is_utf8": "The row is text in UTF-8, or in the encoding that was named.",
    "row_is_ended": "The row of delimited text has a line end: it was not cut off.",
    "row_is_well_formed": "The row has its format's shape, one value a column.",
    "entity_key_is_distinct": "The text key is the only one that its id stands for.",
    "id_conflict": "Another row with this id and other content came first (S20).",
    "row_is_storable": "PostgreSQL can store the row.",
}


def column_of(code: str) -> str | None:
    """The column a code speaks of; None where it is the whole row."""
    return next(
        (c for c in COLUMNS if code.startswith((f"{c}_is", f"{c}_has", f"{c}_ex"))),
        None,
    )


def check_zone(name: str) -> str:
    """The name itself, where it is an IANA time zone.

    Raises:
        SourceError: it is none.
    """
    # Two entries of the system's list are no zones.
    if name not in available_timezones() - {"Factory", "localtime"}:
        msg = f"{name!r} is no IANA time zone, such as Europe/Amsterdam."
        raise SourceError(msg)
    return name


def validate(
    texts: pl.DataFrame,
    *,
    entity_types: Iterable[str],
    timezone: str | None = None,
    latest: datetime | None = None,
) -> Validated:
    """Decide over a chunk of text rows, and parse those that pass.

    Args:
        texts: n rows; `row_number` Int64 and COLUMNS as String, null where absent.
            Several rows may share a row_number: they stand or fall together (S20).
        entity_types: the known ones.
        timezone: IANA zone of local times; without it they are refused.
        latest: created_at may not be after it; no bound by default.

    Returns:
        The typed rows in their order, and one defect for each refused source row.
    """
    frame = _parse_simple(texts, list(entity_types)).with_columns(
        latest=pl.lit(latest, pl.Datetime("us", "UTC"))
    )
    for column in JSON_COLUMNS:
        frame = _parse_json(frame, column)
    for column in TIMES:
        frame = _parse_time(frame, column, timezone)
    rows, failures = Transition.filter(frame)
    defects = _first_defects(failures.details(), texts)
    good = rows.join(defects, on="row_number", how="anti", maintain_order="left")
    return Validated(_finish(good), defects)


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column as the text that `validate` reads; nothing is rounded.

    Instants become ISO 8601 with all their digits, nested values JSON, booleans
    true and false; floats keep their point, so that they never pass for ids.

    Raises:
        SourceError: a column has no text form, such as bytes that are no UTF-8.
    """
    return pl.DataFrame([_as_text(column) for column in frame.iter_columns()])


def key_to_bigint(namespace: str, key: str) -> int:
    """The bigint that stands for a text key: 2^62 or more, the same everywhere.

    Sixty-two bits of SHA-256; the registry raw.entity_keys refuses a collision.
    """
    digest = hashlib.sha256(f"{namespace}\x00{key}".encode()).digest()
    return 2**62 + (int.from_bytes(digest[:8]) >> 2)


def key_to_uuid(key: str) -> str:
    """The UUID that stands for a text key, such as a user's name."""
    return str(uuid.uuid5(NAMESPACE, key))


def content_uuid(values: Iterable[str | None]) -> str:
    """The id of a row that came without one, as `validate` gives it.

    Args:
        values: of COLUMNS after the id, in their order, as stored; instants in UTC, to
            the microsecond, without an offset.
    """
    return _named_uuid(
        "\x00".join("" if value is None else f"={value}" for value in values)
    )


def _parse_simple(texts: pl.DataFrame, entity_types: list[str]) -> pl.DataFrame:
    entity_id = pl.col("entity_id")
    is_bigint = entity_id.str.contains(BIGINT_PATTERN)
    return texts.with_columns(
        *(pl.col(column).alias(f"{column}_text") for column in TIMES),
        entity_id=pl.when(is_bigint).then(entity_id).cast(pl.Int64, strict=False),
        entity_type_is_listed=pl.col("entity_type")
        .is_in(entity_types)
        .fill_null(value=False),
    )


def _parse_json(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    # Contexts repeat: each distinct text is parsed once.
    distinct = frame[column].drop_nulls().unique().to_list()
    spelled = pl.DataFrame(
        {column: distinct, "spelled": canonical_each(distinct)},
        schema={column: pl.String, "spelled": pl.String},
    )
    is_absent = pl.col(column).is_null()
    return (
        frame.join(spelled, on=column, how="left", maintain_order="left")
        .with_columns(
            (is_absent | pl.col("spelled").is_not_null()).alias(f"{column}_is_object"),
            pl.col("spelled").alias(column),
        )
        .drop("spelled")
    )


def _parse_time(frame: pl.DataFrame, column: str, timezone: str | None) -> pl.DataFrame:
    """Add `_local`, the wall clock read, `_is_placed`, a zone is known, the instant."""
    local, offset = _by_iso(pl.col(f"{column}_text"))
    frame = frame.with_columns(_local=local, _offset=offset)
    local = pl.when(pl.col("_local").dt.year().is_between(1, 9999)).then("_local")
    by_offset = (pl.col("_local") - pl.col("_offset")).dt.replace_time_zone("UTC")
    by_zone = (
        pl.col("_local")
        .dt.replace_time_zone(timezone or "UTC", ambiguous="null", non_existent="null")
        .dt.convert_time_zone("UTC")
    )
    has_offset = pl.col("_offset").is_not_null()
    has_zone = pl.lit(timezone is not None)
    return frame.with_columns(
        local.alias(f"{column}_local"),
        (has_offset | has_zone).alias(f"{column}_is_placed"),
        pl.when(has_offset).then(by_offset).when(has_zone).then(by_zone).alias(column),
    ).drop("_local", "_offset")


def _by_iso(text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    parts = text.str.extract_groups(LOCAL_PATTERN + OFFSET_PATTERN)
    day, time, offset = (parts.struct.field(str(n)) for n in (1, 2, 3))
    local = (day + "T" + time).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
    )
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = offset.str.slice(3).str.strip_prefix(":")
    minutes = minutes.cast(pl.Int64, strict=False).fill_null(0)
    given = pl.when(offset.is_not_null() & (offset != ""))
    return local, pl.duration(minutes=given.then(sign * (hours * 60 + minutes)))


def _first_defects(details: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """One row a source row: the first broken rule of its first broken transition."""
    codes = [pl.when(pl.col(name) != "valid").then(pl.lit(name)) for name in RULES]
    counts = texts.group_by("row_number").agg(transition_count=pl.len())
    return (
        details.select("row_number", code=pl.coalesce(codes))
        .unique("row_number", keep="first", maintain_order=True)
        .join(counts, on="row_number", how="left", maintain_order="left")
    )


def _finish(good: pl.DataFrame) -> pl.DataFrame:
    """The columns as they are stored, each row with an id."""
    good = good.select("row_number", *COLUMNS).with_columns(
        pl.col("id", "triggered_by_user_id").str.to_lowercase(),
        is_milestone=pl.col("is_milestone").is_in(["true", "t"]),
    )
    is_missing = good["id"].is_null()
    if not is_missing.any():
        return good
    ids = [_named_uuid(text) for text in _contents(good.filter(is_missing))]
    found = pl.DataFrame(
        {"_place": is_missing.arg_true(), "_id": ids},
        schema={"_place": pl.UInt32, "_id": pl.String},
    )
    return (
        good.with_row_index("_place")
        .join(found, on="_place", how="left", maintain_order="left")
        .with_columns(id=pl.coalesce("id", "_id"))
        .drop("_place", "_id")
    )


def _contents(rows: pl.DataFrame) -> list[str]:
    """The whole content of each row as one text, one to one: no value holds NUL."""
    texts = rows.select(
        pl.col(column).dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
        if column in TIMES
        else pl.col(column).cast(pl.String)
        for column in COLUMNS[1:]
    )
    marked = ((pl.lit("=") + pl.col(c)).fill_null("") for c in texts.columns)
    return texts.select(pl.concat_str(marked, separator="\x00")).to_series().to_list()


def _named_uuid(content: str) -> str:
    # As uuid.uuid5 does, in two thirds of its time.
    named = NAMESPACE.bytes + content.encode()
    digest = hashlib.sha1(named, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _as_text(column: pl.Series) -> pl.Series:
    name, dtype = column.name, column.dtype
    try:
        if isinstance(dtype, pl.Datetime):
            zone = "%:z" if dtype.time_zone else ""
            return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
        if isinstance(dtype, pl.Struct):
            return column.struct.json_encode()
        return column.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        msg = (
            f"Column {name!r} of type {dtype} can't be read as text. Convert it first."
        )
        raise SourceError(msg) from error
