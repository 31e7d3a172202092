{{ config(
    meta={
        "description": "Entering a final status stops the clock (S10, S14).",
        "dagster": {"ref": {"name": "status_intervals"}},
    },
) }}
select interval_id
from {{ fresh(ref("status_intervals")) }}
where is_final and (sla_deadline is not null or verdict is not null)
