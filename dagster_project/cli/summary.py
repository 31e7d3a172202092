"""What a person wants to know after a run, read from what was published."""

from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dagster_project.publish import DATABASE_NAME
from dagster_project.terminal import shown

BY_TYPE = """
with
compliance as (
    select
        entity_type,
        sum(met_count) as met,
        sum(due_count) as due
    from sla_performance
    group by entity_type
)
select
    entity_type,
    count(*) as entities,
    count(*) filter (where not is_final) as open,
    count(*) filter (where is_overdue) as overdue,
    any_value(met / nullif(due, 0)) as compliance
from entity_current_status
left join compliance using (entity_type)
group by entity_type
order by overdue desc, entities desc, entity_type
"""
MOST_OVERDUE = """
select
    entity_type,
    entity_id,
    current_status,
    sla_deadline,
    date_diff('hour', sla_deadline, as_of) as hours
from entity_current_status, publication
where is_overdue
order by sla_deadline, entity_type, entity_id
limit 5
"""
EXAMPLE = """
select entity_type, entity_id from entity_current_status
order by is_overdue desc, sla_deadline, entity_type, entity_id
limit 1
"""
TOTALS = """
select
    sum(met_count) / nullif(sum(due_count), 0),
    (select as_of from publication),
    (select count(*) from workflow_violations)
from sla_performance
"""


def summarise(home: Path, console: Console) -> str:
    """Print entities, overdue and compliance by type, and the most overdue.

    Returns:
        An entity to look at, such as `order 1001`: the most overdue, else any.
    """
    folder = home / "published" / "current"
    with duckdb.connect(folder / DATABASE_NAME, read_only=True) as analytics:
        analytics.execute("set timezone = 'UTC'")
        by_type = analytics.execute(BY_TYPE).fetchall()
        most = analytics.execute(MOST_OVERDUE).fetchall()
        total = analytics.execute(TOTALS).fetchone() or (None, None, 0)
        example = analytics.execute(EXAMPLE).fetchone() or ("order", 1)
    compliance, as_of, violations = total
    console.print(f"\n[bold]As of {as_of:%Y-%m-%d %H:%M:%S} UTC[/bold]")
    console.print(
        _table(
            ("entity type", "entities", "open", "overdue", "compliance"),
            [
                (t, f"{n:,}", f"{o:,}", f"{d:,}", _percent(c))
                for t, n, o, d, c in by_type
            ],
        )
    )
    console.print(
        f"Compliance {_percent(compliance)} = met / (met + breached + open overdue); "
        f"{violations:,} workflow violations."
    )
    console.print("\n[bold]The most overdue[/bold]")
    console.print(
        _table(
            ("entity", "status", "deadline (UTC)", "overdue by"),
            [
                (f"{t} {i}", s, f"{d:%Y-%m-%d %H:%M}", f"{h:,} h")
                for t, i, s, d, h in most
            ],
        )
    )
    return " ".join(map(str, example))


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"


def _table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(names):
        is_text = not place or not rows or not rows[0][place][:1].isdigit()
        table.add_column(name, justify="left" if is_text else "right")
    for row in rows:
        # As text: data is no markup.
        table.add_row(*(Text(shown(cell)) for cell in row))
    return table
