# /// script
# [tool.marimo.opengraph]
# title = "One entity's life"
# description = "What happened to one entity: when, by whom, and was it in time?"
# ///
"""One entity's stays on a line of time, and what was said of each transition."""

import marimo

__generated_with = "0.25.0"
app = marimo.App(width="medium", app_title="One entity's life")

with app.setup:
    import altair as alt
    import marimo as mo
    import page

    from analytics.published import Query

    SHOWN = 200
    VERDICTS = {
        "Met": page.BLUE,
        "Breached": page.AMBER,
        "Overdue": page.RED,
        "Open": "#7fb08f",
        "No deadline": "#b9c1c7",
    }


@app.cell
def _():
    publication = page.open_published()
    page.opening(
        "One entity's life",
        "What happened to one entity: when, by whom, and was it in time?",
        publication,
    )
    return (publication,)


@app.cell
def _(publication):
    entity_type = page.entity_types(publication)
    business_entity = page.business_entities(publication)
    search = mo.ui.text(label="Id or key begins with", placeholder="all", debounce=300)
    return business_entity, entity_type, search


@app.cell
def _(entity_type, publication):
    workflow = page.workflows(publication, entity_type.value)
    return (workflow,)


@app.cell
def _(business_entity, entity_type, publication, search, workflow):
    _condition = page.scope(
        entity_type.value, workflow.value, business_entity.value
    ).condition()
    _sql = f"""
        select
            entity_type, entity_id, entity_key, breached_count, stay_count, is_overdue
        from entity_journeys
        inner join (
            select entity_type, entity_id, entity_key, is_overdue
            from entity_current_status
        ) using (entity_type, entity_id)
        where
            {_condition.sql}
            and (
                starts_with(entity_id::varchar, $text)
                or starts_with(lower(entity_key), lower($text))
            )
        order by
            entity_id::varchar = $text or coalesce(entity_key = $text, false) desc,
            is_overdue desc, breached_count desc, stay_count desc,
            entity_type, entity_id
        limit {SHOWN + 1}
    """
    found = publication.frame(
        Query(_sql, {**_condition.parameters, "text": search.value.strip()})
    )
    _options = {
        f"{r['entity_type']} {r['entity_key'] or r['entity_id']}"
        + (f" (id {r['entity_id']})" if r["entity_key"] else "")
        + (", overdue" if r["is_overdue"] else "")
        + (f", {r['breached_count']} breached" if r["breached_count"] else ""): (
            r["entity_type"],
            r["entity_id"],
        )
        for r in found.head(SHOWN).iter_rows(named=True)
    }
    entity = mo.ui.dropdown(
        _options, next(iter(_options), None), label="Entity", searchable=True
    )
    return entity, found


@app.cell
def _(business_entity, entity, entity_type, found, search, workflow):
    _more = (
        f"The first {SHOWN} that fit are offered, overdue and often breached ones "
        "first: type the beginning of an id or key for others."
        if found.height > SHOWN
        else "No entity fits."
        if not found.height
        else ""
    )
    mo.vstack(
        [
            page.filters(entity_type, workflow, business_entity, search, entity),
            mo.md(_more),
        ]
    )
    return


@app.cell
def _(entity, publication):
    mo.stop(entity.value is None)
    _of = dict(zip(("entity_type", "entity_id"), entity.value, strict=True))
    _one = "entity_type = $entity_type and entity_id = $entity_id"
    life = publication.frame(
        Query(
            f"""
            select *
            from entity_journeys
            inner join (
                select entity_type, entity_id, current_status, status_label,
                    status_since, sla_deadline, is_overdue, seconds_in_status,
                    seconds_to_deadline
                from entity_current_status
            ) using (entity_type, entity_id)
            where {_one}
            """,
            _of,
        )
    ).row(0, named=True)
    stays = publication.frame(
        Query(
            f"""
            select
                stay_number, status, visit,
                coalesce(status_label, status)
                    || if(visit > 1, ' (' || visit || '.)', '') as stay,
                entered_at, left_at, sla_deadline,
                coalesce(left_at, greatest(as_of, entered_at)) as shown_until,
                coalesce(
                    elapsed_seconds,
                    (epoch_us(as_of) - epoch_us(entered_at)) // 1000000
                ) as seconds,
                case
                    when verdict = 'met' then 'Met'
                    when verdict = 'breached' then 'Breached'
                    when left_at is null and sla_deadline < as_of then 'Overdue'
                    when left_at is null and sla_deadline is not null then 'Open'
                    else 'No deadline'
                end as judged
            from status_intervals
            cross join publication
            where {_one}
            order by stay_number
            """,
            _of,
        )
    )
    transitions = publication.frame(
        Query(
            f"""
            select
                entity_place, created_at, previous_status, to_status,
                coalesce(
                    triggered_by_user_name, triggered_by_user_id, triggered_by_system
                ) as by_whom,
                transition_reason, replace(violations, ',', ', ') as violations,
                (epoch_us(recorded_at) - epoch_us(created_at)) // 1000000
                    as delay_seconds
            from audit_trail
            where {_one}
            order by entity_place
            """,
            _of,
        )
    )
    return life, stays, transitions


