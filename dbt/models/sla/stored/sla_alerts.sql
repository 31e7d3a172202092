{{ config(
    materialized="cut_table",
    keys={
        "sla_alerts_pkey": "primary key (alert_id)",
        "sla_alerts_due": "(due_at)",
        "sla_alerts_entity": "(entity_type, entity_id)",
    },
) }}
-- depends_on: {{ ref("touched_entities") }}
-- One row per open stay with a deadline and stage of its alerts, with the instant from
-- which it is due: at_risk, breached, and those that its step names, each so many hours
-- of business time before or after the deadline (S11).
with

stays as (
    select
        intervals.*,
        steps.notification_settings
    from {{ fresh(ref("status_intervals")) }} as intervals
    left join {{ ref("stg_workflow_steps") }} as steps using (step_id)
    where
        intervals.left_at is null
        and intervals.sla_deadline is not null
),

-- Stages that steps name.
named as (
    select
        stays.*,
        {{ json_text("stages.stage", "name") }} as stage,
        coalesce(stages.stage -> 'notify', stays.notification_settings -> 'notify')
            as roles,
        {{ json_number("stages.stage", "hours_after") }} as hours_after,
        {{ hours(json_number("stages.stage", "hours_before")) }} as before_time,
        {{ hours(json_number("stages.stage", "hours_after")) }} as after_time
    from stays
    cross join
        lateral {{ json_elements("stays.notification_settings", "stages") }}
            as stages (stage)
),

clocked as (
    select
        named.*,
        {{ business_clock("deadline_page", "named.sla_deadline") }} as deadline_clock
    from named
    {{ join_calendar_page("deadline_page", "named.calendar_id", "sla_deadline") }}
),

timed as (
    select
        clocked.*,
        case
            when hours_after is null
                then {{ business_lead(
                    "clocked.calendar_id", "sla_deadline", "before_time", "before_page",
                    "deadline_clock - before_time"
                ) }}
            else {{ business_deadline(
                "clocked.calendar_id", "sla_deadline", "hours_after", "after_time",
                "after_page", "(deadline_clock + after_time)"
            ) }}
        end as told_from
    from clocked
    {{ join_lead_page(
        "before_page", "clocked.calendar_id", "(deadline_clock - before_time)"
    ) }}
    {{ join_clock_page(
        "after_page", "clocked.calendar_id", "(deadline_clock + after_time)"
    ) }}
),

stages as (
    select
        interval_id,
        'at_risk' as stage,
        at_risk_from as told_from,
        notification_settings -> 'notify' as roles
    from stays
    union all
    -- Exactly at the deadline it is not overdue (S13).
    select
        interval_id,
        'breached' as stage,
        sla_deadline + interval '1 microsecond' as told_from,
        notification_settings -> 'notify' as roles
    from stays
    union all
    select
        interval_id,
        stage,
        told_from,
        roles
    from timed
)

select
    {{ uuid_of("concat_ws('/', stays.interval_id, stages.stage)") }} as alert_id,
    stays.interval_id,
    stages.stage,
    greatest(stages.told_from, stays.entered_at) as due_at,
    stays.entity_type,
    stays.entity_id,
    stays.status,
    stays.entered_at,
    stays.sla_deadline,
    coalesce(stages.roles, '[]') as roles,
    stays.business_entity_id,
    stays.workflow_id,
    stays.step_id,
    stays.calendar_id
from stages
inner join stays using (interval_id)
where stages.told_from is not null
