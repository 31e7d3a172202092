{{ config(materialized="standing_view") }}
-- One row per transition, built or not, with the user, the workflow, the batch, the
-- violations and the entries of the audit logs of it (S18, S19).
{% set moment = "interval '" ~ var("audit_moment_seconds") ~ " seconds'" %}
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
    ) as violations,
    audit.entry_count > 0 as has_audit_entry,
    audit.entry_count as audit_entry_count,
    audit.entries as audit_entries
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
left join lateral (
    select
        count(*) as entry_count,
        coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'id', entries.id,
                    'created_at', {{ instant_text("entries.created_at") }},
                    'action', entries.action,
                    'changes', entries.changes
                )
                order by entries.created_at, entries.id
            ),
            '[]'
        ) as entries
    from {{ ref("stg_audit_entries") }} as entries
    where
        bound.entity_type = entries.entity_type
        and bound.entity_id = entries.entity_id
        and bound.created_at - {{ moment }} <= entries.created_at
        and bound.created_at + {{ moment }} >= entries.created_at
        -- Nobody's, where nobody is named.
        and bound.triggered_by_user_id is not distinct from entries.triggered_by_user_id
) as audit on true
