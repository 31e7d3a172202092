{{ config(
    tags=["whole"], meta={"dagster": {"ref": {"name": "stg_batches"}}}
) }}
-- depends_on: {{ ref("stg_batches") }}
-- S20: no row is in a batch that the ledger does not know.
select transitions.id
from {{ source("raw", "status_transitions") }} as transitions
left join {{ source("raw", "batches") }} as batches using (batch_id)
where batches.batch_id is null
