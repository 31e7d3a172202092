{{ config(materialized="standing_view") }}
-- One row per entity: its status at the session's status_engine.at, by the batches that
-- were recorded by its status_engine.known_at. Derived from its transitions: to look up
-- one entity; status-engine build --as-of makes tables of all.
{% set configuration = {
    "versions": ref("known_workflow_versions"),
    "calendars": ref("known_calendars"),
    "hint": "",
} %}
with

{{ interval_ctes(ref("known_transitions"), configuration) }},

open_stays as (
    select * from intervals
    where left_at is null
)

{{ told_at(at_instant(), "open_stays") }}
