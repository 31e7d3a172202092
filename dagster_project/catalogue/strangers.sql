-- What is in the published schema or its staging and no build made: names of what they
-- made are given, but for what one build needs (unlogged, or half-made by dbt).
with named as (
    select
        'pg_class'::regclass as classid, oid, relname as name, relnamespace as space,
        relpersistence = 'u' as is_ours
    from pg_class where relkind not in ('i', 'I')
    union all
    select
        'pg_proc'::regclass,
        p.oid,
        format('%%s(%%s)', proname, pg_get_function_identity_arguments(p.oid)),
        pronamespace,
        -- Older releases noted those by their names alone.
        n.nspname = 'sla_staging' and proname = any(%(ours)s)
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
