{{ config(materialized="view") }}
-- One row per entity: its open interval, as of the clock (S4, S13, S15). The built
-- rows; for entities that changed after the built cut, what the same SQL makes of all
-- their transitions (S16).
{% set built_cut = "(select cut from built)" %}
with

built as materialized (
    select
        one.cut,
        exists (
            select 1 from {{ ref("stg_batches") }} as batches
            where
                batches.kind = 'configuration'
                and {{ is_after("batches.batch_cut", "one.cut") }}
        ) as is_reconfigured
    from (select cut from {{ ref("built_cuts") }} limit 1) as one
),

unbuilt as (
    select distinct
        entity_type,
        entity_id
    from {{ ref("stg_transitions") }}
    where {{ is_after("batch_cut", built_cut) }}
),

current_stays as (
    select {{ current_columns() }}
    from {{ ref("status_intervals") }} as stays
    where
        left_at is null
        and not exists (
            select 1
            from {{ ref("stg_transitions") }} as later
            where
                later.entity_type = stays.entity_type
                and later.entity_id = stays.entity_id
                and {{ is_after("later.batch_cut", built_cut) }}
        )
        and case
            when (select is_reconfigured from built)
                then not {{ json_has(
                    "(select " ~ ref("reconfigured_entities") ~ "())",
                    "concat_ws('/', entity_type, entity_id)"
                ) }}
            else true
        end
    union all
    select {{ current_columns("live", "unbuilt") }}
    from unbuilt
    cross join
        lateral {{ ref("live_status") }}(unbuilt.entity_type, unbuilt.entity_id) as live
    where not (select is_reconfigured from built)
    union all
    select {{ current_columns() }}
    from {{ ref("reconfigured_status") }}()
    where (select is_reconfigured from built)
)

select
    {{ uuid_of("concat_ws('/', entity_type, entity_id)") }} as id,
    entity_created_at as created_at,
    entity_type,
    entity_id,
    status as current_status,
    entered_at as status_since,
    sla_deadline,
    -- Not coalesce, so that an index on the deadline serves it.
    (sla_deadline is not null and sla_deadline < {{ as_of() }}) as is_overdue,
    workflow_id,
    last_transition_id,
    status_label,
    status_color,
    is_final,
    business_entity_id,
    visit,
    deadline_source,
    {{ seconds_between("entered_at", as_of()) }} as seconds_in_status,
    {{ seconds_between(as_of(), "sla_deadline") }} as seconds_to_deadline,
    coalesce(
        at_risk_from <= {{ as_of() }} and sla_deadline >= {{ as_of() }}, false
    ) as is_at_risk,
    workflow_name
from current_stays
