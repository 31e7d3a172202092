-- All that is in these schemas, by name, and by which files it was made.
select relname, 'a relation' from pg_class
inner join pg_namespace as n on relnamespace = n.oid
where nspname = any(%(schemas)s) and relkind in ('r', 'v', 'i')
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
