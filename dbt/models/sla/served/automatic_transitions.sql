{{ config(materialized="standing_view") }}
-- One row per entity, built or not, of whose current step a rule holds by the clock:
-- the first that does. Whatever costs is asked of those alone whose hours are up.
with

rules as (
    select * from {{ ref("automatic_rules") }}
    where is_sound
),

-- Business time is never longer than elapsed time, so this leaves out nothing.
waiting as (
    select
        current_status.entity_type,
        current_status.entity_id,
        current_status.entity_key,
        current_status.current_status,
        current_status.status_since,
        current_status.visit,
        current_status.last_transition_id,
        rules.workflow_id,
        rules.workflow_name,
        rules.calendar_name,
        rules.rule_number,
        rules.to_status,
        rules.after_hours,
        rules.clock,
        rules.when_context,
        rules.when_children,
        rules.when_parent,
        rules.obstacle,
        {{ hours("coalesce(rules.after_hours, 0)") }} as after_time
    from {{ ref("entity_current_status") }} as current_status
    inner join {{ ref("stg_workflow_versions") }} as entered
        on current_status.workflow_id = entered.workflow_id
    inner join rules
        on
            entered.workflow_key = rules.workflow_key
            -- Follows; by it and the status, an index finds those that are there.
            and current_status.entity_type = rules.entity_type
            and current_status.current_status = rules.status
    where
        current_status.status_since
        + {{ hours("coalesce(rules.after_hours, 0)") }} <= {{ as_of() }}
),

-- S9: by the calendar version in force when the status was entered.
timed as (
    select
        waiting.*,
        case
            when waiting.clock = 'business' and calendars.calendar_id is not null
                then
                    {{ ref("business_deadline") }}(
                        calendars.calendar_id, waiting.status_since, waiting.after_hours
                    )
            else waiting.status_since + waiting.after_time
        end as holds_from
    from waiting
    left join {{ ref("stg_calendars") }} as calendars
        on
            waiting.calendar_name = calendars.calendar_name
            and {{ is_within("waiting.status_since", "calendars.in_force") }}
),

due as (
    select
        timed.*,
        contexts.context,
        {{ json_text("timed.when_children", "entity_type") }} as children_type,
        {{ json_text("timed.when_children", "context_key") }} as children_key,
        timed.when_children -> 'all' is not null as is_all,
        {{ json_texts(
            "coalesce(timed.when_children -> 'all', timed.when_children -> 'any')"
        ) }} as children_statuses
    from timed
    -- Of each key the last value that was told: jsonb keeps that. Null tells nothing.
    left join
        lateral (
            select
                jsonb_object_agg(
                    members.key, members.value
                    order by
                        transitions.created_at,
                        transitions.source_order,
                        transitions.batch_id,
                        transitions.batch_row
                ) as context
            from {{ ref("stg_transitions") }} as transitions
            cross join
                lateral jsonb_each(transitions.business_context) as members (key, value)
            where
                transitions.entity_type = timed.entity_type
                and transitions.entity_id = timed.entity_id
                and members.value <> 'null'
        ) as contexts
        on timed.when_context is not null or timed.when_parent is not null
    where timed.holds_from <= {{ as_of() }}
),

-- The parents of all entities of the types that are asked about: of each the last that
-- it told.
named_parents as (
    select distinct on (
        asked.children_type, asked.children_key, transitions.entity_id
    )
        asked.children_type,
        asked.children_key,
        transitions.entity_id as child_id,
        transitions.business_context ->> asked.children_key as parent_name
    from (
        select distinct
            children_type,
            children_key
        from due
        where when_children is not null
    ) as asked
    inner join {{ ref("stg_transitions") }} as transitions
        on
            asked.children_type = transitions.entity_type
            and transitions.business_context ->> asked.children_key is not null
    order by
        asked.children_type asc,
        asked.children_key asc,
        transitions.entity_id asc,
        transitions.created_at desc,
        transitions.source_order desc,
        transitions.batch_id desc,
        transitions.batch_row desc
),

-- A child names its parent by the id, or by the text that its source knows it by.
names as (
    select distinct
        due.entity_type,
        due.entity_id,
        due.rule_number,
        due.children_type,
        due.children_key,
        due.children_statuses,
        names.parent_name
    from due
    cross join
        lateral (values (due.entity_id::text), (due.entity_key)) as names (parent_name)
    where
        due.when_children is not null
        and names.parent_name is not null
),

children as (
    select
        names.entity_type,
        names.entity_id,
        names.rule_number,
        count(*) as child_count,
        count(*) filter (
            where exists (
                select 1 from {{ ref("stg_transitions") }} as reached
                where
                    reached.entity_type = names.children_type
                    and reached.entity_id = named_parents.child_id
                    and reached.to_status = any(names.children_statuses)
            )
        ) as reached_count
    from names
    inner join named_parents using (children_type, children_key, parent_name)
    group by names.entity_type, names.entity_id, names.rule_number
),

parents as (
    select
        due.entity_type,
        due.entity_id,
        due.rule_number,
        due.context ->> (due.when_parent ->> 'context_key') as parent_name,
        {{ json_text("due.when_parent", "entity_type") }} as parent_type,
        {{ json_texts("due.when_parent -> 'reached'") }} as parent_statuses
    from due
    where due.when_parent is not null
),

reached_parents as (
    select
        parents.entity_type,
        parents.entity_id,
        parents.rule_number,
        parents.parent_name
    from parents
    where
        exists (
            select 1 from {{ ref("stg_transitions") }} as reached
            where
                reached.entity_type = parents.parent_type
                and reached.to_status = any(parents.parent_statuses)
                and reached.entity_id in (
                    select {{ id_of_text("parents.parent_name") }}
                    union all
                    select keys.entity_id from {{ ref("stg_entity_keys") }} as keys
                    where
                        keys.entity_type = parents.parent_type
                        and keys.entity_key = parents.parent_name
                )
        )
),

holding as (
    select
        due.*,
        children.child_count,
        children.reached_count,
        reached_parents.parent_name
    from due
    left join children using (entity_type, entity_id, rule_number)
    left join reached_parents using (entity_type, entity_id, rule_number)
    where
        (
            due.when_context is null
            or {{ json_contains("due.context", "due.when_context") }}
        )
        and (
            due.when_children is null
            or case
                when due.is_all then children.reached_count = children.child_count
                else children.reached_count > 0
            end
        )
        and (due.when_parent is null or reached_parents.parent_name is not null)
)

select distinct on (entity_type, entity_id)
    entity_type,
    entity_id,
    entity_key,
    current_status,
    status_since,
    visit,
    last_transition_id,
    to_status,
    rule_number,
    obstacle,
    holds_from,
    workflow_id,
    workflow_name,
    after_hours,
    clock,
    when_context,
    when_children,
    child_count,
    reached_count,
    when_parent,
    parent_name
from holding
order by entity_type, entity_id, rule_number
