"""Swapping a schema that was built beside the published one in its place.

Readers wait for nothing: names change hands in one transaction, a query that runs goes
on with the relations that it began with. What is in the schemas is decided in dbt; the
questions to the catalogues of PostgreSQL are the files in catalogue/.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from ingest.errors import StatusEngineError
from ingest.store.database import Connection
from ingest.store.locks import Lock, holding

_CATALOGUE = Path(__file__).parent / "catalogue"
PUBLISHED = "sla"
# What a full build makes, and what readers of the last one may still be at.
NEXT = "sla_next"
OLD = "sla_old"
# What a verification makes.
VERIFIED = "sla_verify"
# What history would be under another configuration.
WHAT_IF = "sla_what_if"
# Said of the schemas that a build makes; it goes along when they are renamed, dumped
# and restored, and ends with them.
_MADE = "Made by a build of the Status Engine."
_MADE_BESIDE = "Made by a build of the Status Engine, beside the schema of its readers."
# Of views outside that are pointed to the new relations, and of dropping the old.
PATIENCE = "3s"
# Seconds: publishing 5 million stays takes less than one of these ten minutes.
PUBLICATION_PATIENCE = 600
_LONGEST_NAME = 63
OF_OTHERS = (
    f"Schema {PUBLISHED} was built by another release, or by other models. "
    "Run: status-engine build."
)
# The name under which the files are noted that all was made by.
_MODELS = "the models' files"
# Tables that are no models, or the last one, which tells of the others.
_LEDGERS = (
    "built_cuts",
    "tested_cuts",
    "changed_entities",
    "definitions",
    "fingerprint",
    "verifications",
)
# Relations that builds made before they noted any: releases of 2026-11-23 to 25,
# commits 10a9e71 to b813c03.
_UNNOTED_RELATIONS = (
    "audit_trail",
    "deadline_windows",
    "entity_current_status",
    "interval_explanations",
    "milestones",
    "order_status_history",
    "sla_daily_counts",
    "sla_performance",
    "status_intervals",
    "stg_batches",
    "stg_business_entities",
    "stg_calendar_pages",
    "stg_calendar_windows",
    "stg_calendars",
    "stg_transitions",
    "stg_user_accounts",
    "stg_workflow_steps",
    "stg_workflow_versions",
    "touched_entities",
    "workflow_candidates",
    "workflow_violations",
)
# Keys and constraints likewise: the first of those releases, the others of the releases
# of 2026-11-25 to 29, commits e62b49a to 75b882d.
_UNNOTED_KEYS = (
    "status_intervals_entity_type_entity_id_status_visit_key",
    "built_cuts_pkey",
    "calendar_versions_pkey",
    "changed_entities_cut",
    "changed_entities_pkey",
    "restatements_cut",
    "restatements_figure_check",
    "restatements_pkey",
    "sla_daily_counts_pkey",
    "status_intervals_deadline_source_check",
    "status_intervals_due",
    "status_intervals_due_by_business_entity",
    "status_intervals_due_by_type",
    "status_intervals_open",
    "status_intervals_pkey",
    "status_intervals_verdict_check",
    "status_intervals_visit",
    "tested_cuts_pkey",
    "workflow_versions_pkey",
    "workflow_violations_entity",
    "workflow_violations_pkey",
    "workflow_violations_violation_check",
)
_AGAIN = "can't be kept. Drop it, and create it again after the full refresh."
_IN_USE = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)


def _query(name: str) -> bytes:
    """A question to the catalogues; as bytes, since no value is put into it."""
    return (_CATALOGUE / f"{name}.sql").read_bytes()


def staging(schema: str) -> str:
    """The schema of what stands beside the published relations."""
    return f"{schema}_staging"


def exists(connection: Connection, schema: str) -> bool:
    """Whether a build of this schema was finished."""
    return is_there(connection, schema, "built_cuts")


def is_there(connection: Connection, schema: str, relation: str) -> bool:
    """Whether a schema has a relation of this name."""
    row = connection.execute(
        "select to_regclass(%s) is not null",
        [Identifier(schema, relation).as_string()],
    ).fetchone()
    return row == (True,)


def drop(connection: Connection, schema: str) -> None:
    """Drop a schema that nobody publishes, and its staging.

    Raises:
        StatusEngineError: something elsewhere depends on it, or somebody reads it now.
    """
    try:
        _drop(connection, schema)
    except _IN_USE as error:
        msg = f"Somebody reads schema {schema} just now. Run it again afterwards."
        raise StatusEngineError(msg) from error


def _drop(connection: Connection, schema: str) -> None:
    with connection.transaction():
        _be_patient(connection)
        dependents = [what for what, _ in _dependents(connection, schema)]
        if dependents:
            msg = (
                f"Schema {schema} is used by {', '.join(dependents)}. "
                "Drop or change it first."
            )
            raise StatusEngineError(msg)
        for name in (schema, staging(schema)):
            connection.execute(
                SQL("drop schema if exists {} cascade").format(Identifier(name))
            )


def make(connection: Connection, schema: str) -> None:
    """Make a schema and its staging anew, both empty, in one transaction.

    Raises:
        StatusEngineError: it is somebody else's, or in use.
    """
    require_own(connection, schema)
    with connection.transaction():
        drop(connection, schema)
        for name, mark in _marks(schema).items():
            connection.execute(SQL("create schema {}").format(Identifier(name)))
            _mark(connection, name, mark)


def is_reserved(schema: str) -> bool:
    """Whether it is the published schema, or one that comes and goes beside it."""
    names = (PUBLISHED, NEXT, OLD, VERIFIED, WHAT_IF)
    return schema in (*names, *map(staging, names))


def require_own(connection: Connection, schema: str) -> None:
    """What is to be dropped and made anew must not be there, or be what a build made.

    Raises:
        StatusEngineError: it is somebody else's, or no schema may have such a name.
    """
    marks = _marks(schema)
    longest = staging(schema)
    if len(longest.encode()) > _LONGEST_NAME:
        msg = f"The name of schema {schema} is too long: {longest} stands beside it."
        raise StatusEngineError(msg)
    if schema.startswith("pg_"):
        msg = f"The name of schema {schema} is one of PostgreSQL's. Name another."
        raise StatusEngineError(msg)
    if _is_of_an_older_release(connection, schema):
        return
    found = connection.execute(
        _query("made_by_no_build"),
        {
            "names": list(marks),
            "marks": list(marks.values()),
            # What a build of an older release left that was killed at its beginning.
            "may_be_empty": is_reserved(schema),
        },
    )
    for (name,) in found:
        msg = (
            f"Schema {name} was made by no build, and none replaces it. "
            "Rename it, or build into another."
        )
        raise StatusEngineError(msg)


def _is_of_an_older_release(connection: Connection, schema: str) -> bool:
    """Such a one marked nothing, and made these first."""
    return is_there(connection, schema, "tested_cuts") and (
        schema == PUBLISHED or is_there(connection, staging(schema), "definitions")
    )


def _marks(schema: str) -> dict[str, str]:
    return {schema: _MADE, staging(schema): _MADE_BESIDE}


def _mark(connection: Connection, schema: str, mark: str) -> None:
    connection.execute(
        SQL("comment on schema {} is {}").format(Identifier(schema), Literal(mark))
    )


def note(connection: Connection, schema: str, models: str) -> None:
    """Note the names of all that a full build made, and by which files.

    Args:
        connection: open.
        schema: built to its end.
        models: a hash of the files, taken before the build read them.

    Raises:
        StatusEngineError: it was not built to its end.
    """
    _require_finished(connection, schema)
    names = [schema, staging(schema)]
    target = Identifier(staging(schema), "definitions").as_string()
    connection.execute(
        f"insert into {target} (relation_name, definition) ".encode()
        + _query("made_by_build"),
        {"schemas": names, "name": _MODELS, "models": models},
    )


def models_of(connection: Connection) -> str | None:
    """By which files the published schema was made; None where an older release did."""
    if not is_there(connection, staging(PUBLISHED), "definitions"):
        return None
    row = connection.execute(
        "select definition from sla_staging.definitions where relation_name = %s",
        [_MODELS],
    ).fetchone()
    return str(row[0]) if row else None


def _mark_old(connection: Connection) -> None:
    """What was published may be of an older release, or have a comment of others."""
    for name, mark in _marks(OLD).items():
        found = connection.execute("select to_regnamespace(%s)", [name]).fetchone()
        if found != (None,):
            _mark(connection, name, mark)


def _ours(connection: Connection) -> list[str]:
    """Names of all that builds made in the published schema and its staging."""
    names = {*_LEDGERS, *_UNNOTED_RELATIONS, *_UNNOTED_KEYS}
    if is_there(connection, staging(PUBLISHED), "definitions"):
        noted = connection.execute("select relation_name from sla_staging.definitions")
        names.update(str(name) for (name,) in noted)
    return sorted(names)


def require_following(connection: Connection) -> list[tuple[str, str]]:
    """What elsewhere depends on the published schema, and how it follows a swap.

    Raises:
        StatusEngineError: something can't follow, or would be lost with the schema.
    """
    following: list[tuple[str, str]] = []
    if not exists(connection, PUBLISHED):
        return following
    for (what,) in connection.execute(_query("strangers"), {"ours": _ours(connection)}):
        msg = f"In schema {PUBLISHED} or its staging, {what} {_AGAIN}"
        raise StatusEngineError(msg)
    for what, statement in _dependents(connection, PUBLISHED):
        if statement is None:
            msg = f"{what} depends on schema {PUBLISHED} and {_AGAIN}"
            raise StatusEngineError(msg[0].upper() + msg[1:])
        following.append((what, statement))
    return following


@contextmanager
def no_swap(connection: Connection) -> Iterator[None]:
    """A transaction on one snapshot, in which names stay those of one build.

    After a swap, an older snapshot sees the new tables empty, as it would see a table
    that was truncated.

    Raises:
        StatusEngineError: a relation or column is missing that builds make now.
    """
    try:
        with (
            holding(connection, Lock.SWAP, is_shared=True),
            connection.transaction(),
        ):
            connection.execute("set transaction isolation level repeatable read")
            yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise StatusEngineError(OF_OTHERS) from error


def swap(connection: Connection, fresh: str = NEXT) -> None:
    """Publish a schema in the place of the published one, in one transaction.

    What others made of its relations goes over to those of the same names: grants,
    default privileges, policies, triggers, rules, indexes, statistics; and views of
    other schemas read the new ones. It waits for those who asked for `no_swap`.

    Raises:
        StatusEngineError: something can't follow; nothing is changed.
    """
    _require_finished(connection, fresh)
    _wait_for_publications(connection)
    try:
        with connection.transaction():
            _be_patient(connection)
            follow = _statements_after(connection, fresh)
            for published, old, new in (
                (PUBLISHED, OLD, fresh),
                (staging(PUBLISHED), staging(OLD), staging(fresh)),
            ):
                _rename(connection, published, old)
                _rename(connection, new, published)
            _mark_old(connection)
            for what, statement in follow:
                _follow(connection, what, statement)
    except _IN_USE as error:
        msg = f"Something in schema {PUBLISHED} is locked just now. Run it again."
        raise StatusEngineError(msg) from error
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [Lock.SWAP.value])


def _require_finished(connection: Connection, schema: str) -> None:
    if not exists(connection, schema):
        msg = f"Schema {schema} was not built to its end; {PUBLISHED} is as it was."
        raise StatusEngineError(msg)


def _wait_for_publications(connection: Connection) -> None:
    """Take the lock of swaps, by asking again and again: nobody waits behind."""
    deadline = time.monotonic() + PUBLICATION_PATIENCE
    while connection.execute(
        "select pg_try_advisory_lock(%s)", [Lock.SWAP.value]
    ).fetchone() != (True,):
        if time.monotonic() > deadline:
            msg = (
                f"A publication has held up the swap for {PUBLICATION_PATIENCE} s; "
                f"schema {PUBLISHED} is as it was. Run it again when that has ended."
            )
            raise StatusEngineError(msg)
        time.sleep(0.1)


def drop_old(connection: Connection) -> bool:
    """Drop what was published before; False while somebody still reads it."""
    try:
        _drop(connection, OLD)
    except _IN_USE:
        return False
    return True


def _be_patient(connection: Connection) -> None:
    """In this transaction, wait for locks only so long, and name things in full."""
    connection.execute(SQL("set local lock_timeout = {}").format(PATIENCE))
    connection.execute("set local search_path = ''")


def _rename(connection: Connection, name: str, to: str) -> None:
    found = connection.execute("select to_regnamespace(%s)", [name]).fetchone()
    if found != (None,):
        connection.execute(
            SQL("alter schema {} rename to {}").format(Identifier(name), Identifier(to))
        )


def _statements_after(connection: Connection, fresh: str) -> list[tuple[str, str]]:
    """What is to be said again of the new relations, each with what it is about."""
    found = {"schema": PUBLISHED, "fresh": fresh}
    ours = _ours(connection)
    said = [
        ("a grant, policy, trigger, rule, index or statistics object", statement)
        for parameters in (
            found,
            {name: staging(schema) for name, schema in found.items()},
        )
        for _, statement in connection.execute(
            _query("made_by_others"), {**parameters, "ours": ours}
        )
    ]
    return said + require_following(connection)


def _follow(connection: Connection, what: str, statement: str) -> None:
    try:
        connection.execute(statement.encode())
    except psycopg.errors.LockNotAvailable as error:
        msg = f"{what} is in use and can't be changed now. Run it again."
        raise StatusEngineError(msg) from error
    except psycopg.DatabaseError as error:
        reason = error.diag.message_primary or str(error)
        msg = f"{what} doesn't fit the new tables: {reason}. Drop it, or change it."
        raise StatusEngineError(msg) from error


def _dependents(connection: Connection, schema: str) -> list[tuple[str, str | None]]:
    with connection.transaction():
        # So that all is named in full.
        connection.execute("set local search_path = ''")
        return connection.execute(
            _query("dependents"), {"schemas": [schema, staging(schema)]}
        ).fetchall()
