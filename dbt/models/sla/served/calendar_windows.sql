{{ config(materialized="standing_view") }}
-- One row per calendar version, built or not, and opening window of it.
select
    calendars.calendar_id,
    calendars.calendar_name,
    windows.opens_at,
    windows.closes_at
from {{ ref("stg_calendar_windows") }} as windows
inner join {{ ref("stg_calendars") }} as calendars using (calendar_id)
