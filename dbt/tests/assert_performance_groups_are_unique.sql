{{ config(
    tags=["whole"],
    meta={
        "description": "One row a group, where nulls are taken as equal.",
        "dagster": {"ref": {"name": "sla_performance"}},
    },
) }}
select
    entered_on,
    entity_type,
    workflow_name,
    status,
    business_entity_id
from {{ ref("sla_performance") }}
group by entered_on, entity_type, workflow_name, status, business_entity_id
having count(*) > 1
