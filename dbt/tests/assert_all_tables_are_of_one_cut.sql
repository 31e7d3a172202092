{{ config(
    meta={
        "description": "S17: every stored table was built at the cut of this run.",
        "dagster": {"ref": {"name": "built_cuts"}},
    },
) }}
select relation_name
from {{ ref("built_cuts") }}
where cut is distinct from {{ session_cut() }}
