{{ config(
    meta={
        "description":
            "Each stay begins where the one before it ended, and the last one is " ~
            "open (S3).",
        "dagster": {"ref": {"name": "status_intervals"}},
    },
) }}
with

neighbours as (
    select
        interval_id,
        entity_type,
        entity_id,
        status,
        entered_at,
        left_at,
        lead(entered_at) over entity as next_entered_at,
        lead(interval_id) over entity as next_interval_id,
        next_status,
        lead(status) over entity as status_after
    from {{ fresh(ref("status_intervals")) }}
    window entity as (
        partition by entity_type, entity_id
        order by stay_number
    )
)

select
    entity_type,
    entity_id,
    status,
    entered_at,
    left_at,
    next_entered_at
from neighbours
where
    left_at is distinct from next_entered_at
    or next_status is distinct from status_after
    or left_at < entered_at
    or (left_at is null) <> (next_interval_id is null)
