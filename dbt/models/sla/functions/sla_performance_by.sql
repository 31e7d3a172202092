{% set measures = [
    "elapsed_seconds", "business_seconds", "late_seconds", "late_business_seconds"
] %}
{% set dimensions -%}
period_start, entity_type, workflow_name, status, business_entity_id, user_id, system,
context
{%- endset %}
{% set shares = ["p50", "p90", "p99", "worst"] %}
{% set returned = [
    "period_start timestamptz", "entity_type text", "workflow_name text", "status text",
    "business_entity_id text", "user_id text", "system text", "context jsonb",
    "interval_count bigint", "closed_count bigint", "open_count bigint",
    "met_count bigint", "breached_count bigint", "overdue_count bigint",
    "due_count bigint", "compliance_ratio double precision",
    "closed_compliance_ratio double precision",
] %}
{% for measure in measures %}{% for share in shares -%}
{% do returned.append(measure ~ "_" ~ share ~ " bigint") %}
{%- endfor %}{% endfor %}
{{ config(
    materialized="owner_function",
    overloads=[
        "period text default 'month', since timestamptz default '-infinity',"
        " until timestamptz default 'infinity',"
        " by_workflow boolean default false,"
        " by_status boolean default false,"
        " by_business_entity boolean default false,"
        " by_user boolean default false, by_system boolean default false,"
        " by_context text[] default '{}'",
    ],
    returns="table (" ~ returned | join(", ") ~ ")",
    options="",
) }}
-- One row per period of entered_at in UTC, entity type and whatever is asked for, as of
-- the clock (S21). The parts that are summed up are the stays themselves, so a median
-- of any group is its median.
with

told as (
    select
        date_trunc(period, intervals.entered_at, 'UTC') as period_start,
        intervals.entity_type,
        case when by_workflow then intervals.workflow_name end as workflow_name,
        case when by_status then intervals.status end as status,
        case when by_business_entity then intervals.business_entity_id end
            as business_entity_id,
        case when by_user then lasts.triggered_by_user_id end as user_id,
        case when by_system then lasts.triggered_by_system end as system,
        case when by_context <> '{}' then coalesce(contexts.context, '{}') end
            as context,
        intervals.left_at,
        intervals.verdict,
        intervals.left_at is null
        and intervals.sla_deadline < {{ as_of() }}
        and intervals.entered_at <= {{ as_of() }} as is_overdue,
        intervals.elapsed_seconds,
        intervals.business_seconds,
        case
            when intervals.verdict = 'breached'
                then {{ seconds_between(
                    "intervals.sla_deadline", "intervals.left_at"
                ) }}
        end as late_seconds,
        intervals.late_business_seconds
    from {{ ref("status_intervals") }} as intervals
    -- One look-up a stay, where it is asked for; a join would read all transitions
    -- even where nobody asks.
    left join
        lateral (
            select
                transitions.triggered_by_user_id,
                transitions.triggered_by_system
            from {{ ref("stg_transitions") }} as transitions
            where
                (by_user or by_system)
                and transitions.id = intervals.last_transition_id
        ) as lasts
        on true
    -- Of each key the last value that was told until then: jsonb keeps that.
    left join
        lateral (
            select
                jsonb_object_agg(
                    keys.key, told.business_context ->> keys.key
                    order by
                        told.created_at,
                        told.source_order,
                        told.batch_id,
                        told.batch_row
                ) as context
            from unnest(by_context) as keys (key)
            cross join {{ ref("stg_transitions") }} as latest
            inner join {{ ref("stg_transitions") }} as told
                on
                    latest.entity_type = told.entity_type
                    and latest.entity_id = told.entity_id
                    and {{ place_of("told") }} <= {{ place_of("latest") }}
            where
                latest.id = intervals.last_transition_id
                and told.business_context ->> keys.key is not null
        ) as contexts
        on by_context <> '{}'
    where
        intervals.entered_at >= since
        and intervals.entered_at < until
),

counted as (
    select
        {{ dimensions }},
        count(*) as interval_count,
        count(left_at) as closed_count,
        count(*) filter (where verdict = 'met') as met_count,
        count(*) filter (where verdict = 'breached') as breached_count,
        count(*) filter (where is_overdue) as overdue_count,
        {% for measure in measures -%}
        {{ quantiles(measure) }} as {{ measure }}
        {%- if not loop.last %},
        {% endif %}
        {%- endfor %}
    from told
    group by
        {{ dimensions }}
)

select
    {{ dimensions }},
    interval_count,
    closed_count,
    interval_count - closed_count as open_count,
    met_count,
    breached_count,
    overdue_count,
    {{ due_count("met_count", "breached_count", "overdue_count") }} as due_count,
    {{ compliance_ratio("met_count", "breached_count", "overdue_count") }}
        as compliance_ratio,
    {{ closed_compliance_ratio("met_count", "breached_count") }}
        as closed_compliance_ratio,
    {% for measure in measures -%}
    {% set is_last = loop.last -%}
    {% for share in shares -%}
    {{ measure }}[{{ loop.index }}] as {{ measure }}_{{ share }}
    {%- if not (is_last and loop.last) %},
    {% endif %}
    {%- endfor %}
    {%- endfor %}
from counted
order by
    {{ dimensions }}
