"""How good the data are: fresh, in time, obeying their workflows, restated.

Counts of what the engine found; it is judged there. Filters are those of a `Scope`, an
instant of which is that of a transition; a status is none.
"""

import polars as pl

from analytics.published import Publication, Query
from analytics.stays import ALL, Scope


def freshness(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Sources, a row each: what came, when last, how late; longest silent first.

    Columns: source; transition_count; batch_count; last_created_at (the newest instant
    it tells of) and last_recorded_at (when it last came), UTC; silent_seconds from then
    to the publication's clock; p50_delay_seconds and p90_delay_seconds from an event to
    its recording; out_of_order_count: came after a later transition of its entity did.
    """
    source = _transitions(scope)
    sql = f"""
        select
            source,
            count(*) as transition_count,
            count(distinct batch_id) as batch_count,
            max(created_at) as last_created_at,
            max(recorded_at) as last_recorded_at,
            (epoch_us(any_value(as_of)) - epoch_us(max(recorded_at))) // 1000000
                as silent_seconds,
            quantile_disc(delay_seconds, 0.5) as p50_delay_seconds,
            quantile_disc(delay_seconds, 0.9) as p90_delay_seconds,
            count(*) filter (is_out_of_order) as out_of_order_count
        from ({source.sql})
        cross join publication
        group by source
        order by last_recorded_at, source
    """
    return publication.frame(Query(sql, source.parameters))


def deliveries(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """What sources delivered, a row each and kind; the most rejected first.

    Columns: source; kind; read_count = appended_count + duplicate_count +
    rejected_count; rejected_ratio (null where nothing was read). Of a scope only its
    instants are looked at, by the day of recording.
    """
    sql = f"""
        select
            source,
            kind,
            sum(read_count)::bigint as read_count,
            sum(appended_count)::bigint as appended_count,
            sum(duplicate_count)::bigint as duplicate_count,
            sum(rejected_count)::bigint as rejected_count,
            sum(rejected_count) / nullif(sum(read_count), 0) as rejected_ratio
        from arrivals
        where {_RECORDED}
        group by source, kind
        order by rejected_count desc, source, kind
    """
    return publication.frame(Query(sql, {"since": scope.since, "until": scope.until}))


def reject_codes(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Why rows were rejected, a row per source, kind and code; the most first.

    Columns: source; kind; code; rejected_count. Of a scope as in `deliveries`.
    """
    sql = f"""
        select
            source, kind, code,
            sum((reject_codes ->> ('$."' || code || '"'))::bigint)::bigint
                as rejected_count
        from (
            select *, unnest(json_keys(reject_codes)) as code
            from arrivals
            where {_RECORDED}
        )
        group by source, kind, code
        order by rejected_count desc, source, kind, code
    """
    return publication.frame(Query(sql, {"since": scope.since, "until": scope.until}))


_RECORDED = """
    ($since::timestamptz is null or recorded_on >= $since::timestamptz::date)
    and ($until::timestamptz is null or recorded_on < $until::timestamptz::date)
"""


def delays(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """How many transitions were recorded how long after they happened.

    Columns: place (the order of the bands); delay (in words; each without its upper
    bound); transition_count; out_of_order_count. Bands without any are left out.
    """
    source = _transitions(scope)
    sql = f"""
        with banded as (
            select
                case
                    when delay_seconds < 0 then 0
                    when delay_seconds < 60 then 1
                    when delay_seconds < 3600 then 2
                    when delay_seconds < 86400 then 3
                    when delay_seconds < 7 * 86400 then 4
                    else 5
                end as place,
                is_out_of_order
            from ({source.sql})
        )

        select
            place,
            (['ahead of time', 'under a minute', 'a minute to an hour',
              'an hour to a day', 'a day to a week', 'a week and more'])[place + 1]
                as delay,
            count(*) as transition_count,
            count(*) filter (is_out_of_order) as out_of_order_count
        from banded
        group by place
        order by place
    """
    return publication.frame(Query(sql, source.parameters))


def violations(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Rules that were broken (S19), a row per violation, type and change of status.

    Columns: violation; entity_type; previous_status; to_status; violation_count;
    entity_count; detail (of one of them). Most first.
    """
    found = _of_entities("workflow_violations", scope)
    sql = f"""
        select
            violation,
            entity_type,
            previous_status,
            to_status,
            count(*) as violation_count,
            count(distinct entity_id) as entity_count,
            any_value(detail) as detail
        from ({found.sql})
        group by all
        order by
            violation_count desc, violation, entity_type, previous_status, to_status
    """
    return publication.frame(Query(sql, found.parameters))


def restated(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Published verdicts that a later cut changed, a row per change of verdict.

    Columns: restated_at (UTC) and cut that said so; entity_type; old_value; new_value;
    verdict_count. Newest first. Of a scope only the entity type is looked at.
    """
    sql = """
        select
            restated_at, cut, entity_type, old_value, new_value,
            count(*) as verdict_count
        from restatements
        where
            figure = 'verdict'
            and ($entity_type is null or entity_type = $entity_type)
        group by all
        order by cut desc, entity_type, old_value, new_value
    """
    return publication.frame(Query(sql, {"entity_type": scope.entity_type}))


def transition_count(publication: Publication, scope: Scope = ALL) -> int:
    """How many transitions a scope has."""
    found = _of_entities("audit_trail", scope)
    frame = publication.frame(
        Query(f"select count(*) from ({found.sql})", found.parameters)
    )
    return int(frame.item())


def _transitions(scope: Scope) -> Query:
    """Transitions with their delay, and whether a later one had come before."""
    of_scope = _of_entities("in_order", scope)
    sql = f"""
        with in_order as (
            select
                *,
                coalesce(min(batch_id) over (
                    partition by entity_type, entity_id order by entity_place
                    rows between 1 following and unbounded following
                ) < batch_id, false) as is_out_of_order,
                (epoch_us(recorded_at) - epoch_us(created_at)) // 1000000
                    as delay_seconds
            from audit_trail
        )

        {of_scope.sql}
    """
    return Query(sql, of_scope.parameters)


def _of_entities(table: str, scope: Scope) -> Query:
    """Rows of a table of transitions that a scope has."""
    condition = scope.condition()
    sql = f"""
        select * from (
            select told.*, told.created_at as entered_at, entities.business_entity_id
            from {table} as told
            left join entities using (entity_type, entity_id)
        )
        where {condition.sql}
    """
    return Query(sql, condition.parameters)
