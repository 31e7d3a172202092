{{ config(materialized="standing_view") }}
-- One row per rule of a step, of the workflow versions in force by the clock; and one
-- per step whose conditions are no rules, which nothing obeys.
with

versions as (
    select * from {{ ref("stg_workflow_versions") }}
    where {{ is_within(as_of(), "bound") }}
),

steps as (
    select * from {{ ref("stg_workflow_steps") }}
),

-- A step is obeyed as a whole or not at all: of its rules the first that holds decides.
ruled as (
    select
        versions.workflow_key,
        versions.workflow_id,
        versions.entity_type,
        versions.workflow_name,
        versions.business_entity_id,
        versions.calendar_name,
        steps.status_name,
        steps.allowed_transitions,
        {{ rules_of("steps.auto_transition_conditions") }} as rules,
        steps.auto_transition_conditions - 'rules' = '{}'
        and not exists (
            select 1
            from
                jsonb_array_elements(
                    {{ rules_of("steps.auto_transition_conditions") }}
                ) as rules (rule)
            where not {{ is_rule("rules.rule") }}
        )
        and (
            jsonb_typeof(steps.auto_transition_conditions -> 'rules') = 'array'
        ) is true as is_sound
    from steps
    inner join versions using (workflow_id)
    where steps.auto_transition_conditions <> '{}'
)

select
    ruled.workflow_key,
    ruled.workflow_id,
    ruled.entity_type,
    ruled.workflow_name,
    ruled.business_entity_id,
    ruled.calendar_name,
    ruled.status_name as status,
    rules.rule_number::integer as rule_number,
    {{ json_text("rules.rule", "to") }} as to_status,
    {{ json_number("rules.rule", "after_hours") }}::numeric(18, 6) as after_hours,
    case
        when {{ json_has("rules.rule", "'after_hours'") }}
            then coalesce({{ json_text("rules.rule", "clock") }}, 'business')
    end as clock,
    rules.rule -> 'when_context' as when_context,
    rules.rule -> 'when_children' as when_children,
    rules.rule -> 'when_parent' as when_parent,
    ruled.is_sound,
    case
        when not ruled.is_sound then 'no_rules'
        when targets.status_name is null then 'unknown_status'
        when not {{ json_has(
            "ruled.allowed_transitions", json_text("rules.rule", "to")
        ) }}
            then 'illegal_transition'
        when targets.requires_approval then 'requires_approval'
        when not (rules.rule -> 'append')::boolean then 'proposed_only'
    end as obstacle
from ruled
left join
    lateral jsonb_array_elements(ruled.rules)
    with ordinality as rules (rule, rule_number)
    on ruled.is_sound
left join steps as targets
    on
        ruled.workflow_id = targets.workflow_id
        and {{ json_text("rules.rule", "to") }} = targets.status_name
where rules.rule_number is not null or not ruled.is_sound
