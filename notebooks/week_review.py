# /// script
# [tool.marimo.opengraph]
# title = "The week's review"
# description = "How well were service levels kept in a week, and what is late now?"
# ///
"""How well service levels were kept in a week, against the week before, and now.

A week holds what was decided in it, as in the report of a week: the figures are those
of `analytics.report`.
"""

import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="The week's review")

with app.setup:
    import altair as alt
    import marimo as mo
    import page
    import polars as pl

    from analytics import flow, report
    from analytics.published import Query


@app.cell
def _():
    publication = page.open_published()
    page.opening(
        "The week's review",
        "How well were service levels kept in a week, and what is late now?",
        publication,
    )
    return (publication,)


@app.cell
def _(publication):
    _last = report.last_week(publication.as_of)
    _mondays = [_last - place * report.WEEK for place in range(52)]
    week = mo.ui.dropdown(
        {f"{m:%G-W%V}, from {m:%d %b %Y}": m for m in _mondays},
        f"{_last:%G-W%V}, from {_last:%d %b %Y}",
        label="Week (of those that are over)",
        searchable=True,
    )
    entity_type = page.entity_types(publication)
    business_entity = page.business_entities(publication)
    return business_entity, entity_type, week


@app.cell
def _(entity_type, publication):
    workflow = page.workflows(publication, entity_type.value)
    return (workflow,)


@app.cell
def _(business_entity, entity_type, week, workflow):
    page.filters(week, entity_type, workflow, business_entity)
    return


@app.cell
def _(business_entity, entity_type, publication, week, workflow):
    scope = page.scope(entity_type.value, workflow.value, business_entity.value)
    since = page.midnight(week.value)
    decided = report.decided_counts(publication, since, scope)
    total = report.total_line(decided)
    return decided, scope, since, total


@app.function
def change_in_words(line):
    """By how much compliance changed, and whether that is more than chance."""
    if line.change is None:
        return "nothing to compare with"
    points = f"{line.change * 100:+.1f} points"
    return f"{points}, may be chance" if line.is_noise else points


@app.cell
def _(total):
    _now, _before = total.now, total.before
    _interval = (
        f"95 % interval {_now.interval.low:.1%} to {_now.interval.high:.1%}"
        if _now.interval
        else "nothing was due in this week"
    )
    page.stats(
        (page.share(_now.ratio), "Compliance in the week", _interval),
        (page.number(_now.due), "Decided (stays)", "deadline passed, or met"),
        (page.number(_now.due - _now.met), "Breached (stays)", "at their deadline"),
        (page.share(_before.ratio), "The week before", change_in_words(total)),
    )
    return


@app.cell
def _(publication, scope, since):
    weeks = pl.DataFrame(
        [
            (
                monday,
                share.met,
                share.due,
                share.ratio,
                *(share.interval or (None,) * 2),
            )
            for monday, share in report.compliance_by_week(
                publication, since + report.WEEK, scope
            )
        ],
        schema={
            "day": pl.Date,
            "met": pl.Int64,
            "due": pl.Int64,
            "ratio": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
        },
        orient="row",
    )
    _known = weeks.filter(pl.col("due") > 0)
    _base = alt.Chart(_known, width="container", height=220).encode(
        x=page.days_axis("Week (its Monday)", _known["day"]),
        tooltip=[
            alt.Tooltip("day:T", title="Week from", format="%d %b %Y"),
            alt.Tooltip("ratio:Q", title="Compliance", format=".1%"),
            alt.Tooltip("low:Q", title="At least", format=".1%"),
            alt.Tooltip("high:Q", title="At most", format=".1%"),
            alt.Tooltip("due:Q", title="Decided", format=",d"),
        ],
    )
    _axis = alt.Y(
        "low:Q",
        title="Compliance (%)",
        axis=alt.Axis(format=".0%", tickCount=5),
        scale=alt.Scale(zero=False),
    )
    weeks_chart = page.plain(
        _base.mark_rule(color=page.PALE, strokeWidth=7).encode(y=_axis, y2="high:Q")
        + _base.mark_line(
            color=page.BLUE, point=alt.OverlayMarkDef(size=40, color=page.BLUE)
        ).encode(y="ratio:Q")
    )
    page.section(
        "Compliance, week by week",
        "Up to the chosen week; higher is better. A pale bar is the exact 95 % "
        "interval: where little was due it is long, and a change may be chance.",
        weeks_chart if _known.height else page.nothing("Nothing was due."),
    )
    return (weeks,)


@app.cell
def _(decided):
    groups = pl.DataFrame(
        [
            (
                line.group,
                line.now.due,
                line.now.due - line.now.met,
                line.now.ratio,
                line.before.ratio,
                change_in_words(line),
            )
            for line in report.compliance_lines(
                decided, ["entity_type", "workflow_name", "status"]
            )
        ],
        schema={
            "group": pl.String,
            "due": pl.Int64,
            "breached": pl.Int64,
            "ratio": pl.Float64,
            "before": pl.Float64,
            "change": pl.String,
        },
        orient="row",
    )
    _table = page.table(
        groups,
        {
            "group": ("Entity type / workflow / status", None),
            "due": ("Decided", page.number),
            "breached": ("Breached", page.number),
            "ratio": ("Compliance", page.share),
            "before": ("Week before", page.share),
            "change": ("Change", None),
        },
    )
    page.section(
        "Where it was breached",
        "Statuses of which something was decided in the week, the most breaches first.",
        _table if groups.height else page.nothing("Nothing was due in this week."),
    )
    return (groups,)


