"""Time in status with what still lasts: Kaplan and Meier's curves and their quantiles.

A mean or median of closed stays alone forgets those that wait longest. Here an open
stay counts up to the publication's clock as one that has not ended yet. Which stays,
and how long they lasted, is in `stays`; what a stay is likely to do next in `forecast`.
"""

from typing import Literal

import polars as pl
from scipy import stats as distributions

from analytics.proportions import CONFIDENCE
from analytics.published import Publication, Query
from analytics.stays import ALL, Scope, lasting

BY = ("entity_type", "workflow_name", "status")
# Products of a million factors are off by less; a survival of one half is one half.
ROUNDING = 1e-9
# The last stays of a group may all end at once: nothing survives then, and there is no
# logarithm.
LOGARITHM = (
    "case when left_count < at_risk_count then ln(1 - left_count / at_risk_count) end"
)
Clock = Literal["elapsed_seconds", "business_seconds"]


def curve_ctes(counts: str, by: tuple[str, ...], suffix: str = "") -> str:
    """CTEs that end in `curve`: a row per group and second at which a stay ended.

    suffix: what the names of the CTEs end in, where a query has several groupings.

    counts: a relation with the columns of `by`, seconds (whole), and left_count and
    censored_count of them; finer ones than needed add up.
    Everything is windows over counts per second: no loop over groups, no row per stay
    once they are counted. Stays that are censored at a second are at risk up to it.
    """
    group = ", ".join(by)
    partition = f"partition by {group}" if by else ""
    comma = f"{group}," if by else ""
    return f"""
        counted{suffix} as (
            select
                {comma}
                seconds,
                sum(left_count)::bigint as left_count,
                sum(censored_count)::bigint as censored_count
            from {counts}
            group by all
        ),

        risked{suffix} as (
            select
                *,
                sum(left_count + censored_count) over (
                    {partition} order by seconds
                    rows between current row and unbounded following
                )::bigint as at_risk_count
            from counted{suffix}
        ),

        curve{suffix} as (
            select
                *,
                at_risk_count - left_count - censored_count as remaining_count,
                case
                    when left_count < at_risk_count
                        then exp(sum({LOGARITHM}) over so_far)
                    else 0
                end as survival,
                sum(
                    left_count / (at_risk_count * (at_risk_count - left_count)::double)
                ) over so_far as variance,
                sum(left_count) over so_far as left_so_far
            from risked{suffix}
            where left_count > 0
            window so_far as (
                {partition} order by seconds
                rows between unbounded preceding and current row
            )
        )
    """


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
    source = lasting(scope, by or BY)
    sql = f"""
        with {_of_groups(source.sql, by, clock)}

        select
            {"".join(f"{name}, " for name in by)}
            seconds, at_risk_count, left_count, survival,
            {_bounds(confidence)}
        from curve
        order by all
    """
    return publication.frame(Query(sql, source.parameters))


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
    source = lasting(scope, by or BY)
    shares = {"p50": 0.5, "p90": 0.1, "p99": 0.01}
    found = [
        f"min(seconds) filter (survival <= {q} + {ROUNDING}) as {name}, "
        f"min(seconds) filter (left_so_far >= {1 - q} * closed_count - {ROUNDING}) "
        f"as closed_{name}"
        for name, q in shares.items()
    ]
    group = ", ".join(by)
    comma = f"{group}," if by else ""
    same = " and ".join(
        f"totals.{name} is not distinct from ends.{name}" for name in by
    )
    sql = f"""
        with {_of_groups(source.sql, by, clock)},

        totals as (
            select
                {comma}
                sum(left_count + censored_count)::bigint as stay_count,
                sum(left_count)::bigint as closed_count,
                sum(censored_count)::bigint as open_count
            from counted
            group by all
        ),

        bounded as (
            select curve.*, totals.closed_count, {_bounds(confidence)}
            from curve
            inner join totals on {same.replace("ends", "curve") or "true"}
        ),

        ends as (
            select
                {comma}
                {", ".join(found)},
                min(seconds) filter (low <= 0.5) as p50_low,
                min(seconds) filter (high <= 0.5) as p50_high
            from bounded
            group by all
        )

        select
            {"".join(f"totals.{name}, " for name in by)}
            stay_count, closed_count, open_count,
            p50, p50_low, p50_high, p90, p99, closed_p50, closed_p90, closed_p99
        from totals
        left join ends on {same or "true"}
        order by all
    """
    return publication.frame(Query(sql, source.parameters))


def _of_groups(source: str, by: tuple[str, ...], clock: Clock) -> str:
    columns = "".join(f"{name}, " for name in by)
    return f"""
        durations as not materialized (
            select
                {columns}
                {clock} as seconds,
                has_left::bigint as left_count,
                1 - left_count as censored_count
            from ({source})
            where {clock} >= 0
        ),
        {curve_ctes("durations", by)}
    """


def _bounds(confidence: float) -> str:
    """Ends of the interval of a survival, as columns low and high."""
    z = float(distributions.norm.ppf(1 - (1 - confidence) / 2))
    power = f"{z} * sqrt(variance) / -ln(survival)"
    # Of a power of 1 the rest is lost: where it is huge, the interval says nothing.
    ends = {
        "low": f"pow(survival, exp(least({power}, 700)))",
        "high": f"pow(survival, exp(-least({power}, 700)))",
    }
    return ", ".join(
        f"case when survival > 0 then {end} end as {name}" for name, end in ends.items()
    )
