{{ config(materialized="standing_view") }}
-- One row per stay, built or not, with the names behind its ids, the time it took up to
-- its end or the clock, open and closed hours apart, and by how much the deadline was
-- met or missed (S9-S13).
with

{{ live_interval_ctes() }},

measured as (
    select
        *,
        coalesce(left_at, greatest({{ as_of() }}, entered_at)) as measured_until
    from live_intervals
),

counted as (
    select
        measured.*,
        case
            when measured.calendar_id is null
                then extract(epoch from measured.measured_until - measured.entered_at)
            when counts.is_covered then counts.counted_seconds
        end as counted_seconds,
        case
            when measured.calendar_id is null then 0
            when counts.is_covered then counts.closed_seconds
        end as closed_seconds
    from measured
    left join lateral (
        select
            sum(
                extract(
                    epoch from
                    least(
                        greatest(windows.closes_at, measured.entered_at),
                        measured.measured_until
                    )
                    - greatest(windows.opens_at, measured.entered_at)
                )
            ) as counted_seconds,
            sum(
                extract(
                    epoch from
                    least(windows.next_opens_at, measured.measured_until)
                    - least(
                        greatest(windows.closes_at, measured.entered_at),
                        measured.measured_until
                    )
                )
            ) as closed_seconds,
            bool_and(
                windows.next_opens_at is not null
                or windows.closes_at >= measured.measured_until
            ) as is_covered
        from {{ ref("stg_calendar_windows") }} as windows
        where
            measured.calendar_id = windows.calendar_id
            and windows.opens_at <= measured.measured_until
            and windows.opens_at >= (
                select max(earlier.opens_at)
                from {{ ref("stg_calendar_windows") }} as earlier
                where
                    earlier.calendar_id = measured.calendar_id
                    and earlier.opens_at <= measured.entered_at
            )
    ) as counts on true
)

select
    counted.interval_id,
    counted.entity_type,
    counted.entity_id,
    counted.status,
    counted.visit,
    counted.entered_at,
    counted.left_at,
    counted.transition_count,
    counted.workflow_id,
    counted.workflow_name,
    versions.in_force_from as workflow_in_force_from,
    counted.step_id,
    counted.is_final,
    counted.business_entity_id,
    entities.business_entity_name,
    counted.sla_hours,
    counted.calendar_id,
    calendars.calendar_name,
    calendars.timezone as calendar_timezone,
    nullif(calendars.in_force_from, '-infinity') as calendar_in_force_from,
    counted.sla_deadline,
    counted.deadline_source,
    counted.verdict,
    counted.left_at is null
    and counted.entered_at <= {{ as_of() }}
    and coalesce(counted.sla_deadline < {{ as_of() }}, false) as is_overdue,
    counted.measured_until,
    extract(epoch from counted.measured_until - counted.entered_at) as elapsed_seconds,
    counted.counted_seconds,
    counted.closed_seconds,
    extract(epoch from counted.sla_deadline - counted.measured_until) as margin_seconds,
    counted.batch_id
from counted
left join versions
    on counted.workflow_id = versions.workflow_id
left join calendars
    on counted.calendar_id = calendars.calendar_id
left join {{ ref("stg_business_entities") }} as entities
    on counted.business_entity_id = entities.business_entity_id
