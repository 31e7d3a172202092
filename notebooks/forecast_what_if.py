# /// script
# [tool.marimo.opengraph]
# title = "Forecast and what-if"
# description = "Which deadlines may be missed, and what would other rules change?"
# ///
"""Which open deadlines are likely to be missed, what goes with it, and what-if results.

A what-if is judged by `status-engine what-if`; its file is read here.
"""

import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Forecast and what-if")

with app.setup:
    import altair as alt
    import marimo as mo
    import page
    import polars as pl

    from analytics import breaches, forecast, report, what_ifs
    from analytics.published import PublicationError, Query

    # What one decimal shows as nothing.
    LEAST_EXPECTED = 0.05
    DAYS_AHEAD = {"the next day": 1, "the next 7 days": 7, "the next 30 days": 30}


@app.cell
def _():
    publication = page.open_published()
    page.opening(
        "Forecast and what-if",
        "Which deadlines may be missed, and what would other rules change?",
        publication,
    )
    return (publication,)


@app.cell
def _(publication):
    # Of all open stays, once: what is comparable does not depend on what is shown.
    expected = forecast.forecast(publication)
    _ = publication.connection.register("expected", expected.to_arrow())
    return (expected,)


@app.cell
def _(publication):
    entity_type = page.entity_types(publication)
    business_entity = page.business_entities(publication)
    ahead = mo.ui.dropdown(DAYS_AHEAD, "the next 7 days", label="Deadlines within")
    days = page.period(publication)
    return ahead, business_entity, days, entity_type


@app.cell
def _(entity_type, publication):
    workflow = page.workflows(publication, entity_type.value)
    return (workflow,)


@app.cell
def _(ahead, business_entity, entity_type, workflow):
    page.filters(entity_type, workflow, business_entity, ahead)
    return


@app.cell
def _(ahead, business_entity, entity_type, expected, publication, workflow):
    assert expected is not None  # registered above; the query reads it
    _condition = page.scope(
        entity_type.value, workflow.value, business_entity.value
    ).condition()
    _sql = f"""
        select expected.*, coalesce(entity_key, entity_id::varchar) as entity
        from expected
        inner join (
            select entity_type, entity_id, entity_key, business_entity_id from entities
        ) using (entity_type, entity_id)
        cross join publication
        where
            sla_deadline >= as_of
            and sla_deadline < as_of + to_days($days)
            and {_condition.sql}
        order by breach_probability desc, sla_deadline, entity_type, entity_id
    """
    likely = publication.frame(
        Query(_sql, {**_condition.parameters, "days": ahead.value})
    )
    return (likely,)


@app.cell
def _(ahead, likely):
    _sure = likely.filter(pl.col("breach_probability") >= 0.5).height
    page.stats(
        (page.number(likely.height), "Open deadlines", f"in {in_words(ahead.value)}"),
        (
            f"{likely['breach_probability'].sum():,.1f}",
            "Breaches expected",
            "the probabilities together",
        ),
        (page.number(_sure), "More likely than not", "of half and above"),
    )
    return


@app.function
def in_words(days):
    return next(words for words, number in DAYS_AHEAD.items() if number == days)


@app.cell
def _(likely):
    _table = page.table(
        likely,
        {
            "entity_type": ("Entity type", None),
            "entity": ("Entity", None),
            "status": ("Status", None),
            "sla_deadline": ("Deadline (UTC)", page.instant),
            "breach_probability": ("Probability", page.share),
            "seconds": ("So far (business time)", page.duration),
            "comparable_count": ("Comparable stays", page.number),
        },
    )
    page.section(
        "Likely to be missed",
        "Of past stays of the same type, workflow and status that lasted as long, the "
        "share that outlasted the deadline. Few comparable stays: a rough guess, drawn "
        "towards coarser groups.",
        _table
        if likely.height
        else page.nothing("No open deadline falls into this time."),
    )
    return


@app.cell
def _():
    ask_ways = mo.ui.run_button(label="Ask where they go")
    return (ask_ways,)


@app.cell
def _(ask_ways, publication):
    ways = page.once_pressed(
        ask_ways,
        "Looking where comparable stays went ...",
        lambda: forecast.exits(publication),
    )
    return (ways,)


