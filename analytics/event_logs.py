"""Published histories as event logs for process mining: XES 1849-2016 and OCEL 2.0.

An event is a stay: an entity enters a status. A transition to the status in which an
entity is already starts no stay and is no event (S3). Files are written as rows are
read, so millions of events take little memory.
"""

import gzip
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.sax.saxutils import quoteattr

from analytics.published import Publication, Query

Row = dict[str, Any]
ROWS_AT_ONCE = 10_000
# In the order of S2, which transitions of one instant have too.
_EVENTS = """
select
    stays.entity_type || ':' || stays.entity_id as object_id,
    stays.entity_type,
    stays.interval_id as event_id,
    stays.status,
    stays.entered_at,
    stays.visit,
    coalesce(trail.triggered_by_user_name, trail.triggered_by_user_id) as resource,
    trail.triggered_by_user_id as user_id,
    trail.triggered_by_system as system,
    trail.transition_reason as reason,
    stays.sla_deadline,
    stays.verdict
from status_intervals as stays
inner join audit_trail as trail on stays.first_transition_id = trail.transition_id
where $entity_type is null or stays.entity_type = $entity_type
order by stays.entity_type, stays.entity_id, trail.entity_place
"""
_ENTITIES = """
select
    current.entity_type || ':' || current.entity_id as object_id,
    current.entity_type,
    current.entity_key,
    current.workflow_name,
    current.business_entity_id
from entity_current_status as current
order by all
"""
_USERS = """
select distinct
    'user:' || triggered_by_user_id as object_id,
    triggered_by_user_name as user_name
from audit_trail
where triggered_by_user_id is not null
order by all
"""
_SYSTEMS = """
select distinct 'system:' || triggered_by_system as object_id
from audit_trail
where triggered_by_system is not null
order by all
"""
_PARTIES = """
select distinct
    'business_entity:' || business_entity_id as object_id,
from entity_current_status
where business_entity_id is not null
order by all
"""
# An entity names another where its context has <type>_id, by the id or by the text that
# the source knows it by.
_RELATIONS = """
with

named as (
    select distinct
        trail.entity_type || ':' || trail.entity_id as source_id,
        types.entity_type as target_type,
        json_extract_string(
            trail.business_context, '$."' || types.entity_type || '_id"'
        ) as name
    from audit_trail as trail
    cross join entity_types as types
    where contains(trail.business_context, '"' || types.entity_type || '_id"')
)

select distinct
    named.source_id,
    named.target_type || ':' || targets.entity_id as target_id,
    named.target_type || '_id' as qualifier
from named
inner join entity_current_status as targets
    on
        named.target_type = targets.entity_type
        and named.name in (targets.entity_id::varchar, targets.entity_key)
union all
select
    entity_type || ':' || entity_id,
    'business_entity:' || business_entity_id,
    'business_entity_id'
from entity_current_status
where business_entity_id is not null
order by all
"""
_XES_HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849-2016" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept"
  uri="http://www.xes-standard.org/concept.xesext"/>
<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
<extension name="Organizational" prefix="org"
  uri="http://www.xes-standard.org/org.xesext"/>
<extension name="Identity" prefix="identity"
  uri="http://www.xes-standard.org/identity.xesext"/>
<global scope="trace"><string key="concept:name" value=""/></global>
<global scope="event">
<string key="concept:name" value=""/>
<date key="time:timestamp" value="1970-01-01T00:00:00.000000+00:00"/>
</global>
<classifier name="Status" keys="concept:name"/>
"""
# No XML 1.0 document may hold these, escaped or not.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# What events and objects say beside their id, type and time; text.
_EVENT_ATTRIBUTES = ("visit", "reason", "sla_deadline", "verdict")
_OBJECT_ATTRIBUTES = ("entity_key", "workflow_name")


class Written(NamedTuple):
    """What a file holds: events, and the cases or objects that they are of."""

    events: int
    objects: int


def write_xes(publication: Publication, path: Path, entity_type: str) -> Written:
    """Write the entities of a type as traces, XES 1849-2016; gzipped as `.gz`.

    A trace is an entity, concept:name `type:id`; an event has the status as
    concept:name, the instant in UTC as time:timestamp, and the user as org:resource.
    """
    events, traces = 0, 0
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="\n") as file:
        file.write(_XES_HEAD)
        rows = _rows(publication, Query(_EVENTS, {"entity_type": entity_type}))
        for object_id, stays in groupby(rows, key=itemgetter("object_id")):
            traces += 1
            events += _write_trace(file, object_id, stays)
        file.write("</log>\n")
    return Written(events, traces)


def _write_trace(file: IO[str], name: str, stays: Iterable[Row]) -> int:
    count = 0
    file.write(f'<trace><string key="concept:name" value={_quoted(name)}/>\n')
    for row in stays:
        count += 1
        said = {
            "concept:name": row["status"],
            "org:resource": row["resource"],
            "system": row["system"],
            "reason": row["reason"],
            "verdict": row["verdict"],
        }
        texts = "".join(
            f'<string key="{key}" value={_quoted(value)}/>'
            for key, value in said.items()
            if value is not None
        )
        dates = {"time:timestamp": row["entered_at"], "deadline": row["sla_deadline"]}
        instants = "".join(
            f'<date key="{key}" value="{_instant(value)}"/>'
            for key, value in dates.items()
            if value is not None
        )
        file.write(
            f'<event><id key="identity:id" value="{row["event_id"]}"/>'
            f'{texts}{instants}<int key="visit" value="{row["visit"]}"/></event>\n'
        )
    file.write("</trace>\n")
    return count


def _quoted(value: str) -> str:
    """A value of an attribute; what XML can't hold is the replacement character."""
    escapes = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
    return quoteattr(_NOT_IN_XML.sub("\ufffd", value), escapes)


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def write_ocel(publication: Publication, path: Path) -> Written:
    """Write all entities as an object-centric log, OCEL 2.0 in SQLite.

    An event is of type `entity type: status` and of its entity, and of the user and
    the system who made it. Objects are entities, users, systems and business entities.
    An entity is related to its business entity, and to those that its context names
    by `<entity type>_id`. Instants are UTC; OCEL has no order of events but them.
    """
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as log:
        log.executescript(
            """
            create table event (ocel_id text primary key, ocel_type text not null);
            create table object (ocel_id text primary key, ocel_type text not null);
            create table event_map_type (
                ocel_type text primary key, ocel_type_map text
            );
            create table object_map_type (
                ocel_type text primary key, ocel_type_map text
            );
            create table event_object (
                ocel_event_id text, ocel_object_id text, ocel_qualifier text,
                primary key (ocel_event_id, ocel_object_id, ocel_qualifier)
            );
            create table object_object (
                ocel_source_id text, ocel_target_id text, ocel_qualifier text,
                primary key (ocel_source_id, ocel_target_id, ocel_qualifier)
            );
            """
        )
        objects = _write_objects(publication, log)
        events = _write_events(publication, log)
        relations = _rows(publication, Query(_RELATIONS, {}))
        log.executemany(
            "insert into object_object values (:source_id, :target_id, :qualifier)",
            relations,
        )
        log.commit()
    return Written(events, objects)


