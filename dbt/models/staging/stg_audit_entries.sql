-- One row per audit entry of the session's cut (S17).
select
    entries.id,
    entries.created_at,
    entries.entity_type,
    entries.entity_id,
    entries.action,
    entries.triggered_by_user_id,
    entries.changes
from {{ source("raw", "audit_entries") }} as entries
inner join {{ ref("stg_batches") }} using (batch_id)
where {{ is_wanted("entries") }}
