# /// script
# [tool.marimo.opengraph]
# title = "Bottlenecks and rework"
# description = "Where does time go, and which ways do entities take?"
# ///
"""Where entities of a type wait, which ways they take, and how often they return."""

import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Bottlenecks and rework")

with app.setup:
    import altair as alt
    import marimo as mo
    import page
    import polars as pl
    import process_map

    from analytics import findings, flow, survival


@app.cell
def _():
    publication = page.open_published()
    page.opening(
        "Bottlenecks and rework",
        "Where does time go, and which ways do entities take?",
        publication,
    )
    return (publication,)


@app.cell
def _(publication):
    entity_type = page.entity_types(publication, with_all=False)
    business_entity = page.business_entities(publication)
    days = page.period(publication)
    return business_entity, days, entity_type


@app.cell
def _(entity_type, publication):
    workflow = page.workflows(publication, entity_type.value)
    return (workflow,)


@app.cell
def _(business_entity, days, entity_type, workflow):
    page.filters(entity_type, workflow, business_entity, days)
    return


@app.cell
def _(business_entity, days, entity_type, publication, workflow):
    scope = page.scope(
        entity_type.value, workflow.value, business_entity.value, days.value
    )
    statuses = flow.statuses(publication, scope)
    moves = flow.directly_follows(publication, scope)
    lasting = survival.quantiles(
        publication, scope, by=("status",), clock="elapsed_seconds"
    ).join(statuses.select("status", "label", "mean_place"), on="status", how="left")
    ways = flow.variants(publication, scope)
    return lasting, moves, scope, statuses, ways


@app.cell
def _(lasting, moves, statuses, ways):
    _stays = int(statuses["stay_count"].sum())
    _slowest = lasting.sort("p50", descending=True, nulls_last=True).head(1)
    _common = ways["entity_ratio"].head(1).to_list()
    page.stats(
        (page.number(_stays), "Stays", "entered in the period"),
        (page.number(int(moves["move_count"].sum())), "Moves", "from them to others"),
        (
            page.duration(_slowest["p50"][0]) if _slowest.height else page.NOTHING,
            "Slowest status (median)",
            str(_slowest["label"][0]) if _slowest.height else "no stay ended",
        ),
        (
            page.number(ways.height),
            "Ways",
            f"the commonest has {page.share(_common[0])} of the entities"
            if _common
            else "no entity began",
        ),
    )
    return


@app.cell
def _():
    detail = mo.ui.slider(
        50, 100, 5, value=90, show_value=True, label="Moves that are drawn (%)"
    )
    return (detail,)


@app.cell
def _(detail, lasting, moves, statuses):
    drawn = process_map.draw(moves, statuses, lasting, detail.value / 100)
    page.section(
        "Process map",
        "A box is a status: its stays, and within how long half of them leave, the "
        "redder the longer. An arrow is a move: how many, and the median time in the "
        "status that was left; the wider the more. Final statuses have round ends.",
        detail,
        mo.md(
            f"Drawn: {drawn.drawn} of {page.counted(moves.height, 'kind')} of moves, "
            f"{page.share(drawn.ratio)} of all moves."
        )
        if moves.height
        else page.nothing("Nothing moved in the period."),
        mo.mermaid(drawn.mermaid) if statuses.height else mo.md(""),
    )
    return (drawn,)


