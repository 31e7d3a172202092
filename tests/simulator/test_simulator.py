"""The demonstration files: the same bytes for a seed, and the defects they claim."""

import csv
import gzip
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import polars as pl
import pytest
import yaml

from simulator import DemoFiles, write_demo

WORKFLOWS = Path(__file__).parents[2] / "workflows"
END = datetime(2026, 3, 31, 16, 30, tzinfo=UTC)
ENTITIES = 4000
COLUMNS = [
    "id",
    "created_at",
    "entity_type",
    "entity_id",
    "from_status",
    "to_status",
    "transition_reason",
    "business_context",
    "triggered_by_user_id",
    "triggered_by_system",
    "sla_deadline",
    "is_milestone",
    "metadata",
]
ENTITY_TYPES = {
    "order",
    "quote",
    "visit",
    "line_item",
    "work_order",
    "invoice",
    "payment",
    "installation",
    "form_submission",
    "customer_feedback",
    "internal_task",
}
JSON_COLUMNS = ("business_context", "metadata")

Record = dict[str, Any]


class Read(NamedTuple):
    """Well-formed rows by file, in file order, and how many rows are not."""

    files: dict[str, list[Record]]
    malformed: int

    @property
    def rows(self) -> list[Record]:
        return [row for rows in self.files.values() for row in rows]


def parse(row: Record) -> Record:
    """The row with typed values; ValueError, KeyError or TypeError if malformed."""
    if list(row) != COLUMNS or row["entity_type"] not in ENTITY_TYPES:
        raise ValueError("columns or entity type")
    if not row["to_status"] or type(row["is_milestone"]) is not bool:
        raise ValueError("to_status or is_milestone")
    parsed = row | {"entity_id": int(row["entity_id"]), "id": UUID(row["id"])}
    for name in ("created_at", "sla_deadline"):
        if isinstance(row[name], str):
            parsed[name] = datetime.fromisoformat(row[name])
    if not isinstance(parsed["created_at"], datetime):
        raise ValueError("created_at")
    for name in JSON_COLUMNS:
        if not isinstance(parsed[name], dict | None):
            raise ValueError(name)
    if row["triggered_by_user_id"] is not None:
        UUID(row["triggered_by_user_id"])
    return parsed


def from_csv(fields: list[str]) -> Record:
    row: Record = {
        name: text or None for name, text in zip(COLUMNS, fields, strict=True)
    }
    row["is_milestone"] = {"true": True, "false": False}[row["is_milestone"]]
    return from_text(row)


def from_text(row: Record) -> Record:
    texts = {name: row[name] for name in JSON_COLUMNS if row[name] is not None}
    return row | {name: json.loads(text) for name, text in texts.items()}


def read(demo: DemoFiles) -> Read:
    history, recent, late = demo.paths
    with history.open(encoding="utf-8", newline="") as file:
        header, *table = csv.reader(file)
    assert header == COLUMNS
    lines = gzip.decompress(recent.read_bytes()).decode("utf-8").splitlines()
    files: dict[str, list[Record]] = defaultdict(list)
    malformed = 0
    attempts = [("history", lambda f=fields: from_csv(f)) for fields in table]
    attempts += [("recent", lambda text=line: json.loads(text)) for line in lines]
    for name, attempt in attempts:
        try:
            files[name].append(parse(attempt()))
        except (ValueError, KeyError, TypeError):
            malformed += 1
    files["late"] = [parse(from_text(row)) for row in pl.read_parquet(late).to_dicts()]
    return Read(dict(files), malformed)


