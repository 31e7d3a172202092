{{ config(
    meta={
        "description":
            "The ledger agrees with the tables, batch by batch: transitions and audit " ~
            "entries that were read are appended, duplicate and rejected (S20).",
        "dagster": {"ref": {"name": "stg_batches"}},
    },
) }}
-- depends_on: {{ ref("stg_batches") }}
{% set previous = previous_cut() %}
with

batches as (
    select
        batch_id,
        kind,
        read_count,
        appended_count,
        duplicate_count,
        rejected_count
    from {{ source("raw", "batches") }}
    where cut > {{ previous }} and {{ is_in_cut("cut") }}
),

appended as (
    select
        batch_id,
        'transitions' as kind,
        count(*) as row_count
    from {{ source("raw", "status_transitions") }}
    where batch_id in (select batch_id from batches)
    group by batch_id
    union all
    select
        batch_id,
        'audit_logs' as kind,
        count(*) as row_count
    from {{ source("raw", "audit_entries") }}
    where batch_id in (select batch_id from batches)
    group by batch_id
),

rejected as (
    select
        batch_id,
        sum(transition_count) as row_count
    from {{ source("raw", "rejected_transitions") }}
    where batch_id in (select batch_id from batches)
    group by batch_id
)

select
    batch_id,
    batches.read_count,
    batches.appended_count,
    appended.row_count as found_count,
    batches.rejected_count,
    rejected.row_count as found_rejected_count
from batches
left join appended using (batch_id, kind)
left join rejected using (batch_id)
where
    batches.kind in ('transitions', 'audit_logs')
    and (
        batches.appended_count is distinct from coalesce(appended.row_count, 0)
        or batches.rejected_count is distinct from coalesce(rejected.row_count, 0)
        or batches.read_count is distinct from
        batches.appended_count + batches.duplicate_count + batches.rejected_count
    )
