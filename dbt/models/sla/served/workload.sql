{{ config(materialized="standing_view") }}
-- One row per UTC day, entity type, workflow and status, from the first day that
-- anything was in the status to that of the clock, none left out: the cumulative flow.
-- Of the built cut.
{% set today %}({{ as_of() }} {{ in_utc() }})::date{% endset %}
with

changes as (
    select
        counted_on,
        entity_type,
        workflow_name,
        status,
        arriving_count,
        leaving_count,
        fell_due_count,
        cleared_count
    from {{ ref("workload_changes") }}
    where counted_on <= {{ today }}
),

-- Stays that are to fall due later on the clock's own day.
to_come as (
    select
        {{ today }} as counted_on,
        entity_type,
        workflow_name,
        status,
        0 as arriving_count,
        0 as leaving_count,
        -count(*) as fell_due_count,
        0 as cleared_count
    from {{ ref("status_intervals") }}
    where
        left_at is null
        and {{ overdue_from() }} > {{ as_of() }}
        and ({{ overdue_from() }} {{ in_utc() }})::date = {{ today }}
    group by entity_type, workflow_name, status
),

spine as (
    select
        firsts.first_on + days.number as counted_on,
        firsts.entity_type,
        firsts.workflow_name,
        firsts.status,
        0 as arriving_count,
        0 as leaving_count,
        0 as fell_due_count,
        0 as cleared_count
    from
        (
            select
                entity_type,
                workflow_name,
                status,
                min(counted_on) as first_on
            from changes
            group by entity_type, workflow_name, status
        ) as firsts
    -- In days, because dates would be counted in the session's zone.
    cross join
        lateral generate_series(0, {{ today }} - firsts.first_on) as days (number)
),

daily as (
    select
        counted_on,
        entity_type,
        workflow_name,
        status,
        sum(arriving_count) as arriving_count,
        sum(leaving_count) as leaving_count,
        sum(fell_due_count - cleared_count) as more_overdue
    from
        (
            select * from changes
            union all
            select * from to_come
            union all
            select * from spine
        ) as counted
    group by counted_on, entity_type, workflow_name, status
)

select
    counted_on,
    entity_type,
    workflow_name,
    status,
    arriving_count::bigint as arriving_count,
    leaving_count::bigint as leaving_count,
    (sum(arriving_count - leaving_count) over days)::bigint as open_count,
    (sum(more_overdue) over days)::bigint as overdue_count
from daily
window days as (
    partition by entity_type, workflow_name, status
    order by counted_on
)
