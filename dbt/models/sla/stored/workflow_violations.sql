{{ config(
    materialized="cut_table",
    keys={
        "workflow_violations_pkey": "primary key (transition_id, violation)",
        "workflow_violations_entity": "(entity_type, entity_id, created_at)",
    },
) }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per transition and violation (S19), judged by the version in force at the
-- transition's created_at. An entity that no workflow binds (S8) is named by its first
-- transition, a stay without an end in its calendar (S12) by the one that opened it.
with

transitions as not materialized (
    select * from {{ ref("pinned_transitions") }}
    {{ only_touched() }}
),

{{ bound_ctes(
    "transitions", fresh_configuration(), by_id=ref("pinned_transitions")
) }},

users as (
    select * from {{ ref("stg_user_accounts") }}
),

known_users as (
    select distinct user_id::text as user_id from users
),

entities as (
    select business_entity_id from {{ ref("stg_business_entities") }}
),

-- Stays whose hours do not run out in the calendar that counts them (S12).
beyond as (
    select
        intervals.first_transition_id,
        concat(
            intervals.sla_hours, ' h do not run out in calendar ',
            calendars.calendar_name, ', which covers ', calendars.covers_from, ' to ',
            calendars.covers_until
        ) as detail
    from {{ fresh(ref("status_intervals")) }} as intervals
    inner join {{ fresh(ref("calendar_versions")) }} as calendars using (calendar_id)
    where
        intervals.sla_hours is not null
        and intervals.sla_deadline is null
        and not intervals.is_final
),

judged as (
    select
        bound.*,
        versions.workflow_id,
        versions.workflow_name,
        steps.step_id,
        steps.requires_approval,
        steps.approval_role,
        previous_steps.step_id as previous_step_id,
        previous_steps.is_final as previous_is_final,
        previous_steps.allowed_transitions,
        coalesce(bound.approved_by_user_id, bound.triggered_by_user_id::text)
            as approver_id,
        approvers.user_id is not null as is_known_approver,
        approvers.user_name as approver_name,
        approvers.is_active
        and {{ json_contains("approvers.roles", "to_jsonb(steps.approval_role)") }}
            as has_role,
        bound.triggered_by_user_id is not null and triggering.user_id is null
            as is_unknown_trigger,
        bound.approved_by_user_id is not null and approving.user_id is null
            as is_unknown_approver,
        bound.business_entity_id is not null
        and entities.business_entity_id is null as is_unknown_business_entity
    from bound
    left join versions
        on
            bound.workflow_key = versions.workflow_key
            and {{ is_within("bound.created_at", "versions.bound") }}
    left join steps
        on
            versions.workflow_id = steps.workflow_id
            and bound.to_status = steps.status_name
    left join steps as previous_steps
        on
            versions.workflow_id = previous_steps.workflow_id
            and bound.previous_status = previous_steps.status_name
    left join users as approvers
        on
            coalesce(bound.approved_by_user_id, bound.triggered_by_user_id::text)
            = approvers.user_id::text
            and {{ is_within("bound.created_at", "approvers.in_force") }}
    left join known_users as triggering
        on bound.triggered_by_user_id::text = triggering.user_id
    left join known_users as approving
        on bound.approved_by_user_id = approving.user_id
    left join entities
        on bound.business_entity_id = entities.business_entity_id
),

-- What few transitions have: details are told of these alone.
flagged as (
    select
        *,
        (place = 1 and workflow_key is null) as has_no_workflow,
        -- No join, because there are none as a rule, and the planner expects many.
        (id in (select first_transition_id from beyond)) as is_beyond_calendar,
        (workflow_id is not null and step_id is null) as is_unknown_status,
        (
            is_change
            and previous_step_id is not null
            and not {{ json_contains("allowed_transitions", "to_jsonb(to_status)") }}
        ) as is_not_allowed,
        (from_status is not null and from_status is distinct from previous_status)
            as is_broken_chain,
        (is_change and requires_approval and approver_id is null)
            as is_missing_approval,
        (is_change and requires_approval and is_known_approver and not has_role)
            as is_wrong_role,
        (is_unknown_trigger or is_unknown_approver) as is_unknown_user
    from judged
),

violating as (
    select * from flagged
    where
        has_no_workflow
        or is_beyond_calendar
        or is_unknown_status
        or is_not_allowed
        or is_broken_chain
        or is_missing_approval
        or is_wrong_role
        or is_unknown_user
        or is_unknown_business_entity
)

select
    violating.id as transition_id,
    violations.violation,
    violating.created_at,
    violating.entity_type,
    violating.entity_id,
    violating.previous_status,
    violating.from_status,
    violating.to_status,
    violating.workflow_id,
    violating.workflow_name,
    violations.detail
from violating
cross join
    lateral (
        values
        (
            'no_workflow',
            has_no_workflow,
            concat('none matches ', coalesce(business_context, '{}'))
        ),
        (
            'beyond_calendar',
            is_beyond_calendar,
            (
                select beyond.detail from beyond
                where beyond.first_transition_id = violating.id
            )
        ),
        ('unknown_status', is_unknown_status, to_status),
        (
            case when previous_is_final then 'left_final' else 'illegal_transition' end,
            is_not_allowed,
            concat_ws(' -> ', previous_status, to_status)
        ),
        (
            'broken_chain',
            is_broken_chain,
            'claims ' || from_status || ', was ' || coalesce(previous_status, 'new')
        ),
        ('missing_approval', is_missing_approval, approval_role),
        (
            'wrong_role',
            is_wrong_role,
            concat(approver_name, ' (', approver_id, ') is no ', approval_role)
        ),
        (
            'unknown_user',
            is_unknown_user,
            concat_ws(
                ', ',
                case when is_unknown_trigger then triggered_by_user_id::text end,
                case when is_unknown_approver then approved_by_user_id end
            )
        ),
        ('unknown_business_entity', is_unknown_business_entity, business_entity_id)
    ) as violations (violation, is_violated, detail)
where violations.is_violated
