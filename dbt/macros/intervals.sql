{# The one piece of SQL that makes intervals (S2, S3, S6, S8-S13), for the built table
   and for what came after it alike. CTEs, to follow a `with`.

   transitions: a relation with the columns of stg_transitions that holds each of its
   entities whole. Ends in the CTE `intervals`. #}
{% macro interval_ctes(transitions) -%}
    ordered as (
        select
            *,
            row_number() over entity as place,
            lag(to_status) over entity as previous_status
        from {{ transitions }}
        window entity as (
            partition by entity_type, entity_id
            order by created_at, batch_id, batch_row
        )
    ),

    numbered as (
        select
            *,
            count(*) filter (where previous_status is distinct from to_status) over (
                partition by entity_type, entity_id
                order by place
            ) as stay
        from ordered
    ),

    stays as (
        select
            entity_type,
            entity_id,
            stay,
            min(to_status) as status,
            min(created_at) as entered_at,
            count(*) as transition_count,
            (array_agg(id order by place))[1] as first_transition_id,
            (array_agg(id order by place desc))[1] as last_transition_id,
            (
                array_agg(sla_deadline order by place desc)
                filter (where sla_deadline is not null)
            )[1] as explicit_deadline
        from numbered
        group by entity_type, entity_id, stay
    ),

    placed as (
        select
            *,
            lead(entered_at) over (
                partition by entity_type, entity_id order by stay
            ) as left_at,
            min(entered_at) over (
                partition by entity_type, entity_id
            ) as entity_created_at,
            row_number() over (
                partition by entity_type, entity_id, status order by stay
            ) as visit
        from stays
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

    stepped as (
        select
            placed.*,
            firsts.business_entity_id,
            bindings.workflow_name,
            versions.workflow_id,
            steps.step_id,
            steps.sla_hours,
            coalesce(steps.is_final, false) as is_final
        from placed
        inner join firsts using (entity_type, entity_id)
        left join bindings using (entity_type, entity_id)
        left join {{ ref("stg_workflow_versions") }} as versions
            on
                bindings.workflow_key = versions.workflow_key
                and placed.entered_at >= versions.bound_from
                and (
                    placed.entered_at < versions.bound_until
                    or versions.bound_until is null
                )
        left join {{ ref("stg_workflow_steps") }} as steps
            on
                versions.workflow_id = steps.workflow_id
                and placed.status = steps.status_name
    ),

    decided as (
        select
            *,
            case
                when workflow_id is null or is_final then null
                when explicit_deadline is not null then explicit_deadline
                else {{ business_deadline("entered_at", "sla_hours") }}
            end as sla_deadline
        from stepped
    ),

    intervals as (
        select
            {{ uuid_of("concat_ws('/', entity_type, entity_id, visit, status)") }}
                as interval_id,
            entity_type,
            entity_id,
            status,
            visit,
            entered_at,
            left_at,
            transition_count,
            first_transition_id,
            last_transition_id,
            entity_created_at,
            workflow_id,
            workflow_name,
            step_id,
            business_entity_id,
            sla_hours,
            sla_deadline,
            case
                when sla_deadline is null then null
                when explicit_deadline is not null then 'explicit'
                else 'workflow'
            end as deadline_source,
            is_final,
            case
                when left_at <= sla_deadline then 'met'
                when left_at > sla_deadline then 'breached'
            end as verdict,
            {{ elapsed_seconds("entered_at", "left_at") }} as elapsed_seconds
        from decided
    )
{%- endmacro %}

{# S8: which workflow binds each entity. CTEs; ends in `bindings`.

   firsts: one row per entity, its first transition in S2 order. #}
{% macro binding_ctes(firsts) -%}
    matching as (
        select
            {{ firsts }}.entity_type,
            {{ firsts }}.entity_id,
            {{ firsts }}.created_at,
            versions.*,
            min(versions.in_force_from) filter (where versions.is_first) over (
                partition by {{ firsts }}.entity_type, {{ firsts }}.entity_id
            ) as configured_from
        from {{ firsts }}
        inner join
            (
                select
                    workflow_key,
                    workflow_name,
                    entity_type as workflow_entity_type,
                    business_entity_id as workflow_business_entity_id,
                    conditions,
                    condition_count,
                    is_default,
                    is_first,
                    in_force_from,
                    in_force_until
                from {{ ref("stg_workflow_versions") }}
                where is_active
            ) as versions
            on
                {{ firsts }}.entity_type = versions.workflow_entity_type
                and (
                    versions.workflow_business_entity_id is null
                    or {{ firsts }}.business_entity_id
                    = versions.workflow_business_entity_id
                )
                and {{ json_contains(firsts ~ ".business_context", "versions.conditions") }}
    ),

    candidates as (
        select
            entity_type,
            entity_id,
            workflow_key,
            workflow_name,
            row_number() over (
                partition by entity_type, entity_id
                order by
                    case when workflow_business_entity_id is null then 1 else 0 end,
                    condition_count desc,
                    case when is_default then 0 else 1 end,
                    workflow_name collate "C",
                    workflow_key
            ) as preference
        from matching
        where
            (
                in_force_from <= created_at
                and (created_at < in_force_until or in_force_until is null)
            )
            -- History older than the configuration: what was applied first holds.
            or (
                created_at < configured_from
                and is_first
                and in_force_from = configured_from
            )
    ),

    bindings as (
        select entity_type, entity_id, workflow_key, workflow_name
        from candidates
        where preference = 1
    )
{%- endmacro %}

{# Entities whose rows may differ from those built at a cut: by transitions of later
   batches, by a new version of a workflow that their stays may be under, or by a
   workflow that is new to their type. A select of entity_type, entity_id. #}
{% macro touched_since(cut) -%}
    select entity_type, entity_id
    from {{ ref("stg_transitions") }}
    where batch_cut is null or batch_cut > {{ cut }}
    union
    select transitions.entity_type, transitions.entity_id
    from {{ ref("stg_workflow_versions") }} as versions
    inner join {{ ref("stg_transitions") }} as transitions
        on
            versions.entity_type = transitions.entity_type
            and (versions.is_first or versions.in_force_from <= transitions.created_at)
    where versions.batch_cut is null or versions.batch_cut > {{ cut }}
{%- endmacro %}
