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
    entity_created_at,
    workflow_id,
    workflow_name,
    step_id,
    business_entity_id,
    sla_hours,
    sla_deadline,
    deadline_source,
    is_final,
    verdict,
    elapsed_seconds
from intervals
