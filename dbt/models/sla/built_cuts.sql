{{ config(materialized="publication") }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per stored table: the cut that it is of (S17).
{% for table in ["status_intervals", "workflow_violations", "sla_daily_counts", "restatements", "workflow_versions", "calendar_versions"] -%}
-- depends_on: {{ ref(table) }}
{% endfor -%}
select
    built.relation_name,
    {{ session_cut() }} as cut
from (
    values
    ('status_intervals'),
    ('workflow_violations'),
    ('sla_daily_counts'),
    ('restatements')
) as built (relation_name)
