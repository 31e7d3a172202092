{{ config(materialized="view") }}
-- One row per entity: its open interval, as of the clock (S4, S13, S15). The built
-- rows, replaced for entities that changed after the built cut by the same SQL (S16).
with

built as (
    select * from {{ ref("status_intervals") }}
    where left_at is null
),

unbuilt as (
    {{ touched_since(built_cut()) }}
),

transitions as (
    select * from {{ ref("stg_transitions") }}
    inner join unbuilt using (entity_type, entity_id)
),

{{ interval_ctes("transitions") }},

current_intervals as (
    select * from intervals
    where left_at is null
    union all
    select * from built
    where not exists (
        select 1 from unbuilt
        where
            unbuilt.entity_type = built.entity_type
            and unbuilt.entity_id = built.entity_id
    )
)

select
    {{ uuid_of("concat_ws('/', entity_type, entity_id)") }} as id,
    entity_created_at as created_at,
    entity_type,
    entity_id,
    status as current_status,
    entered_at as status_since,
    sla_deadline,
    coalesce(sla_deadline < {{ as_of() }}, false) as is_overdue,
    workflow_id,
    last_transition_id,
    workflow_name,
    business_entity_id,
    visit,
    deadline_source,
    is_final
from current_intervals
