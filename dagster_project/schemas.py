"""Swapping a schema that was built beside the published one in its place.

Readers wait for nothing: names change hands in one transaction, a query that runs goes
on with the relations that it began with. What is in the schemas is decided in dbt.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from ingest.errors import StatusEngineError
from ingest.store.database import Connection
from ingest.store.locks import Lock, holding

PUBLISHED = "sla"
# What a full build makes, and what readers of the last one may still be at.
NEXT = "sla_next"
OLD = "sla_old"
# What a verification makes.
VERIFIED = "sla_verify"
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

# What others made of relations and functions of a schema, as statements that say the
# same of the schema that takes its place, in their order.
_MADE_BY_OTHERS: LiteralString = """
with relations as (
    select
        c.oid, c.relname, c.relacl, n.nspname, c.relowner, c.reloptions,
        case c.relkind when 'v' then 'view' else 'table' end as kind,
        fresh.oid as fresh_oid, fresh.relacl as fresh_acl, fresh.relowner as fresh_owner
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    inner join pg_class as fresh
        on
            c.relname = fresh.relname
            and c.relkind = fresh.relkind
            and fresh.relnamespace = to_regnamespace(%(fresh)s)
    where n.nspname = %(schema)s and c.relkind in ('r', 'v')
),

spaces as (
    select
        n.nspname, n.nspowner, fresh.nspacl as fresh_acl, fresh.nspowner as fresh_owner
    from pg_namespace as n
    inner join pg_namespace as fresh on fresh.nspname = %(fresh)s
    where n.nspname = %(schema)s
),

functions as (
    select
        format(
            'function %%I.%%I(%%s)',
            nspname,
            p.proname,
            pg_get_function_identity_arguments(p.oid)
        ) as target,
        coalesce(p.proacl, acldefault('f', p.proowner)) as acl,
        fresh.proacl as fresh_acl,
        fresh.proowner as fresh_owner
    from pg_proc as p
    inner join pg_namespace on pronamespace = pg_namespace.oid
    inner join pg_proc as fresh
        on
            p.proname = fresh.proname
            and p.proargtypes = fresh.proargtypes
            and fresh.pronamespace = to_regnamespace(%(fresh)s)
    where
        nspname = %(schema)s
        and (p.proacl is not null or fresh.proacl is not null)
),

granted as (
    select
        'schema ' || quote_ident(nspname) as target, '' as columns, a.*
    from pg_namespace
    cross join aclexplode(nspacl) as a
    where nspname = %(schema)s
    union all
    select format('table %%I.%%I', nspname, relname), '', a.*
    from relations
    cross join aclexplode(relacl) as a
    union all
    select
        format('table %%I.%%I', nspname, relname), format(' (%%I)', attname), a.*
    from relations
    inner join pg_attribute on attrelid = oid and attnum > 0 and not attisdropped
    cross join aclexplode(attacl) as a
    union all
    select target, '', a.*
    from functions
    cross join aclexplode(acl) as a
)

-- What default privileges gave to the new ones; who owns them has his rights by that.
select 0 as place, format(
    'revoke all on %%s from %%s',
    target,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end
)
from (
    select format('table %%I.%%I', nspname, relname), fresh_acl, fresh_owner
    from relations
    union all
    select format('schema %%I', nspname), fresh_acl, fresh_owner from spaces
    union all
    select target, coalesce(fresh_acl, acldefault('f', fresh_owner)), fresh_owner
    from functions
) as made (target, acl, owner)
cross join aclexplode(acl) as a
where grantee <> owner
union all
select 1, format(
    'grant %%s%%s on %%s to %%s%%s',
    privilege_type,
    columns,
    target,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
    case when is_grantable then ' with grant option' else '' end
)
from granted
union all
select 1, format(
    'alter default privileges for role %%I in schema %%I grant %%s on %%s to %%s%%s',
    pg_get_userbyid(defaclrole),
    nspname,
    privilege_type,
    case defaclobjtype
        when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
        else 'types'
    end,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
    case when is_grantable then ' with grant option' else '' end
)
from pg_default_acl
inner join pg_namespace on defaclnamespace = pg_namespace.oid
cross join aclexplode(defaclacl) as a
where nspname = %(schema)s
union all
select 1, format('alter table %%I.%%I %%s row level security', nspname, relname, how)
from relations
inner join pg_class using (oid, relname)
cross join lateral (
    values ('enable', relrowsecurity), ('force', relforcerowsecurity)
) as secured (how, is_so)
where is_so
union all
select 1, format(
    'create policy %%I on %%I.%%I as %%s for %%s to %%s%%s%%s',
    policyname,
    schemaname,
    tablename,
    permissive,
    cmd,
    (select string_agg(
        case role when 'public' then 'public' else quote_ident(role) end, ', '
    ) from unnest(roles) as role),
    ' using (' || qual || ')',
    ' with check (' || with_check || ')'
)
from pg_policies
where schemaname = %(schema)s
union all
select 1, pg_get_triggerdef(pg_trigger.oid)
from pg_trigger
inner join relations on tgrelid = relations.oid
where not tgisinternal
union all
select 2, format(
    'alter table %%I.%%I %%s trigger %%I',
    nspname,
    relname,
    case tgenabled
        when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always'
    end,
    tgname
)
from pg_trigger
inner join relations on tgrelid = relations.oid
where not tgisinternal and tgenabled <> 'O'
union all
select 1, pg_get_ruledef(pg_rewrite.oid)
from pg_rewrite
inner join relations on ev_class = relations.oid
where rulename <> '_RETURN'
union all
select 2, format(
    'alter table %%I.%%I %%s rule %%I',
    nspname,
    relname,
    case ev_enabled
        when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always'
    end,
    rulename
)
from pg_rewrite
inner join relations on ev_class = relations.oid
where rulename <> '_RETURN' and ev_enabled <> 'O'
union all
select 1, format(
    'alter %%s %%I.%%I set (%%s)',
    kind,
    nspname,
    relname,
    array_to_string(reloptions, ', ')
)
from relations
where reloptions is not null
union all
select 1, format(
    'alter table %%I.%%I add constraint %%I %%s',
    nspname,
    relname,
    conname,
    pg_get_constraintdef(c.oid)
)
from pg_constraint as c
inner join relations on conrelid = relations.oid
where
    -- Those that are a column's own, and those of triggers, go with it.
    contype in ('c', 'f', 'p', 'u', 'x')
    and conname <> all(%(ours)s)
    and not exists (
        select from pg_constraint as fresh
        where fresh.conrelid = fresh_oid and fresh.conname = c.conname
    )
