"""Configuration files, checked, then applied as new versions (S7).

They hold entity types, workflows, calendars, users, business entities, channels of
alerts and targets. Which version binds an entity is decided in dbt (S8); nothing here
judges transitions. What is in force is read in in_force.py.
"""

import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ingest.append import known_types
from ingest.configuration.calendar_files import (
    calendar_defects,
    calendar_warnings,
    to_calendar,
)
from ingest.configuration.calendars import WEEKDAYS, Calendar, Opening
from ingest.configuration.json_schemas import (
    ALERT_CHANNELS,
    BUSINESS_ENTITIES,
    CHANNEL_DEFAULTS,
    ENTITY_TYPES,
    TARGET_DEFAULTS,
    USER_ACCOUNTS,
)
from ingest.configuration.opening_rows import opening_copies
from ingest.configuration.schema_checks import schema_defects
from ingest.configuration.target_checks import (
    Steps,
    scope_defects,
    steps_named,
    target_defects,
)
from ingest.configuration.workflow_checks import (
    repeated,
    rivals,
    spelled_out,
    unknown_calendars,
    workflow_defects,
    workflow_warnings,
)
from ingest.configuration.yaml_files import Located, read_yaml, yaml_paths
from ingest.errors import WorkflowError
from ingest.identity import NAMESPACE
from ingest.store.database import Connection, server_clock
from ingest.store.locks import Lock, hold_to_the_end

# A file of 4 MiB may hold half a million of them.
MOST_DEFECTS = 1_000
# Tables whose versions decide deadlines.
JUDGING = ("status_workflows", "calendars")
# An id follows from the instant: no version that was applied has one of this.
OF_NO_VERSION = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Configuration:
    """What a set of files says, checked; each item still knows where it stands.

    workflows: with `allowed_transitions: any` as a list of statuses.
    """

    workflows: tuple[Located, ...]
    calendars: tuple[Calendar, ...]
    entity_types: tuple[Located, ...]
    business_entities: tuple[Located, ...]
    user_accounts: tuple[Located, ...]
    alert_channels: tuple[Located, ...]
    targets: tuple[Located, ...]
    warnings: tuple[str, ...]


class Applied(NamedTuple):
    """Names of what got a new version, and how many were in force already."""

    changed: tuple[str, ...]
    unchanged: int


class Proposal(NamedTuple):
    """Titles of what differs from what is in force, and the types that it judges."""

    changed: tuple[str, ...]
    entity_types: tuple[str, ...]


class Difference(NamedTuple):
    """One field of a definition; None where it, or the definition, is not there."""

    definition: str
    field: str
    in_force: str | None
    new: str | None


def load(*paths: Path) -> Configuration:
    """Read and check files, and every .yml and .yaml file of folders.

    Raises:
        WorkflowError: one line a defect, with file, line and key.
    """
    return _load(paths, None)


def check(path: Path) -> Configuration:
    """As `load`, and what is named must be in a file of the same folder.

    The calendar of a workflow, and the workflow and status of a target.

    Raises:
        WorkflowError: one line a defect, with file, line and key.
    """
    return _load([path], _others_beside(path))


def apply(
    connection: Connection, configuration: Configuration, at: datetime | None = None
) -> Applied:
    """Append a new version of each definition that differs from what is in force.

    Args:
        connection: open, outside a transaction; the apply is one transaction on it.
        configuration: as `load` gave it.
        at: the instant from which the versions hold; the database's clock by default.

    Raises:
        WorkflowError: an entity type, business entity, calendar, workflow or status
            is unknown, or a target would judge again what was decided before. Nothing
            is written.
    """
    with connection.transaction():
        hold_to_the_end(connection, Lock.CONFIGURATION)
        versions = list(_versions(connection, configuration))
        changed = [version for version, _ in _changes(connection, versions)]
        _refuse_judging_again(connection, changed, at)
        if changed:
            _append_versions(connection, changed, len(versions), at)
        if any(version.opening for version in changed):
            # Else the planner takes each calendar for a few pages, and reads all of
            # them for every stay: 107 s instead of 2 for 83,000 stays.
            connection.execute("analyze raw.calendars, raw.calendar_pages")
    return Applied(tuple(v.title for v in changed), len(versions) - len(changed))


def compare(
    connection: Connection, configuration: Configuration
) -> tuple[Difference, ...]:
    """What `apply` would change, field by field; writes nothing.

    Raises:
        WorkflowError: `apply` would refuse it.
    """
    with connection.transaction():
        versions = list(_versions(connection, configuration))
        changes = _changes(connection, versions)
        _refuse_judging_again(connection, [version for version, _ in changes], None)
    return tuple(
        d for version, stored in changes for d in _differences(version, stored)
    )


