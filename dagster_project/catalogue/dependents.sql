-- What stands elsewhere and depends on something in these schemas, in words; of a view
-- or a function also how it is made. What depends on such a one in turn stays with it.
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
