"""The JSON Schema of a transition, for producers; made from the rules that decide.

`python -m ingest.json_schema` prints it; transition.schema.json is that output.
"""

import json
import sys
from typing import Any

from ingest.transition import (
    BIGINT_PATTERN,
    COLUMNS,
    LAST_ORDER,
    LOCAL_PATTERN,
    LONGEST_STATUS,
    OFFSET_PATTERN,
    ORDER_PATTERN,
    REQUIRED,
    RULES,
    TYPE_PATTERN,
    UUID_PATTERN,
    column_of,
)

_NO_NUL = {"type": "string", "pattern": "^[^\\u0000]*$"}
_UUID = {"type": "string", "pattern": UUID_PATTERN}
# The offset may be left out only where the delivery names a time zone.
_INSTANT = {"type": "string", "pattern": LOCAL_PATTERN + OFFSET_PATTERN}
_OBJECT = {"type": ["object", "string"]}
PROPERTIES: dict[str, dict[str, Any]] = {
    "id": _UUID,
    "created_at": _INSTANT,
    "entity_type": {"type": "string", "pattern": TYPE_PATTERN},
    "entity_id": {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
            {"type": "string", "pattern": BIGINT_PATTERN},
        ]
    },
    "from_status": _NO_NUL,
    "to_status": {**_NO_NUL, "minLength": 1, "maxLength": LONGEST_STATUS},
    "transition_reason": _NO_NUL,
    "business_context": _OBJECT,
    "triggered_by_user_id": _UUID,
    "triggered_by_system": _NO_NUL,
    "sla_deadline": _INSTANT,
    "is_milestone": {"enum": [True, False, "true", "false", "t", "f"]},
    "metadata": _OBJECT,
    "source_order": {
        "anyOf": [
            {"type": "integer", "minimum": -(2**63), "maximum": LAST_ORDER - 1},
            {"type": "string", "pattern": ORDER_PATTERN},
        ]
    },
}


def json_schema() -> dict[str, Any]:
    """A transition as one line of JSON Lines; what may be null may be left out.

    It says what a schema can say. That a local time exists, that a JSON text repeats no
    key, or that an entity type is known, only `validate` decides.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Transition",
        "description": "At created_at the entity went to to_status.",
        "type": "object",
        "properties": {column: _property(column) for column in COLUMNS},
        "required": list(REQUIRED),
        "additionalProperties": False,
    }


def _property(column: str) -> dict[str, Any]:
    schema = PROPERTIES[column]
    if column not in REQUIRED:
        schema = {"anyOf": [schema, {"type": "null"}]}
    rules = [text for code, text in RULES.items() if column_of(code) == column]
    return {"description": " ".join(rules), **schema} if rules else schema


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(json_schema(), indent=2)}\n")
