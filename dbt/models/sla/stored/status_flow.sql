{{ config(
    materialized="cut_table",
    keys={"status_flow_pkey": "primary key (group_id)"},
) }}
-- One row per UTC day, entity type, workflow and change of status: the directly-follows
-- graph. A change tells how long the stay lasted that it ended; a stay that lasts is in
-- no sum. A build adds and takes off, as in sla_daily_counts.
with

-- Read twice, and too many to be kept meanwhile.
stays as not materialized (
    {{ stays_to_count([
        "entity_type", "entity_id", "workflow_name", "status", "visit", "entered_at",
        "left_at", "stay_number", "next_status", "elapsed_seconds", "business_seconds",
    ]) }}
),

changes as (
    select
        entered_at as changed_at,
        entity_type,
        workflow_name,
        null::text as from_status,
        status as to_status,
        true as is_first,
        0 as elapsed_seconds,
        0 as business_seconds,
        sign
    from stays
    where stay_number = 1
    union all
    select
        left_at as changed_at,
        entity_type,
        workflow_name,
        status as from_status,
        next_status as to_status,
        row_number() over (
            partition by sign, entity_type, entity_id, status, next_status
            order by visit
        ) = 1 as is_first,
        elapsed_seconds,
        business_seconds,
        sign
    from stays
    where left_at is not null
),

grouped as (
    select
        (changed_at {{ in_utc() }})::date as changed_on,
        entity_type,
        workflow_name,
        from_status,
        to_status,
        sum(sign) as transition_count,
        sum(case when is_first then sign else 0 end) as entity_count,
        sum(elapsed_seconds * sign)::bigint as elapsed_seconds,
        sum(coalesce(business_seconds, 0) * sign)::bigint as business_seconds,
        sum(case when business_seconds is null then sign else 0 end)
            as beyond_calendar_count
    from changes
    group by
        (changed_at {{ in_utc() }})::date,
        entity_type,
        workflow_name,
        from_status,
        to_status
)

select
    {{ uuid_of_row([
        "to_char(changed_on, 'YYYY-MM-DD')", "entity_type", "workflow_name",
        "from_status", "to_status",
    ]) }} as group_id,
    changed_on,
    entity_type,
    workflow_name,
    from_status,
    to_status,
    transition_count,
    entity_count,
    elapsed_seconds,
    business_seconds,
    beyond_calendar_count
from grouped
where
    (
        transition_count, entity_count, elapsed_seconds, business_seconds,
        beyond_calendar_count
    )
    <> (0, 0, 0, 0, 0)
