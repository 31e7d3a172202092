-- depends_on: {{ source("raw", "cuts") }}
-- As stg_transitions, but told by the few batches that are not in the cut: nothing is
-- joined, which keeps the order of an index; a session without a cut leaves out none. A
-- cut of long ago leaves out many: there it is joined.
select
    {{ transition_columns() }}
from {{ source("raw", "status_transitions") }} as transitions
{% if var("frozen_cut") is not none -%}
inner join {{ ref("stg_batches") }} using (batch_id)
where {{ is_wanted() }}
{%- else -%}
where
    {{ is_wanted() }}
    and batch_id not in (
        select batch_id from {{ source("raw", "batches") }}
        where
            {{ session_cut() }} is not null
            and coalesce(cut > {{ session_cut() }}, true)
    )
{%- endif %}
