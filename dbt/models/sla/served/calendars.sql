{{ config(materialized="standing_view") }}
-- One row per calendar, built or not, in the newest version.
select
    versions.calendar_id,
    versions.calendar_name,
    versions.timezone,
    versions.windows,
    versions.closed_dates,
    versions.special_dates,
    versions.covers_from,
    versions.covers_until
from {{ ref("stg_calendars") }} as versions
where versions.in_force_until is null
