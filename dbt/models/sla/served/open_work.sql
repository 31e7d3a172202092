{{ config(materialized="standing_view") }}
-- One row per entity type, workflow, status, business entity and two bands: of the time
-- that stays may take, how much they took up to the clock, and for how long nobody
-- touched them. Open stays alone, none in a final status (S14). Of the built cut.
with

stays as (
    select
        intervals.*,
        journeys.last_transition_at,
        {{ as_of() }} as as_of
    from {{ ref("status_intervals") }} as intervals
    inner join {{ ref("entity_journeys") }} as journeys using (entity_type, entity_id)
    where intervals.left_at is null and not intervals.is_final
),

clocked as (
    select
        stays.*,
        {{ business_clock("entered_page", "stays.entered_at") }} as entered_clock,
        {{ business_clock("due_page", "stays.sla_deadline") }} as due_clock,
        {{ business_clock("now_page", "stays.as_of") }} as now_clock
    from stays
    {{ join_calendar_page("entered_page", "stays.calendar_id", "stays.entered_at") }}
    {{ join_calendar_page("due_page", "stays.calendar_id", "stays.sla_deadline") }}
    {{ join_calendar_page("now_page", "stays.calendar_id", "stays.as_of") }}
),

-- Elapsed time without a calendar, else business time; null outside of the calendar.
measured as (
    select
        clocked.*,
        case
            when calendar_id is null then as_of - entered_at
            else now_clock - entered_clock
        end as used,
        case
            when calendar_id is null then sla_deadline - entered_at
            else due_clock - entered_clock
        end as given
    from clocked
),

-- Before the stay, or its last transition, there is nothing to measure (S15).
banded as (
    select
        entity_type,
        workflow_name,
        status,
        business_entity_id,
        case
            when entered_at > as_of then null
            when sla_deadline < as_of then 'overdue'
            when used * 2 < given then '0-50 %'
            when used * 4 < given * 3 then '50-75 %'
            when used * 10 < given * 9 then '75-90 %'
            when used <= given then '90-100 %'
        end as used_band,
        case
            when last_transition_at > as_of then null
            when as_of - last_transition_at < interval '1 day' then '0'
            when as_of - last_transition_at < interval '4 days' then '1-3'
            when as_of - last_transition_at < interval '8 days' then '4-7'
            when as_of - last_transition_at < interval '31 days' then '8-30'
            else 'over 30'
        end as untouched_band
    from measured
)

select
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    used_band,
    untouched_band,
    count(*) as open_count
from banded
group by
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    used_band,
    untouched_band
