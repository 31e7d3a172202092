"""What stands out in a period and a group: findings, each with what it rests on.

A finding is a count of something out of how many there were, its threshold, the
interval of its share, and the query of its rows, which are as many as it counts. What
is likely to happen next is in `forecast`; whether a week is out of the ordinary, in
`charts`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from analytics.proportions import Interval, exact_intervals
from analytics.published import Publication, Query
from analytics.stays import ALL, Scope, lasting
from analytics.survival import BY, Counts, count_seconds, durations, named

# Quartiles of fewer closed stays are not worth a fence.
LEAST_STAYS = 20
# Tukey's fences (Exploratory Data Analysis, 1977): so many interquartile ranges above
# the upper quartile is out, and far out.
SLOW, EXTREME = 1.5, 3.0
IDLE_DAYS = 7


@dataclass(frozen=True)
class Finding:
    """One thing that stands out.

    group: what it is about, by column; threshold: what a row must have or exceed, in
    words and units; `count` rows of `of` have it, a share with its exact interval.
    rows: the query of these rows, `count` of them.
    """

    name: str
    group: dict[str, str | None]
    threshold: str
    count: int
    of: int
    ratio: float
    interval: Interval
    rows: Query


def bottlenecks(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Slow and extreme stays of each status, by the quartiles of its own closed stays.

    Open stays count as soon as they are over the fence. In business seconds. `of` are
    all stays of the group; two findings a group at most, the extreme among the slow.
    """
    whole = lasting(scope)
    lasted = durations(scope, BY, "business_seconds")
    counts = count_seconds(publication, lasted, BY)
    rows = f"select * from ({whole.sql}) where business_seconds > $fence"
    found: list[Finding] = []
    for name, reach in (("slow", SLOW), ("extreme", EXTREME)):
        found += _findings(
            name,
            "more than {fence:,} business seconds ({hours:,.1f} h) in the status",
            _beyond_fence(counts, reach),
            Query(rows, whole.parameters),
        )
    return found


def _beyond_fence(counts: Counts, reach: float) -> pl.DataFrame:
    """A row per group of counted seconds, with the fence and how many are over it."""
    seconds, left = pl.col("seconds"), pl.col("left_count")
    stays = left + pl.col("censored_count")
    lower, upper = (
        seconds.filter(left.cum_sum() >= share * left.sum()).first()
        for share in (0.25, 0.75)
    )
    fence = upper + reach * (upper - lower)
    fenced = counts.frame.group_by("group", maintain_order=True).agg(
        left.sum().alias("closed_count"),
        fence.floor().cast(pl.Int64).alias("fence"),
        stays.filter(seconds > fence).sum().alias("found"),
        stays.sum().alias("looked_at"),
    )
    enough = fenced.filter(pl.col("closed_count") >= LEAST_STAYS)
    return named(counts.groups, enough).drop("group", "closed_count")


