{{ config(materialized="standing_view") }}
-- depends_on: {{ source("raw", "cuts") }}
-- One row per UTC day of recording, source and kind: what was delivered, and what came
-- of it (S20). Of the session's cut, as staging has it.
with

delivered as (
    select
        batch_id,
        kind,
        source,
        (recorded_at {{ in_utc() }})::date as recorded_on,
        recorded_at,
        read_count,
        appended_count,
        duplicate_count,
        rejected_count
    from {{ source("raw", "batches") }}
    where kind <> 'configuration' and {{ is_in_cut("cut") }}
),

codes as (
    select
        delivered.recorded_on,
        delivered.source,
        delivered.kind,
        rejects.code,
        sum(rejects.transition_count) as rejected_count
    from {{ source("raw", "rejected_transitions") }} as rejects
    inner join delivered on rejects.batch_id = delivered.batch_id
    group by
        delivered.recorded_on,
        delivered.source,
        delivered.kind,
        rejects.code
),

told as (
    select
        recorded_on,
        source,
        kind,
        jsonb_object_agg(code, rejected_count) as reject_codes
    from codes
    group by recorded_on, source, kind
),

days as (
    select
        recorded_on,
        source,
        kind,
        max(recorded_at) as last_recorded_at,
        count(*) as batch_count,
        sum(read_count) as read_count,
        sum(appended_count) as appended_count,
        sum(duplicate_count) as duplicate_count,
        sum(rejected_count) as rejected_count
    from delivered
    group by recorded_on, source, kind
)

select
    days.recorded_on,
    days.source,
    days.kind,
    days.last_recorded_at,
    days.batch_count,
    days.read_count,
    days.appended_count,
    days.duplicate_count,
    days.rejected_count,
    coalesce(told.reject_codes, '{}') as reject_codes
from days
left join told
    on
        days.recorded_on = told.recorded_on
        and days.source = told.source
        and days.kind = told.kind
