"""What the notebooks share: how a page opens, its filters, how figures and charts look.

No question is asked here, and nothing is counted: that is in `analytics`, or in the
notebook whose question it is.
"""

import html
import os
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import altair as alt
import marimo as mo
import polars as pl

from analytics.published import Publication, PublicationError, open_publication
from analytics.report import NOTHING, budget, burn, lasting, odds, percent
from analytics.stays import Scope

BLUE, RED, AMBER, GREY, GREEN = "#2f6f9f", "#c0492f", "#d99a2b", "#8b959d", "#2f8058"
PALE = "#cfdde8"
ALL_TYPES = "All types"
ALL_WORKFLOWS = "All workflows"
ALL_BUSINESS_ENTITIES = "All business entities"
# What a person looks back over, where nothing else is asked.
DAYS = 90
LISTED = 300
# Colours of the theme are inherited: a page may be dark.
STYLE = """
<style>
.listed { max-height: 27rem; overflow: auto; border: 1px solid rgb(128 128 128 / 35%);
  border-radius: 6px; }
.listed table { border-collapse: collapse; width: 100%; font-size: .875rem; margin: 0; }
.listed th, .listed td { padding: .25rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid rgb(128 128 128 / 20%); }
.listed th { position: sticky; top: 0; background: var(--background, white);
  font-weight: 600; vertical-align: bottom; }
.listed td { white-space: nowrap; }
.listed td.text { white-space: normal; overflow-wrap: break-word; }
.listed th.number, .listed td.number { text-align: right; }
</style>
"""
# Figures are written as in the week's review: a ratio in percent, how many times
# something is something else, how fast a budget is spent.
share, times, burn_rate = percent, odds, burn
# A title, and how a value of the column is written.
Column = tuple[str, Callable[[Any], str] | None]


def home() -> Path:
    """The folder that holds what is published."""
    told = os.environ.get("STATUS_ENGINE_HOME")
    return (
        Path(told) if told else Path(__file__).resolve().parents[1] / ".status-engine"
    )


def open_published() -> Publication:
    """The publication that the page is of; without one the page says what to run."""
    try:
        return open_publication(home())
    except PublicationError as error:
        text = f"{error} Or run `make demo`; then open this page again."
        mo.stop(predicate=True, output=mo.callout(mo.md(text), kind="warn"))
        raise


def opening(title: str, question: str, publication: Publication) -> mo.Html:
    """How each page begins: its question, the cut it reads, and its clock."""
    return mo.md(
        f"# {title}\n\n**{question}**\n\n"
        f"Cut **{publication.cut}**, as of "
        f"**{publication.as_of:%Y-%m-%d %H:%M} UTC**: every figure is of that cut and "
        "that instant; all times are UTC. Load the page again for a newer one."
    )


def entity_types(publication: Publication, *, with_all: bool = True) -> Any:
    """A choice of the entity types that have stays, with their labels."""
    sql = """
        select coalesce(entity_type_label, entity_type), entity_type
        from (select distinct entity_type from status_intervals)
        left join entity_types using (entity_type)
        order by position, entity_type
    """
    options = _named(publication.connection.execute(sql).fetchall())
    if with_all:
        return _choice("Entity type", {ALL_TYPES: None, **options})
    return _choice("Entity type", options)


def workflows(publication: Publication, entity_type: str | None) -> Any:
    """A choice of the workflows that bind stays of a type, or of all."""
    sql = """
        select distinct workflow_name, workflow_name from status_intervals
        where workflow_name is not null and ($1 is null or entity_type = $1)
        order by 1
    """
    rows = publication.connection.execute(sql, [entity_type]).fetchall()
    return _choice("Workflow", {ALL_WORKFLOWS: None, **_named(rows)})


def business_entities(publication: Publication) -> Any:
    """A choice of the business entities that have stays, by name."""
    sql = """
        select coalesce(business_entity_name, business_entity_id), business_entity_id
        from (select distinct business_entity_id from status_intervals)
        left join business_entities using (business_entity_id)
        where business_entity_id is not null
        order by 1, 2
    """
    options = _named(publication.connection.execute(sql).fetchall())
    return _choice("Business entity", {ALL_BUSINESS_ENTITIES: None, **options})


def period(publication: Publication, days: int = DAYS) -> Any:
    """A choice of days, both included: the last ones, or as many as there are."""
    sql = "select min(entered_at)::date from status_intervals"
    last = publication.as_of.astimezone(UTC).date()
    row = publication.connection.execute(sql).fetchone()
    first = min((row and row[0]) or last, last)
    since = max(first, last - timedelta(days=days))
    return mo.ui.date_range(first, last, (since, last), label="Period (both included)")


def filters(*elements: Any) -> mo.Html:
    """Choices in a row, which wraps where the page is narrow."""
    return mo.hstack(elements, justify="start", align="end", gap=1.5, wrap=True)


def once_pressed(button: Any, saying: str, ask: Callable[[], Any]) -> Any:
    """What is found once a button is pressed, for what takes long; until then None."""
    if not button.value:
        return None
    with mo.status.spinner(saying):
        return ask()


def scope(
    entity_type: str | None = None,
    workflow_name: str | None = None,
    business_entity_id: str | None = None,
    days: tuple[date, date] | None = None,
) -> Scope:
    """What was chosen, to be applied where it is counted."""
    since, until = (days[0], days[1] + timedelta(days=1)) if days else (None, None)
    return Scope(
        midnight(since) if since else None,
        midnight(until) if until else None,
        entity_type,
        workflow_name,
        None,
        business_entity_id,
    )


