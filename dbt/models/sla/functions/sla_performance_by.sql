{{ config(
    materialized="owner_function",
    overloads=[
        "period text default 'month', since timestamptz default '-infinity',"
        " until timestamptz default 'infinity', by_workflow boolean default false,"
        " by_status boolean default false, by_business_entity boolean default false,"
        " by_user boolean default false, by_system boolean default false,"
        " by_context text[] default '{}'",
    ],
    returns="table (period_start timestamptz, entity_type text, workflow_name text,"
        " status text, business_entity_id text, user_id text, system text,"
        " context jsonb, interval_count bigint, closed_count bigint, open_count bigint,"
        " met_count bigint, breached_count bigint, overdue_count bigint,"
        " due_count bigint, compliance_ratio double precision,"
        " closed_compliance_ratio double precision, elapsed_seconds_p50 bigint,"
        " elapsed_seconds_p90 bigint, elapsed_seconds_p99 bigint,"
        " elapsed_seconds_worst bigint, business_seconds_p50 bigint,"
        " business_seconds_p90 bigint, business_seconds_p99 bigint,"
        " business_seconds_worst bigint, late_seconds_p50 bigint,"
        " late_seconds_p90 bigint, late_seconds_p99 bigint, late_seconds_worst bigint,"
        " late_business_seconds_p50 bigint, late_business_seconds_p90 bigint,"
        " late_business_seconds_p99 bigint, late_business_seconds_worst bigint)",
    options="rows 1000",
) }}
-- One row per period of entered_at in UTC, entity type and whatever is asked for, as of
-- the clock (S21). The parts that are summed up are the stays themselves, so a median of
-- any group is its median.
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
        contexts.context,
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
    -- Of each key the last value that was told until the stay's last transition.
    left join
        lateral (
            select jsonb_object_agg(keys.key, said.value) as context
            from unnest(by_context) as keys (key)
            left join
                lateral (
                    select transitions.business_context ->> keys.key as value
                    from {{ ref("stg_transitions") }} as transitions
                    inner join {{ ref("stg_transitions") }} as lasts
                        on lasts.id = intervals.last_transition_id
                    where
                        transitions.entity_type = intervals.entity_type
                        and transitions.entity_id = intervals.entity_id
                        and transitions.business_context ->> keys.key is not null
                        and {{ place_of("transitions") }} <= {{ place_of("lasts") }}
                    order by
                        transitions.created_at desc,
                        transitions.source_order desc nulls first,
                        transitions.batch_id desc,
                        transitions.batch_row desc
                    limit 1
                ) as said
                on true
        ) as contexts
        on by_context <> '{}'
    where
        intervals.entered_at >= since
        and intervals.entered_at < until
),

counted as (
    select
        period_start,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        user_id,
        system,
        context,
        count(*) as interval_count,
        count(left_at) as closed_count,
        count(*) filter (where verdict = 'met') as met_count,
        count(*) filter (where verdict = 'breached') as breached_count,
        count(*) filter (where is_overdue) as overdue_count,
        {{ quantiles("elapsed_seconds") }} as elapsed,
        {{ quantiles("business_seconds") }} as business,
        {{ quantiles("late_seconds") }} as late,
        {{ quantiles("late_business_seconds") }} as late_business
    from told
    group by
        period_start,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        user_id,
        system,
        context
)

select
    period_start,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    user_id,
    system,
    context,
    interval_count,
    closed_count,
    interval_count - closed_count,
    met_count,
    breached_count,
    overdue_count,
    {{ due_count("met_count", "breached_count", "overdue_count") }},
    {{ compliance_ratio("met_count", "breached_count", "overdue_count") }},
    met_count::double precision / nullif(met_count + breached_count, 0),
    elapsed[1],
    elapsed[2],
    elapsed[3],
    elapsed[4],
    business[1],
    business[2],
    business[3],
    business[4],
    late[1],
    late[2],
    late[3],
    late[4],
    late_business[1],
    late_business[2],
    late_business[3],
    late_business[4]
from counted
order by
    period_start,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    user_id,
    system,
    context
