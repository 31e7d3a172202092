{{ config(
    materialized="cut_table",
    keys={
        "restatements_pkey": "primary key (restatement_id)",
        "restatements_cut": "(cut)",
    },
) }}
-- depends_on: {{ ref("touched_entities") }}
-- depends_on: {{ ref("status_intervals") }}
-- depends_on: {{ ref("sla_daily_counts") }}
-- depends_on: {{ ref("stg_transitions") }}
-- depends_on: {{ ref("stg_batches") }}
-- depends_on: {{ source("raw", "cuts") }}
-- One row per verdict or published figure that a later cut changed. Before and after
-- are held against each other as of the instant of the cut that was published, so that
-- what changes because time passes is none. What was not published then, a stay without
-- a verdict or a group without a stay, is an addition, and none either.
{% set found = previous_build() %}
{# What is compared with nothing is not run; the linter reads it. #}
{% set previous = found or {"schema": "sla", "cut": 0, "as_of": "-infinity"} %}
{% set published = previous.schema %}
{% set stay = [
    "interval_id", "entity_type", "entity_id", "status", "visit", "entered_at",
    "left_at", "sla_deadline", "verdict", "workflow_name", "business_entity_id",
] %}
{% set counts = ["group_id", "interval_count", "met_count", "breached_count"] %}
{% set group = [
    "entered_on", "entity_type", "workflow_name", "status", "business_entity_id",
] %}
{# An older release may have published less than is compared, or kept no restatement. #}
{% set is_comparable = (
    found is not none
    and not stay | reject("in", columns_of(previous, "status_intervals")) | list
    and not counts | reject("in", columns_of(previous, "sla_daily_counts")) | list
) %}
{% set kept = [] %}
{% if is_full_build() and found is not none %}
    {% set kept = columns_of(previous, "restatements") %}
{% endif %}
{% if is_comparable -%}
{% set instant = "timestamptz '" ~ previous.as_of ~ "'" %}
with

before as (
    select {{ stay | join(", ") }}
    from {{ published }}.status_intervals
    {{ only_touched() }}
),

after as (
    select {{ stay | join(", ") }} from {{ fresh(ref("status_intervals")) }}
),

-- Before counts as it was published, with what it held from after the instant (rows may
-- have come after the instant of a run and before its pin); of what is new, only what
-- happened by the instant counts, as closed or as open past its deadline.
compared as (
    select
        interval_id,
        coalesce(before.entity_type, after.entity_type) as entity_type,
        coalesce(before.entity_id, after.entity_id) as entity_id,
        coalesce(before.status, after.status) as status,
        coalesce(before.visit, after.visit) as visit,
        case
            when before.left_at is not null then before.verdict
            when
                before.sla_deadline < {{ instant }}
                and before.entered_at <= {{ instant }}
                then 'overdue'
        end as old_verdict,
        case
            when after.left_at <= {{ instant }} then after.verdict
            when before.left_at is not null and after.left_at is not null
                then after.verdict
            when
                after.sla_deadline < {{ instant }}
                and after.entered_at <= {{ instant }}
                then 'overdue'
        end as new_verdict,
        before.entered_at as old_entered_at,
        after.entered_at as new_entered_at,
        before.workflow_name as old_workflow_name,
        after.workflow_name as new_workflow_name,
        before.business_entity_id as old_business_entity_id,
        after.business_entity_id as new_business_entity_id
    from before
    full join after using (interval_id)
    where before.entered_at is not null or after.entered_at <= {{ instant }}
),

differing as (
    select * from compared
    where
        (
            old_entered_at, old_workflow_name, old_business_entity_id, old_verdict
        ) is distinct from (
            new_entered_at, new_workflow_name, new_business_entity_id, new_verdict
        )
),

-- The newest batch of their entity since, or else of the configuration.
causes as (
    select
        differing.entity_type,
        differing.entity_id,
        max(transitions.batch_id) as batch_id
    from (
        select distinct
            entity_type,
            entity_id
        from differing
    ) as differing
    inner join {{ ref("stg_transitions") }} as transitions
        using (entity_type, entity_id)
    where transitions.batch_cut > {{ previous.cut }}
    group by differing.entity_type, differing.entity_id
),

rejudged as (
    select
        differing.*,
        coalesce(
            causes.batch_id,
            (
                select max(batches.batch_id) from {{ ref("stg_batches") }} as batches
                where
                    batches.batch_cut > {{ previous.cut }}
                    and batches.kind = 'configuration'
            )
        ) as batch_id
    from differing
    left join causes using (entity_type, entity_id)
),

signed as (
    select
        (old_entered_at {{ in_utc() }})::date as entered_on,
        entity_type,
        old_workflow_name as workflow_name,
        status,
        old_business_entity_id as business_entity_id,
        old_verdict as verdict,
        batch_id,
        -1 as sign
    from rejudged
    where old_entered_at is not null
    union all
    select
        (new_entered_at {{ in_utc() }})::date as entered_on,
        entity_type,
        new_workflow_name as workflow_name,
        status,
        new_business_entity_id as business_entity_id,
        new_verdict as verdict,
        batch_id,
        1 as sign
    from rejudged
    where new_entered_at is not null
),

summed as (
    select
        {{ uuid_of_row([
            "to_char(entered_on, 'YYYY-MM-DD')", "entity_type", "workflow_name",
            "status", "business_entity_id",
        ]) }} as group_id,
        {{ group | join(", ") }},
        sum(sign) as more_intervals,
        sum(case when verdict = 'met' then sign else 0 end) as more_met,
        sum(case when verdict = 'breached' then sign else 0 end) as more_breached,
        sum(case when verdict = 'overdue' then sign else 0 end) as more_overdue,
        max(batch_id) as batch_id
    from signed
    group by {{ group | join(", ") }}
),

moved as (
    select * from summed
    where
        (more_intervals, more_met, more_breached, more_overdue)
        <> (0, 0, 0, 0)
),

-- Only what was open is looked at, by an index.
overdue as (
    select
        moved.group_id,
        count(*) as overdue_count
    from moved
    inner join {{ published }}.status_intervals as intervals
        on
            moved.entity_type = intervals.entity_type
            and moved.status = intervals.status
            and moved.entered_on = (intervals.entered_at {{ in_utc() }})::date
            and moved.workflow_name is not distinct from intervals.workflow_name
            and moved.business_entity_id
            is not distinct from intervals.business_entity_id
    where
        intervals.sla_deadline < {{ instant }}
        and intervals.entered_at <= {{ instant }}
        and intervals.left_at is null
    group by moved.group_id
),

-- The published groups that rejudged stays count in; any other is an addition.
regrouped as (
    select
        moved.*,
        counts.interval_count,
        counts.met_count,
        counts.breached_count,
        coalesce(overdue.overdue_count, 0) as overdue_count,
        counts.interval_count + moved.more_intervals as new_interval_count,
        counts.met_count + moved.more_met as new_met_count,
        counts.breached_count + moved.more_breached as new_breached_count,
        coalesce(overdue.overdue_count, 0) + moved.more_overdue as new_overdue_count
    from moved
    inner join {{ published }}.sla_daily_counts as counts using (group_id)
    left join overdue using (group_id)
),

restated as (
    select
        'verdict' as figure,
        entity_type,
        entity_id,
        status,
        visit,
        null::date as entered_on,
        null::text as workflow_name,
        null::text as business_entity_id,
        old_verdict as old_value,
        new_verdict as new_value,
        batch_id
    from rejudged
    where
        old_verdict in ('met', 'breached')
        and old_verdict is distinct from new_verdict
    union all
    select
        figures.figure,
        entity_type,
        null::bigint as entity_id,
        status,
        null::bigint as visit,
        entered_on,
        workflow_name,
        business_entity_id,
        figures.old_value,
        figures.new_value,
        batch_id
    from regrouped
    cross join
        lateral (
            values
            ('interval_count', interval_count::text, new_interval_count::text),
            ('met_count', met_count::text, new_met_count::text),
            ('breached_count', breached_count::text, new_breached_count::text),
            ('overdue_count', overdue_count::text, new_overdue_count::text),
            (
                'compliance_ratio',
                (
                    {{ compliance_ratio(
                        "met_count", "breached_count", "overdue_count"
                    ) }}
                )::text,
                (
                    {{ compliance_ratio(
                        "new_met_count", "new_breached_count", "new_overdue_count"
                    ) }}
                )::text
            )
        ) as figures (figure, old_value, new_value)
    where figures.old_value is distinct from figures.new_value
)

select
    {{ uuid_of_row([
        session_cut(), "figure", "entity_type", "entity_id", "visit",
        "to_char(entered_on, 'YYYY-MM-DD')", "workflow_name", "status",
        "business_entity_id",
    ]) }} as restatement_id,
    {{ previous.cut }}::bigint as previous_cut,
    {{ session_cut() }} as cut,
    (
        select cuts.as_of from {{ source("raw", "cuts") }} as cuts
        where cuts.cut = {{ session_cut() }}
    ) as restated_at,
    figure,
    entity_type,
    entity_id,
    status,
    visit,
    entered_on,
    workflow_name,
    business_entity_id,
    old_value,
    new_value,
    batch_id
from restated
{%- else -%}
select
    null::uuid as restatement_id,
    null::bigint as previous_cut,
    null::bigint as cut,
    null::timestamptz as restated_at,
    null::text as figure,
    null::text as entity_type,
    null::bigint as entity_id,
    null::text as status,
    null::bigint as visit,
    null::date as entered_on,
    null::text as workflow_name,
    null::text as business_entity_id,
    null::text as old_value,
    null::text as new_value,
    null::bigint as batch_id
where false
{%- endif %}
{% if kept -%}
union all
-- What was restated before; a column that it lacks is null. An older release kept groups
-- that had no stay when they were published, which are additions.
select
{%- for name, column in model.columns.items() %}
    {{ name if name in kept else "null::" ~ column.data_type ~ " as " ~ name }}
    {{- "," if not loop.last }}
{%- endfor %}
from (
    select
        *,
        bool_or(figure = 'interval_count' and old_value = '0') over (
            partition by
                cut, entered_on, entity_type, workflow_name, status,
                business_entity_id
        ) as is_addition
    from {{ published }}.restatements
) as kept
where not is_addition
{%- endif %}
