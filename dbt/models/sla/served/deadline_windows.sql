{{ config(materialized="standing_view") }}
-- One row per stay with a deadline in business time and opening window of its calendar
-- that was passed on the way to the deadline, with the closed time after it (S11).
with

{{ live_interval_ctes() }},

passed as (
    select
        live_intervals.*,
        windows.opens_at,
        windows.closes_at,
        windows.next_opens_at,
        greatest(windows.opens_at, live_intervals.entered_at) as counted_from,
        least(
            greatest(windows.closes_at, live_intervals.entered_at),
            live_intervals.sla_deadline
        ) as counted_until,
        least(
            coalesce(windows.next_opens_at, 'infinity'), live_intervals.sla_deadline
        ) as closed_until
    from live_intervals
    inner join {{ ref("stg_calendar_windows") }} as windows
        on
            live_intervals.calendar_id = windows.calendar_id
            and windows.opens_at < live_intervals.sla_deadline
            -- From the last one that opened before the stay began.
            and windows.opens_at >= (
                select max(earlier.opens_at)
                from {{ ref("stg_calendar_windows") }} as earlier
                where
                    earlier.calendar_id = live_intervals.calendar_id
                    and earlier.opens_at <= live_intervals.entered_at
            )
    where live_intervals.deadline_source = 'workflow'
)

select
    passed.interval_id,
    passed.entity_type,
    passed.entity_id,
    passed.status,
    passed.visit,
    passed.calendar_id,
    calendars.calendar_name,
    calendars.timezone,
    passed.opens_at,
    passed.closes_at,
    passed.next_opens_at,
    passed.counted_from,
    passed.counted_until,
    extract(epoch from passed.counted_until - passed.counted_from)
        as counted_seconds,
    extract(epoch from passed.closed_until - passed.counted_until)
        as closed_seconds,
    extract(epoch from passed.closed_until - passed.counted_from)
        as elapsed_seconds,
    (
        select string_agg(closed.name, ', ' order by closed.closed_on)
        from {{ json_members("calendars.closed_dates") }} as closed (closed_on, name)
        where
            passed.closed_until > passed.counted_until
            and closed.closed_on::date
            >= (passed.counted_until at time zone calendars.timezone)::date
            and closed.closed_on::date
            <= (passed.closed_until at time zone calendars.timezone)::date
    ) as closed_because
from passed
inner join {{ ref("stg_calendars") }} as calendars
    on passed.calendar_id = calendars.calendar_id
