"""Process behaviour charts: whether a series is as before, or something has changed.

A person restates the baseline, by dates; nothing here moves a limit by itself. Series
come as frames from the caller: arrivals, time in status, compliance of each day.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl
from scipy import stats

# Wheeler, Understanding Variation (1993): 3 / 1.128 of the mean moving range of two.
LIMIT = 2.66
# Eight on one side, and two of three beyond two sigma, are of the Western Electric
# Statistical Quality Control Handbook (1956).
RUN = 8
# The share of a normal distribution beyond three sigma, of either side.
BEYOND = float(stats.norm.sf(3))
RULES = ("beyond_limits", "run", "two_of_three")


def xmr(points: pl.DataFrame, baselines: Sequence[date] = ()) -> pl.DataFrame:
    """Limits of single values by their moving ranges, and the rules that they break.

    Args:
        points: date (one row each, in any order) and value, not null.
        baselines: dates from which on a new one holds; the first is the first date.

    Returns:
        points in the order of their dates, with baseline (its first date), centre,
        lower and upper limit, moving_range (null for a baseline's first point), and
        the rules as booleans. A baseline of one point has no limits and breaks none.
    """
    frame = _of_baselines(points, baselines)
    frame = frame.with_columns(
        pl.col("value").diff().abs().over("baseline").alias("moving_range")
    ).with_columns(
        pl.col("value").mean().over("baseline").alias("centre"),
        (pl.col("moving_range").mean().over("baseline") * LIMIT / 3).alias("sigma"),
    )
    frame = frame.with_columns(
        (pl.col("centre") - 3 * pl.col("sigma")).alias("lower"),
        (pl.col("centre") + 3 * pl.col("sigma")).alias("upper"),
        (pl.col("value") - pl.col("centre")).alias("off"),
    )
    beyond = pl.col("off").abs() > 3 * pl.col("sigma")
    return _with_runs(frame.with_columns(beyond.alias("beyond_limits"))).drop(
        "off", "sigma"
    )


def p_chart(points: pl.DataFrame, baselines: Sequence[date] = ()) -> pl.DataFrame:
    """Limits of a share of varying numbers, and the rules that it breaks.

    Limits are of the binomial distribution itself: as rarely beyond as three sigma of
    a normal one. So ten stays a day give no alarm that is none.

    Args:
        points: date (one row each), met_count and due_count.
        baselines: as of `xmr`.

    Returns:
        points in the order of their dates, with ratio (null where nothing was due),
        baseline, centre, lower and upper limit, and the rules as booleans. Days on
        which nothing was due break no rule and end no run.
    """
    frame = _of_baselines(points, baselines).with_columns(
        (
            pl.col("met_count").sum().over("baseline")
            / pl.col("due_count").sum().over("baseline")
        ).alias("centre"),
        pl.when(pl.col("due_count") > 0)
        .then(pl.col("met_count") / pl.col("due_count"))
        .alias("ratio"),
    )
    known = _with_runs(_binomial(frame.filter(pl.col("due_count") > 0)))
    empty = frame.filter(pl.col("due_count") == 0).with_columns(
        *(pl.lit(None, pl.Float64).alias(name) for name in ("lower", "upper")),
        *(pl.lit(value=False).alias(rule) for rule in RULES),
    )
    known = known.drop("off", "sigma")
    return pl.concat([known, empty.select(known.columns)]).sort("date")


def _binomial(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the limits of each day's number, whether they are broken, and sigma."""
    met, due, centre = (
        frame[name].to_numpy() for name in ("met_count", "due_count", "centre")
    )
    is_beyond = (stats.binom.cdf(met, due, centre) < BEYOND) | (
        stats.binom.sf(met - 1, due, centre) < BEYOND
    )
    return frame.with_columns(
        pl.Series("lower", stats.binom.ppf(BEYOND, due, centre) / due),
        pl.Series("upper", stats.binom.isf(BEYOND, due, centre) / due),
        pl.Series("beyond_limits", is_beyond),
        (pl.col("ratio") - pl.col("centre")).alias("off"),
        (pl.col("centre") * (1 - pl.col("centre")) / pl.col("due_count"))
        .sqrt()
        .alias("sigma"),
    )


def signals(chart: pl.DataFrame) -> pl.DataFrame:
    """Signals of a chart: a row per rule and stretch of points that break it.

    Columns: rule; begins_on and ends_on, both inclusive, the dates at which the rule
    was first and last broken; ends_on is null while the last point breaks it: the
    signal lasts. In the order of begin.
    """
    found = []
    for rule in RULES:
        stretches = chart.with_columns(pl.col(rule).rle_id().alias("stretch"))
        found.append(
            stretches.filter(rule)
            .group_by("stretch")
            .agg(
                pl.col("date").min().alias("begins_on"),
                pl.col("date").max().alias("ends_on"),
            )
            .select(pl.lit(rule).alias("rule"), "begins_on", "ends_on")
        )
    last = chart["date"].max()
    ends = pl.when(pl.col("ends_on") != last).then(pl.col("ends_on"))
    return (
        pl.concat(found).with_columns(ends.alias("ends_on")).sort("begins_on", "rule")
    )


def _of_baselines(points: pl.DataFrame, baselines: Sequence[date]) -> pl.DataFrame:
    """In order, each with the first date of the baseline that it is under."""
    frame = points.sort("date")
    first = pl.col("date").min()
    begins = [pl.when(pl.col("date") >= day).then(pl.lit(day)) for day in baselines]
    return frame.with_columns(pl.max_horizontal(first, *begins).alias("baseline"))


def _with_runs(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `run` and `two_of_three`, true at the point that completes the rule."""
    side = pl.col("off").sign()
    far = pl.when(pl.col("off").abs() > 2 * pl.col("sigma")).then(side).otherwise(0)
    frame = frame.with_columns(side.alias("_side"), far.alias("_far"))
    sums = [
        pl.col("_side").rolling_sum(RUN).over("baseline").abs() == RUN,
        pl.max_horizontal(
            (pl.col("_far") == way).cast(pl.Int8).rolling_sum(3).over("baseline")
            for way in (1, -1)
        )
        >= 2,
    ]
    return frame.with_columns(
        sums[0].fill_null(value=False).alias("run"),
        (sums[1].fill_null(value=False) & (pl.col("_far") != 0)).alias("two_of_three"),
    ).drop("_side", "_far")