def _write_objects(publication: Publication, log: sqlite3.Connection) -> int:
    tables = _Types(log, "object", ("ocel_changed_field", *_OBJECT_ATTRIBUTES))
    count = 0
    others = {"user": _USERS, "system": _SYSTEMS, "business_entity": _PARTIES}
    entities = ((r["entity_type"], r) for r in _rows(publication, Query(_ENTITIES, {})))
    rest = (
        (kind, row)
        for kind, query in others.items()
        for row in _rows(publication, Query(query, {}))
    )
    for kind, row in chain(entities, rest):
        values = {name: row.get(name) for name in _OBJECT_ATTRIBUTES}
        if kind == "user":
            values["entity_key"] = row["user_name"]
        # Values that hold from the beginning have this instant in OCEL 2.0.
        tables.add(row["object_id"], kind, "1970-01-01T00:00:00Z", values)
        count += 1
    return count


def _write_events(publication: Publication, log: sqlite3.Connection) -> int:
    tables = _Types(log, "event", _EVENT_ATTRIBUTES)
    count = 0
    for row in _rows(publication, Query(_EVENTS, {"entity_type": None})):
        values = {name: row[name] for name in _EVENT_ATTRIBUTES}
        if row["sla_deadline"]:
            values["sla_deadline"] = _instant(row["sla_deadline"])
        kind = f"{row['entity_type']}: {row['status']}"
        tables.add(row["event_id"], kind, _instant(row["entered_at"]), values)
        related = [(row["object_id"], row["entity_type"])]
        related += [
            (f"{name}:{row[of]}", "by")
            for name, of in (("user", "user_id"), ("system", "system"))
            if row[of] is not None
        ]
        log.executemany(
            "insert into event_object values (?, ?, ?)",
            [(row["event_id"], *relation) for relation in related],
        )
        count += 1
    return count


class _Types:
    """A table for each type of events or objects, made where its first one comes."""

    def __init__(
        self, log: sqlite3.Connection, kind: str, attributes: tuple[str, ...]
    ) -> None:
        self._log = log
        self._kind = kind
        self._attributes = attributes
        self._tables: dict[str, str] = {}

    def add(
        self, id_: str, type_: str, instant: str, values: Mapping[str, Any]
    ) -> None:
        """An event, or the values that an object has from the beginning."""
        table = self._tables.get(type_) or self._make(type_)
        self._log.execute(f"insert into {self._kind} values (?, ?)", [id_, type_])
        row = [id_, instant, *(values.get(name) for name in self._attributes)]
        marks = ", ".join("?" * len(row))
        self._log.execute(f'insert into "{table}" values ({marks})', row)

    def _make(self, type_: str) -> str:
        # Two types may differ in what a name can't hold.
        name = f"{re.sub('[^0-9A-Za-z]+', '_', type_)}_{len(self._tables) + 1}"
        columns = ", ".join(f"{name} text" for name in self._attributes)
        table = f"{self._kind}_{name}"
        self._log.execute(
            f'create table "{table}" (ocel_id text, ocel_time timestamp, {columns})'
        )
        self._log.execute(
            f"insert into {self._kind}_map_type values (?, ?)", [type_, name]
        )
        self._tables[type_] = table
        return table


def _rows(publication: Publication, query: Query) -> Iterator[Row]:
    with publication.connection.cursor() as cursor:
        cursor.execute("set timezone = 'UTC'")
        found = cursor.execute(query.sql, dict(query.parameters))
        names = [column[0] for column in found.description or []]
        while rows := found.fetchmany(ROWS_AT_ONCE):
            for row in rows:
                yield dict(zip(names, row, strict=True))
