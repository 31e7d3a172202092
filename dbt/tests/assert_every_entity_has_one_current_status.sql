{{ config(meta={"dagster": {"ref": {"name": "entity_current_status"}}}) }}
-- S4: one row an entity, in its last transition's status.
with

lasts as (
    select distinct on (entity_type, entity_id)
        entity_type,
        entity_id,
        id as last_transition_id,
        to_status
    from {{ ref("stg_transitions") }}
    order by
        entity_type asc, entity_id asc, created_at desc, batch_id desc, batch_row desc
)

select
    entity_type,
    entity_id
from lasts
full outer join {{ ref("entity_current_status") }} as current_status
    using (entity_type, entity_id)
where
    lasts.last_transition_id is distinct from current_status.last_transition_id
    or lasts.to_status is distinct from current_status.current_status
