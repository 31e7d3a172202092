"""Texts of instants as instants: ISO 8601, and what a local time without an offset is.

Formats of a mapping's own are made ISO 8601 in ingest/files/time_formats.py.
"""

from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import polars as pl

from ingest.errors import SourceError
from ingest.transition import LOCAL_PATTERN, OFFSET_PATTERN

Fold = Literal["earlier", "later", "reject"]
Gap = Literal["forward", "reject"]
_AMBIGUOUS: dict[Fold, Any] = {
    "earlier": "earliest",
    "later": "latest",
    "reject": "null",
}


class LocalTimes(NamedTuple):
    """What local times without an offset mean (S1).

    timezone: their IANA zone; None where they are refused. fold: which instant is meant
    by one that exists twice. gap: whether one that never was is read with the offset
    before the change, as 02:30 becoming 03:30.
    """

    timezone: str | None = None
    fold: Fold = "reject"
    gap: Gap = "reject"


REFUSED = LocalTimes()


@cache
def zones() -> frozenset[str]:
    """The names of IANA time zones."""
    # Two entries of the system's list are no zones.
    return frozenset(available_timezones() - {"Factory", "localtime"})


def check_zone(name: str) -> str:
    """The name itself, where it is an IANA time zone.

    Raises:
        SourceError: it is none.
    """
    if name not in zones():
        msg = f"{name!r} is no IANA time zone, such as Europe/Amsterdam."
        raise SourceError(msg)
    return name


def parse_time(frame: pl.DataFrame, column: str, times: LocalTimes) -> pl.DataFrame:
    """The instants of a column of texts.

    Args:
        frame: n rows; the texts are in `<column>_text`.
        column: its name.
        times: what local times mean.

    Returns:
        The frame with `<column>_local` (the wall clock read), `_is_placed` (whether an
        offset or a zone is known), and the column itself, in UTC to the microsecond.
    """
    frame = _with_parts(frame, f"{column}_text")
    default = pl.lit(times.timezone, pl.String)
    # Few texts name a zone.
    has_named = frame["_named"].null_count() < frame.height
    zone = pl.coalesce("_named", default) if has_named else default
    frame = frame.with_columns(_zone=zone)
    names = [name for name in frame["_zone"].unique() if name in zones()]
    local = pl.when(pl.col("_local").dt.year().is_between(1, 9999)).then("_local")
    has_offset = pl.col("_offset").is_not_null()
    by_offset = (pl.col("_local") - pl.col("_offset")).dt.replace_time_zone("UTC")
    by_zone = pl.coalesce(
        *(_in_zone(name, times) for name in names),
        pl.lit(None, pl.Datetime("us", "UTC")),
    )
    if has_named:
        is_known = pl.col("_zone").is_null() | pl.col("_zone").is_in(names)
        local = pl.when(is_known | has_offset).then(local)
    return frame.with_columns(
        local.alias(f"{column}_local"),
        (has_offset | pl.col("_zone").is_not_null()).alias(f"{column}_is_placed"),
        pl.when(has_offset).then(by_offset).otherwise(by_zone).alias(column),
    ).drop("_local", "_offset", "_named", "_zone")


def _in_zone(name: str, times: LocalTimes) -> pl.Expr:
    """The instants of the local times of one zone; null for those of others."""
    local = pl.when(pl.col("_zone") == name).then("_local")
    found = local.dt.replace_time_zone(
        name, ambiguous=_AMBIGUOUS[times.fold], non_existent="null"
    ).dt.convert_time_zone("UTC")
    if times.gap == "reject":
        return found
    forward = local.map_batches(
        lambda given: _forward(given, name), return_dtype=pl.Datetime("us", "UTC")
    )
    return pl.coalesce(found, forward)


def _forward(given: pl.Series, name: str) -> pl.Series:
    """Local times that never were, by the offset before their gap; null for others."""
    zone = ZoneInfo(name)
    placed = given.dt.replace_time_zone(name, ambiguous="earliest", non_existent="null")
    missing = given.filter(placed.is_null()).drop_nulls().unique().to_list()
    found = {local: _placed(local, zone) for local in missing}
    return given.replace_strict(
        found, default=None, return_dtype=pl.Datetime("us", "UTC")
    )


def _placed(local: datetime, zone: ZoneInfo) -> datetime | None:
    try:
        return local.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return None


def _with_parts(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Add `_local` (Datetime), `_offset` (Duration), and `_named`, a bracketed zone."""
    # A step of its own: an expression that is used several times is evaluated as often.
    parts = pl.col(column).str.extract_groups(LOCAL_PATTERN + OFFSET_PATTERN)
    frame = frame.with_columns(_iso=parts)
    day, time, offset, zone = (
        pl.col("_iso").struct.field(str(place)) for place in (1, 2, 3, 4)
    )
    # A date alone is its midnight, a time without seconds is on the minute.
    size = time.str.len_bytes().fill_null(0)
    time = pl.when(size > 5).then(time).when(size == 5).then(time + pl.lit(":00"))
    time = time.otherwise(pl.lit("00:00:00"))
    sign = pl.when(offset.str.starts_with("-")).then(-1).otherwise(1)
    hours = offset.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = offset.str.slice(3).str.strip_prefix(":")
    minutes = minutes.cast(pl.Int64, strict=False).fill_null(0)
    given = pl.when(offset.is_not_null() & (offset != ""))
    return frame.with_columns(
        _local=(day + pl.lit("T") + time).str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
        ),
        _offset=pl.duration(minutes=given.then(sign * (hours * 60 + minutes))),
        _named=pl.when(zone != "").then(zone),
    ).drop("_iso")
