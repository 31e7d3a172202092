{{ config(materialized="view") }}
-- One row per entity and workflow of its type: which binds it, and why no other does
-- (S8), by the entity's first transition.
with

{{ bound_ctes(ref("stg_transitions")) }},

firsts as (
    select * from bound
    where place = 1
),

-- Of each workflow, the version in force then, active or not; else its first.
candidates as (
    select
        firsts.entity_type,
        firsts.entity_id,
        firsts.created_at as entity_created_at,
        firsts.workflow_key as bound_key,
        applied.*,
        applied.in_force_from <= firsts.created_at as is_in_force,
        applied.business_entity_id is null
        or coalesce(applied.business_entity_id = firsts.business_entity_id, false)
            as is_of_business_entity,
        {{ json_contains(
            "coalesce(firsts.business_context, '{}')", "applied.conditions"
        ) }} as has_conditions
    from firsts
    inner join
        (
            select
                workflow_id,
                workflow_key,
                entity_type as of_type,
                workflow_name,
                business_entity_id,
                conditions,
                condition_count,
                is_default,
                is_active,
                is_first,
                in_force_from,
                in_force_until
            from {{ ref("stg_workflow_versions") }}
        ) as applied
        on
            firsts.entity_type = applied.of_type
            and (
                {{ is_within("firsts.created_at", "applied.in_force") }}
                or (applied.is_first and applied.in_force_from > firsts.created_at)
            )
)

select
    candidates.entity_type,
    candidates.entity_id,
    candidates.entity_created_at,
    candidates.workflow_name,
    candidates.business_entity_id,
    candidates.workflow_id,
    candidates.in_force_from,
    candidates.conditions,
    candidates.condition_count,
    candidates.is_default,
    candidates.workflow_key is not distinct from candidates.bound_key as is_bound,
    case
        when candidates.workflow_key = candidates.bound_key and candidates.is_in_force
            then 'binds it: the most specific in force that matches'
        when candidates.workflow_key = candidates.bound_key
            then 'binds it: the history is older, and this was applied first'
        when not candidates.is_of_business_entity then 'is of another business entity'
        when not candidates.has_conditions then 'its conditions are not met'
        when not candidates.is_active then 'was retired then'
        when not candidates.is_in_force then 'was applied later'
        else 'matches, and is less specific'
    end as reason
from candidates
