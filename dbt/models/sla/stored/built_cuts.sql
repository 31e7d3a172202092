{{ config(materialized="publication") }}
-- depends_on: {{ ref("touched_entities") }}
-- dbt holds a model back for a test only if it has all parents of that test.
-- depends_on: {{ source("raw", "audit_entries") }}
-- depends_on: {{ source("raw", "rejected_transitions") }}
-- One row per stored table: the cut that it is of (S17). It is made after them all; dbt
-- wants them named here.
-- depends_on: {{ ref("calendar_versions") }}
-- depends_on: {{ ref("entity_journeys") }}
-- depends_on: {{ ref("handovers") }}
-- depends_on: {{ ref("restatements") }}
-- depends_on: {{ ref("sla_alerts") }}
-- depends_on: {{ ref("sla_daily_counts") }}
-- depends_on: {{ ref("status_flow") }}
-- depends_on: {{ ref("status_intervals") }}
-- depends_on: {{ ref("workflow_versions") }}
-- depends_on: {{ ref("workflow_violations") }}
-- depends_on: {{ ref("workload_changes") }}
{% for name in stored_tables() %}
select
    '{{ name }}' as relation_name,
    {{ session_cut() }} as cut
{% if not loop.last %}union all{% endif %}
{% endfor %}
