"""The shape of each kind of configuration file: its keys, what they mean and take.

A shape is a JSON Schema that the checks read as well: run as a module, this
writes each to <kind>.schema.json beside it. What a shape can't say is checked where a
kind is.
"""

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from ingest.configuration.calendars import (
    FIRST_YEAR,
    LAST_YEAR,
    WEEKDAYS,
    WINDOW_PATTERN,
)
from ingest.configuration.yaml_files import Located, shown
from ingest.transition import LONGEST_STATUS, TYPE_PATTERN

Shape = dict[str, Any]

# A century; within it microseconds are exact.
LONGEST_HOURS = 1_000_000
DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
# What a calendar file may leave out.
CALENDAR_DEFAULTS: dict[str, Any] = {
    "holidays": None,
    "closed_dates": [],
    "special_dates": {},
    "covers": [FIRST_YEAR, LAST_YEAR],
}

_WORDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("a text", (str,)),
    "boolean": ("true or false", (bool,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "object": ("a mapping", (dict,)),
    "array": ("a list", (list,)),
    "null": ("null", (type(None),)),
}


def _mapping(properties: dict[str, Shape], optional: tuple[str, ...] = ()) -> Shape:
    return {
        "type": "object",
        "properties": properties,
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }


def _list(items: Shape, **more: Any) -> Shape:
    return {"type": "array", "items": items, "uniqueItems": True, **more}


_FLAG = {"type": "boolean"}
_NAME = {"type": "string", "minLength": 1}
_STATUS = {**_NAME, "maxLength": LONGEST_STATUS}
_OBJECT = {"type": "object"}
_UUID = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    "examples": ["729ed482-9c14-4980-99f6-7aa66bbbbdb6"],
}
_DATE = {"type": "string", "pattern": DATE_PATTERN, "examples": ["2026-12-24"]}
_WINDOWS = _list(
    {"type": "string", "pattern": WINDOW_PATTERN, "examples": ["09:00-17:00"]}
)


def _of(shape: Shape, description: str, *, or_null: bool = False) -> Shape:
    """A key: what it means, and what it takes."""
    kind = [shape["type"], "null"] if or_null else shape["type"]
    return {"description": description, **shape, "type": kind}


