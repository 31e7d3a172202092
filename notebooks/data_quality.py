# /// script
# [tool.marimo.opengraph]
# title = "Data quality"
# description = "Can the figures be trusted: is all there, in time and by the rules?"
# ///
"""What came, how late, against which rules, and which verdicts were restated."""

import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="Data quality")

with app.setup:
    import altair as alt
    import page
    import polars as pl

    from analytics import quality


@app.cell
def _():
    publication = page.open_published()
    page.opening(
        "Data quality",
        "Can the figures be trusted: is all there, in time and by the rules?",
        publication,
    )
    return (publication,)


@app.cell
def _(publication):
    entity_type = page.entity_types(publication)
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
    sources = quality.freshness(publication, scope)
    violations = quality.violations(publication, scope)
    restated = quality.restated(publication, scope)
    delivered = quality.deliveries(publication, scope)
    reject_codes = quality.reject_codes(publication, scope)
    return delivered, reject_codes, restated, scope, sources, violations


@app.cell
def _(delivered, restated, sources, violations):
    _came = int(sources["transition_count"].sum())
    _late = int(sources["out_of_order_count"].sum())
    _broken = int(violations["violation_count"].sum())
    page.stats(
        (
            page.number(_late),
            "Out of order",
            f"of {_came:,} transitions: came after a later one of their entity",
        ),
        (
            page.number(_broken),
            "Violations",
            f"of {violations['violation'].n_unique()} kinds",
        ),
        (
            page.number(int(delivered["rejected_count"].sum())),
            "Rejected rows",
            f"of {int(delivered['read_count'].sum()):,} read in the period",
        ),
        (
            page.number(int(restated["verdict_count"].sum())),
            "Restated verdicts",
            "published, and changed by a later cut",
        ),
    )
    return


@app.cell
def _(sources):
    _table = page.table(
        sources,
        {
            "source": ("Source", None),
            "transition_count": ("Transitions", page.number),
            "last_recorded_at": ("Last came (UTC)", page.instant),
            "silent_seconds": ("Silent for", page.duration),
            "last_created_at": ("Newest event (UTC)", page.instant),
            "p50_delay_seconds": ("Median delay", page.duration),
            "out_of_order_count": ("Out of order", page.number),
        },
    )
    page.section(
        "How fresh each source is",
        "The one that was silent longest comes first. A delay is the time from an "
        "event to its recording: of a history that was loaded at once it is long.",
        _table if sources.height else page.nothing("No transition came."),
    )
    return


@app.cell
def _(delivered, reject_codes):
    _table = page.table(
        delivered,
        {
            "source": ("Source", None),
            "kind": ("Kind", None),
            "read_count": ("Read", page.number),
            "appended_count": ("Appended", page.number),
            "duplicate_count": ("Repeated", page.number),
            "rejected_count": ("Rejected", page.number),
            "rejected_ratio": ("Rejected (share)", page.share),
        },
    )
    _codes = page.table(
        reject_codes,
        {
            "source": ("Source", None),
            "code": ("Rejected for", None),
            "rejected_count": ("Rows", page.number),
        },
    )
    page.section(
        "What was delivered",
        "Recorded in the period, whatever the other filters: each row that was read "
        "was appended, there already, or rejected. `status-engine rejects list` shows "
        "the rejected ones with their bytes.",
        _table if delivered.height else page.nothing("Nothing was delivered."),
        _codes if reject_codes.height else page.nothing("Nothing was rejected."),
    )
    return


@app.cell
def _(publication, scope):
    delays = quality.delays(publication, scope)
    delays_chart = page.bars(
        delays,
        "delay",
        "transition_count",
        "Transitions",
        page.BLUE,
        alt.Tooltip("delay:N", title="Recorded after"),
        alt.Tooltip("transition_count:Q", title="Transitions", format=",d"),
        alt.Tooltip("out_of_order_count:Q", title="Out of order", format=",d"),
    )
    page.section(
        "How late rows came",
        "Time from an event to its recording. Late rows change what was published: the "
        "next build judges their entities again.",
        delays_chart if delays.height else page.nothing("No transition came."),
    )
    return (delays,)


@app.cell
def _(violations):
    by_kind = (
        violations.group_by("violation")
        .agg(pl.col("violation_count").sum())
        .sort(["violation_count", "violation"], descending=[True, False])
    )
    violations_chart = page.bars(
        by_kind,
        "violation",
        "violation_count",
        "Violations",
        page.RED,
        alt.Tooltip("violation:N", title="Violation"),
        alt.Tooltip("violation_count:Q", title="Count", format=",d"),
    )
    page.section(
        "Rules that were broken",
        "Transitions are kept and counted, whatever is wrong with them: statuses that "
        "no step has, moves that the workflow does not allow, approvals that are "
        "missing. Many of one kind speak of the workflow as much as of the data.",
        violations_chart
        if by_kind.height
        else page.nothing("No transition violates its workflow."),
    )
    return (by_kind,)


@app.cell
def _(violations):
    _table = page.table(
        violations,
        {
            "violation": ("Violation", None),
            "entity_type": ("Entity type", None),
            "previous_status": ("From", page.text),
            "to_status": ("To", None),
            "violation_count": ("Violations", page.number),
            "entity_count": ("Entities", page.number),
            "detail": ("For example", page.text),
        },
    )
    _table if violations.height else page.nothing("There is nothing to list.")
    return


@app.cell
def _(restated):
    _table = page.table(
        restated,
        {
            "restated_at": ("Restated (UTC)", page.instant),
            "cut": ("Cut", page.number),
            "entity_type": ("Entity type", None),
            "old_value": ("Published", page.text),
            "new_value": ("Now", page.text),
            "verdict_count": ("Stays", page.number),
        },
    )
    page.section(
        "Published verdicts that were corrected",
        "By rows that came late or by changed configuration, of all time; of the "
        "filters the entity type holds. A dash is a stay that is open again or gone.",
        _table if restated.height else page.nothing("No verdict was restated."),
    )
    return


if __name__ == "__main__":
    app.run()
