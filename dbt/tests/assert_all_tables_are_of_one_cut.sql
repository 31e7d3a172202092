{{ config(
    meta={
        "description": "Every stored table is of the cut of this run (S17).",
        "dagster": {"ref": {"name": "built_cuts"}},
    },
) }}
select relation_name
from {{ ref("built_cuts") }}
where cut is distinct from {{ session_cut() }}
