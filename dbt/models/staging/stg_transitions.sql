-- One row per transition of the session's cut, with the order of S2.
with

transitions as (
    select * from {{ source("raw", "status_transitions") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
)

select
    transitions.id,
    transitions.created_at,
    transitions.entity_type,
    transitions.entity_id,
    transitions.from_status,
    transitions.to_status,
    transitions.transition_reason,
    transitions.business_context,
    lower({{ json_text("transitions.business_context", "business_entity_id") }})
        as business_entity_id,
    lower({{ json_text("transitions.business_context", "approved_by_user_id") }})
        as approved_by_user_id,
    transitions.triggered_by_user_id,
    transitions.triggered_by_system,
    transitions.sla_deadline,
    transitions.is_milestone,
    transitions.metadata,
    transitions.batch_id,
    transitions.batch_row,
    batches.batch_cut
from transitions
inner join batches using (batch_id)
