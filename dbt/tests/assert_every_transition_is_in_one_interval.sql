{{ config(
    meta={
        "description":
            "Nothing is dropped: each transition of the cut counts in one stay " ~
            "(S3, S18).",
        "dagster": {"ref": {"name": "status_intervals"}},
    },
) }}
with

transitions as (
    select
        entity_type,
        entity_id,
        count(*) as transition_count
    from {{ ref("stg_transitions") }}
    {{ only_touched() }}
    group by entity_type, entity_id
),

intervals as (
    select
        entity_type,
        entity_id,
        sum(transition_count) as transition_count
    from {{ fresh(ref("status_intervals")) }}
    group by entity_type, entity_id
)

select
    entity_type,
    entity_id
from transitions
full outer join intervals using (entity_type, entity_id)
where transitions.transition_count is distinct from intervals.transition_count
