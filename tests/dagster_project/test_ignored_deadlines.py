"""Deadlines that are given where no workflow binds: said by ingest and by build."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run

from ingest.configuration import workflows
from ingest.store import database
from ingest.store.database import PROJECT

Row = tuple[str, int, str, bool]
WORKFLOW = PROJECT / "workflows" / "visit_urgent.yml"
SENTENCE = (
    "sla_deadline is ignored in {}: no workflow binds their entities (S8). Apply one "
    "that does; status-engine workflows draft {} writes a first."
)


def _write(path: Path, rows: list[Row]) -> Path:
    """Type, entity, status, and whether there is a deadline; a minute apart."""
    lines = ["created_at,entity_type,entity_id,to_status,business_context,sla_deadline"]
    for minute, (entity_type, entity_id, status, is_due) in enumerate(rows):
        due = "2026-04-01T00:00:00Z" if is_due else ""
        # The workflow binds what is urgent.
        urgent = '"{""priority"": ""urgent""}"' if entity_id == 7 else ""
        lines.append(
            f"2026-03-01T00:{minute:02}:00Z,{entity_type},{entity_id},{status},"
            f"{urgent},{due}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


ROWS: list[Row] = [
    ("order", 1, "new", True),
    ("order", 1, "done", True),
    ("order", 2, "new", False),
    ("quote", 1, "new", True),
    # Of this type there is a workflow, which does not bind the first.
    ("visit", 1, "requested", True),
    ("visit", 7, "requested", True),
]


@pytest.fixture(scope="module")
def home(
    installation, tmp_path_factory: pytest.TempPathFactory, built_empty_url: str
) -> Iterator[Path]:
    """A workflow for urgent visits alone."""
    folder = tmp_path_factory.mktemp("ignored")
    with installation(folder / "home", template=built_empty_url) as url:
        with database.session(url) as connection:
            workflows.apply(connection, workflows.load(WORKFLOW))
        yield folder


def test_ingest_and_build_count_deadlines_that_nothing_uses(home: Path) -> None:
    """ingest by types without any workflow, build by entities that none binds."""
    file = _write(home / "rows.csv", ROWS)
    first = run("ingest", file)
    assert first.code == 0
    of_two = SENTENCE.format("2 transitions of order, 1 transitions of quote", "order")
    assert first.err.splitlines()[1:] == [of_two]
    # What was there before was told before.
    assert "ignored" not in run("ingest", file).err
    built = run("build")
    assert built.code == 0
    of_three = SENTENCE.format(
        "2 transitions of order, 1 transitions of quote, 1 transitions of visit",
        "order",
    )
    assert [line for line in built.err.splitlines() if "ignored" in line] == [of_three]
    again = json.loads(run("build", "--json").out)
    assert again["ignored_deadlines"] == {"order": 2, "quote": 1, "visit": 1}


def test_ingest_counts_each_entity_type_over_all_files(home: Path) -> None:
    paths = [
        _write(home / f"{number}.csv", [("payment", number, "due", True)] * 2)
        for number in (3, 4)
    ]
    said = json.loads(run("ingest", *paths, "--json").out)
    assert said["ignored_deadlines"] == {"payment": 4}
    none = _write(home / "none.csv", [("payment", 9, "due", False)])
    assert "ignored_deadlines" not in json.loads(run("ingest", none, "--json").out)
    assert (
        run("ingest", _write(home / "v.csv", [("visit", 2, "x", True)])).err.count("\n")
        == 1
    )
