"""Ways and work of any group and period: moves, variants, handovers, work by day.

The published tables of these tell whole days, types and workflows; here the same is
counted of whatever stays a `Scope` names, as filters need it, and equals them where
both can tell. What stands out of it is in `findings`, how long stays last in
`survival`.
"""

import polars as pl

from analytics.published import Publication, Query
from analytics.stays import ALL, Scope


def directly_follows(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """The directly-follows graph of a scope: a row per status that was left, and next.

    Columns: from_status; to_status; move_count; entity_count; p50_seconds and
    p50_business_seconds of the stays that were left (the latter null where no calendar
    covers them). Most moves first. Self-transitions are none (S3).
    """
    condition = scope.condition()
    # An entity's first visit to a status is one row, so those need not be told apart;
    # of the others, as of rework, only entities that have not moved there before count.
    sql = f"""
        with moves as not materialized (
            select * from status_intervals
            where left_at is not null and {condition.sql}
        ),

        again as materialized (
            select distinct status, next_status, entity_type, entity_id
            from moves where visit > 1
        ),

        known as (
            select status, next_status, count(*) as entity_count
            from (from moves where visit = 1) as first
            semi join again using (entity_id, entity_type, status, next_status)
            group by all
        ),

        counted as (
            select
                status,
                next_status,
                count(*) as move_count,
                count(*) filter (visit = 1) as first_count,
                quantile_disc(elapsed_seconds, 0.5) as p50_seconds,
                quantile_disc(business_seconds, 0.5) as p50_business_seconds
            from moves
            group by all
        )

        select
            counted.status as from_status,
            counted.next_status as to_status,
            move_count,
            first_count + coalesce(more.entity_count, 0)
            - coalesce(known.entity_count, 0) as entity_count,
            p50_seconds,
            p50_business_seconds
        from counted
        left join (
            select status, next_status, count(*) as entity_count from again group by all
        ) as more using (status, next_status)
        left join known
            on
                counted.status = known.status
                and counted.next_status = known.next_status
        order by move_count desc, from_status, to_status
    """
    return publication.frame(Query(sql, condition.parameters))


def statuses(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Statuses of a scope, a row each, in the order in which entities come to them.

    Columns: status; label (of the newest step that has one, else the status); is_final;
    stay_count; open_count; begin_count (stays that are their entity's first);
    mean_place (of the stays in their entities, from 1).
    """
    condition = scope.condition()
    sql = f"""
        select
            status,
            coalesce(arg_max(status_label, entered_at), status) as label,
            bool_or(is_final) as is_final,
            count(*) as stay_count,
            count(*) filter (left_at is null) as open_count,
            count(*) filter (stay_number = 1) as begin_count,
            avg(stay_number) as mean_place
        from status_intervals
        where {condition.sql}
        group by status
        order by mean_place, status
    """
    return publication.frame(Query(sql, condition.parameters))


def variants(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Ways through the statuses of entities that began in a scope, a row per way.

    Columns: variant; stay_count (in it); entity_count; entity_ratio (of all);
    ended_count; breached_entity_count; p50_seconds and p90_seconds (from start to end
    of those that ended, null where none did); waiting_ratio: of the business time of
    stays that ended, the share in statuses in which others are waited for, null where
    it is not known. Most entities first.
    """
    entities = _entities(scope)
    sql = f"""
        select
            any_value(variant) as variant,
            any_value(stay_count) as stay_count,
            count(*) as entity_count,
            count(*) / sum(count(*)) over () as entity_ratio,
            count(ended_at) as ended_count,
            count(*) filter (breached_count > 0) as breached_entity_count,
            quantile_disc(elapsed_seconds, 0.5) as p50_seconds,
            quantile_disc(elapsed_seconds, 0.9) as p90_seconds,
            sum(waiting_business_seconds)
            / nullif(sum(touch_business_seconds + waiting_business_seconds), 0)
                as waiting_ratio
        from ({entities.sql})
        group by variant_id
        order by entity_count desc, variant
    """
    return publication.frame(Query(sql, entities.parameters))


def handovers(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """Which user was followed by which, in entities that began in a scope.

    Columns: from_user, to_user (names, else ids); handover_count; p50_seconds from the
    one's transition to the other's. Most first. Transitions that name nobody hand
    nothing over.
    """
    entities = _entities(scope)
    sql = f"""
        with named as (
            select
                triggered_by_user_id as user_id,
                created_at,
                lag(triggered_by_user_id) over entity as before_id,
                lag(created_at) over entity as before_at
            from audit_trail
            semi join ({entities.sql}) as asked using (entity_type, entity_id)
            window entity as (
                partition by entity_type, entity_id order by entity_place
            )
        )

        select
            coalesce(first_user.user_name, before_id) as from_user,
            coalesce(second_user.user_name, named.user_id) as to_user,
            count(*) as handover_count,
            quantile_disc(
                (epoch_us(created_at) - epoch_us(before_at)) // 1000000, 0.5
            ) as p50_seconds
        from named
        left join users as first_user on before_id = first_user.user_id
        left join users as second_user on named.user_id = second_user.user_id
        where before_id <> named.user_id
        group by before_id, named.user_id, from_user, to_user
        order by handover_count desc, from_user, to_user
    """
    return publication.frame(Query(sql, entities.parameters))


def work_by_day(publication: Publication, scope: Scope = ALL) -> pl.DataFrame:
    """What stays of a scope were open at each day's end, a row per UTC day.

    Final statuses are no work and left out. From the first arrival to the clock's day,
    none left out. Columns: day; arriving_count; leaving_count; open_count;
    overdue_count: of the open ones, those past their deadline (S13), on the clock's own
    day by the clock.
    """
    condition = scope.condition()
    # As workload and workload_changes have it: overdue from the microsecond after the
    # deadline, or from the beginning where that is later, to the end of the stay.
    # Days of instants without a zone, which is UTC here, take a tenth of the time.
    sql = f"""
        with stays as not materialized (
            select
                {_day("entered_at")} as entered_on,
                {_day("left_at")} as left_on,
                case
                    when verdict = 'breached' or (left_at is null and late_at <= as_of)
                        then {_day("late_at")}
                end as late_on,
                verdict is not distinct from 'breached' as is_breached
            from (
                select
                    *,
                    case when sla_deadline is not null
                        then greatest(entered_at, sla_deadline + interval 1 microsecond)
                    end as late_at
                from status_intervals
                cross join publication
                where not is_final and {condition.sql}
            )
        ),

        counted as (
            select entered_on, left_on, late_on, is_breached, count(*) as stay_count
            from stays
            group by all
        ),

        changes as (
            select entered_on as day, stay_count as arriving, 0 as leaving, 0 as late
            from counted
            union all
            select left_on, 0, stay_count, if(is_breached, -stay_count, 0) from counted
            union all
            select late_on, 0, 0, stay_count from counted
            union all
            select unnest(range(
                (select min(entered_on) from counted),
                (select as_of::date + 1 from publication),
                interval 1 day
            ))::date, 0, 0, 0
        )

        select
            day,
            sum(arriving)::bigint as arriving_count,
            sum(leaving)::bigint as leaving_count,
            sum(sum(arriving) - sum(leaving)) over (order by day)::bigint as open_count,
            sum(sum(late)) over (order by day)::bigint as overdue_count
        from changes
        where day <= (select as_of::date from publication)
        group by day
        order by day
    """
    return publication.frame(Query(sql, condition.parameters))


def _day(instant: str) -> str:
    return f"make_timestamp(epoch_us({instant}))::date"


def _entities(scope: Scope) -> Query:
    """Journeys of entities that began in a scope."""
    condition = scope.condition()
    sql = (
        "select * from (select *, started_at as entered_at from entity_journeys) "
        f"where {condition.sql}"
    )
    return Query(sql, condition.parameters)
