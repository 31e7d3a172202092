{{ config(
    materialized="cut_table",
    keys={
        "restatements_pkey": "primary key (restatement_id)",
        "restatements_cut": "(cut)",
    },
) }}
-- depends_on: {{ ref("touched_entities") }}
-- depends_on: {{ ref("status_intervals") }}
-- depends_on: {{ ref("sla_daily_counts") }}
-- depends_on: {{ ref("stg_transitions") }}
-- depends_on: {{ ref("stg_batches") }}
-- depends_on: {{ source("raw", "cuts") }}
-- One row per verdict or published figure that a later cut changed. Before and after
-- are held against each other as of the instant of the cut that was published, so that
-- what changes because time passes is none. What was not published then, a stay without
-- a verdict or a group without a stay, is an addition, and none either.
{% set previous = previous_build() %}
{%- if is_full_build() and previous is not none %}
{{ kept_restatements(previous) }}
union all
{%- endif %}
{{ restated(previous if can_be_compared(previous) else none) }}
