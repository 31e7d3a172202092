{{ config(
    materialized="incremental",
    incremental_strategy="append",
    on_schema_change="fail",
    pre_hook="{% if is_incremental() %}delete from {{ this }}{% endif %}",
    post_hook="{{ record_cut() }}",
) }}
-- One row per UTC day of entered_at, entity type, workflow, status and business entity:
-- what stays true while time passes.
select
    (entered_at at time zone 'UTC')::date as entered_on,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    count(*) as interval_count,
    count(*) filter (where left_at is not null) as closed_count,
    count(*) filter (where verdict = 'met') as met_count,
    count(*) filter (where verdict = 'breached') as breached_count,
    coalesce(sum(elapsed_seconds), 0)::bigint as elapsed_seconds
from {{ ref("status_intervals") }}
group by
    (entered_at at time zone 'UTC')::date,
    entity_type,
    workflow_name,
    status,
    business_entity_id