def midnight(day: date) -> datetime:
    """A day's first instant, UTC."""
    return datetime.combine(day, time(), UTC)


def _named(rows: list[tuple[str, str]]) -> dict[str, str | None]:
    """Values by label; a label that several have gets its value behind it."""
    labels = [label for label, _ in rows]
    return {
        label if labels.count(label) == 1 else f"{label} ({value})": value
        for label, value in rows
    }


def _choice(label: str, options: Mapping[str, str | None]) -> Any:
    first = next(iter(options), None)
    return mo.ui.dropdown(
        dict(options), first, label=label, searchable=len(options) > 12
    )


def stats(*figures: tuple[str, str, str]) -> mo.Html:
    """Figures side by side, each with its label and a line that explains it."""
    cells = [
        mo.stat(value, label=label, caption=caption, bordered=True)
        for value, label, caption in figures
    ]
    return mo.hstack(cells, widths="equal", gap=1, wrap=True)


def section(title: str, text: str, *shown: object) -> mo.Html:
    """A part of a page: its title, how to read it, and what it shows."""
    return mo.vstack([mo.md(f"## {title}\n\n{text}"), *shown], gap=1)


def nothing(text: str) -> mo.Html:
    """What stands where there is nothing to show."""
    return mo.md(f"*{text}*")


def table(frame: pl.DataFrame, columns: Mapping[str, Column]) -> mo.Html:
    """The named columns of a frame in that order; a long list scrolls in its box.

    Values are text to the browser, whatever they hold. Of more than LISTED rows the
    first are listed, and how many there are is said.
    """
    heads, cells = [], []
    for name, (title, write) in columns.items():
        kind = _kind(frame.schema[name])
        heads.append(f'<th class="{kind}">{html.escape(title)}</th>')
        written = map(write or text, frame[name].head(LISTED))
        cells.append([f'<td class="{kind}">{_breakable(v)}</td>' for v in written])
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
    rest = (
        f"<p>The first {LISTED:,} of {frame.height:,} rows.</p>"
        if frame.height > LISTED
        else ""
    )
    return mo.Html(
        f'{STYLE}<div class="listed"><table><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{rest}"
    )


def _breakable(value: str) -> str:
    """HTML of a text; names_with_underscores may go on in the next line."""
    return html.escape(value).replace("_", "_<wbr>")


def _kind(type_: pl.DataType) -> str:
    if type_ == pl.String:
        return "text"
    return "number" if type_.is_numeric() else ""


def number(value: int | None) -> str:
    """A count: 12,345."""
    return NOTHING if value is None else f"{value:,}"


def counted(count: int, noun: str) -> str:
    """A count and its noun: 1 stay, 1,204 stays."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def breaches(value: float | None) -> str:
    """A budget in breaches, parts of one among them."""
    return NOTHING if value is None else budget(value)


def points(value: float | None) -> str:
    """A difference of two ratios, in percentage points."""
    return NOTHING if value is None else f"{value * 100:+,.1f}"


def duration(seconds: float | None) -> str:
    """Seconds in their two largest units; before zero, with a minus."""
    if seconds is None:
        return NOTHING
    return f"-{lasting(int(-seconds))}" if seconds < 0 else lasting(int(seconds))


def instant(value: datetime | None) -> str:
    """To the minute; the page says that it is UTC."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M}"


def text(value: object) -> str:
    """As it is; nothing where there is none."""
    return NOTHING if value is None else str(value)


def days_axis(title: str, days: pl.Series) -> alt.X:
    """Days or Mondays as they are in UTC, in whatever zone the reader is.

    days: those that there are; about ten of them are named, up to the last.
    """
    named = days.unique().sort(descending=True)
    named = named.gather_every(max(1, -(-named.len() // 10)))
    return alt.X(
        "day:T",
        title=title,
        axis=alt.Axis(
            format="%d %b %y",
            labelOverlap=True,
            values=[
                alt.DateTime(year=d.year, month=d.month, date=d.day) for d in named
            ],
        ),
    )


def bars(
    frame: pl.DataFrame, name: str, count: str, title: str, color: str, *told: Any
) -> Any:
    """A bar a row, in their order, with its count at its end.

    told: what a bar tells under the pointer.
    """
    base = alt.Chart(frame, width="container", height=alt.Step(28)).encode(
        x=alt.X(
            f"{count}:Q",
            title=f"{title} (count)",
            axis=alt.Axis(format=",d", tickMinStep=1, tickCount=6),
        ),
        y=alt.Y(f"{name}:N", title=None, sort=frame[name].to_list()),
        tooltip=list(told),
    )
    return plain(
        base.mark_bar(color=color, size=16)
        + base.mark_text(align="left", dx=4, color="#333b41").encode(
            text=alt.Text(f"{count}:Q", format=",d")
        )
    )


def plain(chart: Any) -> Any:
    """One look for every chart: no frame, quiet grid, text of one size."""
    return (
        chart.configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titleColor="#4a545c",
            labelColor="#333b41",
            gridColor="#e6e8ea",
            domainColor="#c4c8cc",
            tickColor="#c4c8cc",
            labelLimit=240,
            labelFlush=True,
        )
        .configure_legend(
            labelFontSize=12, title=None, orient="top", labelLimit=400, columns=5
        )
        .configure_header(labelFontSize=12, labelFontWeight="bold", title=None)
    )
