{{ config(materialized="standing_view") }}
-- One row per way through the statuses, and its entities. Medians are exact, told from
-- the journeys themselves: of parts they could not be put together.
select
    entity_type,
    variant_id,
    min(variant collate "C") as variant,
    min(stay_count) as stay_count,
    count(*) as entity_count,
    count(ended_at) as ended_count,
    count(*) filter (where breached_count > 0) as breached_entity_count,
    coalesce(sum(elapsed_seconds), 0)::bigint as elapsed_seconds,
    percentile_disc(0.5) within group (order by elapsed_seconds)
        as median_elapsed_seconds,
    percentile_disc(0.9) within group (order by elapsed_seconds)
        as p90_elapsed_seconds
from {{ ref("entity_journeys") }}
group by entity_type, variant_id
