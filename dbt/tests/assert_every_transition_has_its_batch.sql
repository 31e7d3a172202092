{{ config(
    tags=["whole"],
    meta={
        "description":
            "No transition is of a batch that the ledger does not know (S20).",
        "dagster": {"ref": {"name": "stg_batches"}},
    },
) }}
-- depends_on: {{ ref("stg_batches") }}
select transitions.id
from {{ source("raw", "status_transitions") }} as transitions
left join {{ source("raw", "batches") }} as batches using (batch_id)
where batches.batch_id is null
