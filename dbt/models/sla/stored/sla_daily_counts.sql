{{ config(
    materialized="cut_table",
    keys={"sla_daily_counts_pkey": "primary key (group_id)"},
) }}
-- One row per UTC day of entered_at, entity type, workflow, status and business entity:
-- what stays true while time passes. A build adds what the stays of touched entities
-- count, and takes off what they counted before.
with

counted as (
    {{ stays_to_count([
        "entered_at", "left_at", "entity_type", "workflow_name", "status",
        "business_entity_id", "verdict", "elapsed_seconds",
    ]) }}
),

grouped as (
    select
        (entered_at {{ in_utc() }})::date as entered_on,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        sum(sign) as interval_count,
        sum(case when left_at is not null then sign else 0 end) as closed_count,
        sum(case when verdict = 'met' then sign else 0 end) as met_count,
        sum(case when verdict = 'breached' then sign else 0 end) as breached_count,
        sum(coalesce(elapsed_seconds, 0) * sign)::bigint as elapsed_seconds
    from counted
    group by
        (entered_at {{ in_utc() }})::date,
        entity_type,
        workflow_name,
        status,
        business_entity_id
)

select
    {{ uuid_of_row([
        "to_char(entered_on, 'YYYY-MM-DD')", "entity_type", "workflow_name", "status",
        "business_entity_id",
    ]) }} as group_id,
    entered_on,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    interval_count,
    closed_count,
    met_count,
    breached_count,
    elapsed_seconds
from grouped
where
    (interval_count, closed_count, met_count, breached_count, elapsed_seconds)
    <> (0, 0, 0, 0, 0)
