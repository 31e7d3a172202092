{{ config(materialized="owner_function") }}
-- S16: the open stays of all entities that differ from what is built, while
-- configuration waits for a build. A function, so that no other query pays for it.
with

unbuilt as (
    {{ touched_since(built_cut()) }}
),

transitions as (
    select * from {{ ref("stg_transitions") }}
    inner join unbuilt using (entity_type, entity_id)
),

{{ interval_ctes("transitions", live_configuration(), only_open=true) }}

select {{ current_columns() }}
from intervals
