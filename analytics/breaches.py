"""What goes with breaches, and whether two groups or periods differ by more than noise.

Associations, not causes: who has the hard cases has the breaches. Counts are of S21,
open overdue stays among the breached; the mathematics is in `proportions`.
"""

import polars as pl

from analytics.proportions import (
    benjamini_hochberg,
    difference,
    odds_ratio,
    with_intervals,
)
from analytics.published import Publication, Query
from analytics.stays import ALL, Scope, judged

# A value of fewer due stays can't be told from chance, and is not looked at. That
# depends on no outcome, so it need not be corrected for.
LEAST_DUE = 20
# A key of more values names things rather than kinds of things.
MOST_VALUES = 50
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def associations(
    publication: Publication, scope: Scope = ALL, least_due: int = LEAST_DUE
) -> pl.DataFrame:
    """What goes with breaches, a row per factor and value that was looked at.

    Factors: `context.<key>` of the entity's first context (scalars, keys of at most
    MOST_VALUES values), `user` and `system` that moved the entity there, `weekday` and
    `hour` of entering (UTC), `predecessor` status. A stay without a value of a factor
    is among those without each of its values.

    Columns: factor, value; due_count and breached_count with it; breached_ratio with
    breached_low and breached_high (exact); share: of all breaches; lift: the ratio by
    that of all; odds_ratio with odds_low and odds_high against all other due stays;
    p: Fisher's, two-sided; q: p corrected for all rows (Benjamini and Hochberg). The
    last are null where everything has the value, or everything breached, or nothing.
    Smallest q first.
    """
    rows = _counts(publication, scope, least_due)
    frame = with_intervals(rows, "breached_count", "due_count", "breached")
    odds = [
        odds_ratio((b, d - b), (all_b - b, all_d - d - (all_b - b)))
        for b, d, all_b, all_d in frame.select(
            "breached_count", "due_count", "all_breached", "all_due"
        ).iter_rows()
    ]
    names = ("odds_ratio", "odds_low", "odds_high", "p")
    frame = frame.with_columns(
        pl.Series(name, [one[place] for one in odds], dtype=pl.Float64)
        for place, name in enumerate(names)
    )
    return (
        _corrected(frame)
        .select(
            "factor",
            "value",
            "due_count",
            "breached_count",
            "breached_ratio",
            "breached_low",
            "breached_high",
            (pl.col("breached_count") / pl.col("all_breached"))
            .fill_nan(None)
            .alias("share"),
            (pl.col("breached_ratio") / (pl.col("all_breached") / pl.col("all_due")))
            .fill_nan(None)
            .alias("lift"),
            *names,
            "q",
        )
        .sort("q", "p", "factor", "value", nulls_last=True)
    )


def association_rows(scope: Scope, factor: str, value: str) -> Query:
    """The breached stays that have a value of a factor, as `associations` counts."""
    source = _factors(scope)
    sql = f"""
        {source.sql}
        select judged_stays.*
        from judged_stays
        inner join factors using (interval_id)
        where factor = $factor and value = $value and judged_stays.is_breached
    """
    return Query(sql, {**source.parameters, "factor": factor, "value": value})


def _corrected(frame: pl.DataFrame) -> pl.DataFrame:
    """Add q, over all rows that have a p."""
    tested = frame["p"].is_not_null()
    q: list[float | None] = [None] * frame.height
    places = [place for place, is_tested in enumerate(tested) if is_tested]
    corrected = benjamini_hochberg(frame.filter(tested)["p"].to_list())
    for place, value in zip(places, corrected, strict=True):
        q[place] = value
    return frame.with_columns(pl.Series("q", q, dtype=pl.Float64))


def _counts(publication: Publication, scope: Scope, least_due: int) -> pl.DataFrame:
    source = _factors(scope)
    sql = f"""
        {source.sql},

        totals as (
            select
                count(*) as all_due,
                count(*) filter (is_breached) as all_breached
            from judged_stays
        )

        select
            factor, value, count(*) as due_count,
            count(*) filter (is_breached) as breached_count, all_due, all_breached
        from factors cross join totals
        group by factor, value, all_due, all_breached
        having count(*) >= {least_due}
        order by factor, value
    """
    return publication.frame(Query(sql, source.parameters))


