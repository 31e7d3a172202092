{{ config(materialized="standing_view") }}
-- One row per entity, built or not: its names, who changed it last and why, and what
-- its first and its last transition told of it.
select
    current_status.entity_type,
    current_status.entity_id,
    keys.entity_key,
    current_status.created_at,
    current_status.business_entity_id,
    names.business_entity_name,
    current_status.last_transition_id,
    lasts.created_at as last_changed_at,
    lasts.triggered_by_user_id as last_user_id,
    users.user_name as last_user_name,
    lasts.triggered_by_system as last_system,
    firsts.business_context as first_context,
    lasts.business_context as last_context,
    lasts.transition_reason as last_reason
from {{ ref("entity_current_status") }} as current_status
inner join {{ ref("stg_transitions") }} as lasts
    on current_status.last_transition_id = lasts.id
cross join
    lateral (
        select first_of_all.business_context
        from {{ ref("stg_transitions") }} as first_of_all
        where
            first_of_all.entity_type = current_status.entity_type
            and first_of_all.entity_id = current_status.entity_id
        order by
            first_of_all.created_at,
            first_of_all.source_order,
            first_of_all.batch_id,
            first_of_all.batch_row
        limit 1
    ) as firsts
left join {{ ref("stg_entity_keys") }} as keys
    on
        current_status.entity_type = keys.entity_type
        and current_status.entity_id = keys.entity_id
left join {{ ref("stg_business_entities") }} as names
    on current_status.business_entity_id = names.business_entity_id
left join {{ ref("users") }} as users
    on lasts.triggered_by_user_id = users.user_id
