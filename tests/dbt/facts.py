"""Facts for the tests of dbt/, and what was appended and built as plain rows."""

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, LiteralString

import oracle
import polars as pl
import process_oracle
import psycopg
import yaml
from oracle import Facts, Row
from psycopg.rows import dict_row

from ingest import append
from ingest.append import AppendResult
from ingest.configuration import workflows
from ingest.configuration.workflows import Applied, Configuration
from ingest.store.database import Connection
from ingest.transition import COLUMNS

TEXTS = pl.Schema(dict.fromkeys(COLUMNS, pl.String))
MADE_BY_DERIVATION = {"interval_id", "id", "detail", "group_id", "variant_id"}
BUILT = (
    "status_intervals",
    "workflow_violations",
    "sla_performance",
    "entity_journeys",
    "status_flow",
    "process_variants",
    "handovers",
    "workload",
    "open_work",
    "target_compliance",
)


def at(day: float, microseconds: int = 0) -> datetime:
    """An instant by its days from the first of January 2026, UTC."""
    seconds = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + day * 86_400
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


def step(name: str, order: int, to: list[str], **given: Any) -> Row:
    """A step as a workflow file has it; without ways out it is final."""
    return {
        "status_name": name,
        "status_label": name.title(),
        "status_color": "#2563eb",
        "step_order": order,
        "allowed_transitions": to,
        "sla_hours": None,
        "requires_approval": "approval_role" in given,
        "approval_role": None,
        "auto_transition_conditions": {},
        "notification_settings": {},
        "is_final": not to,
        **given,
    }


def workflow(entity_type: str, name: str, steps: list[Row], **given: Any) -> Row:
    """A workflow as a file has it."""
    return {
        "entity_type": entity_type,
        "workflow_name": name,
        "business_entity": None,
        "is_default": False,
        "is_active": True,
        "conditions": {},
        "calendar": None,
        "steps": steps,
        **given,
    }


def calendar(
    name: str, timezone: str, windows: dict[str, list[str]], **given: Any
) -> Row:
    """A calendar as a file has it, over one year."""
    return {
        "calendar_name": name,
        "timezone": timezone,
        "windows": windows,
        "covers": [2026, 2026],
        **given,
    }


def apply(
    connection: Connection, folder: Path, instant: datetime, *contents: Row
) -> Applied:
    """Write configuration files and apply them as of an instant, in one batch.

    Each is read by itself: between two beside each other that tie, names may decide.
    """
    folder.mkdir(exist_ok=True)
    read = []
    for number, content in enumerate(contents):
        file = folder / f"{number:02}.yml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        read.append(workflows.load(file))
    together = Configuration(
        *(
            tuple(chain.from_iterable(getattr(part, field.name) for part in read))
            for field in fields(Configuration)
        )
    )
    return workflows.apply(connection, together, at=instant)


def target(name: str, entity_type: str, day: str, **given: Any) -> Row:
    """A target as a file has it: of 95 percent, where nothing else is given."""
    return {
        "name": name,
        "entity_type": entity_type,
        "at_least": 95,
        "effective_from": day,
        **given,
    }


def append_rows(connection: Connection, rows: Iterable[Row]) -> AppendResult:
    """Append rows as one batch through the public door."""
    texts = [{name: _text(row.get(name)) for name in COLUMNS} for row in rows]
    return append(connection, pl.DataFrame(texts, schema=TEXTS))


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return json.dumps(value)
    return None if value is None else str(value)


def _rows(connection: psycopg.Connection[Any], query: LiteralString) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def appended(connection: Connection) -> Facts:
    """Everything in schema raw, as the oracle reads it."""
    steps: dict[Any, dict[str, Row]] = {}
    for row in _rows(connection, "select * from raw.status_workflow_steps"):
        steps.setdefault(row["workflow_id"], {})[row["status_name"]] = row
    versions = _rows(connection, "select * from raw.status_workflows")
    return Facts(
        _rows(connection, "select * from raw.status_transitions"),
        [version | {"steps": steps[version["id"]]} for version in versions],
        _rows(connection, "select * from raw.user_accounts"),
        _rows(connection, "select * from raw.business_entities"),
        _rows(connection, "select * from raw.calendars"),
        _rows(connection, "select * from raw.targets"),
    )


def published(connection: Connection, table: str, as_of: datetime) -> list[Row]:
    """The rows of a published relation, at an instant, in an order of their own."""
    with connection.transaction():
        clock = "select set_config('status_engine.as_of', %s, true)"
        connection.execute(clock, [as_of.isoformat()])
        return sort(_rows(connection, f"select * from sla.{table}"))


def sort(rows: list[Row]) -> list[Row]:
    """Rows in an order that depends on nothing but them."""
    return sorted(rows, key=lambda row: repr([_plain(row[key]) for key in sorted(row)]))


def _plain(value: Any) -> Any:
    """An instant without the zone that a session showed it in."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def said_by_oracle(
    facts: Facts, stays: list[Row], table: str, as_of: datetime
) -> list[Row]:
    """What a published relation must hold, without the derived ids."""
    said: dict[str, Callable[[], list[Row]]] = {
        "status_intervals": lambda: stays,
        "workflow_violations": lambda: oracle.violations(facts, stays),
        "sla_performance": lambda: oracle.performance(stays, as_of),
        "entity_current_status": lambda: oracle.current_status(stays, as_of),
        "entity_journeys": lambda: process_oracle.journeys(facts, stays),
        "status_flow": lambda: process_oracle.flow(stays),
        "process_variants": lambda: process_oracle.variants(facts, stays),
        "handovers": lambda: process_oracle.handovers(facts),
        "workload": lambda: process_oracle.workload(stays, as_of),
        "open_work": lambda: process_oracle.open_work(facts, stays, as_of),
        "target_compliance": lambda: process_oracle.target_compliance(
            facts, stays, as_of
        ),
    }
    return sort(said[table]())


def assert_performance_as_oracle(connection: Connection, as_of: datetime) -> None:
    """S21: by day, week and month, by any columns and keys, a median its own."""
    facts = appended(connection)
    asked: list[tuple[str, list[str], list[str]]] = [
        ("month", [], []),
        ("week", ["workflow_name", "status"], []),
        ("day", ["business_entity_id", "system"], []),
        ("month", ["user_id"], ["priority", "none"]),
    ]
    for period, by, keys in asked:
        given = [
            f"by_{name.removesuffix('_name').removesuffix('_id')} => true"
            for name in by
        ]
        call = f"sla_performance_by(period => '{period}', "
        call += ", ".join([*given, f"by_context => array{keys}::text[]"]) + ")"
        rows = published(connection, call, as_of)
        assert rows
        assert rows == sort(oracle.performance_by(facts, as_of, period, by, keys)), by


def assert_as_oracle(
    connection: Connection, as_of: datetime, tables: Iterable[str]
) -> None:
    """Row for row, every column that is not an id made of the others."""
    facts = appended(connection)
    stays = oracle.intervals(facts)
    for table in tables:
        rows = published(connection, table, as_of)
        plain = [
            {k: v for k, v in row.items() if k not in MADE_BY_DERIVATION}
            for row in rows
        ]
        assert sort(plain) == said_by_oracle(facts, stays, table, as_of), table
