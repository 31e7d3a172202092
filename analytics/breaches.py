"""What goes with breaches, and whether two groups or periods differ by more than noise.

Associations, not causes: who has the hard cases has the breaches. Counts are of S21,
open overdue stays among the breached; the mathematics is in `proportions`.
"""

from itertools import starmap

import polars as pl

from analytics.proportions import (
    benjamini_hochberg,
    difference,
    mantel_haenszel,
    odds_ratio,
    with_intervals,
)
from analytics.published import Publication, Query
from analytics.stays import ALL, Scope, judged, pointer_to

# A value of fewer due stays can't be told from chance, and is not looked at. That
# depends on no outcome, so it need not be corrected for.
LEAST_DUE = 20
# A key of more values names things rather than kinds of things.
MOST_VALUES = 50
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Within one of these, stays are of a kind; statuses differ more than anything else.
STRATA = ("entity_type", "status")
# What a stay has by the transition that opened it. An instant without a zone is UTC
# here; from one with a zone DuckDB takes hours and days in four times the time.
_ENTERED = "make_timestamp(epoch_us(entered_at))"
FACTORS = {
    "user": "coalesce(triggered_by_user_name, triggered_by_user_id)",
    "system": "triggered_by_system",
    "predecessor": "previous_status",
    "weekday": f"{list(DAYS)}[isodow({_ENTERED})]",
    "hour": f"printf('%02d:00', hour({_ENTERED}))",
}
CONTEXT = "context."


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
    that of all; odds_ratio with odds_low and odds_high against all other due stays,
    crude; p: Fisher's, two-sided, of the same; q: p corrected for all rows (Benjamini
    and Hochberg). These are null where everything has the value, or everything
    breached, or nothing. adjusted_odds_ratio with adjusted_low and adjusted_high:
    against other due stays of the same type and status alone (Mantel and Haenszel), so
    that a value does not answer for the statuses that it is found in. Smallest q first.
    """
    strata = _counts(publication, scope)
    rows = _whole(strata).filter(pl.col("due_count") >= least_due)
    frame = with_intervals(rows, "breached_count", "due_count", "breached")
    odds = [
        odds_ratio(*_table(*counts))
        for counts in frame.select(
            "breached_count", "due_count", "all_breached", "all_due"
        ).iter_rows()
    ]
    names = ("odds_ratio", "odds_low", "odds_high", "p")
    frame = frame.with_columns(
        pl.Series(name, [one[place] for one in odds], dtype=pl.Float64)
        for place, name in enumerate(names)
    )
    adjusted = ("adjusted_odds_ratio", "adjusted_low", "adjusted_high")
    frame = frame.join(_adjusted(strata, adjusted), on=["factor", "value"], how="left")
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
            *adjusted,
        )
        .sort("q", "p", "factor", "value", nulls_last=True)
    )


def association_rows(scope: Scope, factor: str, value: str) -> Query:
    """The breached stays that have a value of a factor, as `associations` counts."""
    stays = judged(scope)
    if factor.startswith(CONTEXT):
        pointer = pointer_to(factor.removeprefix(CONTEXT))
        sql = f"""
            select stays.*
            from ({stays.sql}) as stays
            inner join entities using (entity_type, entity_id)
            where
                stays.is_breached
                and json_type(first_context, $pointer)
                    not in ('OBJECT', 'ARRAY', 'NULL')
                and (first_context ->> $pointer) = $value
        """
        return Query(sql, {**stays.parameters, "pointer": pointer, "value": value})
    sql = f"""
        select stays.*
        from ({stays.sql}) as stays
        {_join_opened(scope)}
        where stays.is_breached and {FACTORS[factor]} = $value
    """
    return Query(sql, {**stays.parameters, "value": value})


def _corrected(frame: pl.DataFrame) -> pl.DataFrame:
    """Add q, over all rows that have a p."""
    tested = frame["p"].is_not_null()
    q: list[float | None] = [None] * frame.height
    places = [place for place, is_tested in enumerate(tested) if is_tested]
    corrected = benjamini_hochberg(frame.filter(tested)["p"].to_list())
    for place, value in zip(places, corrected, strict=True):
        q[place] = value
    return frame.with_columns(pl.Series("q", q, dtype=pl.Float64))


def _join_opened(scope: Scope) -> str:
    """By whom the stays of a scope were opened, joined to `stays`."""
    # A number of 64 bits joins in two thirds of the time of a text of 36 letters, and
    # only transitions of one entity could be mistaken. A stay begins with its
    # transition, so that those of other periods need not be read.
    return f"""
        inner join (
            select
                entity_id as opened_id, hash(transition_id) as opened_by,
                triggered_by_user_id, triggered_by_user_name, triggered_by_system
            from audit_trail
            where {scope.period("created_at")}
        ) as opened
            on
                stays.entity_id = opened_id
                and hash(stays.first_transition_id) = opened_by
    """


def _counts(publication: Publication, scope: Scope) -> pl.DataFrame:
    """A row per factor, value and stratum: due and breached with it, and of all."""
    stays = judged(scope)
    strata = ", ".join(STRATA)
    sets = ", ".join(f'({strata}, "{name}")' for name in FACTORS)
    values = ", ".join(f'{sql} as "{name}"' for name, sql in FACTORS.items())
    sql = f"""
        with due as not materialized (
            select
                {strata}, entity_id, entered_at, first_transition_id, previous_status,
                is_breached
            from ({stays.sql}) where is_due
        ),

        opened as not materialized (
            select {strata}, is_breached, {values}
            from due as stays {_join_opened(scope)}
        ),

        by_opening as (
            select
                {strata},
                case {_cases()} end as factor,
                coalesce({", ".join(f'"{name}"' for name in FACTORS)}) as value,
                count(*) as due_count,
                count(*) filter (is_breached) as breached_count
            from opened
            group by grouping sets ({sets})
        ),

        -- Contexts are fewer than stays, and each is read once.
        contexts as (
            select
                {strata}, first_context, count(*) as due_count,
                count(*) filter (is_breached) as breached_count
            from due
            inner join entities using (entity_type, entity_id)
            group by all
        ),

        told as (
            select first_context, key, first_context ->> pointer as value
            from (
                select
                    first_context,
                    unnest(json_keys(first_context)) as key,
                    '/' || replace(replace(key, '~', '~0'), '/', '~1') as pointer
                from (select distinct first_context from contexts)
                where json_type(first_context) = 'OBJECT'
            )
            where json_type(first_context, pointer) not in ('OBJECT', 'ARRAY', 'NULL')
        ),

        by_context as (
            select
                {strata}, '{CONTEXT}' || key as factor, value,
                sum(due_count)::bigint as due_count,
                sum(breached_count)::bigint as breached_count
            from contexts
            inner join told using (first_context)
            where key in (
                select key from told group by key
                having count(distinct value) <= {MOST_VALUES}
            )
            group by all
        ),

        totals as (
            select
                {strata}, count(*) as stratum_due,
                count(*) filter (is_breached) as stratum_breached
            from due group by all
        ),

        whole as (
            select
                sum(stratum_due)::bigint as all_due,
                sum(stratum_breached)::bigint as all_breached
            from totals
        )

        select
            factor, value, due_count, breached_count, stratum_due, stratum_breached,
            all_due, all_breached
        from (
            from by_opening where value is not null
            union all by name
            from by_context
        )
        inner join totals using ({strata})
        cross join whole
        order by factor, value, {strata}
    """
    return publication.frame(Query(sql, stays.parameters))


def _cases() -> str:
    """Which factor a row of the grouping sets is of: the one that is not rolled up."""
    return " ".join(f"when grouping(\"{name}\") = 0 then '{name}'" for name in FACTORS)


def _whole(strata: pl.DataFrame) -> pl.DataFrame:
    """All strata of a value together, in order of factor and value."""
    return strata.group_by("factor", "value", maintain_order=True).agg(
        pl.col("due_count", "breached_count").sum(),
        pl.col("all_due", "all_breached").first(),
    )


def _table(
    breached: int, due: int, all_breached: int, all_due: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(breached, met) with a value, and without it."""
    met, all_met = due - breached, all_due - all_breached
    return (breached, met), (all_breached - breached, all_met - met)


def _adjusted(strata: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """A row per factor and value: the odds ratio within strata, under these names."""
    counts = ("breached_count", "due_count", "stratum_breached", "stratum_due")
    rows = [
        (
            *key,
            *mantel_haenszel(
                [
                    (*with_it, *without)
                    for with_it, without in starmap(
                        _table, group.select(counts).iter_rows()
                    )
                ]
            ),
        )
        for key, group in strata.group_by("factor", "value", maintain_order=True)
    ]
    schema = dict.fromkeys(("factor", "value"), pl.String)
    return pl.DataFrame(
        rows, {**schema, **dict.fromkeys(names, pl.Float64)}, orient="row"
    )


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