@app.cell
def _(ask_ways, likely, ways):
    exits = None if ways is None else forecast.expected_exits(ways, likely)
    if exits is None:
        _found = mo.md("")
    elif exits.is_empty():
        _found = page.nothing("None of them has a comparable stay.")
    else:
        _known = likely.join(ways, on="interval_id", how="semi").height
        _table = page.table(
            exits.filter(pl.col("expected_count") >= LEAST_EXPECTED).with_columns(
                pl.col("next_status").fill_null("(still there: a breach)")
            ),
            {
                "entity_type": ("Entity type", None),
                "status": ("Status", None),
                "next_status": ("Goes to", None),
                "expected_count": ("Expected", "{:,.1f}".format),
            },
        )
        _said = f"{_known:,} of {likely.height:,} open deadlines have comparable stays."
        _found = mo.vstack([_table, mo.md(_said)])
    page.section(
        "Where they go by their deadlines",
        "Of the same open deadlines, how many are expected to be where when they are "
        "due, as past stays of the same type, workflow and status went that lasted as "
        "long. Where there are few, nothing is drawn towards coarser groups here: "
        "breaches may be some more or fewer than above. Less than 0.05 is left out.",
        ask_ways,
        _found,
    )
    return (exits,)


@app.cell
def _():
    ask = mo.ui.run_button(label="Hold the forecast against past weeks")
    return (ask,)


@app.cell
def _(ask, publication):
    tested = page.once_pressed(
        ask,
        "Asking again, by what was known on past Mondays ...",
        lambda: report.tested(publication),
    )
    return (tested,)


@app.cell
def _(ask, tested):
    page.section(
        "How good it is",
        "The same question at past Mondays, by what was known then, held against what "
        "came, of all types, whatever the filters. It takes seconds, more of a long "
        "history. A point on the dashed line breached as often as it was expected to.",
        ask,
        calibration(tested) if tested else mo.md(""),
        mo.md(f"**{tested.verdict.sentence}**") if tested else mo.md(""),
    )
    return


@app.function
def calibration(tested):
    """What was expected against what came, a point per tenth of the probability."""
    frame = tested.calibration
    if not frame.height:
        return mo.md("")
    base = alt.Chart(frame, width=420, height=320).encode(
        x=alt.X(
            "mean_probability:Q",
            title="Expected (probability of a breach)",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format=".0%"),
        ),
        tooltip=[
            alt.Tooltip("mean_probability:Q", title="Expected", format=".1%"),
            alt.Tooltip("observed_ratio:Q", title="Came", format=".1%"),
            alt.Tooltip("forecast_count:Q", title="Forecasts", format=",d"),
        ],
    )
    line = alt.Chart(pl.DataFrame({"x": [0, 1]})).mark_line(
        color=page.GREY, strokeDash=[5, 4]
    )
    return page.plain(
        line.encode(x="x:Q", y="x:Q")
        + base.mark_rule(color=page.PALE, strokeWidth=7).encode(
            y=alt.Y(
                "observed_low:Q",
                title="Came (share breached)",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%"),
            ),
            y2="observed_high:Q",
        )
        + base.mark_point(filled=True, size=70, color=page.BLUE, opacity=1).encode(
            y="observed_ratio:Q"
        )
    )


@app.cell
def _(business_entity, days, entity_type, publication, workflow):
    associated = breaches.associations(
        publication,
        page.scope(
            entity_type.value, workflow.value, business_entity.value, days.value
        ),
    ).filter((pl.col("q") < report.SIGNIFICANT) & (pl.col("lift") > 1))
    return (associated,)


@app.cell
def _(associated, days):
    _table = page.table(
        associated,
        {
            "factor": ("What", None),
            "value": ("Value", None),
            "due_count": ("Due", page.number),
            "breached_count": ("Breached", page.number),
            "breached_ratio": ("Share breached", page.share),
            "lift": ("Times as often as all", page.times),
            "odds_ratio": ("Odds ratio", page.times),
            "adjusted_odds_ratio": ("Within one status", page.times),
        },
    )
    page.section(
        "What goes with breaches",
        "Of stays entered in the period, corrected for all that was looked at. It is "
        "association: who has the hard cases has the breaches. *Within one status* is "
        "the odds ratio against stays of the same type and status alone.",
        days,
        _table
        if associated.height
        else page.nothing("Nothing goes with breaches more than chance explains."),
    )
    return


@app.cell
def _():
    _files = what_ifs.results(page.home())
    what_if_file = mo.ui.dropdown(
        {path.name: path for path in _files},
        next((path.name for path in _files), None),
        label="Result",
    )
    return (what_if_file,)


@app.cell
def _(what_if_file):
    result, problem = None, ""
    if what_if_file.value:
        try:
            result = what_ifs.read(what_if_file.value)
        except PublicationError as error:
            problem = str(error)
    return problem, result


