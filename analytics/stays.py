"""Which stays a question is about, and what is known of each by the clock.

SQL that several questions begin with. What is counted of it belongs in their modules;
verdicts and deadlines were decided before publishing, and are not decided here again.
"""

from dataclasses import dataclass, field
from datetime import datetime

from analytics.published import Query

# What an open stay has got so far, in the business time of its calendar (S11). The
# calendar's windows make a clock that stands still while it is closed; a stay is found
# the last window that opened before it by one ASOF join. Null before the first window
# and after the last, where the calendar knows nothing.
CLOCK = """
    business_clock as (
        select
            calendar_id,
            opens_at,
            closes_at,
            (
                sum(epoch_us(closes_at) - epoch_us(opens_at)) over calendar
                - (epoch_us(closes_at) - epoch_us(opens_at))
            )::bigint as shows_us,
            max(closes_at) over (partition by calendar_id) as ends_at
        from calendar_windows
        window calendar as (partition by calendar_id order by opens_at)
    )
"""


def reading_us(clock: str, instant: str) -> str:
    """What the business clock shows at an instant, in microseconds.

    clock: the alias of the row of `business_clock` that was joined to the instant.
    """
    return f"""
        case
            when {instant} <= {clock}.ends_at
                then
                    {clock}.shows_us
                    + epoch_us(least({instant}, {clock}.closes_at))
                    - epoch_us({clock}.opens_at)
        end
    """


def join_clock(clock: str, calendar_id: str, instant: str) -> str:
    """Join the last window that opened by an instant, to whatever has the instant."""
    return f"""
        asof left join business_clock as {clock}
            on {calendar_id} = {clock}.calendar_id and {instant} >= {clock}.opens_at
    """


def join_reading(clock: str, calendar_id: str, reading: str) -> str:
    """Join the window in which the clock shows a reading, the first that does.

    Hours that run out at closing time end then, not at the next opening (S11).
    """
    return f"""
        asof left join business_clock as {clock}
            on {calendar_id} = {clock}.calendar_id and {reading} > {clock}.shows_us
    """


def instant_of(clock: str, reading: str) -> str:
    """When the business clock shows a reading; null where its calendar ends before.

    clock: the alias of the row of `business_clock` that was joined to the reading.
    """
    return f"""
        case
            when
                {reading} - {clock}.shows_us
                <= epoch_us({clock}.closes_at) - epoch_us({clock}.opens_at)
                then {clock}.opens_at + to_microseconds({reading} - {clock}.shows_us)
        end
    """


def seconds_between(earlier_us: str, later_us: str) -> str:
    """Whole seconds from one reading in microseconds to another, not before it."""
    return f"(({later_us}) - ({earlier_us})) // 1000000"


@dataclass(frozen=True)
class Scope:
    """Stays that were entered in [since, until), and have the values that are named.

    None leaves a value open. context: key and value of the entity's first business
    context, all of them; values as text.
    """

    since: datetime | None = None
    until: datetime | None = None
    entity_type: str | None = None
    workflow_name: str | None = None
    status: str | None = None
    business_entity_id: str | None = None
    context: dict[str, str] = field(default_factory=dict)

    def condition(self) -> Query:
        """What a row of status_intervals must be; true where nothing is named."""
        tests = [self.period("entered_at")]
        parameters: dict[str, object] = {
            name: instant
            for name, instant in (("since", self.since), ("until", self.until))
            if instant is not None
        }
        for name in ("entity_type", "workflow_name", "status", "business_entity_id"):
            if getattr(self, name) is not None:
                tests.append(f"{name} = ${name}")
                parameters[name] = getattr(self, name)
        for place, (key, value) in enumerate(self.context.items()):
            tests.append(
                "(entity_type, entity_id) in (select (entity_type, entity_id) "
                f"from entities where first_context ->> $key_{place} = $value_{place})"
            )
            parameters[f"key_{place}"] = pointer_to(key)
            parameters[f"value_{place}"] = value
        return Query(" and ".join(tests), parameters)

    def period(self, instant: str) -> str:
        """That an instant is in the period; with the parameters of `condition`."""
        since = f"{instant} >= $since" if self.since is not None else "true"
        until = f"{instant} < $until" if self.until is not None else "true"
        return f"{since} and {until}"


ALL = Scope()


def pointer_to(key: str) -> str:
    """A JSON pointer, which takes any key; a path would read dots and brackets."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def judged(scope: Scope) -> Query:
    """Stays of a scope by S21: `is_due`, and `is_breached` if it counts against.

    A closed stay is due if it has a verdict; an open one that is overdue by the clock
    of the publication is due and breached; what is not yet due is on neither side.
    decided_at: when that was known, the deadline of a breach, the end of a met stay.
    """
    condition = scope.condition()
    sql = f"""
        select
            stays.*,
            publication.as_of,
            coalesce(
                verdict is not null
                or (left_at is null and entered_at <= as_of and sla_deadline < as_of),
                false
            ) as is_due,
            is_due and coalesce(verdict <> 'met', true) as is_breached,
            case when is_breached then sla_deadline when is_due then left_at end
                as decided_at
        from (from status_intervals where {condition.sql}) as stays
        cross join publication
    """
    return Query(sql, condition.parameters)


def lasting(scope: Scope, columns: tuple[str, ...] = ()) -> Query:
    """How long stays lasted, or so far: `elapsed_seconds`, `business_seconds`.

    columns: those of status_intervals that are asked for beside them; all by default,
    which of millions of stays takes several times as long.

    has_left: whether it ended; if not, the seconds are those up to the publication's
    clock, and more will come: the stay is censored. Final statuses are left out, since
    nothing is waited for there (S14), and so is what begins after the clock.
    """
    condition = scope.condition()
    elapsed = seconds_between("epoch_us(entered_at)", "epoch_us(stays.as_of)")
    business = seconds_between(reading_us("entered", "entered_at"), "now.shows_us")
    wanted = ", ".join(columns) or "* exclude (elapsed_seconds, business_seconds)"
    sql = f"""
        with {CLOCK},

        -- Read twice, by the columns that are asked for.
        stays as not materialized (
            select status_intervals.*, publication.as_of
            from status_intervals
            cross join publication
            where
                not is_final
                and (left_at is not null or entered_at <= as_of)
                and {condition.sql}
        ),

        clock_now as (
            select
                calendars.calendar_id,
                {reading_us("now", "as_of")} as shows_us
            from (
                select distinct calendar_id, as_of
                from calendar_windows
                cross join publication
            ) as calendars
            {join_clock("now", "calendars.calendar_id", "as_of")}
        ),

        open_stays as (
            select
                stays.* exclude (elapsed_seconds, business_seconds),
                {elapsed} as elapsed_seconds,
                case when stays.calendar_id is null then {elapsed} else {business} end
                    as business_seconds
            from (from stays where left_at is null) as stays
            left join clock_now as now on stays.calendar_id = now.calendar_id
            {join_clock("entered", "stays.calendar_id", "entered_at")}
        )

        select {wanted}, elapsed_seconds, business_seconds, true as has_left
        from stays where left_at is not null
        union all
        select {wanted}, elapsed_seconds, business_seconds, false as has_left
        from open_stays
    """
    return Query(sql, condition.parameters)
