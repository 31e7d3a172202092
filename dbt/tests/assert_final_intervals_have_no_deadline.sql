{{ config(
    meta={
        "description": "Entering a final status stops the clock (S10, S14).",
        "dagster": {"ref": {"name": "status_intervals"}},
    },
) }}
select
    entity_type,
    entity_id,
    status,
    entered_at,
    sla_deadline,
    verdict
from {{ fresh(ref("status_intervals")) }}
where is_final and (sla_deadline is not null or verdict is not null)
