-- One row per calendar version (S9, S12). [in_force_from, in_force_until); the first
-- version holds for the time before.
with

calendars as (
    select * from {{ source("raw", "calendars") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
)

select
    calendars.id as calendar_id,
    calendars.calendar_name,
    calendars.timezone,
    calendars.closed_dates,
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
