{{ config(
    meta={
        "description":
            "Each entity has one row, in the status of its last transition (S4).",
        "dagster": {"ref": {"name": "entity_current_status"}},
    },
) }}
with

lasts as (
    select distinct on (entity_type, entity_id)
        entity_type,
        entity_id,
        id as last_transition_id,
        to_status
    from {{ ref("stg_transitions") }}
    {{ only_touched() }}
    order by
        entity_type asc,
        entity_id asc,
        created_at desc,
        source_order desc,
        batch_id desc,
        batch_row desc
)

{% if is_full_build() -%}
select
    entity_type,
    entity_id
from lasts
full outer join {{ ref("entity_current_status") }} as current_status
    using (entity_type, entity_id)
where
    lasts.last_transition_id is distinct from current_status.last_transition_id
    or lasts.to_status is distinct from current_status.current_status
{%- else -%}
-- One by one, as readers look them up: the view as a whole would be read otherwise.
select
    lasts.entity_type,
    lasts.entity_id
from lasts
cross join
    lateral (
        select
            count(*) as row_count,
            min(looked_up.last_transition_id::text) as last_transition_id,
            min(looked_up.current_status) as current_status
        from {{ ref("entity_current_status") }} as looked_up
        where
            looked_up.entity_type = lasts.entity_type
            and looked_up.entity_id = lasts.entity_id
    ) as current_status
where
    current_status.row_count <> 1
    or lasts.last_transition_id::text <> current_status.last_transition_id
    or lasts.to_status <> current_status.current_status
{%- endif %}
