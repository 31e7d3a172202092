"""Targets of compliance: how much of the error budget is spent, and how fast.

Compliance is S21's. A stay counts at the instant that decided it: a breach at its
deadline, a met one when it ended. To the hour, and with exact intervals; by whole days,
and by what a target asked on each, the table target_compliance tells it. Who is told is
not here.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import inf
from typing import NamedTuple

import polars as pl

from analytics.proportions import Interval, exact_interval, with_intervals
from analytics.published import Publication, Query
from analytics.stays import Scope, judged

WINDOWS = {
    "week": timedelta(days=7),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
}


class BurnRule(NamedTuple):
    """Burning faster than `rate` in the long window and still in the short one."""

    name: str
    long: timedelta
    short: timedelta
    rate: float


# The Site Reliability Workbook (Google, 2018), chapter 5, table 5-8: 2 %, 5 % and 10 %
# of a budget of 30 days; the short window, a twelfth, ends an alert soon after.
BURN_RULES = (
    BurnRule("page_1h", timedelta(hours=1), timedelta(minutes=5), 14.4),
    BurnRule("page_6h", timedelta(hours=6), timedelta(minutes=30), 6),
    BurnRule("ticket_3d", timedelta(days=3), timedelta(hours=6), 1),
)


@dataclass(frozen=True)
class Target:
    """At least this compliance, of stays decided from a date on (UTC), inclusive.

    workflow_name, status, business_entity_id: None for all. ratio: in (0, 1]; of 1
    there is no budget, and any breach burns infinitely fast.
    """

    entity_type: str
    workflow_name: str | None
    status: str | None
    ratio: float
    from_date: date
    business_entity_id: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            msg = f"A target of {self.ratio} is none: give a ratio up to 1, above 0."
            raise ValueError(msg)


class Budget(NamedTuple):
    """The error budget since the target began.

    allowed_count: breaches that the due stays allow; spent_ratio: breaches by these,
    above 1 where it is overspent, None where nothing was due. interval: of compliance.
    is_missed: even the upper end of the interval is below the target.
    """

    due_count: int
    breached_count: int
    allowed_count: float
    spent_ratio: float | None
    compliance_ratio: float | None
    interval: Interval
    is_missed: bool


def in_force(publication: Publication) -> dict[str, Target]:
    """The targets in force on the day of the publication's clock, by name."""
    sql = """
        select
            target_name, entity_type, workflow_name, status, at_least_ratio,
            effective_from, business_entity_id
        from targets
        where
            effective_from <= $today
            and (effective_until is null or effective_until > $today)
        order by target_name
    """
    today = {"today": publication.as_of.astimezone(UTC).date()}
    rows = publication.frame(Query(sql, today)).iter_rows()
    return {name: Target(*scope) for name, *scope in rows}


def error_budget(publication: Publication, target: Target) -> Budget:
    """What is spent of a target's error budget by the publication's clock."""
    row = _counts(publication, target, [_before(target)]).row(0, named=True)
    due, breached = row["due_count"], row["breached_count"]
    allowed = due * (1 - target.ratio)
    interval = exact_interval(due - breached, due)
    return Budget(
        due,
        breached,
        allowed,
        _spent(breached, allowed) if due else None,
        (due - breached) / due if due else None,
        interval,
        interval.high < target.ratio,
    )


def _spent(breached: int, allowed: float) -> float:
    if allowed:
        return breached / allowed
    return inf if breached else 0.0


def burn_rates(publication: Publication, target: Target) -> pl.DataFrame:
    """How fast the budget burns, a row per window that ends at the clock.

    Columns: window; since (exclusive); due_count, breached_count; burn_rate: 1 spends
    the budget as fast as it comes, null where nothing was due; burn_low, burn_high:
    its exact interval, wide where there is little data.
    """
    frame = _windows(publication, target, list(WINDOWS.values()))
    return frame.select(pl.Series("window", list(WINDOWS)), *frame.columns)


def burn_alerts(publication: Publication, target: Target) -> pl.DataFrame:
    """The rules of several windows, a row per rule.

    Columns: rule; rate (its threshold); long_rate, short_rate (null where nothing was
    due); long_low (lower end of the exact interval of the long one); is_burning: both
    are above the threshold; is_certain: it burns, and so does the lower end, which few
    stays do not reach.
    """
    long = _windows(publication, target, [rule.long for rule in BURN_RULES])
    short = _windows(publication, target, [rule.short for rule in BURN_RULES])
    frame = pl.DataFrame(
        {
            "rule": [rule.name for rule in BURN_RULES],
            "rate": [float(rule.rate) for rule in BURN_RULES],
            "long_rate": long["burn_rate"],
            "short_rate": short["burn_rate"],
            "long_low": long["burn_low"],
        }
    )
    burns = pl.min_horizontal("long_rate", "short_rate") > pl.col("rate")
    has_both = pl.all_horizontal(pl.col("long_rate", "short_rate").is_not_null())
    return frame.with_columns(
        (burns & has_both).fill_null(value=False).alias("is_burning")
    ).with_columns(
        (pl.col("is_burning") & (pl.col("long_low") > pl.col("rate"))).alias(
            "is_certain"
        )
    )


def _windows(
    publication: Publication, target: Target, lengths: list[timedelta]
) -> pl.DataFrame:
    since = [max(_before(target), publication.as_of - length) for length in lengths]
    counted = _counts(publication, target, since)
    frame = with_intervals(counted, "breached_count", "due_count", "burn")
    budget = 1 - target.ratio
    return frame.select(
        "since",
        "due_count",
        "breached_count",
        # Nothing of no budget is nothing.
        (pl.col("burn_ratio") / budget).fill_nan(0).alias("burn_rate"),
        (pl.col("burn_low") / budget).fill_nan(0).alias("burn_low"),
        (pl.col("burn_high") / budget).fill_nan(0).alias("burn_high"),
    )


def _before(target: Target) -> datetime:
    """The last instant that the target is not about."""
    begin = datetime.combine(target.from_date, time(), UTC)
    return begin - timedelta(microseconds=1)


def _counts(
    publication: Publication, target: Target, since: list[datetime]
) -> pl.DataFrame:
    """Due and breached stays decided after each instant, in the order given."""
    stays = judged(
        Scope(
            entity_type=target.entity_type,
            workflow_name=target.workflow_name,
            status=target.status,
            business_entity_id=target.business_entity_id,
        )
    )
    sql = f"""
        with asked as (
            select unnest($begins) as since, generate_subscripts($begins, 1) as place
        )

        select
            since,
            count(interval_id) as due_count,
            count(interval_id) filter (is_breached) as breached_count
        from asked
        left join (from ({stays.sql}) where is_due and decided_at <= as_of) as stays
            on stays.decided_at > asked.since
        group by place, since
        order by place
    """
    return publication.frame(Query(sql, {**stays.parameters, "begins": since}))