def rework(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Stays in a status that the entity had left before, of all stays in it."""
    return _marked(
        publication, scope, "rework", "the entity was in the status before", "visit > 1"
    )


def repetition(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Stays that were entered again while they lasted, of all stays in the status."""
    return _marked(
        publication,
        scope,
        "repetition",
        "a transition to the status that the entity is in",
        "transition_count > 1",
    )


def ping_pong(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Stays that went back to where they came from, A B A, of those that went on.

    Grouped by the status in the middle and the one on both sides. Rows are the stays in
    the middle; one at either end of the scope has its neighbours beyond it.
    """
    condition = scope.condition()
    base = f"""
        select * from status_intervals
        where
            previous_status is not null and next_status is not null
            and {condition.sql}
    """
    group = ("entity_type", "workflow_name", "previous_status", "status")
    return _counted(
        publication,
        "ping_pong",
        "left for the status that it came from",
        Query(base, condition.parameters),
        group,
        "next_status = previous_status",
    )


def idle(
    publication: Publication, scope: Scope = ALL, days: int = IDLE_DAYS
) -> list[Finding]:
    """Open stays whose entity nobody touched for so many days, of all open ones.

    Days are of 24 hours, up to the publication's clock, inclusive; a transition to the
    same status touches. Final statuses wait for nothing and are left out.
    """
    condition = scope.condition()
    base = f"""
        select stays.*, entities.last_changed_at, publication.as_of
        from (from status_intervals where {condition.sql}) as stays
        inner join entities using (entity_type, entity_id)
        cross join publication
        where left_at is null and not is_final and entered_at <= as_of
    """
    return _counted(
        publication,
        "idle",
        f"untouched for {days} days or longer",
        Query(base, condition.parameters),
        BY,
        f"epoch_us(as_of) - epoch_us(last_changed_at) >= {days * 86_400_000_000}",
    )


# Of the newest version of the workflow that binds: the one of its business entity goes
# before the one for all, as when it was bound (S8).
STEPS = """
    select distinct
        steps.entity_type, steps.workflow_name, workflows.business_entity_id,
        steps.status, steps.step_order,
        from_json(steps.allowed_transitions, '["VARCHAR"]') as allowed
    from workflow_steps as steps
    inner join workflows using (workflow_id)
"""


# Stays that were entered from another, of entities that a workflow binds.
ENTERED = """
    select * from status_intervals
    where workflow_name is not null and previous_status is not null
"""
MOVED = ("entity_type", "workflow_name", "business_entity_id")


def _judged_moves(entered: str) -> str:
    """Moves with what the newest version of the workflow says of them.

    entered: a relation with the columns of MOVED, previous_status and status.
    is_allowed: the workflow has the move; from_order and to_order: the places of both
    steps, null for a status that is none of its steps.
    """
    return f"""
        with steps as ({STEPS}),

        own as (
            select moved.*, coalesce(own.workflow_id is not null, false) as has_own
            from ({entered}) as moved
            left join workflows as own on {_equal("moved", "own", MOVED)}
        )

        select
            own.* exclude (has_own),
            origin.step_order as from_order,
            target.step_order as to_order,
            coalesce(list_contains(origin.allowed, own.status), false) as is_allowed
        from own
        left join steps as origin on {_step("origin", "own.previous_status")}
        left join steps as target on {_step("target", "own.status")}
    """


def _step(alias: str, status: str) -> str:
    return f"""
        own.entity_type = {alias}.entity_type
        and own.workflow_name = {alias}.workflow_name
        and {status} = {alias}.status
        and case when own.has_own then own.business_entity_id else null end
        is not distinct from {alias}.business_entity_id
    """


def skipped_steps(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Moves forward over steps that the workflow does not let be left out.

    Of all moves from the one status to the other's group; rows are the stays entered.
    """
    return _of_moves(
        publication,
        scope,
        "skipped_steps",
        "a move forward over steps, not among the allowed transitions",
        "not is_allowed and to_order > from_order + 1",
    )


def extra_steps(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Moves to a status that the workflow does not have there: unknown, or before."""
    return _of_moves(
        publication,
        scope,
        "extra_steps",
        "a move to no step of the workflow, or back, not among the allowed transitions",
        "not is_allowed and (to_order is null or to_order <= from_order)",
    )


def all_findings(publication: Publication, scope: Scope = ALL) -> list[Finding]:
    """Every kind but what goes with breaches, which is `breaches.associations`."""
    kinds = (
        bottlenecks,
        rework,
        ping_pong,
        skipped_steps,
        extra_steps,
        idle,
        repetition,
    )
    return [finding for kind in kinds for finding in kind(publication, scope)]


def table(findings: Iterable[Finding]) -> pl.DataFrame:
    """Findings as rows: name, group columns as text, threshold, counts and interval."""
    return pl.DataFrame(
        [
            {
                "name": f.name,
                "group": " / ".join(v or "none" for v in f.group.values()),
                "threshold": f.threshold,
                "count": f.count,
                "of": f.of,
                "ratio": f.ratio,
                "low": f.interval.low,
                "high": f.interval.high,
            }
            for f in findings
        ],
        schema={
            "name": pl.String,
            "group": pl.String,
            "threshold": pl.String,
            "count": pl.Int64,
            "of": pl.Int64,
            "ratio": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
        },
    )


def _of_moves(
    publication: Publication, scope: Scope, name: str, threshold: str, mark: str
) -> list[Finding]:
    """Each kind of move is judged once, however many stays were entered by it."""
    condition = scope.condition()
    entered = f"{ENTERED} and {condition.sql}"
    kinds = f"""
        select {", ".join(MOVED)}, previous_status, status, count(*) as stay_count
        from ({entered}) group by all
    """
    counts = f"""
        select
            entity_type, workflow_name, previous_status, status,
            coalesce(sum(stay_count) filter ({mark}), 0)::bigint as found,
            sum(stay_count)::bigint as looked_at
        from ({_judged_moves(kinds)}) group by all
    """
    rows = f"select * from ({_judged_moves(entered)}) where {mark}"
    return _findings(
        name,
        threshold,
        publication.frame(Query(counts, condition.parameters)),
        Query(rows, condition.parameters),
    )


def _marked(
    publication: Publication, scope: Scope, name: str, threshold: str, mark: str
) -> list[Finding]:
    condition = scope.condition()
    base = Query(
        f"select * from status_intervals where {condition.sql}", condition.parameters
    )
    return _counted(publication, name, threshold, base, BY, mark)


def _counted(
    publication: Publication,
    name: str,
    threshold: str,
    base: Query,
    group: tuple[str, ...],
    mark: str,
) -> list[Finding]:
    """Count the rows of a query that have a mark, by group."""
    counts = f"""
        select
            {", ".join(group)},
            count(*) filter ({mark}) as found,
            count(*) as looked_at
        from ({base.sql}) group by all
    """
    rows = f"select * from ({base.sql}) where {mark}"
    return _findings(
        name,
        threshold,
        publication.frame(Query(counts, base.parameters)),
        Query(rows, base.parameters),
    )


def _findings(
    name: str, threshold: str, counts: pl.DataFrame, rows: Query
) -> list[Finding]:
    """A finding for each counted group that has any, the largest share first.

    counts: the columns of a group, found, looked_at, and the fence if there is one,
    which is the rows' parameter then.
    """
    frame = counts.filter(pl.col("found") > 0)
    low, high = exact_intervals(frame["found"], frame["looked_at"])
    found = []
    for row, *ends in zip(frame.iter_rows(named=True), low, high, strict=True):
        count, of = row.pop("found"), row.pop("looked_at")
        fence = {"fence": row.pop("fence")} if "fence" in row else {}
        words = threshold.format(**fence, hours=fence.get("fence", 0) / 3600)
        interval = Interval(*map(float, ends))
        query = _rows_of(Query(rows.sql, {**rows.parameters, **fence}), row)
        found.append(Finding(name, row, words, count, of, count / of, interval, query))
    return sorted(found, key=lambda f: (-f.ratio, str(f.group)))


def _rows_of(rows: Query, group: dict[str, str | None]) -> Query:
    same = [f"{name} is not distinct from $of_{name}" for name in group]
    values = {f"of_{name}": value for name, value in group.items()}
    sql = f"select * from ({rows.sql}) where {' and '.join(same)}"
    return Query(sql, {**rows.parameters, **values})


def _equal(left: str, right: str, names: Iterable[str]) -> str:
    return " and ".join(f"{left}.{name} = {right}.{name}" for name in names)