@app.cell
def _(lasting):
    _shown = (
        lasting.filter(pl.col("closed_count") > 0)
        .sort("mean_place", "status")
        .with_columns(
            (pl.col("^(closed_)?p(50|90)$|^p50_(low|high)$") / 3600).name.suffix("_h")
        )
    )
    _axis = alt.Axis(format=",~r", tickCount=8, labelOverlap=True)
    _tooltip = [
        alt.Tooltip("label:N", title="Status"),
        alt.Tooltip("p50_h:Q", title="Median (h)", format=",.1f"),
        alt.Tooltip("p50_low_h:Q", title="At least (h)", format=",.1f"),
        alt.Tooltip("p50_high_h:Q", title="At most (h)", format=",.1f"),
        alt.Tooltip("closed_p50_h:Q", title="Of closed ones alone (h)", format=",.1f"),
        alt.Tooltip("p90_h:Q", title="90 % (h)", format=",.1f"),
        alt.Tooltip("closed_count:Q", title="Closed", format=",d"),
        alt.Tooltip("open_count:Q", title="Open", format=",d"),
    ]
    _base = alt.Chart(_shown, width="container", height=alt.Step(28)).encode(
        y=alt.Y("label:N", title=None, sort=_shown["label"].to_list()),
        tooltip=_tooltip,
    )
    _hours = alt.X("p50_h:Q", title="Hours in the status", axis=_axis)
    time_chart = page.plain(
        _base.mark_bar(color=page.BLUE, size=14).encode(x=_hours)
        + _base.mark_rule(color="#1c2730").encode(x="p50_low_h:Q", x2="p50_high_h:Q")
        + _base.mark_tick(color=page.AMBER, thickness=3, height=18).encode(x="p90_h:Q")
    )
    page.section(
        "Time in each status",
        "A blue bar is the median with its 95 % interval, an amber tick what nine of "
        "ten stay below, in elapsed time. Open stays count as long as they lasted "
        "(Kaplan and Meier); where too many still wait, a mark is missing.",
        time_chart if _shown.height else page.nothing("No stay has ended."),
        page.table(
            _shown,
            {
                "label": ("Status", None),
                "stay_count": ("Stays", page.number),
                "open_count": ("Open", page.number),
                "p50": ("Median", page.duration),
                "p90": ("90 %", page.duration),
                "closed_p50": ("Median of closed alone", page.duration),
            },
        )
        if _shown.height
        else mo.md(""),
    )
    return (time_chart,)


@app.cell
def _(ways):
    _table = page.table(
        ways,
        {
            "variant": ("Way", None),
            "entity_count": ("Entities", page.number),
            "entity_ratio": ("Share", page.share),
            "ended_count": ("Ended", page.number),
            "p50_seconds": ("Median, start to end", page.duration),
            "p90_seconds": ("90 %", page.duration),
            "waiting_ratio": ("Waiting for others", page.share),
            "breached_entity_count": ("With a breach", page.number),
        },
    )
    page.section(
        "Ways through the statuses",
        "Of entities that began in the period, the commonest way first. Waiting for "
        "others is a share of business time, in statuses whose step says so.",
        _table if ways.height else page.nothing("No entity began in the period."),
    )
    return


@app.cell
def _(publication, scope):
    found = findings.table(findings.all_findings(publication, scope)).sort(
        ["count", "name", "group"], descending=[True, False, False]
    )
    _table = page.table(
        found.with_columns(
            pl.col("name").str.replace_all("_", " "),
            interval=pl.struct("low", "high").map_elements(
                lambda ends: f"{ends['low']:.1%} to {ends['high']:.1%}",
                return_dtype=pl.String,
            ),
        ),
        {
            "name": ("Finding", None),
            "group": ("Entity type / workflow / status", None),
            "threshold": ("What counts", None),
            "count": ("Stays", page.number),
            "of": ("Of", page.number),
            "ratio": ("Share", page.share),
            "interval": ("95 % interval", None),
        },
    )
    page.section(
        "What stands out",
        "Slow and extreme stays, rework, there and back (ping-pong), steps left out or "
        "added, idle entities; each with what counts as one, in business seconds.",
        _table if found.height else page.nothing("Nothing stands out."),
    )
    return (found,)


@app.cell
def _(publication, scope):
    handed = flow.handovers(publication, scope)
    _table = page.table(
        handed,
        {
            "from_user": ("From", None),
            "to_user": ("To", None),
            "handover_count": ("Handovers", page.number),
            "p50_seconds": ("Median time between", page.duration),
        },
    )
    page.section(
        "Handovers between people",
        "How often a transition of one was followed by one of another, of entities "
        "that began in the period.",
        _table if handed.height else page.nothing("Nobody handed anything over."),
    )
    return (handed,)


if __name__ == "__main__":
    app.run()
