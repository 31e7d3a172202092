"""Text rows judged by the rules of a transition, and those that pass as typed ones.

What the rules are belongs in transition.py, what becomes of either in append.py.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import polars as pl

from ingest.identity import named_uuid
from ingest.instants import REFUSED, LocalTimes, parse_time
from ingest.json_text import canonical_each
from ingest.transition import (
    BIGINT_PATTERN,
    COLUMNS,
    CONTENT,
    JSON_COLUMNS,
    ORDER_PATTERN,
    RULES,
    TIMES,
    Transition,
)


class Validated(NamedTuple):
    """A chunk after validation: n = good rows + the transitions of rejected rows.

    good: `row_number` and COLUMNS, typed; id given; JSON as canonical text.
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
) -> Validated:
    """Decide over a chunk of text rows, and parse those that pass.

    Args:
        texts: n rows; `row_number` Int64 and COLUMNS as String, null where absent.
            Several rows may share a row_number: they stand or fall together (S20).
        entity_types: the known ones.
        times: what local times mean; without a zone they are refused.
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
        frame = parse_time(frame, column, times)
    rows, failures = Transition.filter(frame)
    defects = _first_defects(failures.details(), texts)
    good = rows.join(defects, on="row_number", how="anti", maintain_order="left")
    return Validated(_finish(good), defects)


def _parse_simple(texts: pl.DataFrame, entity_types: list[str]) -> pl.DataFrame:
    entity_id = pl.col("entity_id")
    is_bigint = entity_id.str.contains(BIGINT_PATTERN)
    order = pl.col("source_order")
    is_order = order.str.contains(ORDER_PATTERN)
    return texts.with_columns(
        *(pl.col(column).alias(f"{column}_text") for column in TIMES),
        entity_id=pl.when(is_bigint).then(entity_id).cast(pl.Int64, strict=False),
        source_order_text=order,
        source_order=pl.when(is_order).then(order).cast(pl.Int64, strict=False),
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
    ids = [named_uuid(text) for text in _contents(good.filter(is_missing))]
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
        for column in CONTENT
    )
    marked = ((pl.lit("=") + pl.col(c)).fill_null("") for c in texts.columns)
    return texts.select(pl.concat_str(marked, separator="\x00")).to_series().to_list()
