{{ config(
    materialized="cut_table",
    keys={"workload_changes_pkey": "primary key (group_id)"},
) }}
-- One row per UTC day, entity type, workflow, status and business entity: by how much
-- what lies in the status, and what is overdue there, grew and shrank; and what was
-- decided of stays that ended (S13, S21). A build adds and takes off, as in
-- sla_daily_counts.
with

counted as (
    {{ stays_to_count([
        "entity_type", "workflow_name", "status", "business_entity_id", "entered_at",
        "left_at", "sla_deadline", "verdict",
    ]) }}
),

grouped as (
    select
        (changes.changed_at {{ in_utc() }})::date as counted_on,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        sum(changes.arriving * sign)::bigint as arriving_count,
        sum(changes.leaving * sign)::bigint as leaving_count,
        sum(changes.fell_due * sign)::bigint as fell_due_count,
        sum(changes.cleared * sign)::bigint as cleared_count,
        sum(changes.met * sign)::bigint as met_count,
        sum(changes.breached * sign)::bigint as breached_count
    from counted
    cross join
        lateral (
            values
            (entered_at, 1, 0, 0, 0, 0, 0),
            (
                left_at,
                0,
                1,
                0,
                case when verdict = 'breached' then 1 else 0 end,
                case when verdict = 'met' then 1 else 0 end,
                0
            ),
            (
                case
                    when verdict = 'breached' or left_at is null
                        then {{ overdue_from() }}
                end,
                0, 0, 1, 0, 0, 0
            ),
            -- Of what lasts, the clock decides.
            (case when verdict = 'breached' then sla_deadline end, 0, 0, 0, 0, 0, 1)
        ) as changes (
            changed_at, arriving, leaving, fell_due, cleared, met, breached
        )
    where changes.changed_at is not null
    group by
        (changes.changed_at {{ in_utc() }})::date,
        entity_type,
        workflow_name,
        status,
        business_entity_id
)

select
    {{ uuid_of_row([
        "to_char(counted_on, 'YYYY-MM-DD')", "entity_type", "workflow_name", "status",
        "business_entity_id",
    ]) }} as group_id,
    counted_on,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    arriving_count,
    leaving_count,
    fell_due_count,
    cleared_count,
    met_count,
    breached_count
from grouped
where
    (
        arriving_count,
        leaving_count,
        fell_due_count,
        cleared_count,
        met_count,
        breached_count
    )
    <> (0, 0, 0, 0, 0, 0)