def propose(
    connection: Connection, configuration: Configuration, schema: str
) -> Proposal:
    """Write the versions that `apply` would append into tables of another schema.

    Args:
        connection: open, outside a transaction; this is one transaction on it.
        configuration: as `load` gave it.
        schema: with tables that are like those of raw. Rows are of batch 0.

    Returns:
        Of workflows and calendars alone: nothing else decides a deadline.

    Raises:
        WorkflowError: `apply` would refuse it. Nothing is written.
    """
    with connection.transaction():
        versions = list(_versions(connection, configuration))
        changed = [
            version
            for version, _ in _changes(connection, versions)
            if version.table in JUDGING
        ]
        for version in changed:
            values = {"created_at": OF_NO_VERSION, "batch_id": 0}
            _append_version(connection, version, values, schema)
        types = _judged_types(connection, changed)
    return Proposal(tuple(version.title for version in changed), types)


class _Version(NamedTuple):
    """One definition in the form in which it is compared: JSON text, keys sorted.

    where: it stands, as far as something may be said of it later.
    """

    table: str
    identity: tuple[str, ...]
    title: str
    content: str
    opening: Opening | None = None
    where: str = ""


def _judged_types(
    connection: Connection, changed: Sequence[_Version]
) -> tuple[str, ...]:
    """Entity types of these workflows, and of all that name one of these calendars."""
    types = {v.identity[1] for v in changed if v.table == "status_workflows"}
    calendars = [v.identity[1] for v in changed if v.table == "calendars"]
    rows = connection.execute(
        "select distinct entity_type from raw.status_workflows "
        "where calendar_name = any(%s)",
        [calendars],
    ).fetchall()
    return tuple(sorted({*types, *(name for (name,) in rows)}))


def _load(paths: Sequence[Path], others: list[Located] | None) -> Configuration:
    """others: the only files beside these; None if there may be more."""
    defects: list[str] = []
    files = _Files()
    is_read = True
    for file in (file for path in paths for file in yaml_paths(path)):
        content = read_yaml(file, defects)
        if content is not None:
            defects += files.take(content)
        is_read = is_read and content is not None
    defects += files.defects()
    # What can't be read may be the calendar that another file names.
    if others is not None and is_read:
        defects += files.unknown(others)
    if defects:
        more = len(defects) - MOST_DEFECTS
        told = defects[:MOST_DEFECTS]
        told += [f"{paths[0]}: there are {more:,} more defects."] if more > 0 else []
        raise WorkflowError("\n".join(told))
    return files.configuration()


@dataclass
class _Files:
    """What files hold, by its kind, as far as it is sound by itself."""

    workflows: list[Located] = field(default_factory=list)
    calendars: list[Located] = field(default_factory=list)
    entity_types: list[Located] = field(default_factory=list)
    business_entities: list[Located] = field(default_factory=list)
    user_accounts: list[Located] = field(default_factory=list)
    alert_channels: list[Located] = field(default_factory=list)
    targets: list[Located] = field(default_factory=list)
    taken: list[Located] = field(default_factory=list)

    def take(self, content: Located) -> list[str]:
        """Keep what a file holds, or say what is wrong with it."""
        self.taken.append(content)
        if "targets" in content:
            defects = target_defects(content)
            self.targets += [] if defects else content["targets"]
            return defects
        for kept, shape in (
            (self.entity_types, ENTITY_TYPES),
            (self.business_entities, BUSINESS_ENTITIES),
            (self.user_accounts, USER_ACCOUNTS),
            (self.alert_channels, ALERT_CHANNELS),
        ):
            (key,) = shape["properties"]
            if key in content:
                defects = list(schema_defects(content, shape))
                kept += [] if defects else content[key]
                return defects
        is_calendar = _is_calendar(content)
        kept = self.calendars if is_calendar else self.workflows
        defects = (calendar_defects if is_calendar else workflow_defects)(content)
        if not defects:
            kept.append(content if is_calendar else spelled_out(content))
        return defects

    def defects(self) -> Iterator[str]:
        """What can't be said of one of them alone."""
        identity = ("entity_type", "workflow_name", "business_entity")
        yield from repeated(self.workflows, identity)
        yield from repeated(self.calendars, ("calendar_name",))
        yield from repeated(self.entity_types, ("name",))
        for key in ("id", "name"):
            yield from repeated(self.business_entities, (key,))
        yield from repeated(self.user_accounts, ("id",))
        yield from repeated(self.alert_channels, ("name",))
        yield from repeated(self.targets, ("name", "effective_from"))
        yield from rivals(self.workflows)

    def unknown(self, others: Sequence[Located]) -> Iterator[str]:
        """What is named, and is in none of these files, with defects or not."""
        files = [*others, *self.taken]
        calendars = {str(f["calendar_name"]) for f in files if "calendar_name" in f}
        yield from unknown_calendars(self.workflows, calendars)
        steps = steps_named(files)
        for target in self.targets:
            yield from scope_defects(target.over(TARGET_DEFAULTS), steps)

    def configuration(self) -> Configuration:
        calendars = tuple(map(to_calendar, self.calendars))
        located = zip(self.calendars, calendars, strict=True)
        warnings = [
            *(w for workflow in self.workflows for w in workflow_warnings(workflow)),
            *(w for pair in located for w in calendar_warnings(*pair)),
        ]
        return Configuration(
            tuple(self.workflows),
            calendars,
            tuple(self.entity_types),
            tuple(self.business_entities),
            tuple(self.user_accounts),
            tuple(self.alert_channels),
            tuple(self.targets),
            tuple(warnings),
        )


