-- One row per entity that its source knows by a text (S17).
select
    keys.entity_type,
    keys.entity_id,
    keys.entity_key,
    keys.namespace
from {{ source("raw", "entity_keys") }} as keys
where
    exists (
        select 1 from {{ ref("stg_batches") }} as batches
        where batches.batch_id = keys.batch_id
    )
