-- depends_on: {{ source("raw", "cuts") }}
-- One row per calendar version and span of days: its opening windows there, as arrays
-- in UTC (S11, S12). Of a version in the cut, because only those are joined.
select
    calendar_id,
    is_by_clock,
    page,
    covers_until,
    opens_at,
    closes_at,
    business_clock
from {{ configured("calendar_pages") }}
