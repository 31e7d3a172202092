{{ config(materialized="view") }}
-- One row per entity: its open interval, as of the clock (S4, S13, S15). The built
-- rows, replaced for entities that changed after the built cut by the same SQL (S16).
with

{{ live_interval_ctes() }}

select
    {{ uuid_of("concat_ws('/', entity_type, entity_id)") }} as id,
    entity_created_at as created_at,
    entity_type,
    entity_id,
    status as current_status,
    entered_at as status_since,
    sla_deadline,
    coalesce(sla_deadline < {{ as_of() }}, false) as is_overdue,
    workflow_id,
    last_transition_id,
    workflow_name,
    business_entity_id,
    visit,
    deadline_source,
    is_final
from live_intervals
where left_at is null