STEP = _mapping(
    {
        "status_name": _of(_STATUS, "The status, as transitions name it."),
        "status_label": _of(_NAME, "The status, as people read it."),
        "status_color": _of(
            {
                "type": "string",
                "pattern": "^#[0-9a-fA-F]{6}$",
                "examples": ["#2563eb"],
            },
            "Its colour, in quotes: a bare # begins a comment in YAML.",
        ),
        "step_order": _of(
            {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "Its place; the lowest is the first status.",
        ),
        "allowed_transitions": _of(
            _list(_STATUS), "Statuses of this workflow that may follow it (S19)."
        ),
        "sla_hours": _of(
            {"type": "number", "minimum": 0, "maximum": LONGEST_HOURS},
            "Hours from entering the status to its deadline, in the calendar's "
            "business time, with at most six decimals; null for no SLA (S10).",
            or_null=True,
        ),
        "requires_approval": _of(_FLAG, "Whether a user with a role must approve it."),
        "approval_role": _of(
            _NAME, "The role that approves; null where none must.", or_null=True
        ),
        "auto_transition_conditions": _of(
            _OBJECT, "When other systems move it on; kept, not judged."
        ),
        "notification_settings": _of(
            {
                "type": "object",
                "properties": {
                    "at_risk_hours": _of(
                        {"type": "number", "minimum": 0, "maximum": LONGEST_HOURS},
                        "Hours before its deadline from which a stay is at risk.",
                        or_null=True,
                    )
                },
            },
            "Whom alerts about it go to, and how early; other keys are kept.",
        ),
        "is_final": _of(_FLAG, "Whether its clock stands still for good (S14)."),
    }
)
WORKFLOW = _mapping(
    {
        "entity_type": _of(_NAME, "A name in raw.entity_types."),
        "workflow_name": _of(_NAME, "Its name among those of its entity type."),
        "business_entity": _of(
            _NAME,
            "The name of the business entity that it is for; null for all (S8).",
            or_null=True,
        ),
        "is_default": _of(
            _FLAG, "Whether it wins among equally specific ones (S8); one may."
        ),
        "is_active": _of(
            _FLAG, "Whether it binds new entities; false retires it (S7)."
        ),
        "conditions": _of(
            _OBJECT, "What the business context of a first transition contains (S8)."
        ),
        "calendar": _of(
            _NAME,
            "The calendar in whose business time hours count; null for elapsed time.",
            or_null=True,
        ),
        "steps": _of(_list(STEP, minItems=1), "Its statuses."),
    }
)
CALENDAR = _mapping(
    {
        "calendar_name": _of(
            {"type": "string", "pattern": "^[^/]+$", "examples": ["office_nl"]},
            "The name by which workflow files know it, without a slash.",
        ),
        "timezone": _of(
            {**_NAME, "examples": ["Europe/Amsterdam"]},
            "The IANA zone in which its hours and dates are meant (S12).",
        ),
        "windows": _of(
            _mapping(
                {
                    day: _of(
                        _WINDOWS,
                        "Opening hours; past midnight they belong to the day they open "
                        "on. Left out, it is closed.",
                    )
                    for day in WEEKDAYS
                },
                optional=WEEKDAYS,
            ),
            "Opening hours by weekday; they may touch, not overlap (S12).",
        ),
        "holidays": _of(
            _mapping(
                {
                    "country": _of(
                        {**_NAME, "examples": ["NL"]}, "ISO 3166 code of the country."
                    ),
                    "subdivision": _of(
                        _NAME, "Code of its province or state.", or_null=True
                    ),
                },
                optional=("subdivision",),
            ),
            "Whose public holidays are closed; null for none, the default.",
            or_null=True,
        ),
        "closed_dates": _of(_list(_DATE), "Further closed dates; none by default."),
        "special_dates": _of(
            {
                "type": "object",
                "propertyNames": _DATE,
                "additionalProperties": _WINDOWS,
            },
            "Dates with hours of their own, instead of their weekday's or a holiday's.",
        ),
        "covers": _of(
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 1900, "maximum": 2200},
                "minItems": 2,
                "maxItems": 2,
            },
            f"First and last year; [{FIRST_YEAR}, {LAST_YEAR}] by default.",
        ),
    },
    optional=tuple(CALENDAR_DEFAULTS),
)
ENTITY_TYPES = _mapping(
    {
        "entity_types": _of(
            _list(
                _mapping(
                    {
                        "name": _of(
                            {
                                "type": "string",
                                "pattern": TYPE_PATTERN,
                                "maxLength": 63,
                                "examples": ["incident"],
                            },
                            "As transitions and the other files name it.",
                        ),
                        "label": _of(_NAME, "The name for people."),
                    }
                )
            ),
            "Kinds of entities, beside those that every database has.",
        )
    }
)
BUSINESS_ENTITIES = _mapping(
    {
        "business_entities": _of(
            _list(
                _mapping(
                    {
                        "id": _of(
                            _UUID, "As business_context.business_entity_id names it."
                        ),
                        "name": _of(_NAME, "As the other files name it."),
                    }
                )
            ),
            "The parties that a workflow or a transition can name.",
        )
    }
)
USER_ACCOUNTS = _mapping(
    {
        "user_accounts": _of(
            _list(
                _mapping(
                    {
                        "id": _of(_UUID, "As triggered_by_user_id names them."),
                        "name": _of(_NAME, "Their name."),
                        "roles": _of(_list(_NAME), "What they may approve as (S19)."),
                        "business_entity": _of(
                            _NAME, "Whom they work for; null for none.", or_null=True
                        ),
                        "is_active": _of(_FLAG, "Whether their roles count."),
                    }
                )
            ),
            "Who triggers and approves transitions.",
        )
    }
)
KINDS: dict[str, Shape] = {
    "workflow": WORKFLOW,
    "calendar": CALENDAR,
    "entity_types": ENTITY_TYPES,
    "business_entities": BUSINESS_ENTITIES,
    "user_accounts": USER_ACCOUNTS,
}