@app.cell
def _(life):
    _due = life["seconds_to_deadline"]
    _deadline = (
        "no deadline"
        if _due is None
        else f"{page.duration(-_due)} past its deadline"
        if life["is_overdue"]
        else f"{page.duration(_due)} to its deadline"
    )
    page.stats(
        (
            life["status_label"] or life["current_status"],
            "Status",
            f"since {page.instant(life['status_since'])}",
        ),
        (page.duration(life["seconds_in_status"]), "In it for", _deadline),
        (
            page.number(life["breached_count"]),
            "Breached stays",
            f"of {life['stay_count']:,}; {life['rework_count']:,} of them a return",
        ),
        (
            page.duration(life["elapsed_seconds"]),
            "From start to end",
            f"ended in {life['outcome']}" if life["outcome"] else "it goes on",
        ),
    )
    return


@app.cell
def _(stays):
    _base = alt.Chart(stays, width="container", height=alt.Step(26)).encode(
        y=alt.Y(
            "stay:N",
            sort=stays["stay"].to_list(),
            title=None,
            axis=alt.Axis(labelLimit=180),
        )
    )
    _tooltip = [
        alt.Tooltip("stay:N", title="Status"),
        alt.Tooltip("judged:N", title="Verdict"),
        alt.Tooltip("entered_at:T", title="Entered", format="%d %b %Y %H:%M"),
        alt.Tooltip("left_at:T", title="Left", format="%d %b %Y %H:%M"),
        alt.Tooltip("sla_deadline:T", title="Deadline", format="%d %b %Y %H:%M"),
    ]
    _time = alt.X(
        "entered_at:T",
        title="Time (UTC)",
        scale=alt.Scale(type="utc"),
        axis=alt.Axis(format="%d %b %y %H:%M", tickCount=6, labelOverlap=True),
    )
    timeline = page.plain(
        _base.mark_bar(height=15).encode(
            x=_time,
            x2="shown_until:T",
            color=alt.Color(
                "judged:N",
                scale=alt.Scale(domain=list(VERDICTS), range=list(VERDICTS.values())),
            ),
            tooltip=_tooltip,
        )
        + _base.transform_filter("isValid(datum.sla_deadline)")
        .mark_tick(color="#1c2730", thickness=2, height=22)
        .encode(x="sla_deadline:T", tooltip=_tooltip)
    )
    page.section(
        "Its stays",
        "A bar is a stay in a status, from entering to leaving it, or to the clock; a "
        "dark tick is its deadline. A bar that goes beyond its tick was late.",
        timeline,
    )
    return (timeline,)


@app.cell
def _(stays):
    page.table(
        stays,
        {
            "stay": ("Status", None),
            "entered_at": ("Entered (UTC)", page.instant),
            "left_at": ("Left (UTC)", page.instant),
            "seconds": ("Lasted", page.duration),
            "sla_deadline": ("Deadline (UTC)", page.instant),
            "judged": ("Verdict", None),
        },
    )
    return


@app.cell
def _(transitions):
    page.section(
        "What was said of it",
        "Each transition as its source told it, also those that start no stay. "
        "*Recorded after* is how long it took to get here.",
        page.table(
            transitions,
            {
                "created_at": ("When (UTC)", page.instant),
                "previous_status": ("From", page.text),
                "to_status": ("To", None),
                "by_whom": ("By", page.text),
                "transition_reason": ("Reason", page.text),
                "violations": ("Violations", page.text),
                "delay_seconds": ("Recorded after", page.duration),
            },
        ),
    )
    return


if __name__ == "__main__":
    app.run()
