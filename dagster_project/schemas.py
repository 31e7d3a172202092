"""Swapping a schema that was built beside the published one in its place.

Readers wait for nothing: names change hands in one transaction, a query that runs goes
on with the relations that it began with. What is in the schemas is decided in dbt.
"""

from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier

from ingest.database import Connection
from ingest.errors import StatusEngineError

PUBLISHED = "sla"
# What a full build makes, and what readers of the last one may still be at.
NEXT = "sla_next"
OLD = "sla_old"
# Of views outside that are pointed to the new relations, and of dropping the old.
PATIENCE = "3s"

# Relations of the schema and its staging, and whatever was granted on them: the
# statements that say the same of the schema that takes their place.
_GRANTS: LiteralString = """
with relations as (
    select c.oid, c.relname, c.relacl, c.relkind, n.nspname
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname = %(schema)s and c.relkind in ('r', 'v', 'p', 'm')
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
)

select format(
    'grant %%s%%s on %%s to %%s%%s',
    privilege_type,
    columns,
    target,
    case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
    case when is_grantable then ' with grant option' else '' end
)
from granted
union all
select format(
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
select format(
    'alter table %%I.%%I enable row level security',
    relations.nspname,
    relations.relname
)
from relations
inner join pg_class using (oid)
where relrowsecurity
union all
select format(
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
select pg_get_triggerdef(pg_trigger.oid)
from pg_trigger
inner join relations on tgrelid = relations.oid
where not tgisinternal
"""

# Views outside, however far down, each after those that it reads itself.
_DEPENDENTS: LiteralString = """
with recursive dependents as (
    select c.oid, 0 as depth
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname = any(%(schemas)s)
    union
    select pg_rewrite.ev_class, depth + 1
    from dependents
    inner join pg_depend
        on
            pg_depend.refclassid = 'pg_class'::regclass
            and pg_depend.refobjid = dependents.oid
            and pg_depend.classid = 'pg_rewrite'::regclass
    inner join pg_rewrite on pg_depend.objid = pg_rewrite.oid
    where pg_rewrite.ev_class <> dependents.oid
)

select
    format('%%I.%%I', n.nspname, c.relname),
    c.relkind,
    format(
        'create or replace view %%I.%%I%%s as %%s',
        n.nspname,
        c.relname,
        ' with (' || array_to_string(c.reloptions, ', ') || ')',
        pg_get_viewdef(c.oid)
    )
from dependents
inner join pg_class as c using (oid)
inner join pg_namespace as n on c.relnamespace = n.oid
where n.nspname <> all(%(schemas)s)
group by n.nspname, c.relname, c.relkind, c.reloptions, c.oid
order by max(depth)
"""


def staging(schema: str) -> str:
    """The schema of what stands beside the published relations."""
    return f"{schema}_staging"


def exists(connection: Connection, schema: str) -> bool:
    """Whether a build of this schema was finished."""
    row = connection.execute(
        "select to_regclass(%s)", [f"{schema}.built_cuts"]
    ).fetchone()
    return row != (None,)


def drop(connection: Connection, schema: str) -> None:
    """Drop a schema that nobody publishes, and its staging.

    Raises:
        StatusEngineError: a view elsewhere reads it, or somebody is at it just now.
    """
    _require_no_dependents(connection, schema)
    with connection.transaction():
        connection.execute(SQL("set local lock_timeout = {}").format(PATIENCE))
        for name in (schema, staging(schema)):
            connection.execute(
                SQL("drop schema if exists {} cascade").format(Identifier(name))
            )


def swap(connection: Connection, fresh: str = NEXT) -> None:
    """Publish a schema in the place of the published one, in one transaction.

    Grants, default privileges, policies and triggers go over to the relations of the
    same names, and views of other schemas read the new ones.

    Raises:
        StatusEngineError: something outside can't follow; nothing is changed.
    """
    if not exists(connection, fresh):
        msg = f"Schema {fresh} was not built to its end; {PUBLISHED} is as it was."
        raise StatusEngineError(msg)
    with connection.transaction():
        connection.execute(SQL("set local lock_timeout = {}").format(PATIENCE))
        connection.execute("set local search_path = ''")
        follow = _statements_after(connection)
        for published, old, new in (
            (PUBLISHED, OLD, fresh),
            (staging(PUBLISHED), staging(OLD), staging(fresh)),
        ):
            _rename(connection, published, old)
            _rename(connection, new, published)
        for what, statement in follow:
            _follow(connection, what, statement)


def drop_old(connection: Connection) -> bool:
    """Drop what was published before; False while somebody still reads it."""
    try:
        drop(connection, OLD)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    return True


def _rename(connection: Connection, name: str, to: str) -> None:
    found = connection.execute("select to_regnamespace(%s)", [name]).fetchone()
    if found != (None,):
        connection.execute(
            SQL("alter schema {} rename to {}").format(Identifier(name), Identifier(to))
        )


def _statements_after(connection: Connection) -> list[tuple[str, str]]:
    """What is to be said again of the new relations, each with what it is about."""
    said = [
        ("a grant, policy or trigger", row[0])
        for schema in (PUBLISHED, staging(PUBLISHED))
        for row in connection.execute(_GRANTS, {"schema": schema})
    ]
    for name, kind, statement in _dependents(connection, PUBLISHED):
        if kind != "v":
            msg = (
                f"Materialized view {name} reads schema {PUBLISHED} and can't be kept. "
                "Drop it, and create it again after the full refresh."
            )
            raise StatusEngineError(msg)
        said.append((f"view {name}", statement))
    return said


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


def _dependents(connection: Connection, schema: str) -> list[tuple[str, str, str]]:
    return connection.execute(
        _DEPENDENTS, {"schemas": [schema, staging(schema)]}
    ).fetchall()


def _require_no_dependents(connection: Connection, schema: str) -> None:
    names = [name for name, _, _ in _dependents(connection, schema)]
    if names:
        msg = f"Schema {schema} is read by {', '.join(names)}. Drop or change it first."
        raise StatusEngineError(msg)