union all
select 3, format(
    'alter table %%I.%%I owner to %%I', nspname, relname, pg_get_userbyid(relowner)
)
from relations
where relowner <> fresh_owner
union all
select 3, format('alter schema %%I owner to %%I', nspname, pg_get_userbyid(nspowner))
from spaces
where nspowner <> fresh_owner
union all
select 1, pg_get_statisticsobjdef(pg_statistic_ext.oid)
from pg_statistic_ext
inner join pg_namespace on stxnamespace = pg_namespace.oid
where nspname = %(schema)s
union all
select 1, pg_get_indexdef(indexrelid)
from pg_index
inner join relations on indrelid = relations.oid
inner join pg_class as i on indexrelid = i.oid
where
    i.relname <> all(%(ours)s)
    -- The names that dbt gave to those of the first releases.
    and i.relname !~ '^[0-9a-f]{32}$'
    and not exists (
        select from pg_class as fresh
        where
            fresh.relname = i.relname
            and fresh.relnamespace = to_regnamespace(%(fresh)s)
    )
    and not exists (select from pg_constraint where conindid = indexrelid)
order by 1
"""

# Schemas that are there and are not marked as what a build made.
_MADE_BY_NO_BUILD: LiteralString = """
select n.nspname
from unnest(%(names)s::text[], %(marks)s::text[]) as known (name, mark)
inner join pg_namespace as n on known.name = n.nspname
where
    obj_description(n.oid, 'pg_namespace') is distinct from known.mark
    and not (
        %(may_be_empty)s
        and not exists (
            select from pg_depend
            where
                refclassid = 'pg_namespace'::regclass
                and classid <> 'pg_default_acl'::regclass
                and refobjid = n.oid
        )
    )
order by known.mark
"""

_NOTE: LiteralString = """
insert into {} (relation_name, definition)
select relname, 'an index' from pg_class
inner join pg_namespace as n on relnamespace = n.oid
where nspname = any(%(schemas)s) and relkind = 'i'
union
select conname, 'a constraint' from pg_constraint
inner join pg_namespace as n on connamespace = n.oid
where nspname = any(%(schemas)s) and contype in ('c', 'f')
union
select
    format('%%s(%%s)', proname, pg_get_function_identity_arguments(p.oid)),
    'a function'
from pg_proc as p
inner join pg_namespace as n on pronamespace = n.oid
where nspname = any(%(schemas)s)
union all
select %(name)s, %(models)s
"""

# What is in the published schema or its staging and no build made: names of what they
# made are given, but for what one build needs (unlogged, or half-made by dbt).
_STRANGERS: LiteralString = """
with named as (
    select
        'pg_class'::regclass as classid, oid, relname as name, relnamespace as space,
        relpersistence = 'u' as is_ours
    from pg_class where relkind not in ('i', 'I')
    union all
    -- Older releases noted those in staging by their names.
    select
        'pg_proc'::regclass,
        p.oid,
        proname || case n.nspname
            when 'sla' then format('(%%s)', pg_get_function_identity_arguments(p.oid))
            else ''
        end,
        pronamespace,
        false
    from pg_proc as p
    inner join pg_namespace as n on pronamespace = n.oid
    union all
    select 'pg_type'::regclass, oid, typname, typnamespace, false from pg_type
    where typrelid = 0 and typelem = 0
)

