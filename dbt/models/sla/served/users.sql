{{ config(materialized="standing_view") }}
-- One row per user, built or not, in the newest version.
select
    user_id,
    user_name,
    roles,
    is_active
from {{ ref("stg_user_accounts") }}
where in_force_until is null
