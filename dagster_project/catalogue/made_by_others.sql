-- What others made of relations and functions of a schema, as statements that say the
-- same of the schema that takes its place, in their order.
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
