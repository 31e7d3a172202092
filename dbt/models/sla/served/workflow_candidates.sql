{{ config(materialized="standing_view") }}
-- One row per entity and workflow of its type: which binds it, and why no other does
-- (S8), by the entity's first transition.
with

{{ binding_ctes(ref("stg_transitions"), live_configuration()) }},

applied as (
    select
        workflow_id,
        workflow_key,
        entity_type as of_entity_type,
        workflow_name,
        business_entity_id as of_business_entity_id,
        conditions,
        condition_count,
        is_default,
        is_active,
        is_first,
        in_force_from,
        in_force_until
    from {{ ref("stg_workflow_versions") }}
),

-- Of each workflow, the version in force then, active or not; else its first.
candidates as (
    select
        bindings.entity_type,
        bindings.entity_id,
        bindings.entity_created_at,
        applied.*,
        coalesce(bindings.workflow_key = applied.workflow_key, false) as is_bound,
        applied.in_force_from <= bindings.entity_created_at as is_in_force,
        applied.of_business_entity_id is null
        or coalesce(bindings.business_entity_id = applied.of_business_entity_id, false)
            as is_of_business_entity,
        {{ json_contains(
            "coalesce(bindings.business_context, '{}')", "applied.conditions"
        ) }} as has_conditions
    from bindings
    inner join applied
        on
            bindings.entity_type = applied.of_entity_type
            and (
                {{ is_within("bindings.entity_created_at", "applied.in_force") }}
                or (
                    applied.is_first
                    and bindings.entity_created_at < applied.in_force_from
                )
            )
)

select
    entity_type,
    entity_id,
    entity_created_at,
    workflow_name,
    of_business_entity_id as business_entity_id,
    workflow_id,
    in_force_from,
    conditions,
    condition_count,
    is_default,
    is_bound,
    case
        when is_bound and is_in_force
            then 'binds it: the most specific in force that matches'
        when is_bound then 'binds it: the history is older, and this was applied first'
        when not is_of_business_entity then 'is of another business entity'
        when not has_conditions then 'has conditions that are not met'
        when not is_active then 'was retired then'
        when not is_in_force then 'was applied later'
        else 'matches, and is less specific'
    end as reason
from candidates
