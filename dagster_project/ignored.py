"""Deadlines that transitions carry and nothing uses: no workflow binds their entity.

That they are ignored is decided in dbt (S8); here they are counted and told.
"""

from collections import Counter

from ingest.store.database import Connection

# Of the built cut. Unbound entities are few, or the history is read once.
_IGNORED = """
select entity_type, count(*)
from raw.status_transitions
where
    sla_deadline is not null
    and (entity_type, entity_id) in (
        select entity_type, entity_id
        from sla.workflow_violations
        where violation = 'no_workflow'
    )
group by entity_type
order by entity_type
"""


def ignored_deadlines(connection: Connection) -> Counter[str]:
    """How many transitions of entities that are built and unbound carry a deadline."""
    return Counter(dict(connection.execute(_IGNORED).fetchall()))


def in_words(counts: Counter[str]) -> str:
    """One line of them by entity type, at least one, and what to do."""
    most = counts.most_common()
    told = ", ".join(f"{count:,} transitions of {name}" for name, count in most)
    first = most[0][0]
    return (
        f"sla_deadline is ignored in {told}: no workflow binds their entities (S8). "
        f"Apply one that does; status-engine workflows draft {first} writes a first."
    )
