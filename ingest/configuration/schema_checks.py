"""A mapping of a YAML file held against a JSON Schema, each defect with its line.

Of JSON Schema, as much as the files need. What each kind of file looks like belongs in
json_schemas.py and, of mapping files, in ingest/files/mapping_schema.py.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

from ingest.configuration.yaml_files import Located, shown

Schema = dict[str, Any]
_WORDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("a text", (str,)),
    "boolean": ("true or false", (bool,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "object": ("a mapping", (dict,)),
    "array": ("a list", (list,)),
    "null": ("null", (type(None),)),
}


def mapping_of(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """A mapping with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }


def list_of(items: Schema, **more: Any) -> Schema:
    """A list in which nothing stands twice."""
    return {"type": "array", "items": items, "uniqueItems": True, **more}


def key(schema: Schema, description: str, *, or_null: bool = False) -> Schema:
    """A key: what it means, and what it takes."""
    kind = [schema["type"], "null"] if or_null else schema["type"]
    return {"description": description, **schema, "type": kind}


NAME = {"type": "string", "minLength": 1}


def schema_defects(item: Located, schema: Schema) -> Iterator[str]:
    """What of a mapping is not as its schema says, with file and line."""
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in item:
            yield f"{item.at()}: key {key!r} is missing."
    for key, value in item.items():
        if key not in known and others is False:
            names = ", ".join(known)
            yield f"{item.at(key)}: key {shown(key)} is unknown; known are {names}."
        if "propertyNames" in schema:
            yield from _value_defects(
                key, schema["propertyNames"], item.at(key), f"key {shown(key)}"
            )
        of_value = known.get(key, others)
        if isinstance(of_value, dict):
            yield from _value_defects(value, of_value, item.at(key), shown(key))


def _value_defects(value: Any, schema: Schema, where: str, name: str) -> Iterator[str]:
    if not _is_fit(value, schema):
        yield f"{where}: {name} must be {_words(schema)}, not {_shown(value)}."
    elif isinstance(value, Located):
        yield from schema_defects(value, schema)
    elif isinstance(value, list):
        for item in value:
            at = item.at() if isinstance(item, Located) else where
            yield from _value_defects(item, schema["items"], at, f"an item of {name}")
        if schema.get("uniqueItems"):
            for item in _repeated(value):
                yield f"{where}: {name} holds {_shown(item)} more than once."


def sound_part(item: Located, schema: Schema) -> Located:
    """What of a mapping is as its schema says; the rest is left out, at any depth."""
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    kept = {}
    for key, value in item.items():
        of_value = known.get(key, others)
        if not _is_fit(key, schema.get("propertyNames", NAME)) or of_value is False:
            continue
        part = _sound_value(value, of_value) if of_value is not True else value
        # What is left of a list may be too short.
        if of_value is True or _is_fit(part, of_value):
            kept[key] = part
    return item.of(kept)


def _sound_value(value: Any, schema: Schema) -> Any:
    if isinstance(value, Located):
        return sound_part(value, schema)
    if not isinstance(value, list) or not _is_fit(value, schema):
        return value
    fit = [item for item in value if _is_fit(item, schema["items"])]
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


def _types(schema: Schema) -> list[str]:
    return schema["type"] if isinstance(schema["type"], list) else [schema["type"]]


def _is_fit(value: Any, schema: Schema) -> bool:
    """Whether a value, apart from what it holds, has a schema."""
    classes = [c for name in _types(schema) for c in _WORDS[name][1]]
    if isinstance(value, bool):
        return bool in classes
    if not isinstance(value, tuple(classes)):
        return False
    if "enum" in schema and value is not None:
        return value in schema["enum"]
    if isinstance(value, str):
        size, pattern = len(value), schema.get("pattern")
        sizes = schema.get("minLength", 0), schema.get("maxLength", size)
        is_like = pattern is None or re.fullmatch(pattern, value) is not None
        return is_like and sizes[0] <= size <= sizes[1]
    if isinstance(value, list):
        size = len(value)
        return bool(schema.get("minItems", 0) <= size <= schema.get("maxItems", size))
    if isinstance(value, int | float):
        least, most = schema.get("minimum", value), schema.get("maximum", value)
        return bool(least <= value <= most)
    if isinstance(value, dict):
        return bool(len(value) >= schema.get("minProperties", 0))
    return True


def _words(schema: Schema) -> str:
    first, *rest = (_WORDS[name][0] for name in _types(schema))
    if any(schema.get(least) for least in ("minLength", "minItems", "minProperties")):
        first = first.replace("a ", "a non-empty ", 1)
    for word, key in (("items", "maxItems"), ("characters", "maxLength")):
        if key in schema:
            first += f" of at most {schema[key]} {word}"
    if "enum" in schema:
        first = f"one of {', '.join(schema['enum'])}"
    if "minimum" in schema:
        first += f" from {schema['minimum']} to {schema['maximum']}"
    for example in schema.get("examples", ())[:1]:
        is_only_one = schema.get("pattern") == f"^{example}$"
        first = f"the text {example}" if is_only_one else f"{first} such as {example}"
    return " or ".join((first, *rest))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    return f"a list of {len(value)}" if isinstance(value, list) else shown(value)
