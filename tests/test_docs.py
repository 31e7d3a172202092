"""docs/semantics.md defines every rule that is cited, and its vectors hold."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import polars as pl
import pytest
import yaml

from dagster_project.cli import main
from ingest import append
from ingest.configuration import workflows
from ingest.store.cuts import Cut
from ingest.store.database import Connection
from ingest.transition import CODES

PROJECT = Path(__file__).parents[1]
SEMANTICS = (PROJECT / "docs" / "semantics.md").read_text(encoding="utf-8")
DEFINED = set(re.findall(r"^- \*\*(S\d+) ", SEMANTICS, re.MULTILINE))
CITED = re.compile(r"\bS\d{1,2}\b")
ROOMS = (
    "benchmarks",
    "dagster_project",
    "dbt",
    "deploy",
    "docs",
    "examples",
    "ingest",
    "metrics",
    "notebooks",
    "simulator",
    "tests",
    "workflows",
)
TEXTS = (".json", ".md", ".py", ".sql", ".yml")
ZONE = ZoneInfo("America/New_York")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
EVERY_DAY = (*WEEKDAYS, "saturday", "sunday")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def _texts() -> Iterator[Path]:
    yield from (PROJECT / name for name in ("README.md", "DECISIONS.md", "Makefile"))
    for room in ROOMS:
        found = (p for p in (PROJECT / room).rglob("*") if p.suffix in TEXTS)
        yield from (path for path in found if "target" not in path.parts)


def _table(*names: str) -> list[list[str]]:
    """The rows of the document's table with this header."""
    header = f"| {' | '.join(names)} |\n"
    lines = SEMANTICS.partition(header)[2].split("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows
    return rows


def _instant(text: str) -> datetime:
    """A local time, whose weekday is the right one where it is told."""
    *weekday, day, time = text.split()
    local = datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=ZONE)
    assert weekday in ([], [f"{local:%a}"])
    return local


def test_every_rule_that_is_cited_is_defined() -> None:
    cited: dict[str, str] = {}
    for path in _texts():
        found = CITED.findall(path.read_text(encoding="utf-8"))
        cited |= dict.fromkeys(found, str(path))
    assert {rule: where for rule, where in cited.items() if rule not in DEFINED} == {}
    assert {f"S{number}" for number in range(1, 22)} == DEFINED


def test_readme_leads_to_the_rules() -> None:
    assert "](docs/semantics.md)" in (PROJECT / "README.md").read_text()


@pytest.fixture
def calendars(connection: Connection, tmp_path: Path) -> None:
    """The calendars of the document, in force since long."""
    for name, windows, days, closed in _table(
        "calendar", "opening windows", "on", "closed"
    ):
        if name == "none":
            continue
        opens = EVERY_DAY if days == "every day" else WEEKDAYS
        content = {
            "calendar_name": name,
            "timezone": ZONE.key,
            "windows": dict.fromkeys(opens, windows.split(", ")),
            "closed_dates": closed.split(),
            "covers": [2025, 2027],
        }
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(content))
    workflows.apply(connection, workflows.load(tmp_path), at=LONG_AGO)


@pytest.mark.usefixtures("calendars")
def test_deadlines_are_those_of_the_document(connection: Connection) -> None:
    wrong = []
    rows = _table("rule", "calendar", "from", "hours", "deadline")
    for _, name, entered, hours, due in rows:
        kind, calendar = ("uuid", None) if name == "none" else ("text", name)
        found = connection.execute(
            f"select raw.business_deadline(%s::{kind}, %s, %s)".encode(),
            [calendar, _instant(entered), Decimal(hours)],
        ).fetchone()
        wrong += [] if found == (_instant(due),) else [(name, entered, found)]
    assert wrong == []
    assert len(rows) == 8


@pytest.mark.usefixtures("calendars")
def test_business_time_is_that_of_the_document(connection: Connection) -> None:
    wrong = []
    rows = _table("rule", "calendar", "from", "until", "hours between")
    for _, name, entered, left, hours in rows:
        found = connection.execute(
            "select raw.business_seconds(%s::text, %s, %s)",
            [name, _instant(entered), _instant(left)],
        ).fetchone()
        wrong += [] if found == (Decimal(hours) * 3600,) else [(name, entered, found)]
    assert wrong == []
    assert len(rows) == 4


def test_verdicts_are_those_of_the_document(
    connection: Connection, database_url: str, build: Callable[..., Cut]
) -> None:
    rows = _table("rule", "entered", "deadline", "left", "verdict")
    order = PROJECT / "examples" / "olist_orders" / "workflow.yml"
    workflows.apply(connection, workflows.load(order), at=LONG_AGO)
    transitions = [
        {
            "created_at": _instant(instant).astimezone(UTC),
            "entity_type": "order",
            "entity_id": number,
            "to_status": status,
            "sla_deadline": _instant(due).astimezone(UTC),
        }
        for number, (_, entered, due, left, _) in enumerate(rows)
        for instant, status in ((entered, "purchased"), (left, "delivered"))
    ]
    append(connection, pl.DataFrame(transitions))
    build(database_url, datetime(2026, 8, 1, tzinfo=UTC))
    found = connection.execute(
        "select verdict from sla.status_intervals where status = 'purchased' "
        "order by entity_id"
    ).fetchall()
    assert [verdict for (verdict,) in found] == [row[-1] for row in rows]
    assert len(rows) == 3


def _told_to_users() -> Iterator[tuple[str, str]]:
    """What users meet, and where: columns, tables, codes, keys of files, help."""
    for path in (PROJECT / "dbt" / "models").rglob("*.yml"):
        content = yaml.safe_load(path.read_text())
        for model in content.get("models", []):
            yield model["name"], model.get("description", "")
            for column in model.get("columns", []):
                yield f"{model['name']}.{column['name']}", column["description"]
        for table in content.get("sources", [{"tables": []}])[0]["tables"]:
            yield table["name"], table["description"]
    for path in (PROJECT / "dbt" / "tests").glob("*.sql"):
        (text,) = re.findall(r'"description":((?:\s*"[^"]*"\s*~?)+)', path.read_text())
        yield path.name, text
    yield from CODES.items()
    for path in (PROJECT / "ingest").rglob("*.schema.json"):
        for text in re.findall(r'"description": "(.*)"', path.read_text()):
            yield path.name, text
    yield from _helps(main, "status-engine")


def _helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    yield name, command.help or ""
    for option in command.params:
        yield f"{name} {option.name}", getattr(option, "help", None) or ""
    for sub in getattr(command, "commands", {}).values():
        yield from _helps(sub, f"{name} {sub.name}")


def test_users_are_told_in_words_and_a_rules_number_in_brackets_at_most() -> None:
    told = list(_told_to_users())
    brackets = re.compile(r"\(S\d+(, S\d+)*\)")
    bare = {where for where, text in told if CITED.search(brackets.sub("", text))}
    wordless = {where for where, text in told if text and not brackets.sub("", text)}
    assert bare | wordless == set()
    assert len(told) > 300