@app.cell
def _(entity_type, publication, since):
    targets = pl.DataFrame(
        [
            (
                line.name,
                line.group,
                line.at_least,
                line.share.ratio,
                line.allowed,
                line.left,
                line.burns[1],
                line.burns[2],
                {None: page.NOTHING, True: "yes", False: "no"}[line.is_kept],
            )
            for line in report.target_lines(
                publication, since + report.WEEK, entity_type.value
            )
        ],
        schema={
            "name": pl.String,
            "group": pl.String,
            "at_least": pl.Float64,
            "ratio": pl.Float64,
            "allowed": pl.Float64,
            "left": pl.Float64,
            "week": pl.Float64,
            "month": pl.Float64,
            "is_kept": pl.String,
        },
        orient="row",
    )
    _table = page.table(
        targets,
        {
            "name": ("Target", None),
            "group": ("Of", None),
            "at_least": ("At least", page.share),
            "ratio": ("Compliance", page.share),
            "is_kept": ("Kept", None),
            "allowed": ("Breaches allowed", page.breaches),
            "left": ("Left", page.breaches),
            "week": ("Burn rate, 7 days", page.burn_rate),
            "month": ("28 days", page.burn_rate),
        },
    )
    page.section(
        "Targets",
        "In force on the week's last day; of the filters the entity type holds. The "
        "breaches allowed are the error budget: at a burn rate of 1 it is spent as "
        "fast as it comes.",
        _table
        if targets.height
        else page.nothing("No target is in force. A file of targets sets one."),
    )
    return (targets,)


@app.cell
def _(publication, scope, since):
    late = pl.DataFrame(
        report.lateness(publication, since, scope), infer_schema_length=None
    )
    _columns = {
        "entity_type": ("Entity type", None),
        "breached_count": ("Breaches ended", page.number),
        "p50": ("Median", page.duration),
        "p90": ("90 %", page.duration),
        "worst": ("Worst", page.duration),
        "business_p50": ("Median, business time", page.duration),
        "business_worst": ("Worst, business time", page.duration),
    }
    page.section(
        "How late",
        "Breaches that ended in the week: how long after the deadline. Half of them "
        "were no later than the median.",
        page.table(late, _columns)
        if late.height
        else page.nothing("No breach ended in this week."),
    )
    return (late,)


@app.cell
def _(publication, scope, since):
    work = flow.work_by_day(publication, scope).filter(
        pl.col("day") >= (since - 12 * report.WEEK).date(),
        pl.col("day") < (since + report.WEEK).date(),
    )
    _names = {"open_count": "Open", "overdue_count": "Of them overdue"}
    _long = work.unpivot(
        on=list(_names), index="day", variable_name="what", value_name="stays"
    ).with_columns(pl.col("what").replace_strict(_names))
    work_chart = page.plain(
        alt.Chart(_long, width="container", height=180)
        .mark_area(interpolate="step-after", line=True, opacity=0.75)
        .encode(
            x=page.days_axis("Day (UTC)", work["day"]),
            y=alt.Y("stays:Q", title="Stays (count)", stack=None),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(
                    domain=list(_names.values()), range=["#9dbfd7", page.RED]
                ),
            ),
            tooltip=[
                alt.Tooltip("day:T", title="Day", format="%d %b %Y"),
                alt.Tooltip("what:N", title="Stays"),
                alt.Tooltip("stays:Q", title="Count", format=",d"),
            ],
        )
    )
    page.section(
        "Open work at each day's end",
        "Stays in statuses that are not final; the darker part is past its deadline.",
        work_chart if work.height else page.nothing("Nothing was open."),
    )
    return (work,)


@app.cell
def _(publication, scope):
    _condition = scope.condition()
    _sql = f"""
        select
            entity_type, coalesce(entity_key, entity_id::varchar) as entity,
            coalesce(status_label, current_status) as status,
            sla_deadline, -seconds_to_deadline as overdue_seconds, workflow_name
        from entity_current_status
        where is_overdue and {_condition.sql}
        order by sla_deadline, entity_type, entity_id
    """
    overdue = publication.frame(Query(_sql, _condition.parameters))
    _table = page.table(
        overdue,
        {
            "entity_type": ("Entity type", None),
            "entity": ("Entity", None),
            "status": ("Status", None),
            "sla_deadline": ("Deadline (UTC)", page.instant),
            "overdue_seconds": ("Overdue by", page.duration),
            "workflow_name": ("Workflow", None),
        },
    )
    page.section(
        "Overdue now",
        f"**{overdue.height:,}** as of the clock above, whatever the week: the top row "
        "has waited longest past its deadline.",
        _table if overdue.height else page.nothing("Nothing is overdue."),
    )
    return (overdue,)


@app.cell
def _(publication, scope):
    bands = pl.DataFrame(report.open_by_band(publication, scope))
    _columns = {
        "entity_type": ("Entity type", None),
        "open_count": ("Open", page.number),
        "b50": ("0-50 %", page.number),
        "b75": ("50-75 %", page.number),
        "b90": ("75-90 %", page.number),
        "b100": ("90-100 %", page.number),
        "overdue": ("Overdue", page.number),
        "none": ("No deadline", page.number),
    }
    page.section(
        "Open now, by how much of the time is used",
        "Of the time from entering a status to its deadline, in business time where "
        "there is a calendar: what is at 90-100 % is the next to be late.",
        page.table(bands, _columns)
        if bands.height
        else page.nothing("Nothing is open."),
    )
    return (bands,)


if __name__ == "__main__":
    app.run()
