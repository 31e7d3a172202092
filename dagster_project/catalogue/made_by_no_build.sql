-- Schemas that are there and are not marked as what a build made.
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
