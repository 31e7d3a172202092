"""The published JSON Schema of a transition against the validator that decides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ingest import Settings, deliver, json_schema
from ingest.store.database import Connection
from ingest.transition import COLUMNS

Write = Callable[[str, str], Path]

PUBLISHED = Path(json_schema.__file__).with_name("transition.schema.json")
SOUND = {
    "id": "00000000-0000-4000-8000-000000000001",
    "created_at": "2026-01-01T00:00:00.000001+01:00",
    "entity_type": "order",
    "entity_id": 2**63 - 1,
    "from_status": "",
    "to_status": "x" * 255,
    "transition_reason": None,
    "business_context": {"a": [1]},
    "triggered_by_user_id": "00000000-0000-4000-8000-00000000000F",
    "triggered_by_system": " ",
    "sla_deadline": "2026-01-01 00:00:00Z",
    "is_milestone": True,
    "metadata": "{}",
}
DEFECTS = [
    ("id", "1"),
    ("created_at", None),
    ("created_at", "yesterday"),
    ("created_at", "2026-01-01T00:00:60Z"),
    ("created_at", "2026-01-01T00:00:00.1234567Z"),
    ("entity_type", "Order"),
    ("entity_id", -1),
    ("entity_id", 2**63),
    ("entity_id", 1.5),
    ("entity_id", "01"),
    ("from_status", "a\0"),
    ("to_status", ""),
    ("to_status", "x" * 256),
    ("business_context", [1]),
    ("triggered_by_user_id", "me"),
    ("is_milestone", "yes"),
    ("unknown", 1),
]


def _is_valid(row: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))
    return bool(validator.is_valid(row))


def _is_appended(connection: Connection, write: Write, row: dict[str, Any]) -> bool:
    path = write("row.jsonl", json.dumps(row))
    return deliver(connection, path, Settings()).result.appended == 1


def test_published_schema_is_the_one_the_rules_make() -> None:
    assert json.loads(PUBLISHED.read_text()) == json_schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema.json_schema())
    assert set(json_schema.PROPERTIES) == set(COLUMNS)


def test_sound_row_passes_both(connection: Connection, write: Write) -> None:
    assert _is_valid(SOUND)
    assert _is_appended(connection, write, SOUND)


@pytest.mark.parametrize(("column", "value"), DEFECTS)
def test_defect_is_refused_by_both(
    connection: Connection, write: Write, column: str, value: Any
) -> None:
    row = {**SOUND, column: value}
    assert not _is_valid(row)
    assert not _is_appended(connection, write, row)
