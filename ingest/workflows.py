"""Workflow, business entity and user files: checked, then applied as new versions (S7).

Which version binds an entity is decided in dbt (S8); nothing here judges transitions.
"""

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ingest.append import known_types
from ingest.database import Connection
from ingest.errors import WorkflowError
from ingest.transition import NAMESPACE

# A century; within it microseconds are exact.
LONGEST_HOURS = 1_000_000
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
# Any fixed number: two processes must not compare and append at once.
APPLY_LOCK = 7_361_820_146

NUMBER = (int, float)
WORKFLOW_KEYS: dict[str, tuple[type, ...]] = {
    "entity_type": (str,),
    "workflow_name": (str,),
    "business_entity": (str, type(None)),
    "is_default": (bool,),
    "is_active": (bool,),
    "conditions": (dict,),
    "steps": (list,),
}
STEP_KEYS: dict[str, tuple[type, ...]] = {
    "status_name": (str,),
    "status_label": (str,),
    "status_color": (str,),
    "step_order": (int,),
    "allowed_transitions": (list,),
    "sla_hours": (*NUMBER, type(None)),
    "requires_approval": (bool,),
    "approval_role": (str, type(None)),
    "auto_transition_conditions": (dict,),
    "notification_settings": (dict,),
    "is_final": (bool,),
}
ENTITY_KEYS: dict[str, tuple[type, ...]] = {"id": (str,), "name": (str,)}
USER_KEYS: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "name": (str,),
    "roles": (list,),
    "business_entity": (str, type(None)),
    "is_active": (bool,),
}


class Located(dict[str, Any]):
    """A YAML mapping that knows its file and the line of each of its keys."""

    path: Path
    line: int
    lines: dict[str, int]

    def at(self, key: str | None = None) -> str:
        """Where it, or one of its keys, stands."""
        return f"{self.path}, line {self.lines.get(key or '', self.line)}"


@dataclass(frozen=True)
class Configuration:
    """What a set of files says, checked; each item still knows where it stands."""

    workflows: tuple[Located, ...]
    business_entities: tuple[Located, ...]
    user_accounts: tuple[Located, ...]
    warnings: tuple[str, ...]


class Applied(NamedTuple):
    """Names of what got a new version, and how many were in force already."""

    changed: tuple[str, ...]
    unchanged: int


def load(path: Path) -> Configuration:
    """Read and check a file, or every .yml and .yaml file of a folder.

    Raises:
        WorkflowError: one line a defect, with file, line and key.
    """
    defects: list[str] = []
    workflows, entities, users = [], [], []
    for file in _files(path):
        content = _read(file, defects)
        if content is None:
            continue
        if "business_entities" in content:
            entities += _listed(content, "business_entities", ENTITY_KEYS, defects)
        elif "user_accounts" in content:
            users += _listed(content, "user_accounts", USER_KEYS, defects)
        else:
            workflows.append(content)
    for workflow in workflows:
        defects += _workflow_defects(workflow)
    defects += _repeated(workflows, entities, users)
    if defects:
        raise WorkflowError("\n".join(defects))
    warnings = tuple(w for workflow in workflows for w in _warnings(workflow))
    return Configuration(tuple(workflows), tuple(entities), tuple(users), warnings)


