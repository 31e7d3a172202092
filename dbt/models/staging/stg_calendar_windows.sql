-- depends_on: {{ source("raw", "cuts") }}
-- One row per opening window of a calendar version, [opens_at, closes_at), and the
-- closed time after it, [closes_at, next_opens_at) (S12).
select
    calendar_id,
    opens_at,
    closes_at,
    next_opens_at
from {{ source("raw", "calendar_windows") }}
