-- depends_on: {{ source("raw", "cuts") }}
-- One row per batch of the session's cut and all earlier ones (S17).
select
    batch_id,
    kind,
    recorded_at,
    source,
    cut as batch_cut
from {{ source("raw", "batches") }}
where {{ is_in_cut("cut") }}