def apply(
    connection: Connection, configuration: Configuration, at: datetime | None = None
) -> Applied:
    """Append a new version of each definition that differs from what is in force.

    Args:
        connection: open, outside a transaction; the apply is one transaction on it.
        configuration: as `load` gave it.
        at: the instant from which the versions hold; the database's clock by default.

    Raises:
        WorkflowError: an entity type or business entity is unknown. Nothing is written.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", [APPLY_LOCK])
        versions = list(_versions(connection, configuration))
        stored = _stored(connection)
        changed = [v for v in versions if stored.get(v.identity) != v.content]
        if changed:
            _append_versions(connection, changed, len(versions), at)
    return Applied(tuple(v.title for v in changed), len(versions) - len(changed))


class _Version(NamedTuple):
    """One definition in the form in which it is compared: JSON text, keys sorted."""

    table: str
    identity: tuple[str, ...]
    title: str
    content: str


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".yml", ".yaml"))
        if not files:
            msg = f"{path}: the folder holds no .yml file. Check the path."
            raise WorkflowError(msg)
        return files
    if not path.exists():
        msg = f"{path}: no such file or folder. Check the path."
        raise WorkflowError(msg)
    return [path]


def _read(path: Path, defects: list[str]) -> Located | None:
    class Loader(yaml.SafeLoader):
        """Makes Located mappings of this file."""

    def construct(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Located:
        located = Located()
        located.path, located.line = path, node.start_mark.line + 1
        located.lines = {}
        own = [key_node for key_node, _ in node.value]
        for place, key_node in enumerate(own):
            if any(key_node.value == other.value for other in own[:place]):
                line = key_node.start_mark.line + 1
                name = key_node.value
                defects.append(f"{path}, line {line}: key {name!r} stands there twice.")
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node, deep=True))
            located[key] = loader.construct_object(value_node, deep=True)
            located.lines[key] = key_node.start_mark.line + 1
        return located

    Loader.add_constructor("tag:yaml.org,2002:map", construct)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506
    except OSError as error:
        defects.append(f"{path}: {error.strerror or error}. Check the path.")
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or error
        defects.append(f"{path}{line}: this is no YAML: {reason}.")
        return None
    if not isinstance(content, Located):
        defects.append(f"{path}, line 1: a workflow file is a mapping; this is none.")
        return None
    return content


def _listed(
    content: Located, name: str, keys: dict[str, tuple[type, ...]], defects: list[str]
) -> list[Located]:
    items = content[name]
    if not isinstance(items, list) or not all(isinstance(i, Located) for i in items):
        defects.append(f"{content.at(name)}: {name!r} must be a list of mappings.")
        return []
    for item in items:
        found = list(_shape_defects(item, keys))
        if not found and not _is_uuid(item["id"]):
            found = [f"{item.at('id')}: {item['id']!r} is no UUID."]
        defects += found
    return items


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _shape_defects(item: Located, keys: dict[str, tuple[type, ...]]) -> Iterator[str]:
    for key in item.keys() - keys.keys():
        known = ", ".join(keys)
        yield f"{item.at(key)}: key {key!r} is unknown; known are {known}."
    for key in keys.keys() - item.keys():
        yield f"{item.at()}: key {key!r} is missing."
    for key, types in keys.items():
        if key not in item:
            continue
        value = item[key]
        is_flag = isinstance(value, bool) and bool not in types
        if is_flag or not isinstance(value, types):
            names = " or ".join(
                "null" if t is type(None) else t.__name__ for t in types
            )
            yield f"{item.at(key)}: {key!r} must be {names}, not {value!r}."


def _workflow_defects(workflow: Located) -> list[str]:
    defects = list(_shape_defects(workflow, WORKFLOW_KEYS))
    if defects:
        return defects
    steps = workflow["steps"]
    if not steps or not all(isinstance(step, Located) for step in steps):
        return [f"{workflow.at('steps')}: 'steps' must be a list of at least one step."]
    for step in steps:
        defects += _shape_defects(step, STEP_KEYS)
    if defects:
        return defects
    for step in steps:
        defects += _step_defects(step)
    return [*defects, *_graph_defects(workflow)]


def _step_defects(step: Located) -> Iterator[str]:
    name, hours = step["status_name"], step["sla_hours"]
    if not name:
        yield f"{step.at('status_name')}: the status has no name."
    if not COLOUR.fullmatch(step["status_color"]):
        yield (
            f"{step.at('status_color')}: {step['status_color']!r} is no colour "
            "such as #2563eb."
        )
    if hours is not None and not 0 <= hours <= LONGEST_HOURS:
        yield f"{step.at('sla_hours')}: {hours} hours can't be an SLA."
    elif hours is not None and -_exponent(hours) > 6:
        yield f"{step.at('sla_hours')}: {hours} has more than six decimals."
    if step["is_final"] and hours is not None:
        yield f"{step.at('sla_hours')}: {name!r} is final and can't have an SLA (S10)."
    if not step["is_final"] and not step["allowed_transitions"]:
        where = step.at("allowed_transitions")
        yield f"{where}: {name!r} is not final and has no way out."
    if step["requires_approval"] != (step["approval_role"] is not None):
        yield (
            f"{step.at('approval_role')}: a role is needed where an approval is "
            "required, and only there."
        )


def _exponent(hours: float) -> int:
    exponent = Decimal(str(hours)).normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _graph_defects(workflow: Located) -> Iterator[str]:
    steps: Sequence[Located] = workflow["steps"]
    names = [step["status_name"] for step in steps]
    for key in ("status_name", "step_order"):
        values = [step[key] for step in steps]
        for step in steps:
            if values.count(step[key]) > 1:
                yield f"{step.at(key)}: {key} {step[key]!r} is there more than once."
    for step in steps:
        for target in step["allowed_transitions"]:
            if target not in names:
                yield f"{step.at('allowed_transitions')}: {target!r} is no step here."
    if not any(step["is_final"] for step in steps):
        yield f"{workflow.at('steps')}: no step is final."
    unreached = set(names) - _reached(steps)
    for step in steps:
        if step["status_name"] in unreached:
            name = step["status_name"]
            yield f"{step.at()}: {name!r} can't be reached from the first."


def _reached(steps: Sequence[Located]) -> set[str]:
    ways = {step["status_name"]: step["allowed_transitions"] for step in steps}
    first = min(steps, key=lambda step: int(step["step_order"]))["status_name"]
    reached: set[str] = set()
    ahead = [first]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += ways.get(name, [])
    return reached


def _warnings(workflow: Located) -> Iterator[str]:
    for step in workflow["steps"]:
        if step["sla_hours"] is None and not step["is_final"]:
            yield f"{step.at()}: {step['status_name']!r} has no SLA."


def _repeated(
    workflows: list[Located], entities: list[Located], users: list[Located]
) -> Iterator[str]:
    """Definitions that claim the same identity, or tie as the default (S8)."""
    identities: tuple[tuple[list[Located], tuple[str, ...]], ...] = (
        (workflows, ("entity_type", "workflow_name", "business_entity")),
        (entities, ("id",)),
        (entities, ("name",)),
        (users, ("id",)),
    )
    for items, keys in identities:
        yield from _twice(items, keys, "is defined twice; the other is at")
    defaults = [w for w in workflows if w.get("is_default")]
    yield from _twice(
        defaults,
        ("entity_type", "business_entity", "conditions"),
        "has two defaults; the other is at",
    )


def _twice(items: list[Located], keys: tuple[str, ...], words: str) -> Iterator[str]:
    seen: dict[str, Located] = {}
    for item in items:
        identity = json.dumps(
            [item.get(key) for key in keys], default=str, sort_keys=True
        )
        if identity in seen:
            shown = ", ".join(str(item.get(key)) for key in keys)
            yield f"{item.at(keys[0])}: {shown} {words} {seen[identity].at(keys[0])}."
        seen[identity] = item


def _versions(
    connection: Connection, configuration: Configuration
) -> Iterator[_Version]:
    names = _entity_ids(connection)
    names |= {e["name"]: e["id"] for e in configuration.business_entities}
    types = known_types(connection)
    for entity in configuration.business_entities:
        content = {"name": entity["name"], "is_active": True}
        yield _version("business_entities", (entity["id"],), entity["name"], content)
    for user in configuration.user_accounts:
        content = {
            "name": user["name"],
            "roles": sorted(user["roles"]),
            "business_entity_id": _entity_id(user, names),
            "is_active": user["is_active"],
        }
        yield _version("user_accounts", (user["id"],), user["name"], content)
    for workflow in configuration.workflows:
        if workflow["entity_type"] not in types:
            kind, where = workflow["entity_type"], workflow.at("entity_type")
            known = ", ".join(types)
            msg = f"{where}: entity type {kind!r} is unknown; known are {known}."
            raise WorkflowError(msg)
        yield _workflow_version(workflow, _entity_id(workflow, names))


def _workflow_version(workflow: Located, entity_id: str | None) -> _Version:
    kind, name = workflow["entity_type"], workflow["workflow_name"]
    steps = sorted(workflow["steps"], key=lambda step: int(step["step_order"]))
    content = {
        "is_default": workflow["is_default"],
        "conditions": workflow["conditions"],
        "is_active": workflow["is_active"],
        "steps": [{**step, "sla_hours": _plain(step["sla_hours"])} for step in steps],
    }
    title = f"{kind}/{name}" + (
        f" ({workflow['business_entity']})" if entity_id else ""
    )
    return _version("status_workflows", (kind, name, entity_id or ""), title, content)


def _version(
    table: str, identity: tuple[str, ...], title: str, content: dict[str, Any]
) -> _Version:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return _Version(table, (table, *identity), title, text)


def _plain(hours: Decimal | float | None) -> str | None:
    return None if hours is None else f"{Decimal(str(hours)).normalize():f}"


def _entity_ids(connection: Connection) -> dict[str, str]:
    rows = connection.execute(
        "select distinct on (id) name, id::text from raw.business_entities "
        "order by id, created_at desc"
    ).fetchall()
    return dict(rows)


def _entity_id(item: Located, names: dict[str, str]) -> str | None:
    name = item["business_entity"]
    if name is not None and name not in names:
        msg = (
            f"{item.at('business_entity')}: business entity {name!r} is unknown; "
            "define it in a business_entities file."
        )
        raise WorkflowError(msg)
    return None if name is None else names[name]


STORED = (
    """
