{{ config(meta={"dagster": {"ref": {"name": "sla_daily_counts"}}}) }}
-- S17: every stored table was built at the cut of this run.
-- depends_on: {{ ref("status_intervals") }}
-- depends_on: {{ ref("workflow_violations") }}
-- depends_on: {{ ref("sla_daily_counts") }}
select relation_name
from {{ built_cuts() }}
where cut is distinct from {{ session_cut() }}
