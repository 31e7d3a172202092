{{ config(
    materialized="cut_table",
    keys={"workflow_versions_pkey": "primary key (workflow_id)"},
) }}
-- One row per workflow version of the built cut, stored: so a plan knows how few.
select * from {{ ref("stg_workflow_versions") }}
