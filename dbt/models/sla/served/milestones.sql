{{ config(materialized="standing_view") }}
-- One row per entity and status that it reached by a transition marked as a milestone:
-- the first time, built or not.
with

placed as (
    select
        *,
        min(created_at) over (
            partition by entity_type, entity_id
        ) as entity_created_at,
        row_number() over (
            partition by
                entity_type, entity_id, to_status, coalesce(is_milestone, false)
            order by created_at, source_order, batch_id, batch_row
        ) as place
    from {{ ref("stg_transitions") }}
)

select
    entity_type,
    entity_id,
    to_status as milestone,
    created_at as reached_at,
    id as transition_id,
    entity_created_at,
    {{ seconds_between("entity_created_at", "created_at") }} as elapsed_seconds
from placed
where is_milestone and place = 1