def json_schema(kind: str) -> Shape:
    """The published JSON Schema of a kind of file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.replace("_", " ").capitalize(),
        **KINDS[kind],
    }


def shape_defects(item: Located, shape: Shape) -> Iterator[str]:
    """What of a mapping is not as its shape says, with file and line."""
    known = shape.get("properties", {})
    others = shape.get("additionalProperties", True)
    for key in shape.get("required", ()):
        if key not in item:
            yield f"{item.at()}: key {key!r} is missing."
    for key, value in item.items():
        if key not in known and others is False:
            names = ", ".join(known)
            yield f"{item.at(key)}: key {shown(key)} is unknown; known are {names}."
        if "propertyNames" in shape:
            yield from _value_defects(
                key, shape["propertyNames"], item.at(key), f"key {shown(key)}"
            )
        of_value = known.get(key, others)
        if isinstance(of_value, dict):
            yield from _value_defects(value, of_value, item.at(key), shown(key))


def _value_defects(value: Any, shape: Shape, where: str, name: str) -> Iterator[str]:
    if not _is_fit(value, shape):
        yield f"{where}: {name} must be {_words(shape)}, not {_shown(value)}."
    elif isinstance(value, Located):
        yield from shape_defects(value, shape)
    elif isinstance(value, list):
        for item in value:
            at = item.at() if isinstance(item, Located) else where
            yield from _value_defects(item, shape["items"], at, f"an item of {name}")
        if shape.get("uniqueItems"):
            for item in _repeated(value):
                yield f"{where}: {name} holds {_shown(item)} more than once."


def sound_part(item: Located, shape: Shape) -> Located:
    """What of a mapping is as its shape says; the rest is left out, at any depth."""
    known = shape.get("properties", {})
    others = shape.get("additionalProperties", True)
    kept = {}
    for key, value in item.items():
        of_value = known.get(key, others)
        if not _is_fit(key, shape.get("propertyNames", _NAME)) or of_value is False:
            continue
        part = _sound_value(value, of_value) if of_value is not True else value
        # What is left of a list may be too short.
        if of_value is True or _is_fit(part, of_value):
            kept[key] = part
    return item.of(kept)


def _sound_value(value: Any, shape: Shape) -> Any:
    if isinstance(value, Located):
        return sound_part(value, shape)
    if not isinstance(value, list) or not _is_fit(value, shape):
        return value
    fit = [item for item in value if _is_fit(item, shape["items"])]
    firsts = {_identity(item): item for item in reversed(fit)}
    return [item for item in fit if firsts.pop(_identity(item), None) is not None]


def _repeated(items: list[Any]) -> Iterator[Any]:
    """Each item that is in a list more than once."""
    identities = [_identity(item) for item in items]
    counts = Counter(identities)
    for identity, item in zip(identities, items, strict=True):
        if counts.pop(identity, 1) > 1:
            yield item


def _identity(value: Any) -> Hashable:
    """Equal for what JSON has as equal: in Python 1 equals true as well."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return frozenset((key, _identity(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(map(_identity, value))
    return isinstance(value, bool), value


def _types(shape: Shape) -> list[str]:
    return shape["type"] if isinstance(shape["type"], list) else [shape["type"]]


def _is_fit(value: Any, shape: Shape) -> bool:
    """Whether a value, apart from what it holds, has a shape."""
    classes = [c for name in _types(shape) for c in _WORDS[name][1]]
    if isinstance(value, bool):
        return bool in classes
    if not isinstance(value, tuple(classes)):
        return False
    if isinstance(value, str):
        size, pattern = len(value), shape.get("pattern")
        sizes = shape.get("minLength", 0), shape.get("maxLength", size)
        is_like = pattern is None or re.fullmatch(pattern, value) is not None
        return is_like and sizes[0] <= size <= sizes[1]
    if isinstance(value, list):
        size = len(value)
        return bool(shape.get("minItems", 0) <= size <= shape.get("maxItems", size))
    if isinstance(value, int | float):
        return bool(shape["minimum"] <= value <= shape["maximum"])
    return True


def _words(shape: Shape) -> str:
    first, *rest = (_WORDS[name][0] for name in _types(shape))
    if shape.get("minLength") or shape.get("minItems"):
        first = first.replace("a ", "a non-empty ", 1)
    for word, key in (("items", "maxItems"), ("characters", "maxLength")):
        if key in shape:
            first += f" of at most {shape[key]} {word}"
    if "minimum" in shape:
        first += f" from {shape['minimum']} to {shape['maximum']}"
    if "examples" in shape:
        first += f" such as {shape['examples'][0]}"
    return " or ".join((first, *rest))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return f"a list of {len(value)}" if isinstance(value, list) else shown(value)


if __name__ == "__main__":
    for _kind in KINDS:
        _path = Path(__file__).with_name(f"{_kind}.schema.json")
        _path.write_text(json.dumps(json_schema(_kind), indent=2) + "\n")
