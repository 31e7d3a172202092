{{ config(materialized="standing_view") }}
-- One row per transition, built or not, with the user, the workflow, the batch and the
-- violations of it (S18, S19).
with

{{ bound_ctes(ref("stg_transitions"), live_configuration()) }},

users as (
    select * from {{ ref("stg_user_accounts") }}
)

select
    bound.id as transition_id,
    bound.created_at,
    bound.entity_type,
    bound.entity_id,
    bound.place as entity_place,
    bound.previous_status,
    bound.from_status,
    bound.to_status,
    bound.transition_reason,
    bound.triggered_by_user_id,
    users.user_name as triggered_by_user_name,
    bound.triggered_by_system,
    bound.approved_by_user_id,
    approvers.user_name as approved_by_user_name,
    bound.business_context,
    bound.sla_deadline,
    coalesce(bound.is_milestone, false) as is_milestone,
    bound.metadata,
    versions.workflow_id,
    versions.workflow_name,
    steps.step_id,
    bound.source_order,
    bound.batch_id,
    bound.batch_row,
    batches.recorded_at,
    batches.source,
    bound.batch_cut is not null and bound.batch_cut <= {{ built_cut() }} as is_judged,
    (
        select string_agg(found.violation, ', ' order by found.violation)
        from {{ ref("workflow_violations") }} as found
        where found.transition_id = bound.id
    ) as violations
from bound
inner join {{ ref("stg_batches") }} as batches using (batch_id)
left join versions
    on
        bound.workflow_key = versions.workflow_key
        and {{ is_within("bound.created_at", "versions.bound") }}
left join steps
    on
        versions.workflow_id = steps.workflow_id
        and bound.to_status = steps.status_name
left join users
    on
        bound.triggered_by_user_id = users.user_id
        and {{ is_within("bound.created_at", "users.in_force") }}
left join users as approvers
    on
        bound.approved_by_user_id = approvers.user_id::text
        and {{ is_within("bound.created_at", "approvers.in_force") }}
