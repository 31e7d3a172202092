"""Time in status with what still lasts: Kaplan and Meier's curves and their quantiles.

A mean or median of closed stays alone forgets those that wait longest. Here an open
stay counts up to the publication's clock as one that has not ended yet. Which stays,
and how long they lasted, is in `stays`; what a stay is likely to do next in `forecast`.
"""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats as distributions

from analytics.proportions import CONFIDENCE
from analytics.published import Publication, Query
from analytics.stays import ALL, Scope, lasting

BY = ("entity_type", "workflow_name", "status")
# Products of a million factors are off by less; a survival of one half is one half.
ROUNDING = 1e-9
Clock = Literal["elapsed_seconds", "business_seconds"]


class Counts(NamedTuple):
    """How many stays of each group lasted how long.

    groups: a row a group; its place, from 0, is the group's number. frame: columns
    group, seconds (whole), left_count (that ended then), censored_count (that have
    lasted as long so far), a row per group and second of which there are any, in this
    order.
    """

    groups: pl.DataFrame
    frame: pl.DataFrame


def count_seconds(
    publication: Publication, source: Query, by: tuple[str, ...] = BY
) -> Counts:
    """Count stays by group and second.

    source: rows with the columns of `by`, `seconds` (whole, not negative) and
    `has_left`.
    """
    columns = "".join(f"{name}, " for name in by)
    # DuckDB gathers by group, numpy sorts: a fifth of the time of grouping by second.
    sql = f"""
        select {columns} list(seconds * 2 + has_left::bigint) as packed
        from ({source.sql})
        group by all
        having count(*) > 0
        order by all
    """
    lists = publication.frame(Query(sql, source.parameters))
    packed = lists["packed"].explode(empty_as_null=False).cast(pl.Int64).to_numpy()
    group = np.repeat(np.arange(lists.height), lists["packed"].list.len().to_numpy())
    return Counts(lists.drop("packed"), _counted(group, packed))


def _counted(group: NDArray[np.int64], packed: NDArray[np.int64]) -> pl.DataFrame:
    """Runs of equal group and second; the lowest bit says whether a stay left."""
    width = int(packed.max(initial=0)).bit_length()
    keys = (group << width) | packed
    keys.sort()
    begins = np.flatnonzero(np.diff(keys >> 1, prepend=-1))
    moments = keys[begins]
    left = np.add.reduceat(keys & 1, begins) if len(begins) else begins
    return pl.DataFrame(
        {
            "group": moments >> width,
            "seconds": (moments & ((1 << width) - 1)) >> 1,
            "left_count": left,
            "censored_count": np.diff(begins, append=len(keys)) - left,
        }
    )


def curve(counts: pl.DataFrame) -> pl.DataFrame:
    """Kaplan and Meier's estimate of each group of `Counts`.

    Columns: group; seconds, at which stays ended; at_risk_count (stays that lasted as
    long; those that are censored at a second are at risk up to it); left_count;
    remaining_count (that lasted longer); survival (the share that does); variance
    (Greenwood's sum, infinite where none survives); left_so_far. In the order of
    groups and seconds.
    """
    at_risk, left = pl.col("at_risk_count"), pl.col("left_count")
    return (
        counts.lazy()
        .with_columns(
            (left + pl.col("censored_count"))
            .cum_sum(reverse=True)
            .over("group")
            .alias("at_risk_count")
        )
        .filter(left > 0)
        .select(
            "group",
            "seconds",
            "at_risk_count",
            "left_count",
            (at_risk - left - pl.col("censored_count")).alias("remaining_count"),
            (1 - left / at_risk).log().cum_sum().over("group").exp().alias("survival"),
            (left / (at_risk * (at_risk - left)))
            .cum_sum()
            .over("group")
            .alias("variance"),
            left.cum_sum().over("group").alias("left_so_far"),
        )
        .collect()
    )


