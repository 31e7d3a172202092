{# What a what-if supposes (status-engine what-if). In the staging schema of its build lie
   relations that are like those of raw: of status_workflows and calendars what is
   supposed alone, of their steps and pages all. Each definition holds from an instant on
   (supposed_from), in the place of its own versions; all others are as they were. #}
{% macro supposed(name) -%}
    {{ target.schema }}_staging.{{ name }}
{%- endmacro %}

{# A relation of configuration, with what is supposed. #}
{% macro configured(name) -%}
    {%- set applied = source("raw", name) -%}
    {{ supposed(name) if var("is_supposed") else applied }}
{%- endmacro %}

{# In rows rather than in variables, for which dbt would read the whole project anew. #}
{% macro supposed_from() -%}
    (select since.instant from {{ supposed("supposed_from") }} as since)
{%- endmacro %}

{# Before all that was ever recorded, but after the -infinity by which S8 puts what is in
   force before what is not. #}
{% macro before_history() -%}
    timestamptz '4713-01-01 00:00:00+00 BC'
{%- endmacro %}

{# An array, so that nothing is joined, which keeps the order of an index. #}
{% macro is_judged(rows) -%}
    {{ rows }}.entity_type = any(
        array(select judged.entity_type from {{ supposed("judged_types") }} as judged)
    )
{%- endmacro %}

{# As stg_workflow_versions. What is supposed takes the place of the versions of its
   workflow in force from then on, and judges the stays that begin from then on (S9). A
   workflow that was applied later still binds from then on alone, so that other hours
   bind nobody otherwise; where it is new, it binds as S8 says.

   What was applied first to a type holds for the time before, if nothing else is in force
   (S8). Here it is in force then: that binds every entity as before, and what is supposed
   from then on is one candidate beside it, not the only one. #}
{% macro supposed_workflow_versions(batches) -%}
with

known as (
    {{ workflow_versions_of(batches) }}
),

begun as (
    select
        known.*,
        case
            when
                is_active
                and is_first
                and in_force_from
                = min(in_force_from) filter (where is_active) over (
                    partition by entity_type
                )
                then {{ before_history() }}
            else in_force_from
        end as begins_at
    from known
),

supposed as (
    select
        *,
        concat_ws(
            '/', entity_type, coalesce(business_entity_id::text, ''), workflow_name
        ) as workflow_key,
        {{ supposed_from() }} as since
    from {{ supposed("status_workflows") }}
)

select
    begun.workflow_id,
    begun.workflow_key,
    begun.entity_type,
    begun.workflow_name,
    begun.business_entity_id,
    begun.conditions,
    begun.condition_count,
    begun.is_default,
    begun.calendar_name,
    begun.is_active,
    begun.is_first and (since is null or begins_at < since) as is_first,
    begins_at as in_force_from,
    case
        when begins_at >= since then begins_at
        else least(in_force_until, since)
    end as in_force_until,
    case when since is null or bound_from < since then bound_from end as bound_from,
    case
        when since is null or bound_until < since then bound_until
        -- A retired one judges nobody: the last active one does, for ever.
        when bound_from < since and supposed.is_active then since
    end as bound_until,
    begun.batch_cut
from begun
left join supposed using (workflow_key)
union all
select
    supposed.id as workflow_id,
    supposed.workflow_key,
    supposed.entity_type,
    supposed.workflow_name,
    supposed.business_entity_id::text as business_entity_id,
    supposed.conditions,
    {{ json_leaf_count("supposed.conditions") }} as condition_count,
    supposed.is_default,
    supposed.calendar_name,
    supposed.is_active,
    coalesce(earlier.begins_at >= since, true) as is_first,
    greatest(earlier.begins_at, since) as in_force_from,
    null as in_force_until,
    case
        when not supposed.is_active then null
        when earlier.bound_from < since then since
        else '-infinity'
    end as bound_from,
    null as bound_until,
    0 as batch_cut
from supposed
left join (
    select
        workflow_key,
        min(begins_at) as begins_at,
        min(bound_from) as bound_from
    from begun
    group by workflow_key
) as earlier using (workflow_key)
{%- endmacro %}

{# As stg_calendars. #}
{% macro supposed_calendars(batches) -%}
with

known as (
    {{ calendars_of(batches) }}
),

supposed as (
    select
        *,
        {{ supposed_from() }} as since
    from {{ supposed("calendars") }}
)

select
    known.calendar_id,
    known.calendar_name,
    known.timezone,
    known.windows,
    known.closed_dates,
    known.special_dates,
    known.covers_from,
    known.covers_until,
    known.in_force_from,
    least(known.in_force_until, since) as in_force_until,
    known.batch_cut
from known
left join supposed using (calendar_name)
where since is null or known.in_force_from < since
union all
select
    supposed.id as calendar_id,
    supposed.calendar_name,
    supposed.timezone,
    supposed.windows,
    supposed.closed_dates,
    supposed.special_dates,
    supposed.covers_from,
    supposed.covers_until,
    case
        when exists (
            select 1 from known
            where
                known.calendar_name = supposed.calendar_name
                and known.in_force_from < since
        )
            then since
        else '-infinity'
    end as in_force_from,
    null as in_force_until,
    0 as batch_cut
from supposed
{%- endmacro %}