def _is_calendar(content: Located) -> bool:
    """Whether a file is meant to be a calendar, although its name may be missing."""
    is_workflow = not {"entity_type", "workflow_name", "steps"}.isdisjoint(content)
    is_timed = not {"timezone", "windows"}.isdisjoint(content)
    return "calendar_name" in content or (is_timed and not is_workflow)


def _others_beside(path: Path) -> list[Located]:
    """What other files of its folder hold, as far as they can be read."""
    if yaml_paths(path) != [path]:
        return []
    others = (file for file in yaml_paths(path.parent) if file != path)
    files = (read_yaml(file, []) for file in others)
    return [content for content in files if content]


def _changes(
    connection: Connection, versions: Iterable[_Version]
) -> list[tuple[_Version, str | None]]:
    """Those that differ from what is in force, and that."""
    stored = _stored(connection)
    pairs = ((version, stored.get(version.identity)) for version in versions)
    return [(version, now) for version, now in pairs if now != version.content]


def _refuse_judging_again(
    connection: Connection, changed: Sequence[_Version], at: datetime | None
) -> None:
    """A target that is known changes from a day on that is to come.

    Of days that began, stays were judged by what it asked then.
    """
    rows = connection.execute("select distinct target_name from raw.targets").fetchall()
    known = {name for (name,) in rows}
    today = (at or server_clock(connection)).astimezone(UTC).date().isoformat()
    told = [
        f"{version.where}: {version.title} would judge again what was decided before: "
        f"give the change an effective_from after {today}."
        for version in changed
        if version.table == "targets"
        and version.identity[1] in known
        and version.identity[2] <= today
    ]
    if told:
        raise WorkflowError("\n".join(told))


def _differences(version: _Version, stored: str | None) -> Iterator[Difference]:
    if stored is None:
        yield Difference(version.title, "new definition", None, _gist(version))
        return
    old, new = _fields(json.loads(stored)), _fields(json.loads(version.content))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    for name in names:
        # It follows from the others, except where the rules of the zone changed.
        if name != "opening_sha256" or len(names) == 1:
            yield Difference(version.title, name, old.get(name), new.get(name))


def _gist(version: _Version) -> str:
    steps = json.loads(version.content).get("steps", [])
    return f"{len(steps)} steps" if steps else version.identity[-1]


