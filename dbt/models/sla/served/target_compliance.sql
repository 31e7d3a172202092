{{ config(materialized="standing_view") }}
-- One row per target, UTC day that is over by the clock, and window of 1, 7 or 28 days
-- up to and with that day (S15, S21). A stay counts on the day that decided it: with a
-- breach that of its deadline, else that of its end; and is judged by what the target
-- asked on it. Of the built cut.
{% set last_day %}(({{ as_of() }} {{ in_utc() }})::date - 1){% endset %}
with

targets as (
    select * from {{ ref("stg_targets") }}
),

decided as (
    select
        counted_on,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        met_count,
        breached_count
    from {{ ref("workload_changes") }}
    where (met_count, breached_count) <> (0, 0)
    union all
    select
        (sla_deadline {{ in_utc() }})::date as counted_on,
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        0 as met_count,
        count(*) as breached_count
    from {{ ref("status_intervals") }}
    where
        left_at is null
        and sla_deadline < {{ as_of() }}
        and entered_at <= {{ as_of() }}
    group by
        (sla_deadline {{ in_utc() }})::date,
        entity_type,
        workflow_name,
        status,
        business_entity_id
),

judged as (
    select
        targets.target_name,
        decided.counted_on,
        sum(decided.met_count) as met_count,
        sum(decided.breached_count) as breached_count,
        sum(
            (decided.met_count + decided.breached_count) * (100 - targets.at_least)
        ) / 100 as allowed_count
    from targets
    inner join decided
        on
            targets.entity_type = decided.entity_type
            and (
                targets.workflow_name is null
                or targets.workflow_name = decided.workflow_name
            )
            and (targets.status is null or targets.status = decided.status)
            and (
                targets.business_entity_id is null
                or targets.business_entity_id = decided.business_entity_id
            )
            and targets.effective_from <= decided.counted_on
            and (
                targets.effective_until is null
                or targets.effective_until > decided.counted_on
            )
    where
        targets.at_least is not null
        and decided.counted_on <= {{ last_day }}
    group by targets.target_name, decided.counted_on
),

-- From the first day on which anything was decided; that may be none yet.
firsts as (
    select
        targets.target_name,
        coalesce(min(judged.counted_on), {{ last_day }}) as first_on
    from targets
    left join judged on targets.target_name = judged.target_name
    group by targets.target_name
),

running as (
    select
        firsts.target_name,
        windows.window_days,
        firsts.first_on + days.number as through_on,
        sum(coalesce(judged.met_count, 0)) over up_to_the_day as met_count,
        sum(coalesce(judged.breached_count, 0)) over up_to_the_day as breached_count,
        sum(coalesce(judged.allowed_count, 0)) over up_to_the_day as allowed_count
    from firsts
    -- In days, because dates would be counted in the session's zone.
    cross join
        lateral generate_series(0, {{ last_day }} - firsts.first_on) as days (number)
    cross join (values (1), (7), (28)) as windows (window_days)
    left join judged
        on
            firsts.target_name = judged.target_name
            and firsts.first_on + days.number = judged.counted_on
    window up_to_the_day as (
        partition by firsts.target_name, windows.window_days
        order by firsts.first_on + days.number
    )
),

counted as (
    select
        target_name,
        window_days,
        through_on,
        met_count - lag(met_count, window_days, 0) over days as met_count,
        breached_count - lag(breached_count, window_days, 0) over days
            as breached_count,
        allowed_count - lag(allowed_count, window_days, 0) over days as allowed_count
    from running
    window days as (
        partition by target_name, window_days
        order by through_on
    )
)

select
    counted.target_name,
    counted.through_on,
    counted.window_days,
    targets.entity_type,
    targets.workflow_name,
    targets.status,
    targets.business_entity_id,
    targets.at_least::double precision / 100 as at_least_ratio,
    (counted.met_count + counted.breached_count)::bigint as due_count,
    counted.met_count::bigint as met_count,
    counted.breached_count::bigint as breached_count,
    {{ compliance_ratio("counted.met_count", "counted.breached_count", "0") }}
        as compliance_ratio,
    counted.allowed_count::double precision as allowed_count,
    (counted.allowed_count - counted.breached_count)::double precision as left_count,
    case
        when counted.allowed_count > 0
            then
                counted.breached_count::double precision
                / counted.allowed_count::double precision
        when counted.breached_count > 0 then 'infinity'::double precision
        when counted.met_count > 0 then 0
    end as burn_rate,
    case
        when counted.met_count + counted.breached_count > 0
            then counted.breached_count <= counted.allowed_count
    end as is_kept
from counted
inner join targets
    on
        counted.target_name = targets.target_name
        and counted.through_on >= targets.effective_from
        and (
            targets.effective_until is null
            or counted.through_on < targets.effective_until
        )
where targets.at_least is not null
