"""What a transition is: its columns, their spelling, and the rules a row must pass.

How text is parsed belongs in validation.py, how a row gets its id in identity.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import dataframely as dy
import polars as pl

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
    "source_order",
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
UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
# A bigint as Postgres writes it; any other spelling would have to be altered.
BIGINT_PATTERN = r"^(0|[1-9]\d{0,18})$"
# A row without an order is after all that have one (S2).
LAST_ORDER = 2**63 - 1
ORDER_PATTERN = r"^-?\d{1,19}$"
# ISO 8601: a date, or one with a time, an offset, and a zone's name in brackets.
LOCAL_PATTERN = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::[0-5]\d(?:\.\d{1,6})?)?)"
OFFSET_PATTERN = (
    r"(Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?(?:\[([A-Za-z][A-Za-z0-9_+/-]*)\])?)?$"
)
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


def text_is_whole(column: str) -> pl.Expr:
    """Whether it holds no NUL."""
    return pl.col(column).is_null() | ~pl.col(column).str.contains("\x00", literal=True)


def _is_instant(column: str) -> pl.Expr:
    return pl.col(f"{column}_text").is_null() | pl.col(f"{column}_local").is_not_null()


def _has_offset(column: str) -> pl.Expr:
    return pl.col(f"{column}_local").is_null() | pl.col(f"{column}_is_placed")


def _exists_once(column: str) -> pl.Expr:
    local, placed = pl.col(f"{column}_local"), pl.col(f"{column}_is_placed")
    return local.is_null() | ~placed | pl.col(column).is_not_null()


class Event(dy.Schema):
    """The rules of whatever happened to an entity at an instant, by a user or none.

    Each is named by what must hold; the name is the reject's code. Evaluated over text
    beside its parsed values; the first broken rule is reported.
    """

    row_number = dy.Int64()
    id = dy.String(nullable=True)
    created_at = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    entity_type = dy.String(nullable=True)
    entity_id = dy.Int64(nullable=True)
    triggered_by_user_id = dy.String(nullable=True)
    latest = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    created_at_text = dy.String(nullable=True)
    created_at_local = dy.Datetime(nullable=True, time_unit="us")
    created_at_is_placed = dy.Bool()
    entity_type_is_listed = dy.Bool()

    @dy.rule()
    def id_is_uuid(cls) -> pl.Expr:
        """The id is a UUID, or left out."""
        return pl.col("id").is_null() | pl.col("id").str.contains(UUID_PATTERN)

    @dy.rule()
    def created_at_is_given(cls) -> pl.Expr:
        """The instant is there."""
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
    def triggered_by_user_id_is_uuid(cls) -> pl.Expr:
        """The user is named by a UUID, or not at all."""
        user = pl.col("triggered_by_user_id")
        return user.is_null() | user.str.contains(UUID_PATTERN)


class Transition(Event):
    """The rules of a transition."""

    from_status = dy.String(nullable=True)
    to_status = dy.String(nullable=True)
    transition_reason = dy.String(nullable=True)
    business_context = dy.String(nullable=True)
    triggered_by_system = dy.String(nullable=True)
    sla_deadline = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    is_milestone = dy.String(nullable=True)
    metadata = dy.String(nullable=True)
    source_order = dy.Int64(nullable=True)
    source_order_text = dy.String(nullable=True)
    sla_deadline_text = dy.String(nullable=True)
    sla_deadline_local = dy.Datetime(nullable=True, time_unit="us")
    sla_deadline_is_placed = dy.Bool()
    business_context_is_object = dy.Bool()
    metadata_is_object = dy.Bool()

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
    def source_order_is_whole(cls) -> pl.Expr:
        """The order is a whole number from -2^63 to 2^63-2, or left out."""
        text, order = pl.col("source_order_text"), pl.col("source_order")
        return text.is_null() | (order < LAST_ORDER).fill_null(value=False)

    @dy.rule()
    def text_has_no_nul(cls) -> pl.Expr:
        """No text holds a NUL character, which PostgreSQL can't store."""
        texts = ("from_status", "to_status", "transition_reason", "triggered_by_system")
        return pl.all_horizontal(*(text_is_whole(column) for column in texts))


def column_of(code: str, columns: Sequence[str] = COLUMNS) -> str | None:
    """The column a code speaks of; None where it is the whole row."""
    return next(
        (c for c in columns if code.startswith((f"{c}_is", f"{c}_has", f"{c}_ex"))),
        None,
    )


def rules_of(schema: type[dy.Schema], columns: Sequence[str]) -> dict[str, str]:
    """The rules of a schema by name, each with its sentence.

    Of several broken ones, the first is told: they come in the order of the columns
    that they speak of, then those of whole rows.
    """
    found = {
        name: factory.validation_fn.__doc__
        for base in reversed(schema.__mro__)
        for name, factory in vars(base).items()
        if hasattr(factory, "validation_fn")
    }
    places = [*columns, None]
    return {
        name: found[name]
        for name in sorted(found, key=lambda n: places.index(column_of(n, columns)))
    }


RULES = rules_of(Transition, COLUMNS)
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