def _fields(content: dict[str, Any]) -> dict[str, str]:
    """A definition's values by what they are called; one a step's field, one a day."""
    fields: dict[str, str] = {}
    for step in content.pop("steps", []):
        name = f"step {step.pop('status_name')}"
        fields |= {f"{name}: {key}": _shown(value) for key, value in step.items()}
    for key in ("windows", "closed_dates", "special_dates"):
        days = content.pop(key, {})
        fields |= {f"{key}: {day}": _shown(value) for day, value in days.items()}
    return {key: _shown(value) for key, value in content.items()} | fields


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _versions(
    connection: Connection, configuration: Configuration
) -> Iterator[_Version]:
    names = _entity_ids(connection)
    names |= {e["name"]: e["id"] for e in configuration.business_entities}
    types = known_types(connection)
    for kind in configuration.entity_types:
        types += [] if kind["name"] in types else [kind["name"]]
        content = {"label": kind["label"]}
        title = f"entity type {kind['name']}"
        yield _version("entity_types", (kind["name"],), title, content)
    for entity in configuration.business_entities:
        content = {"name": entity["name"], "is_active": True}
        title = f"business entity {entity['name']}"
        yield _version("business_entities", (entity["id"],), title, content)
    for user in configuration.user_accounts:
        content = {
            "name": user["name"],
            "roles": sorted(user["roles"]),
            "business_entity_id": _entity_id(user, names),
            "is_active": user["is_active"],
        }
        title = f"user {user['name']}"
        yield _version("user_accounts", (user["id"],), title, content)
    for calendar in configuration.calendars:
        yield _calendar_version(calendar)
    calendars = _calendar_names(connection)
    calendars |= {calendar.name for calendar in configuration.calendars}
    for workflow in configuration.workflows:
        _require_known(workflow, "entity_type", types)
        _require_known(workflow, "calendar", sorted(calendars))
        yield _workflow_version(workflow, _entity_id(workflow, names))
    for channel in configuration.alert_channels:
        full = channel.of({**CHANNEL_DEFAULTS, **channel})
        _require_known(full, "calendar", sorted(calendars))
        _require_known(full, "entity_types", types)
        _require_known(full, "business_entities", sorted(names))
        yield _channel_version(full, names)
    yield from _target_versions(connection, configuration, types, names)


def _target_versions(
    connection: Connection,
    configuration: Configuration,
    types: Collection[str],
    names: dict[str, str],
) -> Iterator[_Version]:
    targets = [target.over(TARGET_DEFAULTS) for target in configuration.targets]
    steps = _known_steps(connection) if targets else {}
    steps = steps_named(configuration.workflows, steps)
    for target in targets:
        _require_known(target, "entity_type", types)
    defects = [d for target in targets for d in scope_defects(target, steps)]
    if defects:
        raise WorkflowError("\n".join(defects))
    for target in targets:
        content = {
            "entity_type": target["entity_type"],
            "workflow_name": target["workflow"],
            "status": target["status"],
            "business_entity_id": _entity_id(target, names),
            "at_least": _plain(target["at_least"]),
            "roles": sorted(target["notify"]),
        }
        name, day = target["name"], target["effective_from"]
        title = f"target {name} from {day}"
        version = _version("targets", (name, day), title, content)
        yield version._replace(where=target.at("effective_from"))


def _known_steps(connection: Connection) -> Steps:
    """Statuses that any version of a workflow has, by its type and name."""
    rows = connection.execute(
        "select entity_type, workflow_name, array_agg(distinct status_name) "
        "from raw.status_workflow_steps as steps "
        "inner join raw.status_workflows as workflows on workflows.id = workflow_id "
        "group by entity_type, workflow_name"
    ).fetchall()
    return {(kind, name): frozenset(statuses) for kind, name, statuses in rows}


def _require_known(item: Located, key: str, known: Collection[str]) -> None:
    """What a key names is there, be it one or a list."""
    named = item[key] if isinstance(item[key], list) else [item[key]]
    for name in named:
        if name is not None and name not in known:
            msg = (
                f"{item.at(key)}: {key.replace('_', ' ')} {name!r} is unknown; "
                f"known are {', '.join(known) or 'none'}."
            )
            raise WorkflowError(msg)


def _channel_version(channel: Located, names: dict[str, str]) -> _Version:
    content = {key: channel[key] for key in CHANNEL_DEFAULTS if key != "calendar"}
    content |= {
        "address_variable": channel["address_variable"],
        "business_entities": sorted(names[n] for n in channel["business_entities"]),
        "calendar_name": channel["calendar"],
    }
    for key in ("entity_types", "roles", "stages"):
        content[key] = sorted(content[key])
    title = f"alert channel {channel['name']}"
    return _version("alert_channels", (channel["name"],), title, content)


