{{ config(
    materialized="cut_table",
    keys={
        "status_intervals_pkey": "primary key (interval_id)",
        "status_intervals_visit": "unique (entity_type, entity_id, status, visit)",
        "status_intervals_open":
            "unique (entity_type, entity_id) where left_at is null",
        "status_intervals_open_by_status":
            "(entity_type, status, entered_at) where left_at is null",
        "status_intervals_due":
            "(sla_deadline) where left_at is null and sla_deadline is not null",
        "status_intervals_due_by_type":
            "(entity_type, sla_deadline)"
            " where left_at is null and sla_deadline is not null",
        "status_intervals_due_by_business_entity":
            "(business_entity_id, sla_deadline)"
            " where left_at is null and sla_deadline is not null",
    },
) }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per stay of an entity in a status. [entered_at, left_at) (S3).
with

transitions as not materialized (
    select * from {{ ref("pinned_transitions") }}
    {{ only_touched() }}
),

{{ interval_ctes(
    "transitions", fresh_configuration(), by_id=ref("pinned_transitions")
) }}

select {{ interval_columns() }}
from intervals
