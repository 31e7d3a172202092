-- As stg_transitions, for builds: told by the few batches that are not in the cut, which
-- keeps the order of an index. A cut of long ago leaves out many: it is joined.
with

transitions as (
    {% if var("frozen_cut") is none -%}
    select * from {{ source("raw", "status_transitions") }}
    where
        batch_id not in (
            select batches.batch_id from {{ source("raw", "batches") }} as batches
            where not coalesce({{ is_in_cut("batches.cut") }}, false)
        )
    {%- else -%}
    select transitions.* from {{ source("raw", "status_transitions") }} as transitions
    inner join {{ ref("stg_batches") }} as batches using (batch_id)
    {%- endif %}
)

select
    {{ transition_columns() }}
from transitions
where {{ is_wanted() }}