def _workflow_version(workflow: Located, entity_id: str | None) -> _Version:
    kind, name = workflow["entity_type"], workflow["workflow_name"]
    steps = sorted(workflow["steps"], key=lambda step: int(step["step_order"]))
    content = {
        "is_default": workflow["is_default"],
        "conditions": workflow["conditions"],
        "calendar_name": workflow["calendar"],
        "is_active": workflow["is_active"],
        "steps": [
            {"is_waiting": False, **step, "sla_hours": _plain(step["sla_hours"])}
            for step in steps
        ],
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


def _calendar_version(calendar: Calendar) -> _Version:
    opening = Opening(calendar)
    weekdays = zip(WEEKDAYS, calendar.windows, strict=True)
    special = sorted(calendar.special_dates.items())
    content = {
        "timezone": calendar.timezone,
        "windows": {day: [str(w) for w in windows] for day, windows in weekdays},
        "closed_dates": {str(d): n for d, n in sorted(calendar.closed_dates.items())},
        "special_dates": {str(d): [str(w) for w in ws] for d, ws in special},
        "covers_from": str(calendar.covers_from),
        "covers_until": str(calendar.covers_until),
        "opening_sha256": opening.sha256,
    }
    title = f"calendar {calendar.name}"
    version = _version("calendars", (calendar.name,), title, content)
    return version._replace(opening=opening)


def _calendar_names(connection: Connection) -> set[str]:
    rows = connection.execute("select calendar_name from raw.calendars").fetchall()
    return {name for (name,) in rows}


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
select distinct on (target_name, effective_from)
    array['targets', target_name, to_char(effective_from, 'YYYY-MM-DD')],
    json_build_object(
        'entity_type', entity_type, 'workflow_name', workflow_name, 'status', status,
        'business_entity_id', business_entity_id,
        'at_least', trim_scale(at_least)::text, 'roles', roles
    )
from raw.targets
order by target_name, effective_from, created_at desc
""",
    """
select distinct on (channel_name)
    array['alert_channels', channel_name],
    to_jsonb(channels) - array['version_id', 'created_at', 'channel_name', 'batch_id']
from raw.alert_channels as channels
order by channel_name, created_at desc
""",
    """
select distinct on (entity_type)
    array['entity_types', entity_type], json_build_object('label', label)
from raw.entity_type_versions
order by entity_type, created_at desc
""",
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
select distinct on (calendar_name)
    array['calendars', calendar_name],
    json_build_object(
        'timezone', timezone, 'windows', windows, 'closed_dates', closed_dates,
        'special_dates', special_dates, 'covers_from', covers_from,
        'covers_until', covers_until, 'opening_sha256', opening_sha256
    )
from raw.calendars
order by calendar_name, created_at desc
""",
    """
select distinct on (entity_type, workflow_name, business_entity_id)
    array[
        'status_workflows', entity_type, workflow_name,
        coalesce(business_entity_id::text, '')
    ],
    json_build_object(
        'is_default', is_default, 'conditions', conditions, 'is_active', is_active,
        'calendar_name', calendar_name,
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
    connection: Connection,
    version: _Version,
    values: dict[str, Any],
    schema: str = "raw",
) -> None:
    instant = values["created_at"].isoformat()
    version_id = uuid.uuid5(NAMESPACE, "\x00".join((*version.identity, instant)))
    content = json.loads(version.content)
    steps = content.pop("steps", [])
    _, *identity = version.identity
    if version.table == "entity_types":
        connection.execute(
            "insert into raw.entity_types (entity_type, position) "
            "select %s, max(position) + 1 from raw.entity_types "
            "on conflict do nothing",
            identity,
        )
        own = {"version_id": version_id, "entity_type": identity[0]}
        _insert(connection, "entity_type_versions", {**values, **own, **content})
        return
    if version.table == "status_workflows":
        kind, name, entity_id = identity
        own = {"id": version_id, "entity_type": kind, "workflow_name": name}
        content["business_entity_id"] = entity_id or None
    elif version.table == "calendars":
        own = {"id": version_id, "calendar_name": identity[0]}
    elif version.table == "alert_channels":
        own = {"version_id": version_id, "channel_name": identity[0]}
    elif version.table == "targets":
        name, day = identity
        own = {"version_id": version_id, "target_name": name, "effective_from": day}
    else:
        own = {"version_id": version_id, "id": identity[0]}
    _insert(connection, version.table, {**values, **own, **content}, schema)
    if version.opening:
        _append_opening(connection, version_id, version.opening, schema)
    for step in steps:
        own = {
            "id": uuid.uuid5(version_id, step["status_name"]),
            "workflow_id": version_id,
        }
        _insert(connection, "status_workflow_steps", {**values, **own, **step}, schema)


def _append_opening(
    connection: Connection, calendar_id: uuid.UUID, opening: Opening, schema: str
) -> None:
    """The windows of a calendar version, and their pages."""
    for statement, rows in opening_copies(calendar_id, opening, schema):
        with connection.cursor().copy(statement) as copy:
            copy.write(rows)


def _insert(
    connection: Connection, table: str, values: dict[str, Any], schema: str = "raw"
) -> None:
    texts = [
        json.dumps(v) if isinstance(v, dict | list) else v for v in values.values()
    ]
    marks = ", ".join(["%s"] * len(values))
    connection.execute(
        f"insert into {schema}.{table} ({', '.join(values)}) values ({marks})",
        texts,
    )
