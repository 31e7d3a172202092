{{ config(
    materialized="cut_table",
    keys={"calendar_versions_pkey": "primary key (calendar_id)"},
) }}
-- One row per calendar version of the built cut.
select * from {{ ref("stg_calendars") }}