@app.cell
def _(problem, publication, result, what_if_file):
    _how = (
        "Put the workflow or calendar files as they might be into a folder and have "
        "history judged by them, without changing anything; then open this page "
        "again:\n\n"
        "    mkdir -p .status-engine/what-if\n"
        "    status-engine what-if proposed/ --json "
        "> .status-engine/what-if/stricter.json"
    )
    if result:
        _said = result.result
        _since = f"{_said.since:%Y-%m-%d}" if _said.since else "the beginning"
        _old = (
            f" It is of cut {_said.cut}, not of this page's."
            if _said.cut != publication.cut
            else ""
        )
        _text = (
            f"Supposed since {_since}: {', '.join(_said.changed) or 'no change'}. "
            f"{_said.stays:,} stays were judged again; {_said.moved_deadlines:,} have "
            f"another deadline, **{_said.flip_count:,} flip**.{_old}"
        )
    page.section(
        "What if",
        "What other hours, calendars or workflows would have made of history.",
        what_if_file if what_if_file.value else mo.md(_how),
        mo.callout(mo.md(problem), kind="danger") if problem else mo.md(""),
        mo.md(_text) if result else mo.md(""),
    )
    return


@app.cell
def _(entity_type, result):
    mo.stop(result is None)
    _is_asked = (
        pl.lit(True)
        if entity_type.value is None
        else pl.col("entity_type").eq_missing(entity_type.value)
    )
    groups = result.groups.filter(
        pl.col("by").is_in(["entity type", "status"]) & _is_asked
    ).with_columns(
        group=pl.concat_str(
            "entity_type", pl.col("name").fill_null(""), separator=" "
        ).str.strip_chars(),
    )
    flips = result.flips.filter(_is_asked)
    return flips, groups


@app.cell
def _(groups):
    _types = groups.filter(pl.col("by") == "entity type")
    _long = pl.concat(
        _types.select(
            "group",
            pl.lit(name).alias("rules"),
            *(
                pl.col(f"{side}_{column}").alias(column)
                for column in ("ratio", "low", "high", "due")
            ),
        )
        for side, name in (("before", "As it is"), ("after", "As supposed"))
    )
    _base = alt.Chart(_long, width="container", height=alt.Step(16)).encode(
        y=alt.Y("group:N", title=None),
        yOffset=alt.YOffset("rules:N", sort=["As it is", "As supposed"]),
        color=alt.Color(
            "rules:N",
            scale=alt.Scale(
                domain=["As it is", "As supposed"], range=[page.GREY, page.BLUE]
            ),
        ),
        tooltip=[
            alt.Tooltip("group:N", title="Entity type"),
            alt.Tooltip("rules:N", title="Rules"),
            alt.Tooltip("ratio:Q", title="Compliance", format=".1%"),
            alt.Tooltip("due:Q", title="Due", format=",d"),
        ],
    )
    what_if_chart = page.plain(
        _base.mark_rule(strokeWidth=3).encode(
            x=alt.X(
                "low:Q",
                title="Compliance (%), with its exact 95 % interval",
                axis=alt.Axis(format=".1~%", tickCount=6),
                scale=alt.Scale(zero=False),
            ),
            x2="high:Q",
        )
        + _base.mark_point(filled=True, size=60, opacity=1).encode(x="ratio:Q")
    )
    mo.vstack(
        [
            what_if_chart,
            page.table(
                groups.filter(pl.col("by") == "status").sort(
                    pl.col("change").abs(), descending=True, nulls_last=True
                ),
                {
                    "group": ("Entity type and status", None),
                    "before_due": ("Due", page.number),
                    "before_ratio": ("Compliance", page.share),
                    "after_due": ("Due, supposed", page.number),
                    "after_ratio": ("Compliance, supposed", page.share),
                    "change": ("Change (points)", page.points),
                },
            ),
        ]
    ) if groups.height else page.nothing("Nothing differs from what is in force.")
    return (what_if_chart,)


@app.cell
def _(flips, result):
    mo.vstack(
        [
            mo.md("**Stays that flip**"),
            page.table(
                flips,
                {
                    "entity_type": ("Entity type", None),
                    "entity_id": ("Id", str),
                    "status": ("Status", None),
                    "entered_at": ("Entered (UTC)", page.instant),
                    "before": ("As it is", None),
                    "deadline_before": ("Deadline", page.instant),
                    "after": ("As supposed", None),
                    "deadline_after": ("Deadline, supposed", page.instant),
                },
            )
            if flips.height
            else page.nothing("No stay flips."),
            mo.md("**Alerts**"),
            page.table(
                result.alerts,
                {
                    "stage": ("Stage", None),
                    "due_before": ("Due now", page.number),
                    "due_after": ("Due, supposed", page.number),
                    "waiting_before": ("Due later", page.number),
                    "waiting_after": ("Later, supposed", page.number),
                },
            )
            if result.alerts.height
            else page.nothing("There are no alerts."),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