def curves(
    publication: Publication,
    scope: Scope = ALL,
    by: tuple[str, ...] = BY,
    clock: Clock = "business_seconds",
    confidence: float = CONFIDENCE,
) -> pl.DataFrame:
    """The curves of all groups, a row per group and second at which stays ended.

    Columns: those of `by`; seconds; at_risk_count (stays that lasted as long);
    left_count; survival (the share that lasts longer than these seconds) with low and
    high, of Greenwood's variance on the scale of log(-log), null where none survives.
    In the order of groups and seconds.
    """
    counts = count_seconds(publication, durations(scope, by, clock), by)
    known = curve(counts.frame).with_columns(*_bounds(confidence))
    return named(counts.groups, known).select(
        *by, "seconds", "at_risk_count", "left_count", "survival", "low", "high"
    )


def quantiles(
    publication: Publication,
    scope: Scope = ALL,
    by: tuple[str, ...] = BY,
    clock: Clock = "business_seconds",
    confidence: float = CONFIDENCE,
) -> pl.DataFrame:
    """How long stays last, a row per group, in seconds of the clock that is named.

    Columns: those of `by`; stay_count, closed_count, open_count; p50, p90, p99: the
    shortest time that at most a half, a tenth, a hundredth outlast, null where the
    stays have not lasted long enough to know; p50_low, p50_high: Brookmeyer and
    Crowley's interval of the median, null at an end that is not known;
    closed_p50, closed_p90, closed_p99: the same of closed stays alone, which is too
    short wherever open ones wait. Stays whose calendar does not cover them are left out
    of business seconds. Groups in which no stay ended have null in all of these.
    """
    counts = count_seconds(publication, durations(scope, by, clock), by)
    totals = counts.frame.group_by("group", maintain_order=True).agg(
        (pl.col("left_count") + pl.col("censored_count")).sum().alias("stay_count"),
        pl.col("left_count").sum().alias("closed_count"),
        pl.col("censored_count").sum().alias("open_count"),
    )
    found = (
        curve(counts.frame)
        .lazy()
        .join(totals.lazy().select("group", "closed_count"), on="group")
        .with_columns(*_bounds(confidence))
        .group_by("group")
        .agg(
            _first(pl.col("survival") <= 0.5 + ROUNDING, "p50"),
            _first(pl.col("low") <= 0.5, "p50_low"),
            _first(pl.col("high") <= 0.5, "p50_high"),
            _first(pl.col("survival") <= 0.1 + ROUNDING, "p90"),
            _first(pl.col("survival") <= 0.01 + ROUNDING, "p99"),
            *(
                _first(
                    pl.col("left_so_far") >= share * pl.col("closed_count") - ROUNDING,
                    f"closed_p{share * 100:.0f}",
                )
                for share in (0.5, 0.9, 0.99)
            ),
        )
        .collect()
    )
    joined = totals.join(found, on="group", how="left", maintain_order="left")
    return named(counts.groups, joined).drop("group")


def durations(scope: Scope, by: tuple[str, ...], clock: Clock) -> Query:
    """How long the stays of a scope lasted by a clock, as `count_seconds` takes it."""
    source = lasting(scope, by or BY)
    columns = "".join(f"{name}, " for name in by)
    sql = f"""
        select {columns} {clock} as seconds, has_left
        from ({source.sql})
        where {clock} >= 0
    """
    return Query(sql, source.parameters)


def named(groups: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of groups that are numbered by place, with the columns of their groups."""
    columns = groups.select(pl.all().gather(rows["group"]))
    return pl.concat([columns, rows], how="horizontal")


def _first(condition: pl.Expr, name: str) -> pl.Expr:
    """The least seconds of the rows of a group of which a condition is true."""
    return pl.col("seconds").filter(condition).min().alias(name)


def _bounds(confidence: float) -> list[pl.Expr]:
    """Ends of the interval of a survival, as columns low and high."""
    z = float(distributions.norm.ppf(1 - (1 - confidence) / 2))
    survival = pl.col("survival")
    power = z * pl.col("variance").sqrt() / -survival.log()
    # Of a power of 1 the rest is lost: where it is huge, the interval says nothing.
    ends = {
        "low": survival.pow(pl.min_horizontal(power, 700.0).exp()),
        "high": survival.pow((-pl.min_horizontal(power, 700.0)).exp()),
    }
    return [
        pl.when(survival > 0).then(end).otherwise(None).alias(name)
        for name, end in ends.items()
    ]
