{# Staging relations by the batches that they hold: those of a session's cut, or those
   that were known at an instant. #}

{# No `with`: PostgreSQL would plan this apart from the query that reads it, and scan all
   of it where an index finds the few rows that a join asks for. #}
{% macro transitions_of(batches) -%}
select
    {{ transition_columns() }},
    batches.batch_cut
from {{ source("raw", "status_transitions") }} as transitions
inner join {{ batches }} as batches using (batch_id)
where {{ is_wanted() }}
{%- endmacro %}

{% macro transition_columns() -%}
    transitions.id,
    transitions.created_at,
    transitions.entity_type,
    transitions.entity_id,
    transitions.from_status,
    transitions.to_status,
    transitions.transition_reason,
    transitions.business_context,
    lower({{ json_text("transitions.business_context", "business_entity_id") }})
        as business_entity_id,
    lower({{ json_text("transitions.business_context", "approved_by_user_id") }})
        as approved_by_user_id,
    transitions.triggered_by_user_id,
    transitions.triggered_by_system,
    transitions.sla_deadline,
    transitions.is_milestone,
    transitions.metadata,
    transitions.source_order,
    transitions.batch_id,
    transitions.batch_row
{%- endmacro %}

{# Up to the instant of what a build as of it makes; of a sample, where one is verified;
   of the types that a what-if judges. #}
{% macro is_wanted(rows="transitions") -%}
    {%- if var("frozen_as_of") is not none -%}
        {{ rows }}.created_at <= {{ as_of() }}
    {%- elif var("sample") is not none -%}
        mod({{ rows }}.entity_id, {{ var("sample") }}) = 0
    {%- elif var("is_supposed") -%}
        {{ is_judged(rows) }}
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}

{% macro workflow_versions_of(batches) -%}
with

applied as (
    select * from {{ source("raw", "status_workflows") }}
),

batches as (
    select * from {{ batches }}
),

workflows as (
    select
        applied.*,
        batches.batch_cut,
        concat_ws(
            '/',
            applied.entity_type,
            coalesce(applied.business_entity_id::text, ''),
            applied.workflow_name
        ) as workflow_key
    from applied
    inner join batches using (batch_id)
),

versions as (
    select
        *,
        row_number() over (
            partition by workflow_key order by created_at, batch_id
        ) = 1 as is_first,
        lead(created_at) over (
            partition by workflow_key order by created_at, batch_id
        ) as in_force_until
    from workflows
),

bounds as (
    select
        id,
        case
            when
                row_number() over (
                    partition by workflow_key order by created_at, batch_id
                ) = 1
                then '-infinity'::timestamptz
            else created_at
        end as bound_from,
        lead(created_at) over (
            partition by workflow_key order by created_at, batch_id
        ) as bound_until
    from workflows
    where is_active
)

select
    versions.id as workflow_id,
    versions.workflow_key,
    versions.entity_type,
    versions.workflow_name,
    versions.business_entity_id::text as business_entity_id,
    versions.conditions,
    {{ json_leaf_count("versions.conditions") }} as condition_count,
    versions.is_default,
    versions.calendar_name,
    versions.is_active,
    versions.is_first,
    versions.created_at as in_force_from,
    versions.in_force_until,
    bounds.bound_from,
    bounds.bound_until,
    versions.batch_cut
from versions
left join bounds using (id)
{%- endmacro %}

{% macro calendars_of(batches) -%}
with

calendars as (
    select * from {{ source("raw", "calendars") }}
),

batches as (
    select * from {{ batches }}
)

select
    calendars.id as calendar_id,
    calendars.calendar_name,
    calendars.timezone,
    calendars.windows,
    calendars.closed_dates,
    calendars.special_dates,
    calendars.covers_from,
    calendars.covers_until,
    case
        when
            row_number() over (
                partition by calendars.calendar_name
                order by calendars.created_at, calendars.batch_id
            ) = 1
            then '-infinity'::timestamptz
        else calendars.created_at
    end as in_force_from,
    lead(calendars.created_at) over (
        partition by calendars.calendar_name
        order by calendars.created_at, calendars.batch_id
    ) as in_force_until,
    batches.batch_cut
from calendars
inner join batches using (batch_id)
{%- endmacro %}

{% macro user_accounts_of(batches) -%}
with

accounts as (
    select * from {{ source("raw", "user_accounts") }}
),

batches as (
    select * from {{ batches }}
)

select
    accounts.id as user_id,
    accounts.name as user_name,
    accounts.roles,
    accounts.is_active,
    case
        when
            row_number() over (
                partition by accounts.id order by accounts.created_at, accounts.batch_id
            ) = 1
            then '-infinity'::timestamptz
        else accounts.created_at
    end as in_force_from,
    lead(accounts.created_at) over (
        partition by accounts.id order by accounts.created_at, accounts.batch_id
    ) as in_force_until,
    batches.batch_cut
from accounts
inner join batches using (batch_id)
{%- endmacro %}
