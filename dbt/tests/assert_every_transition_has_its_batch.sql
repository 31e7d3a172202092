{{ config(
    tags=["whole"],
    meta={
        "description":
            "No transition and no audit entry is of a batch that the ledger does not " ~
            "know (S20).",
        "dagster": {"ref": {"name": "stg_batches"}},
    },
) }}
-- depends_on: {{ ref("stg_batches") }}
with

appended as (
    select
        id,
        batch_id,
        'transitions' as kind
    from {{ source("raw", "status_transitions") }}
    union all
    select
        id,
        batch_id,
        'audit_logs' as kind
    from {{ source("raw", "audit_entries") }}
)

select appended.id
from appended
left join {{ source("raw", "batches") }} as batches using (batch_id, kind)
where batches.batch_id is null
