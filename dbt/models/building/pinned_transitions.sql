-- As stg_transitions, but told by the few batches that are not in the cut: nothing is
-- joined, which keeps the order of an index; a session without a cut leaves out none. A
-- cut of long ago leaves out many: there it is joined.
{% if var("frozen_cut") is not none -%}
select * from {{ ref("stg_transitions") }}
{%- else -%}
-- depends_on: {{ ref("stg_transitions") }}
select
    {{ transition_columns() }}
from {{ source("raw", "status_transitions") }} as transitions
where
    {{ is_wanted() }}
    and batch_id not in (
        select batch_id from {{ source("raw", "batches") }}
        where
            {{ session_cut() }} is not null
            and {{ is_after("cut", session_cut()) }}
    )
{%- endif %}
