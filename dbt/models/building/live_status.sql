{{ config(
    materialized="owner_function",
    overloads=["of_type text, of_id bigint"],
    options="strict cost 1000 rows 1",
) }}
-- S16: the open stay of one entity, from its transitions, built or not, by the SQL that
-- builds all stays. A function, so that a query starts it for those entities alone that
-- changed after the built cut; none while configuration waits for a build as well, see
-- reconfigured_status.
{% set configuration = {
    "versions": ref("workflow_versions"),
    "calendars": ref("calendar_versions"),
    "hint": "not materialized",
    "barrier": "offset 0",
} %}
with

transitions as (
    select * from {{ ref("pinned_transitions") }}
    where entity_type = of_type and entity_id = of_id
),

{{ interval_ctes("transitions", configuration, only_open=true) }}

select {{ current_columns() }}
from intervals
where
    not exists (
        select 1 from {{ ref("stg_batches") }}
        where kind = 'configuration' and {{ is_after("batch_cut", built_cut()) }}
    )
