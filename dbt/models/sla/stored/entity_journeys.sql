{{ config(
    materialized="cut_table",
    keys={
        "entity_journeys_pkey": "primary key (entity_type, entity_id)",
        "entity_journeys_variant": "(variant_id)",
    },
) }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per entity: its way through the statuses, from its first transition to the
-- last of the built cut. What its stays tell, and what its transitions do.
with

placed as (
    select
        *,
        coalesce(lag(status, 2) over entity = status, false) as is_back
    from {{ fresh(ref("status_intervals")) }}
    window entity as (partition by entity_type, entity_id order by stay_number)
),

stayed as (
    select
        entity_type,
        entity_id,
        min(workflow_name) as workflow_name,
        min(business_entity_id) as business_entity_id,
        array_agg(status order by stay_number) as statuses,
        min(entered_at) as started_at,
        max(entered_at) filter (where left_at is null) as last_entered_at,
        max(entered_at) filter (where left_at is null and is_final) as ended_at,
        min(status) filter (where left_at is null and is_final) as outcome,
        count(*) as stay_count,
        sum(transition_count)::bigint as transition_count,
        -- Unknown as a whole where one part is.
        case
            when bool_and(business_seconds is not null or left_at is null)
                then coalesce(sum(business_seconds), 0)::bigint
        end as business_seconds,
        case
            when
                bool_and(
                    business_seconds is not null or left_at is null or not is_waiting
                )
                then coalesce(
                    sum(business_seconds) filter (where is_waiting), 0
                )::bigint
        end as waiting_business_seconds,
        coalesce(sum(elapsed_seconds) filter (where is_waiting), 0)::bigint
            as waiting_seconds,
        count(*) filter (where visit > 1) as rework_count,
        count(*) filter (where is_back) as ping_pong_count,
        count(*) filter (where verdict = 'breached') as breached_count,
        count(*) filter (where verdict = 'met') as met_count
    from placed
    group by entity_type, entity_id
),

transitions as (
    select
        entity_type,
        entity_id,
        created_at,
        to_status,
        triggered_by_user_id,
        is_milestone,
        lag(triggered_by_user_id) over entity as previous_user_id
    from {{ ref("pinned_transitions") }}
    {{ only_touched() }}
    {{ window_of_entity() }}
),

acted as (
    select
        entity_type,
        entity_id,
        max(created_at) as last_transition_at,
        count(distinct triggered_by_user_id) as user_count,
        count(*) filter (where triggered_by_user_id <> previous_user_id)
            as handover_count,
        count(distinct to_status) filter (where is_milestone) as milestone_count,
        min(created_at) filter (where is_milestone) as first_milestone_at
    from transitions
    group by entity_type, entity_id
)

select
    stayed.entity_type,
    stayed.entity_id,
    stayed.workflow_name,
    stayed.business_entity_id,
    array_to_string(stayed.statuses, ' → ') as variant,
    {{ uuid_of("concat_ws('/', stayed.entity_type, stayed.statuses::text)") }}
        as variant_id,
    stayed.started_at,
    stayed.last_entered_at,
    acted.last_transition_at,
    stayed.ended_at,
    stayed.outcome,
    stayed.stay_count,
    stayed.transition_count,
    {{ seconds_between("stayed.started_at", "stayed.ended_at") }} as elapsed_seconds,
    stayed.business_seconds,
    stayed.business_seconds - stayed.waiting_business_seconds as touch_business_seconds,
    stayed.waiting_business_seconds,
    stayed.waiting_seconds,
    stayed.rework_count,
    stayed.ping_pong_count,
    acted.user_count,
    acted.handover_count,
    stayed.breached_count,
    stayed.met_count,
    acted.milestone_count,
    acted.first_milestone_at
from stayed
inner join acted using (entity_type, entity_id)
