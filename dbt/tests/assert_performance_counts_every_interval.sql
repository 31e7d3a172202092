{{ config(
    tags=["whole"],
    meta={
        "description":
            "The groups together hold each stay once, and each open overdue one " ~
            "(S21).",
        "dagster": {"ref": {"name": "sla_performance"}},
    },
) }}
with

totals as (
    select
        coalesce(sum(interval_count), 0) as interval_count,
        coalesce(sum(met_count), 0) as met_count,
        coalesce(sum(breached_count), 0) as breached_count,
        coalesce(sum(overdue_count), 0) as overdue_count
    from {{ ref("sla_performance") }}
),

intervals as (
    select
        count(*) as interval_count,
        count(*) filter (where verdict = 'met') as met_count,
        count(*) filter (where verdict = 'breached') as breached_count,
        count(*) filter (
            where
            left_at is null
            and sla_deadline < {{ as_of() }}
            and entered_at <= {{ as_of() }}
        ) as overdue_count
    from {{ ref("status_intervals") }}
)

select totals.*
from totals
cross join intervals
where
    (
        totals.interval_count,
        totals.met_count,
        totals.breached_count,
        totals.overdue_count
    ) is distinct from (
        intervals.interval_count,
        intervals.met_count,
        intervals.breached_count,
        intervals.overdue_count
    )
