{# The one piece of SQL that makes intervals (S2, S3, S6, S8-S13), for the built table
   and for what came after it alike. CTEs, to follow a `with`; ends in `intervals`.

   transitions: a relation with the columns of stg_transitions that holds each of its
   entities whole. It is read twice over: where many are built, say `not materialized`,
   so that an index gives what most of it needs.
   configuration: relations `versions` and `calendars`, a `hint` for CTEs of them, and
   maybe a `barrier`: see `fresh_configuration`, `live_configuration`.
   by_id: see `binding_ctes`.
   only_open: stays that have ended are left out once they are counted as visits.

   The planner has no statistics of CTEs, and a nested loop over two of them took 65 s for
   20,000 transitions. Stays and bindings both come in the order of entities, for a merge
   join; whatever else is joined is small or has an index. #}
{% macro interval_ctes(
    transitions, configuration, by_id=none, only_open=false
) -%}
    {{ binding_ctes(transitions, configuration, by_id) }},

    calendars as {{ configuration.hint }} (
        select * from {{ configuration.calendars }}
    ),

    -- Columns of the index on entities only.
    ordered as (
        select
            id,
            entity_type,
            entity_id,
            created_at,
            source_order,
            batch_id,
            batch_row,
            to_status,
            sla_deadline,
            row_number() over entity as place,
            lead(created_at) over entity as next_created_at,
            lead(batch_id) over entity as next_batch_id,
            lead(to_status) over entity as next_to_status,
            lag(to_status) over entity as previous_to_status,
            {{ is_change_and_is_last() }}
        from {{ transitions }}
        {{ window_of_entity() }}
    ),

    numbered as (
        select
            *,
            count(*) filter (where is_change) over entity as stay
        from ordered
        {{ window_of_entity() }}
    ),

    -- Aggregates without an order of their own, which would sort every stay again: the
    -- flags pick the first and the last; of deadlines the one at the greatest place.
    stays as (
        select
            entity_type,
            entity_id,
            stay,
            min(to_status) filter (where is_change) as status,
            min(created_at) as entered_at,
            min(next_created_at) filter (where is_last) as left_at,
            min(next_to_status) filter (where is_last) as next_status,
            min(previous_to_status) filter (where is_change) as previous_status,
            count(*) as transition_count,
            (array_agg(id) filter (where is_change))[1] as first_transition_id,
            (array_agg(id) filter (where is_last))[1] as last_transition_id,
            (
                max(
                    array[
                        timestamptz 'epoch' + place * interval '1 second', sla_deadline
                    ]
                ) filter (where sla_deadline is not null)
            )[2] as explicit_deadline,
            greatest(
                max(batch_id), min(next_batch_id) filter (where is_last)
            ) as batch_id
        from numbered
        group by entity_type, entity_id, stay
    ),

    visits as (
        select
            *,
            row_number() over (
                partition by entity_type, entity_id, status order by stay
            ) as visit
        from stays
    ),

    placed as (
        select
            visits.*,
            bindings.workflow_key,
            bindings.business_entity_id,
            bindings.entity_created_at
        from visits
        inner join bindings using (entity_type, entity_id)
        {%- if only_open %}
        -- Of open stays the planner expects so few that it would nest a loop.
        offset 0
        {%- endif %}
    ),

    stepped as (
        select
            placed.*,
            versions.workflow_id,
            versions.workflow_name,
            calendars.calendar_id,
            steps.step_id,
            steps.status_label,
            steps.status_color,
            steps.sla_hours,
            steps.sla_time,
            steps.at_risk_time,
            coalesce(steps.is_final, false) as is_final,
            coalesce(steps.is_waiting, false) as is_waiting
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
        {%- if only_open %}
        where placed.left_at is null
        {%- endif %}
    ),

    clocked as (
        select
            stepped.*,
            {{ business_clock("entered_page", "entered_at") }} as entered_clock,
            {{ business_clock("left_page", "left_at") }} as left_clock
        from stepped
        {{ join_calendar_page("entered_page", "stepped.calendar_id", "entered_at") }}
        {{ join_calendar_page("left_page", "stepped.calendar_id", "left_at") }}
        {{ configuration.barrier }}
    ),

    due as (
        select
            *,
            entered_clock + sla_time as due_clock
        from clocked
        {{ configuration.barrier }}
    ),

    decided as (
        select
            due.*,
            case
                when workflow_id is null or is_final then null
                when explicit_deadline is not null then explicit_deadline
                else {{ business_deadline(
                    "due.calendar_id", "entered_at", "sla_hours", "sla_time",
                    "due_page", "due_clock"
                ) }}
            end as sla_deadline
        from due
        {{ join_clock_page("due_page", "due.calendar_id", "due_clock") }}
        {{ configuration.barrier }}
    ),

    -- Of a deadline that was given, the clock's reading is not known yet.
    nearing as (
        select
            decided.*,
            case
                when explicit_deadline is null then due_clock
                else {{ business_clock("given_page", "explicit_deadline") }}
            end as deadline_clock
        from decided
        {{ join_calendar_page(
            "given_page", "decided.calendar_id", "explicit_deadline"
        ) }}
        {{ configuration.barrier }}
    ),

    warned as (
        select
            nearing.*,
            {{ business_lead(
                "nearing.calendar_id", "sla_deadline", "at_risk_time", "risk_page",
                "(deadline_clock - at_risk_time)"
            ) }} as at_risk_from
        from nearing
        {{ join_lead_page(
            "risk_page", "nearing.calendar_id", "(deadline_clock - at_risk_time)"
        ) }}
        {{ configuration.barrier }}
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
            status_label,
            status_color,
            business_entity_id,
            sla_hours,
            calendar_id,
            sla_deadline,
            case
                when sla_deadline is null then null
                when explicit_deadline is not null then 'explicit'
                else 'workflow'
            end as deadline_source,
            at_risk_from,
            case
                when left_at <= sla_deadline then 'met'
                when left_at > sla_deadline then 'breached'
            end as verdict,
            {{ seconds_between("entered_at", "left_at") }} as elapsed_seconds,
            {{ business_seconds(
                "calendar_id", "entered_at", "left_at", "entered_clock", "left_clock"
            ) }} as business_seconds,
            case
                when left_at > sla_deadline
                    then {{ business_seconds(
                        "calendar_id", "sla_deadline", "left_at", "deadline_clock",
                        "left_clock"
                    ) }}
            end as late_business_seconds,
            batch_id,
            entity_created_at,
            workflow_name,
            is_final,
            stay as stay_number,
            next_status,
            is_waiting,
            previous_status
        from warned
    )
{%- endmacro %}

{# The columns of a stay, as the YAML of status_intervals lists them; while dbt parses, and
   in its unit tests, it does not tell. -#}
{% macro interval_columns() -%}
    {% if execute and graph.get("nodes") -%}
        {{ graph.nodes["model.status_engine.status_intervals"].columns | join(", ") }}
    {%- else -%}
        *
    {%- endif %}
{%- endmacro %}

{# Every stay as of all committed transitions: the built rows, replaced for entities that
   changed after the built cut by the same SQL (S16). CTEs; ends in `live_intervals`. #}
{% macro live_interval_ctes() -%}
    unbuilt as (
        {{ touched_since(built_cut()) }}
    ),

    transitions as not materialized (
        select * from {{ ref("stg_transitions") }}
        inner join unbuilt using (entity_type, entity_id)
    ),

    {{ interval_ctes("transitions", live_configuration()) }},

    live_intervals as (
        select {{ interval_columns() }} from intervals
        union all
        select {{ interval_columns() }}
        from {{ ref("status_intervals") }} as built
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
{% macro bound_ctes(transitions, configuration, by_id=none) -%}
    {{ binding_ctes(transitions, configuration, by_id) }},

    ordered as (
        select
            *,
            row_number() over entity as place,
            lag(to_status) over entity as previous_status,
            {{ is_change_and_is_last() }}
        from {{ transitions }}
        {{ window_of_entity() }}
    ),

    bound as (
        select
            ordered.*,
            bindings.workflow_key
        from ordered
        inner join bindings using (entity_type, entity_id)
    )
{%- endmacro %}

{# The order of S2. #}
{% macro window_of_entity() -%}
    window entity as (
        partition by entity_type, entity_id
        order by created_at, source_order, batch_id, batch_row
    )
{%- endmacro %}

{# A transition's place among those of its entity, to be compared (S2). #}
{% macro place_of(transition) -%}
    (
        {{ transition }}.created_at,
        {{ transition }}.source_order is null,
        coalesce({{ transition }}.source_order, 0),
        {{ transition }}.batch_id,
        {{ transition }}.batch_row
    )
{%- endmacro %}

{# S3: whether a transition begins a stay, and whether it is the last of one. #}
{% macro is_change_and_is_last() -%}
    (to_status is distinct from lag(to_status) over entity) as is_change,
    (to_status is distinct from lead(to_status) over entity) as is_last
{%- endmacro %}

{# S8: the workflow and the business entity of each entity, by its first transition.
   CTEs; ends in `bindings`, with `versions` and `steps` before it. The wide columns of
   the first transition are joined by its id alone: the planner takes equal types, ids
   and entities for independent, and would expect a single row. They are looked up in
   by_id, a relation with an index on it, where one is named. #}
{% macro binding_ctes(transitions, configuration, by_id=none) -%}
    {%- set is_in_force = is_within("firsts.created_at", "versions.in_force") -%}
    versions as {{ configuration.hint }} (
        select * from {{ configuration.versions }}
        where is_active
    ),

    -- By its index, however few rows the planner expects to look for.
    steps as not materialized (
        select * from {{ ref("stg_workflow_steps") }}
    ),

    first_ids as (
        select distinct on (entity_type, entity_id)
            entity_type,
            entity_id,
            id
        from {{ transitions }}
        order by
            entity_type, entity_id, created_at, source_order, batch_id, batch_row
    ),

    firsts as (
        select
            first_ids.entity_type,
            first_ids.entity_id,
            transitions.created_at,
            transitions.business_entity_id,
            transitions.business_context
        from first_ids
        inner join {{ by_id or transitions }} as transitions using (id)
    ),

    bindings as (
        select distinct on (firsts.entity_type, firsts.entity_id)
            firsts.entity_type,
            firsts.entity_id,
            firsts.created_at as entity_created_at,
            firsts.business_entity_id,
            firsts.business_context,
            -- Where none is in force, what was applied first holds for the time before;
            -- what began before and is retired binds no more.
            case
                when
                    {{ is_in_force }}
                    or firsts.created_at < versions.in_force_from
                    then versions.workflow_key
            end as workflow_key
        from firsts
        left join versions
            on
                firsts.entity_type = versions.entity_type
                and (
                    versions.business_entity_id is null
                    or firsts.business_entity_id = versions.business_entity_id
                )
                and {{ json_contains(
                    "coalesce(firsts.business_context, '{}')", "versions.conditions"
                ) }}
                and (versions.is_first or {{ is_in_force }})
        order by
            firsts.entity_type,
            firsts.entity_id,
            case when {{ is_in_force }} then '-infinity' else versions.in_force_from end,
            case when versions.business_entity_id is null then 1 else 0 end,
            versions.condition_count desc,
            case when versions.is_default then 0 else 1 end,
            versions.workflow_name collate "C",
            versions.workflow_key
    )
{%- endmacro %}

{# The configuration that a build reads: of its cut, as tables with statistics. The
   barrier keeps what is computed once from being written out wherever it is used; it also
   keeps conditions out, so views have none. #}
{% macro fresh_configuration() %}
    {{ return({
        "versions": fresh(ref("workflow_versions")),
        "calendars": fresh(ref("calendar_versions")),
        "hint": "not materialized",
        "barrier": "offset 0",
    }) }}
{% endmacro %}

{# All of it, built or not. #}
{% macro live_configuration() %}
    {{ return({
        "versions": ref("stg_workflow_versions"),
        "calendars": ref("stg_calendars"),
        "hint": "",
    }) }}
{% endmacro %}

{# The first instant at which a stay, while it lasts, is overdue (S13): exactly at the
   deadline it is not, and a deadline that was given may be before the stay. Null without
   a deadline. #}
{% macro overdue_from() -%}
    case
        when sla_deadline is not null
            then greatest(sla_deadline + interval '1 microsecond', entered_at)
    end
{%- endmacro %}

{# Whether an instant lies in the half-open span [x_from, x_until). #}
{% macro is_within(instant, span) -%}
    (
        {{ instant }} >= {{ span }}_from
        and ({{ instant }} < {{ span }}_until or {{ span }}_until is null)
    )
{%- endmacro %}

{# Entities whose rows may differ from those built at a cut: by transitions of later
   batches, or by configuration of later batches that judges their type otherwise from an
   instant on (a new version of a workflow, or of a calendar that its stays may be under,
   or a workflow that is new to the type). A select of entity_type, entity_id. #}
{% macro touched_since(cut) -%}
    select entity_type, entity_id
    from {{ ref("stg_transitions") }}
    where {{ is_after("batch_cut", cut) }}
    union
    select entity_type, entity_id
    from {{ ref("stg_transitions") }}
    inner join (
        select
            changed.entity_type,
            min(changed.changed_from) as judged_from
        from (
            select
                entity_type,
                case when is_first then '-infinity' else in_force_from end
                    as changed_from
            from {{ ref("stg_workflow_versions") }}
            where {{ is_after("batch_cut", cut) }}
            union all
            select
                versions.entity_type,
                calendars.in_force_from
            from {{ ref("stg_calendars") }} as calendars
            inner join {{ ref("stg_workflow_versions") }} as versions
                on calendars.calendar_name = versions.calendar_name
            where {{ is_after("calendars.batch_cut", cut) }}
        ) as changed
        group by changed.entity_type
    ) as reconfigured using (entity_type)
    where created_at >= judged_from
{%- endmacro %}

{# Whether a batch is in no cut up to a given one. Spelled so that the planner takes it
   for one batch in two hundred; of a comparison with what it does not know, for one in
   three. #}
{% macro is_after(batch_cut, cut) -%}
    coalesce({{ batch_cut }} > {{ cut }}, true)::integer = 1
{%- endmacro %}

{# What the current status of an entity is told from; of two relations, the entity is of
   the second, which a look-up restricts. #}
{% macro current_columns(relation=none, entity=none) -%}
    {%- for name in current_types() %}
        {%- set of = entity if name in ("entity_type", "entity_id") else relation %}
        {{- of ~ "." if of }}{{ name }}{{ ", " if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro current_types() %}
    {{ return({
        "entity_type": "text",
        "entity_id": "bigint",
        "status": "text",
        "visit": "bigint",
        "entered_at": "timestamptz",
        "entity_created_at": "timestamptz",
        "sla_deadline": "timestamptz",
        "deadline_source": "text",
        "at_risk_from": "timestamptz",
        "workflow_id": "uuid",
        "workflow_name": "text",
        "status_label": "text",
        "status_color": "text",
        "business_entity_id": "text",
        "is_final": "boolean",
        "last_transition_id": "uuid",
    }) }}
{% endmacro %}

{# The current status of entities by their open stays, as of an instant. S15: it filters
   no rows; of a status that was entered after it, it measures nothing. #}
{% macro told_at(instant, stays) -%}
select
    {{ uuid_of("concat_ws('/', entity_type, entity_id)") }} as id,
    entity_created_at as created_at,
    entity_type,
    entity_id,
    status as current_status,
    entered_at as status_since,
    sla_deadline,
    -- Not coalesce, so that an index on the deadline serves it.
    (
        sla_deadline is not null
        and sla_deadline < {{ instant }}
        and entered_at <= {{ instant }}
    ) as is_overdue,
    workflow_id,
    last_transition_id,
    status_label,
    status_color,
    is_final,
    business_entity_id,
    visit,
    deadline_source,
    case
        when entered_at <= {{ instant }}
            then {{ seconds_between("entered_at", instant) }}
    end as seconds_in_status,
    case
        when entered_at <= {{ instant }}
            then {{ seconds_between(instant, "sla_deadline") }}
    end as seconds_to_deadline,
    coalesce(
        at_risk_from <= {{ instant }}
        and sla_deadline >= {{ instant }}
        and entered_at <= {{ instant }},
        false
    ) as is_at_risk,
    workflow_name,
    keys.entity_key,
    keys.namespace as entity_key_namespace,
    at_risk_from
from {{ stays }}
-- Dropped from the plan where nobody asks for it. Its batch is that of a transition of
-- the entity, so where that counts, the key does (S17).
left join {{ source("raw", "entity_keys") }} as keys using (entity_type, entity_id)
{%- endmacro %}