select pg_describe_object(classid, named.oid, 0)
from named
inner join pg_namespace as n on space = n.oid
where
    n.nspname in ('sla', 'sla_staging')
    and not is_ours
    and (
        regexp_replace(name, '__dbt_(tmp|backup)$', '') <> all(%(ours)s)
        or (n.nspname = 'sla' and classid = 'pg_type'::regclass)
    )
union all
select pg_describe_object('pg_class'::regclass, inhrelid, 0) || ' as a child of another'
from pg_inherits
inner join pg_class as c on inhrelid = c.oid
where c.relnamespace = to_regnamespace('sla')
order by 1
"""

# What stands elsewhere and depends on something in these schemas, in words; of a view
# or a function also how it is made. What depends on such a one in turn stays with it.
_DEPENDENTS: LiteralString = """
with placed as (
    select 'pg_namespace'::regclass as classid, oid as objid, oid as space
    from pg_namespace
    union all
    select 'pg_class'::regclass, oid, relnamespace from pg_class
    union all
    select 'pg_type'::regclass, oid, typnamespace from pg_type
    union all
    select 'pg_proc'::regclass, oid, pronamespace from pg_proc
    union all
    select 'pg_constraint'::regclass, oid, connamespace from pg_constraint
    union all
    select 'pg_statistic_ext'::regclass, oid, stxnamespace from pg_statistic_ext
    union all
    select 'pg_default_acl'::regclass, oid, defaclnamespace from pg_default_acl
    union all
    select part.classid, part.objid, c.relnamespace
    from (
        select 'pg_attrdef'::regclass as classid, oid as objid, adrelid as relation
        from pg_attrdef
        union all
        select 'pg_policy'::regclass, oid, polrelid from pg_policy
        union all
        select 'pg_trigger'::regclass, oid, tgrelid from pg_trigger
        union all
        select 'pg_rewrite'::regclass, oid, ev_class from pg_rewrite
    ) as part
    inner join pg_class as c on part.relation = c.oid
),

ours as (
    select placed.* from placed
    inner join pg_namespace as n on space = n.oid
    where n.nspname = any(%(schemas)s)
)

select distinct
    pg_describe_object(
        case when c.oid is null then d.classid else 'pg_class'::regclass end,
        coalesce(c.oid, d.objid),
        0
    ),
    case
        when
            c.relkind = 'v'
            and c.relpersistence = 'p'
            and pg_has_role(c.relowner, 'usage')
            and has_schema_privilege(n.oid, 'create')
            then format(
            'create or replace view %%I.%%I%%s as %%s',
            n.nspname,
            c.relname,
            ' with (' || array_to_string(c.reloptions, ', ') || ')',
            pg_get_viewdef(c.oid)
        )
        -- One that takes or returns rows of these tables would become another.
        when
            f.prokind in ('f', 'p')
            and ours.classid <> 'pg_type'::regclass
            and pg_has_role(f.proowner, 'usage')
            and has_schema_privilege(f.pronamespace, 'create')
            then pg_get_functiondef(f.oid)
    end
from ours
inner join pg_depend as d on d.refclassid = ours.classid and d.refobjid = ours.objid
left join pg_rewrite as r
    on
        d.classid = 'pg_rewrite'::regclass
        and d.objid = r.oid
        and r.rulename = '_RETURN'
left join pg_class as c on r.ev_class = c.oid
left join pg_namespace as n on c.relnamespace = n.oid
left join pg_proc as f on d.classid = 'pg_proc'::regclass and d.objid = f.oid
where
    -- Parts of an object go with it.
    d.deptype <> 'i'
    and not exists (
        select from ours as o where o.classid = d.classid and o.objid = d.objid
    )
order by 1, 2 nulls first
"""


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
    names = (PUBLISHED, NEXT, OLD, VERIFIED)
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
        _MADE_BY_NO_BUILD,
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
    """Note what a full build made: keys, constraints and functions, and by which files.

    Args:
        connection: open.
        schema: built to its end.
        models: a hash of the files.

    Raises:
        StatusEngineError: it was not built to its end.
    """
    _require_finished(connection, schema)
    names = [schema, staging(schema)]
    connection.execute(
        SQL(_NOTE).format(Identifier(staging(schema), "definitions")),
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
    for (what,) in connection.execute(_STRANGERS, {"ours": _ours(connection)}):
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
            _MADE_BY_OTHERS, {**parameters, "ours": ours}
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
            _DEPENDENTS, {"schemas": [schema, staging(schema)]}
        ).fetchall()