def write(
    directory: Path, *, entities: int = 300, seed: int = 1, end: datetime = END
) -> DemoFiles:
    return write_demo(
        directory, workflows=WORKFLOWS, entities=entities, seed=seed, end=end
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write(tmp_path_factory.mktemp("demo"), entities=ENTITIES, seed=42)


@pytest.fixture(scope="module")
def deliveries(demo: DemoFiles) -> Read:
    return read(demo)


@pytest.fixture(scope="module")
def entities(deliveries: Read) -> dict[tuple[str, int], list[Record]]:
    """The transitions of each entity, without repeats, by instant."""
    found: dict[tuple[str, int], list[Record]] = defaultdict(list)
    unique = {row["id"]: row for row in deliveries.rows}
    for row in sorted(unique.values(), key=lambda row: row["created_at"]):
        found[row["entity_type"], row["entity_id"]].append(row)
    return dict(found)


def contents(demo: DemoFiles) -> list[bytes]:
    return [path.read_bytes() for path in demo.paths]


def test_equal_seed_and_end_give_equal_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert contents(first) == contents(second)
    assert first[1:] == second[1:]


def test_another_seed_or_end_gives_other_bytes(tmp_path: Path) -> None:
    base = contents(write(tmp_path / "a"))
    other_seed = contents(write(tmp_path / "b", seed=2))
    other_end = contents(write(tmp_path / "c", end=END + timedelta(hours=1)))
    assert all(x != y for x, y in zip(base, other_seed, strict=True))
    assert all(x != y for x, y in zip(base, other_end, strict=True))


def test_end_in_another_zone_is_the_same_instant(tmp_path: Path) -> None:
    shifted = END.astimezone(datetime.strptime("+0200", "%z").tzinfo)
    assert contents(write(tmp_path / "a")) == contents(
        write(tmp_path / "b", end=shifted)
    )


def test_naive_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        write(tmp_path, end=END.replace(tzinfo=None))


@pytest.mark.parametrize("count", [0, 1, 12])
def test_few_entities_are_written_and_counted(tmp_path: Path, count: int) -> None:
    files = write(tmp_path, entities=count)
    found = read(files)
    assert len({(r["entity_type"], r["entity_id"]) for r in found.rows}) == count
    assert files.transitions == len(found.rows) + found.malformed


def test_names_of_the_files_are_fixed(demo: DemoFiles) -> None:
    names = [path.name for path in demo.paths]
    assert names == ["01_history.csv", "02_recent.jsonl.gz", "03_late.parquet"]
    assert sorted(path.name for path in demo.paths[0].parent.iterdir()) == names


def test_entities_are_as_many_as_asked_for_and_of_every_type(
    entities: dict[tuple[str, int], list[Record]],
) -> None:
    assert len(entities) == ENTITIES
    assert {entity_type for entity_type, _ in entities} == ENTITY_TYPES


def test_default_size_is_about_twenty_thousand_transitions(demo: DemoFiles) -> None:
    assert 18_000 <= demo.transitions <= 23_000


def test_every_row_is_well_formed_or_counted_as_malformed(
    demo: DemoFiles, deliveries: Read
) -> None:
    assert deliveries.malformed == demo.malformed == 8
    assert len(deliveries.rows) + deliveries.malformed == demo.transitions


def test_repeated_rows_are_equal_and_few(deliveries: Read) -> None:
    by_id: dict[UUID, list[Record]] = defaultdict(list)
    for row in deliveries.rows:
        by_id[row["id"]].append(row)
    assert all(row == rows[0] for rows in by_id.values() for row in rows)
    repeats = len(deliveries.rows) - len(by_id)
    assert 0.003 <= repeats / len(by_id) <= 0.007


def test_some_rows_are_repeated_in_another_file(deliveries: Read) -> None:
    ids = [{row["id"] for row in rows} for rows in deliveries.files.values()]
    assert sum(map(len, ids)) > len(set.union(*ids))
    assert any(
        len(rows) > len({r["id"] for r in rows}) for rows in deliveries.files.values()
    )


def test_no_transition_is_after_the_end_or_before_the_span(deliveries: Read) -> None:
    instants = [row["created_at"] for row in deliveries.rows]
    assert max(instants) <= END
    assert min(instants) >= END - timedelta(days=120)


def test_files_are_split_by_age_and_lateness(deliveries: Read) -> None:
    week_ago = END - timedelta(days=7)
    assert all(r["created_at"] < week_ago for r in deliveries.files["history"])
    recent = Counter(r["created_at"] >= week_ago for r in deliveries.files["recent"])
    assert recent[True] > 10 * recent[False]
    assert 0.005 <= len(deliveries.files["late"]) / len(deliveries.rows) <= 0.015


def test_late_file_is_typed(demo: DemoFiles) -> None:
    schema = pl.read_parquet_schema(demo.paths[2])
    instant = pl.Datetime("us", "UTC")
    special = {
        "created_at": instant,
        "sla_deadline": instant,
        "entity_id": pl.Int64(),
        "is_milestone": pl.Boolean(),
    }
    assert dict(schema) == {name: special.get(name, pl.String()) for name in COLUMNS}


def test_no_entity_has_two_transitions_at_one_instant(
    entities: dict[tuple[str, int], list[Record]],
) -> None:
    for rows in entities.values():
        assert len({row["created_at"] for row in rows}) == len(rows)


class Graph(NamedTuple):
    """What one workflow file allows."""

    business_entity_id: str | None
    conditions: Record
    allowed: dict[str, set[str]]
    approval_role: dict[str, str | None]

    def holds_for(self, context: Record) -> bool:
        owner = self.business_entity_id
        return owner in (None, context["business_entity_id"]) and all(
            context.get(key) == value for key, value in self.conditions.items()
        )


@pytest.fixture(scope="module")
def graphs() -> dict[str, list[Graph]]:
    """The workflows of each type, the most specific first."""
    named = yaml.safe_load((WORKFLOWS / "business_entities.yml").read_text())
    ids = {entry["name"]: entry["id"] for entry in named["business_entities"]}
    found: dict[str, list[Graph]] = defaultdict(list)
    for path in sorted(WORKFLOWS.glob("*.yml")):
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "entity_type" not in file:
            continue
        steps = {step["status_name"]: step for step in file["steps"]}
        found[file["entity_type"]].append(
            Graph(
                ids.get(file["business_entity"]),
                file["conditions"],
                {
                    name: set(step["allowed_transitions"])
                    for name, step in steps.items()
                },
                {name: step["approval_role"] for name, step in steps.items()},
            )
        )
    for several in found.values():
        several.sort(
            key=lambda graph: (graph.business_entity_id is None, -len(graph.conditions))
        )
    return found


def graph_of(graphs: dict[str, list[Graph]], rows: list[Record]) -> Graph:
    context = rows[0]["business_context"]
    return next(g for g in graphs[rows[0]["entity_type"]] if g.holds_for(context))


def test_moves_are_legal_but_for_a_small_share(
    entities: dict[tuple[str, int], list[Record]], graphs: dict[str, list[Graph]]
) -> None:
    judged: Counter[bool] = Counter()
    for rows in entities.values():
        allowed = graph_of(graphs, rows).allowed
        for before, after in pairwise(rows):
            old, new = before["to_status"], after["to_status"]
            judged[old == new or new in allowed.get(old, {new})] += 1
    assert 0 < judged[False] < 0.02 * judged.total()


def test_from_status_is_the_previous_status_where_a_source_says_so(
    entities: dict[tuple[str, int], list[Record]],
) -> None:
    silent = 0
    for rows in entities.values():
        assert rows[0]["from_status"] is None
        for before, after in pairwise(rows):
            assert after["from_status"] in (None, before["to_status"])
            silent += after["from_status"] is None
    assert silent > 0


def test_one_or_two_statuses_are_unknown(
    entities: dict[tuple[str, int], list[Record]], graphs: dict[str, list[Graph]]
) -> None:
    unknown = [
        row
        for rows in entities.values()
        for row in rows
        if row["to_status"] not in graph_of(graphs, rows).allowed
    ]
    assert len(unknown) in (1, 2)


def test_approvals_are_by_the_role_but_for_some(
    entities: dict[tuple[str, int], list[Record]], graphs: dict[str, list[Graph]]
) -> None:
    accounts = yaml.safe_load((WORKFLOWS / "user_accounts.yml").read_text("utf-8"))
    roles = {user["id"]: user["roles"] for user in accounts["user_accounts"]}
    judged: Counter[str] = Counter()
    for rows in entities.values():
        roles_by_status = graph_of(graphs, rows).approval_role
        for row in rows:
            role = roles_by_status.get(row["to_status"])
            context = row["business_context"] or {}
            user = context.get("approved_by_user_id", row["triggered_by_user_id"])
            if role is not None:
                kind = "right" if role in roles.get(user, []) else "wrong"
                judged["missing" if user is None else kind] += 1
    assert judged["right"] > 0.9 * judged.total()
    assert judged["wrong"] > 0
    assert judged["missing"] > 0


def test_some_deadlines_are_promised_and_some_are_moved(
    entities: dict[tuple[str, int], list[Record]],
) -> None:
    moved = [
        after["sla_deadline"] - before["sla_deadline"]
        for rows in entities.values()
        for before, after in pairwise(rows)
        if before["to_status"] == after["to_status"]
    ]
    assert len(moved) > 50
    assert min(moved) > timedelta(0)
