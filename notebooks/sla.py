"""How well service levels are kept, from the published tables and nothing else.

The clock is the publication's own as_of (S15): the same file gives the same page for
ever. What the words and the ratios mean is in dbt/models/sla.
"""

import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Service levels")

with app.setup:
    import os
    from pathlib import Path

    import altair as alt
    import duckdb
    import marimo as mo
    import polars as pl

    ALL = "All types"
    EACH = "Every type, side by side"
    BLUE, RED, AMBER, GREY = "#2f6f9f", "#c0492f", "#e0a030", "#9aa3ab"


@app.function
def counted(count, noun):
    """A count and its noun: 1 entity, 1,204 entities."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


@app.function
def of_type(frame, chosen):
    """The rows of one entity type, or all of them."""
    return frame if chosen == ALL else frame.filter(pl.col("entity_type") == chosen)


@app.function
def plain(chart):
    """One look for every chart: no frame, quiet grid, text of one size."""
    return (
        chart.configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titleColor="#555",
            gridColor="#e6e8ea",
            domainColor="#c4c8cc",
            tickColor="#c4c8cc",
            labelLimit=220,
        )
        .configure_legend(labelFontSize=12, title=None, orient="top")
        .configure_title(fontSize=13, fontWeight="bold", anchor="start")
    )


@app.cell
def _():
    home = os.environ.get("STATUS_ENGINE_HOME") or (
        Path(__file__).resolve().parents[1] / ".status-engine"
    )
    database = Path(home) / "published" / "current" / "analytics.duckdb"
    mo.stop(
        not database.exists(),
        mo.md("Nothing is published yet: run `make demo`, then open this page again."),
    )
    con = duckdb.connect(str(database), read_only=True)
    _ = con.execute("set timezone = 'UTC'")
    return (con,)


@app.cell
def _(con):
    cut, as_of = con.sql("select cut, as_of from publication").pl().row(0)
    return as_of, cut


@app.cell
def _(con):
    # Compliance as S21 has it; what is open and not yet due is on neither side.
    totals = con.sql(
        """
        select
            coalesce(sum(met_count), 0)::bigint as met_count,
            coalesce(sum(breached_count), 0)::bigint as breached_count,
            coalesce(sum(overdue_count), 0)::bigint as overdue_count,
            sum(met_count) / nullif(sum(due_count), 0) as compliance_ratio
        from sla_performance
        """
    ).pl()
    return (totals,)


@app.cell
def _(
    as_of,
    cut,
    entity_count,
    overdue,
    totals,
    violations,
    violations_by_name,
):
    _ratio = totals["compliance_ratio"][0]
    mo.vstack(
        [
            mo.md(
                f"""
                # Service levels

                Cut **{cut}**, as of **{as_of:%Y-%m-%d %H:%M} UTC**. Every figure on
                this page is of that cut and that instant; all times are UTC.
                """
            ),
            mo.hstack(
                [
                    mo.stat(
                        f"{overdue.height:,}",
                        label="Overdue now",
                        caption=f"of {counted(entity_count, 'entity')}",
                        bordered=True,
                    ),
                    mo.stat(
                        "–" if _ratio is None else f"{_ratio:.1%}",
                        label="Compliance, all weeks",
                        caption="met ÷ (met + breached + overdue)",
                        bordered=True,
                    ),
                    mo.stat(
                        f"{totals['breached_count'][0]:,}",
                        label="Breached stays",
                        caption="left after their deadline",
                        bordered=True,
                    ),
                    mo.stat(
                        f"{violations['violation_count'].sum():,}",
                        label="Violations",
                        caption=f"of {counted(violations_by_name.height, 'kind')}",
                        bordered=True,
                    ),
                ],
                widths="equal",
                gap=1,
            ),
        ],
        gap=1,
    )
    return


@app.cell
def _(con):
    # One row per overdue entity (S13), worst first.
    overdue = con.sql(
        """
        select
            entity_type,
            entity_id,
            current_status,
            date_diff('microsecond', sla_deadline, as_of) / 3.6e9 as overdue_hours,
            sla_deadline,
            status_since,
            workflow_name
        from entity_current_status
        cross join publication
        where is_overdue
        order by sla_deadline, entity_type, entity_id
        """
    ).pl()
    entity_count = con.sql("select count(*) from entity_current_status").fetchone()[0]
    return entity_count, overdue


@app.cell
def _(overdue):
    overdue_type = mo.ui.dropdown(
        options=[ALL, *sorted(overdue["entity_type"].unique())],
        value=ALL,
        label="Entity type",
    )
    return (overdue_type,)


@app.cell
def _(overdue, overdue_type):
    overdue_shown = of_type(overdue, overdue_type.value)
    overdue_by_status = (
        overdue_shown.group_by("entity_type", "current_status")
        .agg(
            overdue_count=pl.len(),
            longest_hours=pl.col("overdue_hours").max(),
            median_hours=pl.col("overdue_hours").median(),
        )
        .sort(
            ["overdue_count", "entity_type", "current_status"],
            descending=[True, False, False],
        )
    )
    return overdue_by_status, overdue_shown


@app.cell
def _(overdue_by_status):
    _order = (
        overdue_by_status.group_by("entity_type")
        .agg(pl.col("overdue_count").sum())
        .sort(["overdue_count", "entity_type"], descending=[True, False])
    )["entity_type"].to_list()
    overdue_chart = plain(
        alt.Chart(overdue_by_status, width=560, height=alt.Step(17))
        .mark_bar(color=RED, size=12)
        .encode(
            x=alt.X(
                "overdue_count:Q",
                title="Overdue entities (count)",
                axis=alt.Axis(format=",d", tickMinStep=1),
            ),
            y=alt.Y("current_status:N", title=None, sort="-x"),
            row=alt.Row(
                "entity_type:N",
                sort=_order,
                spacing=8,
                header=alt.Header(
                    title=None,
                    labelAngle=0,
                    labelAlign="left",
                    labelFontWeight="bold",
                    labelFontSize=12,
                ),
            ),
            tooltip=[
                alt.Tooltip("entity_type:N", title="Entity type"),
                alt.Tooltip("current_status:N", title="Status"),
                alt.Tooltip("overdue_count:Q", title="Overdue", format=",d"),
                alt.Tooltip("longest_hours:Q", title="Longest (h)", format=",.1f"),
                alt.Tooltip("median_hours:Q", title="Median (h)", format=",.1f"),
            ],
        )
        .resolve_scale(y="independent")
    )
    return (overdue_chart,)


@app.cell
def _(overdue_chart, overdue_shown, overdue_type):
    _table = mo.ui.table(
        overdue_shown.rename(
            {
                "entity_type": "Entity type",
                "entity_id": "Id",
                "current_status": "Status",
                "overdue_hours": "Overdue (h)",
                "sla_deadline": "Deadline (UTC)",
                "status_since": "In status since (UTC)",
                "workflow_name": "Workflow",
            }
        ),
        selection=None,
        page_size=12,
        show_column_summaries=False,
        show_data_types=False,
        format_mapping={
            "Id": str,
            "Overdue (h)": "{:,.1f}".format,
            "Deadline (UTC)": "{:%Y-%m-%d %H:%M}".format,
            "In status since (UTC)": "{:%Y-%m-%d %H:%M}".format,
        },
        text_justify_columns={"Overdue (h)": "right", "Id": "right"},
    )
    _found = mo.vstack(
        [
            _table,
            mo.md(
                "**By type and status.** A long bar is a status in which many "
                "entities are past their deadline; point at it for how long."
            ),
            overdue_chart,
        ]
    )
    mo.vstack(
        [
            mo.md(
                """
                ## What is overdue

                Entities in a status whose deadline is before the clock, worst first:
                the top row has waited longest past its deadline.
                """
            ),
            overdue_type,
            _found if overdue_shown.height else mo.md("*Nothing is overdue.*"),
        ],
        gap=1,
    )
    return


@app.cell
def _(con):
    # One row per ISO week of entered_on and entity type. Stays that are open and not
    # yet due are in no ratio; they are shown, because they can still go either way.
    weekly = con.sql(
        """
        with

        judged as (
            select
                date_trunc('week', entered_on)::date as week_starts_on,
                entity_type,
                sum(met_count)::bigint as met_count,
                sum(breached_count)::bigint as breached_count,
                sum(overdue_count)::bigint as overdue_count,
                sum(due_count)::bigint as due_count
            from sla_performance
            group by all
        ),

        not_yet_due as (
            select
                date_trunc('week', entered_at)::date as week_starts_on,
                entity_type,
                count(*) as not_yet_due_count
            from status_intervals
            cross join publication
            where left_at is null and sla_deadline >= as_of
            group by all
        )

        select
            judged.*,
            coalesce(not_yet_due_count, 0) as not_yet_due_count
        from judged
        left join not_yet_due using (week_starts_on, entity_type)
        order by week_starts_on, entity_type
        """
    ).pl()
    return (weekly,)


@app.function
def compliance(weekly, *keys):
    """S21 by ISO week and the keys, and the naive ratio of closed stays beside it.

    A ratio is null where nothing is met, breached or overdue.
    """
    met, due = pl.col("met_count"), pl.col("due_count")
    closed = met + pl.col("breached_count")
    return (
        weekly.group_by("week_starts_on", *keys)
        .agg(pl.col("^.*_count$").sum())
        .with_columns(
            iso_week=pl.col("week_starts_on").dt.strftime("%G-W%V"),
            compliance_ratio=pl.when(due > 0).then(met / due),
            closed_compliance_ratio=pl.when(closed > 0).then(met / closed),
        )
        .sort("week_starts_on", *keys)
    )


@app.cell
def _(weekly):
    compliance_type = mo.ui.dropdown(
        options=[ALL, EACH, *sorted(weekly["entity_type"].unique())],
        value=ALL,
        label="Entity type",
    )
    return (compliance_type,)


@app.cell
def _(compliance_type, weekly):
    if compliance_type.value == EACH:
        compliance_by_week = compliance(weekly, "entity_type")
    else:
        compliance_by_week = compliance(of_type(weekly, compliance_type.value))
    return (compliance_by_week,)


@app.function
def week_axis(weeks, most, *, labels=True):
    """An axis of Mondays: each of them, or every so many back from the newest."""
    shown = (
        weeks.unique()
        .sort(descending=True)
        .gather_every(max(1, -(-weeks.n_unique() // most)))
    )
    # Year, month and day stay what they are in whatever zone the reader is.
    mondays = [alt.DateTime(year=d.year, month=d.month, date=d.day) for d in shown]
    return alt.X(
        "week_starts_on:T",
        title="Week in which the stay began (its Monday)" if labels else None,
        scale=alt.Scale(padding=16),
        axis=alt.Axis(values=mondays, labels=labels, ticks=labels, format="%d %b %y"),
    )


@app.cell
def _(compliance_by_week, compliance_type):
    _is_each = compliance_type.value == EACH
    _names = {
        "compliance_ratio": "Compliance: met ÷ (met + breached + overdue)",
        "closed_compliance_ratio": "Naive: closed stays only",
    }
    # The last rows are drawn on top: that is compliance, not the naive ratio.
    _ratios = compliance_by_week.unpivot(
        on=list(reversed(_names)),
        index=[c for c in compliance_by_week.columns if not c.endswith("_ratio")],
        variable_name="ratio",
        value_name="value",
    ).with_columns(pl.col("ratio").replace_strict(_names))

    def _by_ratio(channel, values):
        return channel(
            "ratio:N",
            scale=alt.Scale(domain=list(_names.values()), range=values),
            legend=alt.Legend(symbolType="stroke", symbolSize=500, labelLimit=400),
        )

    ratio_lines = (
        alt.Chart(_ratios)
        .mark_line(point=alt.OverlayMarkDef(size=24))
        .encode(
            x=week_axis(
                _ratios["week_starts_on"], 3 if _is_each else 13, labels=_is_each
            ),
            y=alt.Y(
                "value:Q",
                title="Compliance (%)",
                scale=alt.Scale(zero=False, nice=True),
                axis=alt.Axis(format=".0%", tickCount=5),
            ),
            color=_by_ratio(alt.Color, [BLUE, GREY]),
            strokeDash=_by_ratio(alt.StrokeDash, [[1, 0], [5, 4]]),
            strokeWidth=_by_ratio(alt.StrokeWidth, [2.5, 1.2]),
            tooltip=[
                alt.Tooltip("iso_week:N", title="Week"),
                alt.Tooltip("ratio:N", title="Line"),
                alt.Tooltip("value:Q", title="Value", format=".1%"),
                alt.Tooltip("met_count:Q", title="Met", format=",d"),
                alt.Tooltip("breached_count:Q", title="Breached", format=",d"),
                alt.Tooltip("overdue_count:Q", title="Overdue", format=",d"),
                alt.Tooltip("not_yet_due_count:Q", title="Not yet due", format=",d"),
            ],
        )
    )
    return (ratio_lines,)


@app.cell
def _(compliance_by_week):
    _names = {
        "met_count": "Met",
        "breached_count": "Breached",
        "overdue_count": "Overdue",
        "not_yet_due_count": "Not yet due",
    }
    # Bars of neighbouring weeks never overlap, however long the history is.
    _bar_width = max(1, min(24, 700 // max(1, compliance_by_week.height)))
    _stays = (
        compliance_by_week.unpivot(
            on=list(_names),
            index=["week_starts_on", "iso_week"],
            variable_name="verdict",
            value_name="stay_count",
        )
        .with_columns(
            place=pl.col("verdict").replace_strict(
                {name: place for place, name in enumerate(_names)}
            )
        )
        .with_columns(pl.col("verdict").replace_strict(_names))
    )
    stay_bars = (
        alt.Chart(_stays, width=920, height=110)
        .mark_bar(size=_bar_width)
        .encode(
            x=week_axis(_stays["week_starts_on"], 13),
            y=alt.Y(
                "stay_count:Q",
                title="Stays (count)",
                axis=alt.Axis(format=",d", tickCount=3),
            ),
            order="place:Q",
            color=alt.Color(
                "verdict:N",
                scale=alt.Scale(
                    domain=list(_names.values()), range=[BLUE, AMBER, RED, "#d5d9dd"]
                ),
            ),
            tooltip=[
                alt.Tooltip("iso_week:N", title="Week"),
                alt.Tooltip("verdict:N", title="Stays"),
                alt.Tooltip("stay_count:Q", title="Count", format=",d"),
            ],
        )
    )
    return (stay_bars,)


@app.cell
def _(compliance_by_week, compliance_type, ratio_lines, stay_bars):
    if compliance_type.value == EACH:
        compliance_chart = plain(
            ratio_lines.properties(width=255, height=120).facet(
                alt.Facet(
                    "entity_type:N",
                    header=alt.Header(title=None, labelFontWeight="bold"),
                ),
                columns=3,
                spacing=18,
            )
        )
    else:
        compliance_chart = plain(
            alt.vconcat(
                ratio_lines.properties(width=920, height=240),
                stay_bars,
                spacing=12,
            ).resolve_scale(
                x="shared",
                color="independent",
                strokeDash="independent",
                strokeWidth="independent",
            )
        )
    mo.vstack(
        [
            mo.md(
                """
                ## Compliance by week

                Higher is better: of the stays that began in an ISO week, the solid line
                is the share that kept its deadline; the dashed one ignores what is
                overdue, and so flatters. Stays not yet due are in neither, which makes
                the newest weeks early readings.
                """
            ),
            compliance_type,
            compliance_chart
            if compliance_by_week.height
            else mo.md("*No stays have begun.*"),
        ],
        gap=1,
    )
    return (compliance_chart,)


@app.cell
def _(con):
    # One row per entity type and status; hours are of closed stays, open ones counted.
    time_by_status = con.sql(
        """
        select
            entity_type,
            status,
            count(left_at) as closed_count,
            count(*) - count(left_at) as open_count,
            sum(elapsed_seconds) / 3600 as total_hours,
            median(elapsed_seconds) / 3600 as median_hours
        from status_intervals
        group by all
        having count(left_at) > 0
        order by total_hours desc, entity_type, status
        """
    ).pl()
    return (time_by_status,)


@app.cell
def _(time_by_status):
    _types = (
        time_by_status.group_by("entity_type")
        .agg(pl.col("total_hours").sum())
        .sort(["total_hours", "entity_type"], descending=[True, False])
    )["entity_type"].to_list()
    time_type = mo.ui.dropdown(
        options=_types, value=_types[0] if _types else None, label="Entity type"
    )
    return (time_type,)


@app.cell
def _(time_by_status, time_type):
    time_shown = time_by_status.filter(
        pl.col("entity_type").eq_missing(time_type.value)
    )
    _order = time_shown["status"].to_list()
    _tooltip = [
        alt.Tooltip("status:N", title="Status"),
        alt.Tooltip("total_hours:Q", title="Total (h)", format=",.1f"),
        alt.Tooltip("median_hours:Q", title="Median (h)", format=",.1f"),
        alt.Tooltip("closed_count:Q", title="Closed stays", format=",d"),
        alt.Tooltip("open_count:Q", title="Still open", format=",d"),
    ]

    def _bars(column, title, colour, number, *, labels=False):
        bars = alt.Chart(time_shown, width=215, height=alt.Step(24)).encode(
            x=alt.X(
                f"{column}:Q", title=title, axis=alt.Axis(format=",~r", tickCount=4)
            ),
            y=alt.Y(
                "status:N",
                title=None,
                sort=_order,
                axis=alt.Axis() if labels else None,
            ),
            tooltip=_tooltip,
        )
        return bars.mark_bar(color=colour, size=16) + bars.mark_text(
            align="left", dx=4, color="#444", fontSize=11
        ).encode(text=alt.Text(f"{column}:Q", format=number))

    time_chart = plain(
        alt.hconcat(
            _bars("total_hours", "Total time (h)", BLUE, ",.0f", labels=True),
            _bars("median_hours", "Median stay (h)", AMBER, ",.1f"),
            _bars("closed_count", "Closed stays (count)", GREY, ",d"),
            spacing=45,
        )
    )
    return time_chart, time_shown


@app.cell
def _(time_chart, time_shown, time_type):
    mo.vstack(
        [
            mo.md(
                """
                ## Where time goes

                Hours from entering a status to leaving it, nights and weekends
                included: a long blue bar beside a short amber one is many quick stays,
                a long amber one a slow status. Only stays that ended are in it; point
                at a bar for how many still last.
                """
            ),
            time_type,
            time_chart if time_shown.height else mo.md("*No stay has ended.*"),
        ],
        gap=1,
    )
    return


@app.cell
def _(con):
    # One row per violation (S19) and entity type.
    violations = con.sql(
        """
        select
            violation,
            entity_type,
            count(*) as violation_count,
            count(distinct entity_id) as entity_count
        from workflow_violations
        group by all
        order by violation_count desc, violation, entity_type
        """
    ).pl()
    violations_by_name = (
        violations.group_by("violation")
        .agg(pl.col("violation_count").sum())
        .sort(["violation_count", "violation"], descending=[True, False])
    )
    return violations, violations_by_name


@app.cell
def _(violations, violations_by_name):
    _order = violations_by_name["violation"].to_list()
    _name = alt.Y("violation:N", title=None, sort=_order)
    _bars = alt.Chart(violations_by_name, width=250, height=alt.Step(30)).encode(
        x=alt.X(
            "violation_count:Q",
            title="Violations (count)",
            axis=alt.Axis(format=",d", tickMinStep=1, tickCount=4),
        ),
        y=_name,
        tooltip=[
            alt.Tooltip("violation:N", title="Violation"),
            alt.Tooltip("violation_count:Q", title="Count", format=",d"),
        ],
    )
    _cells = alt.Chart(violations, width=alt.Step(46), height=alt.Step(30)).encode(
        x=alt.X("entity_type:N", title="Entity type", axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("violation:N", sort=_order, axis=None),
        tooltip=[
            alt.Tooltip("violation:N", title="Violation"),
            alt.Tooltip("entity_type:N", title="Entity type"),
            alt.Tooltip("violation_count:Q", title="Count", format=",d"),
            alt.Tooltip("entity_count:Q", title="Entities", format=",d"),
        ],
    )
    _most = violations["violation_count"].max() or 0
    violations_chart = plain(
        alt.hconcat(
            _bars.mark_bar(color=RED, size=18)
            + _bars.mark_text(align="left", dx=4, color="#444", fontSize=11).encode(
                text=alt.Text("violation_count:Q", format=",d")
            ),
            _cells.mark_rect().encode(
                color=alt.Color(
                    "violation_count:Q",
                    scale=alt.Scale(scheme="reds", domainMin=0),
                    legend=None,
                )
            )
            + _cells.mark_text(fontSize=11).encode(
                text=alt.Text("violation_count:Q", format=",d"),
                color=alt.condition(
                    alt.datum.violation_count > _most / 2,
                    alt.value("white"),
                    alt.value("#333"),
                ),
            ),
            spacing=50,
        )
    )
    return (violations_chart,)


@app.cell
def _(violations, violations_chart):
    mo.vstack(
        [
            mo.md(
                """
                ## Violations

                Transitions that break a rule of their workflow, kept and counted: on
                the left how many of each kind, on the right in which entity type.
                """
            ),
            violations_chart
            if violations.height
            else mo.md("*No transition violates its workflow.*"),
        ],
        gap=1,
    )
    return


if __name__ == "__main__":
    app.run()
