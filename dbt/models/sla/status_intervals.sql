{{ config(
    materialized="incremental",
    incremental_strategy="append",
    on_schema_change="fail",
    pre_hook="{{ forget_touched() }}",
    post_hook="{{ record_cut() }}",
    indexes=[
        {"columns": ["entity_type", "entity_id", "entered_at"]},
        {"columns": ["sla_deadline"]},
    ],
) }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per stay of an entity in a status. [entered_at, left_at) (S3).
with

transitions as (
    select * from {{ ref("stg_transitions") }}
    {{ only_touched() }}
),

{{ interval_ctes("transitions") }}

select
    interval_id,
    entity_type,
    entity_id,
    status,
    visit,
    entered_at,
    left_at,
    transition_count,
    first_transition_id,
    last_transition_id,
    workflow_id,
    step_id,
    business_entity_id,
    sla_hours,
    calendar_id,
    sla_deadline,
    deadline_source,
    verdict,
    elapsed_seconds,
    business_seconds,
    batch_id,
    entity_created_at,
    workflow_name,
    is_final
from intervals
