{{ config(materialized="standing_view") }}
-- One row per entity: its open interval, as of the clock (S4, S13, S15). The built
-- rows; for entities that changed after the built cut, what the same SQL makes of all
-- their transitions (S16).
--
-- No `with`, and the built rows without a condition of their own: so a query's order
-- and limit reach the table's indexes. What is rarely needed is behind functions,
-- because PostgreSQL starts every node of a plan, also those that it never runs.
{% set is_reconfigured -%}
    (
        select
            exists (
                select 1 from {{ ref("stg_batches") }} as batches
                where
                    batches.kind = 'configuration'
                    and {{ is_after("batches.batch_cut", built_cut()) }}
            )
    )
{%- endset %}
{% set stays -%}
    (
        select
            {{ current_columns() }},
            left_at,
            false as is_live
        from {{ ref("status_intervals") }}
        union all
        select
            {{ current_columns("live", "unbuilt") }},
            null::timestamptz as left_at,
            true as is_live
        from
            (
                select distinct
                    entity_type,
                    entity_id
                from {{ ref("stg_transitions") }}
                where {{ is_after("batch_cut", built_cut()) }}
            ) as unbuilt
        cross join
            lateral {{ ref("live_status") }}(
                unbuilt.entity_type, unbuilt.entity_id
            ) as live
        union all
        select
            {{ current_columns() }},
            null::timestamptz as left_at,
            true as is_live
        from {{ ref("reconfigured_status") }}()
        where {{ is_reconfigured }}
    ) as stays
{%- endset %}
{{ told_at(as_of(), stays) }}
where
    left_at is null
    and (
        is_live
        or (
            not exists (
                select 1
                from {{ ref("stg_transitions") }} as later
                where
                    later.entity_type = stays.entity_type
                    and later.entity_id = stays.entity_id
                    and {{ is_after("later.batch_cut", built_cut()) }}
            )
            and case
                when {{ is_reconfigured }}
                    then not {{ json_has(
                        "(select " ~ ref("reconfigured_entities") ~ "())",
                        "concat_ws('/', entity_type, entity_id)"
                    ) }}
                else true
            end
        )
    )