def _factors(scope: Scope) -> Query:
    """CTEs: `judged_stays`, which are due; `factors`, a row per stay and factor."""
    stays = judged(scope)
    days = ", ".join(f"'{day}'" for day in DAYS)
    sql = f"""
        with judged_stays as (select * from ({stays.sql}) where is_due),

        moved as (
            select
                judged_stays.interval_id, entity_type, entity_id, is_breached,
                entered_at, previous_status, triggered_by_user_id,
                triggered_by_user_name, triggered_by_system
            from judged_stays
            inner join (
                select
                    transition_id, previous_status, triggered_by_user_id,
                    triggered_by_user_name, triggered_by_system
                from audit_trail
            ) as movers on judged_stays.first_transition_id = movers.transition_id
        ),

        told as (
            select entity_type, entity_id, key, first_context ->> pointer as value
            from (
                select
                    *,
                    unnest(json_keys(first_context)) as key,
                    '/' || replace(replace(key, '~', '~0'), '/', '~1') as pointer
                from entities
                where json_type(first_context) = 'OBJECT'
            )
            where json_type(first_context, pointer) not in ('OBJECT', 'ARRAY', 'NULL')
        ),

        kinds as (
            select key from told group by key
            having count(distinct value) <= {MOST_VALUES}
        ),

        factors as (
            select interval_id, is_breached, 'context.' || key as factor, value
            from moved
            inner join told using (entity_type, entity_id)
            inner join kinds using (key)
            union all
            select interval_id, is_breached, 'user',
                coalesce(triggered_by_user_name, triggered_by_user_id)
            from moved where triggered_by_user_id is not null
            union all
            select interval_id, is_breached, 'system', triggered_by_system
            from moved where triggered_by_system is not null
            union all
            select interval_id, is_breached, 'predecessor', previous_status
            from moved where previous_status is not null
            union all
            select interval_id, is_breached, 'weekday',
                ([{days}])[isodow(entered_at)]
            from moved
            union all
            select interval_id, is_breached, 'hour',
                printf('%02d:00', hour(entered_at))
            from moved
        )
    """
    return Query(sql, stays.parameters)


def compare(
    publication: Publication,
    first: Scope,
    second: Scope,
    by: tuple[str, ...] = ("entity_type", "workflow_name", "status"),
) -> pl.DataFrame:
    """Compliance (S21) of two periods or groups side by side, a row per group of both.

    Columns: those of `by`; first_due, first_met, first_ratio, second_due, second_met,
    second_ratio; difference (second minus first) with low and high, null where a side
    has nothing due; p (Fisher's) and q, corrected for all rows; is_noise: q is not
    below 0.05. Largest difference first.
    """
    sides = [
        _compliance(publication, scope, by, name)
        for name, scope in (("first", first), ("second", second))
    ]
    frame = (
        sides[0].join(
            sides[1], on=list(by), how="full", coalesce=True, nulls_equal=True
        )
        if by
        else pl.concat(sides, how="horizontal")
    )
    counts = ("first_met", "first_due", "second_met", "second_due")
    frame = frame.with_columns(pl.col(counts).fill_null(0))
    found = [
        difference((a, n), (b, m)) for a, n, b, m in frame.select(counts).iter_rows()
    ]
    names = ("difference", "low", "high", "p")
    frame = frame.with_columns(
        pl.Series(name, [getattr(one, name) for one in found], dtype=pl.Float64)
        for name in names
    )
    return (
        _corrected(frame)
        .with_columns((~(pl.col("q") < 0.05)).fill_null(True).alias("is_noise"))
        .sort(pl.col("difference").abs(), descending=True, nulls_last=True)
    )


def _compliance(
    publication: Publication, scope: Scope, by: tuple[str, ...], side: str
) -> pl.DataFrame:
    stays = judged(scope)
    sql = f"""
        select
            {"".join(f"{name}, " for name in by)}
            count(*) filter (is_due and not is_breached) as {side}_met,
            count(*) filter (is_due) as {side}_due,
            {side}_met / nullif({side}_due, 0) as {side}_ratio
        from ({stays.sql})
        {"group by all" if by else ""}
    """
    return publication.frame(Query(sql, stays.parameters))
