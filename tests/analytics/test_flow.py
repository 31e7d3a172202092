"""Moves of any scope, against a plain count of the same stays."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from published_rows import Publish

from analytics import flow
from analytics.stays import Scope

# Ids of two types are the same; entities come back to a status, and move the same way
# again.
WANDERING = """
insert into stays by name
with placed as (
    select
        i // 2 % 20 as entity_id,
        ['order', 'quote'][1 + i % 2] as entity_type,
        i // 40 as place,
        ['a', 'b', 'c'][1 + (place + hash(i) % 2)::int % 3] as status,
        timestamptz '2026-03-01 00:00:00Z' + interval (i) hour as entered_at
    from range(400) as t (i)
),

moved as (
    select * from placed
    window by_place as (partition by entity_type, entity_id order by place)
    qualify status is distinct from lag(status) over by_place
)

select
    entity_type, entity_id, status, entered_at,
    lead(entered_at) over moves as left_at,
    row_number() over (
        partition by entity_type, entity_id, status order by entered_at
    ) as visit
from moved
window moves as (partition by entity_type, entity_id order by entered_at);
"""
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "scope",
    [
        Scope(),
        # First visits lie before it.
        Scope(since=START + timedelta(hours=200)),
        Scope(until=START + timedelta(hours=200), entity_type="order"),
    ],
)
def test_moves_are_counted_with_the_entities_that_made_them(
    publish: Publish, scope: Scope
) -> None:
    publication = publish(WANDERING, "2026-06-01T00:00:00Z")
    condition = scope.condition()
    stays = publication.connection.execute(
        "select status, next_status, entity_type, entity_id, elapsed_seconds "
        f"from status_intervals where left_at is not null and {condition.sql}",
        condition.parameters,
    ).fetchall()
    moves = defaultdict(list)
    for status, following, *rest in stays:
        moves[status, following].append(rest)
    expected = {
        move: (
            len(made),
            len({(kind, entity) for kind, entity, _ in made}),
            sorted(seconds for _, _, seconds in made)[(len(made) - 1) // 2],
        )
        for move, made in moves.items()
    }
    found = flow.directly_follows(publication, scope)
    columns = ("from_status", "to_status", "move_count", "entity_count", "p50_seconds")
    assert {row[:2]: row[2:] for row in found.select(columns).rows()} == expected
    # Some came back and moved the same way again, else this would show little.
    assert any(count > entities for count, entities, _ in expected.values())
