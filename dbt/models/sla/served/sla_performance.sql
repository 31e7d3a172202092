{{ config(materialized="standing_view") }}
-- One row per UTC day of entered_at, entity type, workflow, status and business entity,
-- as of the clock (S21). Of the built cut.
with

counts as (
    select * from {{ ref("sla_daily_counts") }}
),

open_overdue as (
    select
        (entered_at {{ in_utc() }})::date as entered_on,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        count(*) as overdue_count
    from {{ ref("status_intervals") }}
    where
        left_at is null
        and sla_deadline < {{ as_of() }}
        and entered_at <= {{ as_of() }}
    group by
        (entered_at {{ in_utc() }})::date,
        entity_type,
        workflow_name,
        status,
        business_entity_id
),

counted as (
    select
        counts.*,
        coalesce(open_overdue.overdue_count, 0) as overdue_count
    from counts
    left join open_overdue
        on
            counts.entered_on = open_overdue.entered_on
            and counts.entity_type = open_overdue.entity_type
            and counts.workflow_name is not distinct from open_overdue.workflow_name
            and counts.status = open_overdue.status
            and counts.business_entity_id
            is not distinct from open_overdue.business_entity_id
)

select
    entered_on,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    interval_count,
    closed_count,
    interval_count - closed_count as open_count,
    met_count,
    breached_count,
    overdue_count,
    {{ due_count("met_count", "breached_count", "overdue_count") }} as due_count,
    {{ compliance_ratio("met_count", "breached_count", "overdue_count") }}
        as compliance_ratio,
    {{ closed_compliance_ratio("met_count", "breached_count") }}
        as closed_compliance_ratio,
    elapsed_seconds
from counted
