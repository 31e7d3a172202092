"""Text rows judged by the rules of their kind, and those that pass as typed ones.

What the rules are belongs in transition.py and audit_entry.py, what becomes of either
in append.py.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import polars as pl

from ingest.identity import named_uuid
from ingest.instants import REFUSED, LocalTimes, parse_time
from ingest.json_text import canonical_each
from ingest.kinds import TRANSITIONS, Kind
from ingest.transition import BIGINT_PATTERN, ORDER_PATTERN


class Validated(NamedTuple):
    """A chunk after validation: n = good rows + what rejected rows stood for.

    good: `row_number` and the kind's columns, typed; id given; JSON as canonical text.
    defects: one row a rejected source row: row_number, code, transition_count.
    """

    good: pl.DataFrame
    defects: pl.DataFrame


def validate(
    texts: pl.DataFrame,
    *,
    entity_types: Iterable[str],
    times: LocalTimes = REFUSED,
    latest: datetime | None = None,
    kind: Kind = TRANSITIONS,
) -> Validated:
    """Decide over a chunk of text rows, and parse those that pass.

    Args:
        texts: n rows; `row_number` Int64 and the kind's columns as String, null where
            absent. Several rows may share a row_number: they stand or fall together
            (S20).
        entity_types: the known ones.
        times: what local times mean; without a zone they are refused.
        latest: created_at may not be after it; no bound by default.
        kind: of the rows.

    Returns:
        The typed rows in their order, and one defect for each refused source row.
    """
    frame = _parse_simple(texts, list(entity_types), kind).with_columns(
        latest=pl.lit(latest, pl.Datetime("us", "UTC"))
    )
    for column in kind.json_columns:
        frame = _parse_json(frame, column)
    for column in kind.times:
        frame = parse_time(frame, column, times)
    rows, failures = kind.schema.filter(frame)
    defects = _first_defects(failures.details(), texts, kind)
    good = rows.join(defects, on="row_number", how="anti", maintain_order="left")
    return Validated(_finish(good, kind), defects)


def _parse_simple(
    texts: pl.DataFrame, entity_types: list[str], kind: Kind
) -> pl.DataFrame:
    entity_id = pl.col("entity_id")
    is_bigint = entity_id.str.contains(BIGINT_PATTERN)
    parsed = {}
    if "source_order" in kind.columns:
        order = pl.col("source_order")
        is_order = order.str.contains(ORDER_PATTERN)
        number = pl.when(is_order).then(order).cast(pl.Int64, strict=False)
        parsed = {"source_order_text": order, "source_order": number}
    return texts.with_columns(
        *(pl.col(column).alias(f"{column}_text") for column in kind.times),
        **parsed,
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


def _first_defects(
    details: pl.DataFrame, texts: pl.DataFrame, kind: Kind
) -> pl.DataFrame:
    """One row a source row: the first broken rule of its first broken transition."""
    rules = kind.rules
    codes = [pl.when(pl.col(name) != "valid").then(pl.lit(name)) for name in rules]
    counts = texts.group_by("row_number").agg(transition_count=pl.len())
    return (
        details.select("row_number", code=pl.coalesce(codes))
        .unique("row_number", keep="first", maintain_order=True)
        .join(counts, on="row_number", how="left", maintain_order="left")
    )


def _finish(good: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """The columns as they are stored, each row with an id."""
    flags = [c for c in ("is_milestone",) if c in kind.columns]
    good = good.select("row_number", *kind.columns).with_columns(
        pl.col("id", "triggered_by_user_id").str.to_lowercase(),
        *(pl.col(flag).is_in(["true", "t"]) for flag in flags),
    )
    is_missing = good["id"].is_null()
    if not is_missing.any():
        return good
    ids = [named_uuid(text) for text in _contents(good.filter(is_missing), kind)]
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


def _contents(rows: pl.DataFrame, kind: Kind) -> list[str]:
    """The whole content of each row as one text, one to one: no value holds NUL."""
    texts = rows.select(
        pl.col(column).dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
        if column in kind.times
        else pl.col(column).cast(pl.String)
        for column in kind.content
    )
    marked = ((pl.lit("=") + pl.col(c)).fill_null("") for c in texts.columns)
    whole = pl.lit(kind.mark) + pl.concat_str(marked, separator="\x00")
    return texts.select(whole).to_series().to_list()
