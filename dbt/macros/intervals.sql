{# The one piece of SQL that makes intervals (S2, S3, S6, S8-S13), for the built table
   and for what came after it alike. CTEs, to follow a `with`; ends in `intervals`.

   transitions: a relation with the columns of stg_transitions that holds each of its
   entities whole.

   No CTE is joined to itself: the planner has no statistics of CTEs, and a nested loop
   over two of them took 65 s for 20,000 transitions. #}
{% macro interval_ctes(transitions) -%}
    {{ bound_ctes(transitions) }},

    calendars as (
        select * from {{ ref("stg_calendars") }}
    ),

    numbered as (
        select
            *,
            count(*) filter (where previous_status is distinct from to_status) over (
                partition by entity_type, entity_id
                order by place
            ) as stay
        from bound
    ),

    stays as (
        select
            entity_type,
            entity_id,
            stay,
            min(to_status) as status,
            min(created_at) as entered_at,
            count(*) as transition_count,
            (array_agg(batch_id order by place))[1] as first_batch_id,
            max(batch_id) as last_batch_id,
            (array_agg(id order by place))[1] as first_transition_id,
            (array_agg(id order by place desc))[1] as last_transition_id,
            (
                array_agg(sla_deadline order by place desc)
                filter (where sla_deadline is not null)
            )[1] as explicit_deadline,
            min(workflow_key) as workflow_key,
            min(entity_business_entity_id) as business_entity_id
        from numbered
        group by entity_type, entity_id, stay
    ),

    placed as (
        select
            *,
            lead(entered_at) over (
                partition by entity_type, entity_id order by stay
            ) as left_at,
            greatest(
                last_batch_id,
                lead(first_batch_id) over (
                    partition by entity_type, entity_id order by stay
                )
            ) as batch_id,
            min(entered_at) over (
                partition by entity_type, entity_id
            ) as entity_created_at,
            row_number() over (
                partition by entity_type, entity_id, status order by stay
            ) as visit
        from stays
    ),

    stepped as (
        select
            placed.*,
            versions.workflow_id,
            versions.workflow_name,
            calendars.calendar_id,
            steps.step_id,
            steps.sla_hours,
            steps.at_risk_hours,
            coalesce(steps.is_final, false) as is_final
        from placed
        left join versions
            on
                placed.workflow_key = versions.workflow_key
                and {{ is_within("placed.entered_at", "versions.bound") }}
        left join steps
            on
                versions.workflow_id = steps.workflow_id
                and placed.status = steps.status_name
        left join calendars
            on
                versions.calendar_name = calendars.calendar_name
                and {{ is_within("placed.entered_at", "calendars.in_force") }}
    ),

    clocked as (
        select
            stepped.*,
            {{ business_clock("entered_page", "entered_at") }} as entered_clock,
            {{ business_clock("left_page", "left_at") }} as left_clock,
            {{ business_clock("entered_page", "entered_at") }}
            + {{ hours("sla_hours") }} as due_clock
        from stepped
        {{ join_calendar_page("entered_page", "stepped.calendar_id", "entered_at") }}
        {{ join_calendar_page("left_page", "stepped.calendar_id", "left_at") }}
    ),

    decided as (
        select
            clocked.*,
            case
                when workflow_id is null or is_final then null
                when explicit_deadline is not null then explicit_deadline
                else {{ business_deadline(
                    "clocked.calendar_id", "entered_at", "sla_hours",
                    "due_page", "due_clock"
                ) }}
            end as sla_deadline
        from clocked
        {{ join_clock_page("due_page", "clocked.calendar_id", "due_clock") }}
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
            workflow_id,
            step_id,
            business_entity_id,
            sla_hours::numeric(18, 6) as sla_hours,
            calendar_id,
            sla_deadline,
            case
                when sla_deadline is null then null
                when explicit_deadline is not null then 'explicit'
                else 'workflow'
            end as deadline_source,
            sla_deadline - {{ hours("at_risk_hours") }} as at_risk_from,
            case
                when left_at <= sla_deadline then 'met'
                when left_at > sla_deadline then 'breached'
            end as verdict,
            {{ seconds_between("entered_at", "left_at") }} as elapsed_seconds,
            {{ business_seconds(
                "calendar_id", "entered_at", "left_at", "entered_clock", "left_clock"
            ) }} as business_seconds,
            batch_id,
            entity_created_at,
            workflow_name,
            is_final
        from decided
    )
{%- endmacro %}

{# Every stay as of all committed transitions: the built rows, replaced for entities that
   changed after the built cut by the same SQL (S16). CTEs; ends in `live_intervals`. #}
{% macro live_interval_ctes() -%}
    unbuilt as (
        {{ touched_since(built_cut()) }}
    ),

    transitions as (
        select * from {{ ref("stg_transitions") }}
        inner join unbuilt using (entity_type, entity_id)
    ),

    {{ interval_ctes("transitions") }},

    live_intervals as (
        select * from intervals
        union all
        select * from {{ ref("status_intervals") }} as built
        where not exists (
            select 1 from unbuilt
            where
                unbuilt.entity_type = built.entity_type
                and unbuilt.entity_id = built.entity_id
        )
    )
{%- endmacro %}

{# S2 and S8: transitions in their order, each with what it follows, and with the
   workflow and the business entity of its entity, which its first transition decides.
   CTEs; ends in `bound`, with `versions` and `steps` before it. #}
{% macro bound_ctes(transitions) -%}
    versions as (
        select * from {{ ref("stg_workflow_versions") }}
        where is_active
    ),

    steps as (
        select * from {{ ref("stg_workflow_steps") }}
    ),

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

    bound as (
        select
            ordered.*,
            first_value(binding.workflow_key) over entity as workflow_key,
            first_value(ordered.business_entity_id) over entity
                as entity_business_entity_id
        from ordered
        left join lateral (
            select matching.workflow_key
            from (
                select
                    versions.*,
                    {{ is_within("ordered.created_at", "versions.in_force") }}
                        as is_in_force,
                    min(versions.in_force_from) filter (where versions.is_first) over ()
                        as configured_from,
                    bool_or(
                        {{ is_within("ordered.created_at", "versions.in_force") }}
                    ) over () as has_one_in_force
                from versions
                where
                    ordered.place = 1
                    and ordered.entity_type = versions.entity_type
                    and (
                        versions.business_entity_id is null
                        or ordered.business_entity_id = versions.business_entity_id
                    )
                    and {{ json_contains(
                        "coalesce(ordered.business_context, '{}')", "versions.conditions"
                    ) }}
            ) as matching
            where
                matching.is_in_force
                -- History older than the configuration: what was applied first holds.
                or (
                    not matching.has_one_in_force
                    and ordered.created_at < matching.configured_from
                    and matching.is_first
                    and matching.in_force_from = matching.configured_from
                )
            order by
                case when matching.business_entity_id is null then 1 else 0 end,
                matching.condition_count desc,
                case when matching.is_default then 0 else 1 end,
                matching.workflow_name collate "C",
                matching.workflow_key
            limit 1
        ) as binding on true
        window entity as (
            partition by ordered.entity_type, ordered.entity_id
            order by ordered.place
        )
    )
{%- endmacro %}

{# Whether an instant lies in the half-open span [x_from, x_until). #}
{% macro is_within(instant, span) -%}
    (
        {{ instant }} >= {{ span }}_from
        and ({{ instant }} < {{ span }}_until or {{ span }}_until is null)
    )
{%- endmacro %}

{# Entities whose rows may differ from those built at a cut: by transitions of later
   batches, by a new version of a workflow or a calendar that their stays may be under,
   or by a workflow that is new to their type. A select of entity_type, entity_id. #}
{% macro touched_since(cut) -%}
    select entity_type, entity_id
    from {{ ref("stg_transitions") }}
    where batch_cut is null or batch_cut > {{ cut }}
    union
    select entity_type, entity_id
    from {{ ref("stg_transitions") }}
    inner join
        (
            select
                changed.entity_type,
                min(changed.changed_from) as judged_from
            from (
                select
                    entity_type,
                    case when is_first then '-infinity' else in_force_from end
                        as changed_from
                from {{ ref("stg_workflow_versions") }}
                where batch_cut is null or batch_cut > {{ cut }}
                union all
                select
                    versions.entity_type,
                    calendars.in_force_from
                from {{ ref("stg_calendars") }} as calendars
                inner join {{ ref("stg_workflow_versions") }} as versions
                    on calendars.calendar_name = versions.calendar_name
                where calendars.batch_cut is null or calendars.batch_cut > {{ cut }}
            ) as changed
            group by changed.entity_type
        ) as changes using (entity_type)
    where created_at >= judged_from
{%- endmacro %}