select distinct on (id)
    array['business_entities', id::text],
    json_build_object('name', name, 'is_active', is_active)
from raw.business_entities
order by id, created_at desc
""",
    """
select distinct on (id)
    array['user_accounts', id::text],
    json_build_object(
        'name', name, 'roles', roles, 'business_entity_id', business_entity_id,
        'is_active', is_active
    )
from raw.user_accounts
order by id, created_at desc
""",
    """
select distinct on (entity_type, workflow_name, business_entity_id)
    array[
        'status_workflows', entity_type, workflow_name,
        coalesce(business_entity_id::text, '')
    ],
    json_build_object(
        'is_default', is_default, 'conditions', conditions, 'is_active', is_active,
        'steps', (
            select json_agg(
                to_jsonb(steps) - array['id', 'created_at', 'workflow_id', 'batch_id']
                || jsonb_build_object('sla_hours', trim_scale(sla_hours)::text)
                order by step_order
            )
            from raw.status_workflow_steps as steps
            where steps.workflow_id = workflows.id
        )
    )
from raw.status_workflows as workflows
order by entity_type, workflow_name, business_entity_id, created_at desc
""",
)


def _stored(connection: Connection) -> dict[tuple[str, ...], str]:
    """The newest version of each definition, in the form of _Version."""
    rows: Iterable[tuple[Any, ...]] = (
        row for query in STORED for row in connection.execute(query).fetchall()
    )
    return {
        tuple(identity): json.dumps(content, sort_keys=True, ensure_ascii=False)
        for identity, content in rows
    }


def _append_versions(
    connection: Connection, versions: list[_Version], read: int, at: datetime | None
) -> None:
    appended = len(versions)
    row = connection.execute(
        """
        insert into raw.batches (
            kind, source, source_row_count,
            read_count, appended_count, duplicate_count, rejected_count
        )
        values ('configuration', 'workflows', %s, %s, %s, %s, 0)
        returning batch_id, coalesce(%s, recorded_at)
        """,
        [read, read, appended, read - appended, at],
    ).fetchone()
    assert row is not None
    batch_id, created_at = row
    for version in versions:
        values = {"created_at": created_at, "batch_id": batch_id}
        _append_version(connection, version, values)


def _append_version(
    connection: Connection, version: _Version, values: dict[str, Any]
) -> None:
    instant = values["created_at"].isoformat()
    version_id = uuid.uuid5(NAMESPACE, "\x00".join((*version.identity, instant)))
    content = json.loads(version.content)
    steps = content.pop("steps", [])
    _, *identity = version.identity
    if version.table == "status_workflows":
        kind, name, entity_id = identity
        own = {"id": version_id, "entity_type": kind, "workflow_name": name}
        content["business_entity_id"] = entity_id or None
    else:
        own = {"version_id": version_id, "id": identity[0]}
    _insert(connection, version.table, {**values, **own, **content})
    for step in steps:
        own = {
            "id": uuid.uuid5(version_id, step["status_name"]),
            "workflow_id": version_id,
        }
        _insert(connection, "status_workflow_steps", {**values, **own, **step})


def _insert(connection: Connection, table: str, values: dict[str, Any]) -> None:
    texts = [
        json.dumps(v) if isinstance(v, dict | list) else v for v in values.values()
    ]
    marks = ", ".join(["%s"] * len(values))
    connection.execute(
        f"insert into raw.{table} ({', '.join(values)}) values ({marks})",
        texts,
    )
