{{ config(
    tags=["whole"],
    meta={
        "description":
            "Journeys, the flow and the workload hold each stay once, and each breach "
            ~ "and handover (S3, S13).",
        "dagster": {"ref": {"name": "entity_journeys"}},
    },
) }}
with

stays as (
    select
        count(*) as stay_count,
        count(left_at) as closed_count,
        count(*) filter (where verdict = 'met') as met_count,
        count(*) filter (where verdict = 'breached') as breached_count
    from {{ ref("status_intervals") }}
),

journeys as (
    select
        coalesce(sum(stay_count), 0) as stay_count,
        coalesce(sum(breached_count), 0) as breached_count,
        coalesce(sum(handover_count), 0) as handover_count
    from {{ ref("entity_journeys") }}
),

flow as (
    select coalesce(sum(transition_count), 0) as transition_count
    from {{ ref("status_flow") }}
),

workload as (
    select
        coalesce(sum(arriving_count), 0) as arriving_count,
        coalesce(sum(leaving_count), 0) as leaving_count,
        coalesce(sum(cleared_count), 0) as cleared_count,
        coalesce(sum(met_count), 0) as met_count,
        coalesce(sum(breached_count), 0) as breached_count
    from {{ ref("workload_changes") }}
),

handed as (
    select coalesce(sum(handover_count), 0) as handover_count
    from {{ ref("handovers") }}
    where kind = 'user'
)

select
    stays.*,
    journeys.stay_count as journey_stay_count,
    flow.transition_count,
    workload.arriving_count,
    workload.leaving_count,
    workload.cleared_count,
    workload.met_count as decided_met_count,
    workload.breached_count as decided_breached_count,
    handed.handover_count
from stays
cross join journeys
cross join flow
cross join workload
cross join handed
where
    (
        journeys.stay_count,
        journeys.breached_count,
        journeys.handover_count,
        flow.transition_count,
        workload.arriving_count,
        workload.leaving_count,
        workload.cleared_count,
        workload.met_count,
        workload.breached_count
    ) is distinct from (
        stays.stay_count,
        stays.breached_count,
        handed.handover_count,
        stays.stay_count,
        stays.stay_count,
        stays.closed_count,
        stays.breached_count,
        stays.met_count,
        stays.breached_count
    )
