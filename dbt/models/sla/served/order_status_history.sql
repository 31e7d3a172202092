{{ config(materialized="standing_view") }}
-- One row per transition of an order, built or not, as a plain history table had them.
select
    transition_id as id,
    entity_id as order_id,
    previous_status as old_status,
    to_status as new_status,
    created_at as changed_at,
    triggered_by_user_id as changed_by,
    transition_reason as notes
from {{ ref("audit_trail") }}
where entity_type = 'order'
