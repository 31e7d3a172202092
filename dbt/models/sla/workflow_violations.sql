{{ config(
    materialized="incremental",
    incremental_strategy="append",
    on_schema_change="fail",
    pre_hook="{{ forget_touched() }}",
    post_hook="{{ record_cut() }}",
    indexes=[{"columns": ["entity_type", "entity_id", "created_at"]}],
) }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per transition and violation (S19), judged by the version in force at the
-- transition's created_at.
with

transitions as (
    select * from {{ ref("stg_transitions") }}
    {{ only_touched() }}
),

ordered as (
    select
        *,
        row_number() over entity as place,
        lag(to_status) over entity as previous_status,
        coalesce(approved_by_user_id, triggered_by_user_id::text) as approver_id
    from transitions
    window entity as (
        partition by entity_type, entity_id order by created_at, batch_id, batch_row
    )
),

firsts as (
    select
        entity_type,
        entity_id,
        created_at,
        coalesce(business_context, '{}') as business_context,
        business_entity_id
    from ordered
    where place = 1
),

{{ binding_ctes("firsts") }},

judged as (
    select
        ordered.*,
        versions.workflow_id,
        bindings.workflow_name,
        steps.step_id,
        steps.requires_approval,
        steps.approval_role,
        previous_steps.step_id as previous_step_id,
        previous_steps.is_final as previous_is_final,
        previous_steps.allowed_transitions,
        ordered.previous_status is distinct from ordered.to_status as is_change
    from ordered
    left join bindings using (entity_type, entity_id)
    left join {{ ref("stg_workflow_versions") }} as versions
        on
            bindings.workflow_key = versions.workflow_key
            and ordered.created_at >= versions.bound_from
            and (
                ordered.created_at < versions.bound_until
                or versions.bound_until is null
            )
    left join {{ ref("stg_workflow_steps") }} as steps
        on
            versions.workflow_id = steps.workflow_id
            and ordered.to_status = steps.status_name
    left join {{ ref("stg_workflow_steps") }} as previous_steps
        on
            versions.workflow_id = previous_steps.workflow_id
            and ordered.previous_status = previous_steps.status_name
),

known_users as (
    select distinct user_id::text as user_id from {{ ref("stg_user_accounts") }}
),

named_users as (
    select id, triggered_by_user_id::text as user_id from ordered
    union
    select id, approved_by_user_id as user_id from ordered
),

violations as (
    select
        id,
        'unknown_status' as violation,
        to_status as detail
    from judged
    where workflow_id is not null and step_id is null

    union all

    select
        id,
        case when previous_is_final then 'left_final' else 'illegal_transition' end,
        previous_status || ' -> ' || to_status
    from judged
    where
        is_change
        and previous_step_id is not null
        and not {{ json_contains("allowed_transitions", "to_jsonb(to_status)") }}

    union all

    select
        id,
        'broken_chain',
        'claims ' || from_status || ', was ' || coalesce(previous_status, 'new')
    from judged
    where from_status is not null and from_status is distinct from previous_status

    union all

    select
        id,
        'missing_approval',
        approval_role
    from judged
    where is_change and requires_approval and approver_id is null

    union all

    select
        judged.id,
        'wrong_role',
        judged.approver_id || ' is no ' || judged.approval_role
    from judged
    inner join {{ ref("stg_user_accounts") }} as approvers
        on
            judged.approver_id = approvers.user_id::text
            and judged.created_at >= approvers.in_force_from
            and (
                judged.created_at < approvers.in_force_until
                or approvers.in_force_until is null
            )
    where
        judged.is_change
        and judged.requires_approval
        and not (
            approvers.is_active
            and {{ json_contains("approvers.roles", "to_jsonb(judged.approval_role)") }}
        )

    union all

    select
        named_users.id,
        'unknown_user',
        string_agg(named_users.user_id, ', ' order by named_users.user_id)
    from named_users
    left join known_users using (user_id)
    where named_users.user_id is not null and known_users.user_id is null
    group by named_users.id

    union all

    select
        ordered.id,
        'unknown_business_entity',
        ordered.business_entity_id
    from ordered
    left join {{ ref("stg_business_entities") }} as entities using (business_entity_id)
    where
        ordered.business_entity_id is not null
        and entities.business_entity_id is null
)

select
    violations.id as transition_id,
    violations.violation,
    judged.created_at,
    judged.entity_type,
    judged.entity_id,
    judged.previous_status,
    judged.from_status,
    judged.to_status,
    judged.workflow_id,
    judged.workflow_name,
    violations.detail
from violations
inner join judged using (id)
