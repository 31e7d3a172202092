{{ config(meta={"dagster": {"ref": {"name": "stg_batches"}}}) }}
-- depends_on: {{ ref("stg_batches") }}
-- S20: the ledger agrees with the tables, batch by batch.
with

appended as (
    select
        batch_id,
        count(*) as row_count
    from {{ source("raw", "status_transitions") }}
    group by batch_id
),

rejected as (
    select
        batch_id,
        sum(transition_count) as row_count
    from {{ source("raw", "rejected_transitions") }}
    group by batch_id
)

select batch_id
from {{ source("raw", "batches") }} as batches
full outer join appended using (batch_id)
full outer join rejected using (batch_id)
where
    coalesce(batches.kind, 'transitions') = 'transitions'
    and (
        batches.appended_count is distinct from coalesce(appended.row_count, 0)
        or batches.rejected_count is distinct from coalesce(rejected.row_count, 0)
        or batches.read_count is distinct from
        batches.appended_count + batches.duplicate_count + batches.rejected_count
    )
