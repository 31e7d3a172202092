"""Findings from rows whose figures are counted by hand; their rows recount to them."""

import polars as pl
import pytest
from published_rows import Publish

from analytics import breaches, findings
from analytics.findings import Finding
from analytics.published import Publication
from analytics.stays import Scope

AS_OF = "2026-06-01T00:00:00Z"
# Orders 1 to 40 go new, sent, done. 41 skips sent, 42 goes back and forth, 43 is in a
# status of no workflow, 44 waits since April and 45 repeats. 46's stay in new is slow,
# 47's far slower.
SCRIPT = """
insert into workflows by name
    select 'w' as workflow_id, 'order' as entity_type, 'standard' as workflow_name;
insert into workflow_steps by name select * from (values
    ('w', 'order', 'standard', 'new', 1, '["sent"]'),
    ('w', 'order', 'standard', 'sent', 2, '["done"]'),
    ('w', 'order', 'standard', 'done', 3, '[]')
) as t (
    workflow_id, entity_type, workflow_name, status, step_order, allowed_transitions
);
insert into stays by name
select i as entity_id, unnest(['new', 'sent', 'done']) as status,
    unnest([day, day + interval (i) hour, day + interval (i + 5) hour]) as entered_at,
    unnest([day + interval (i) hour, day + interval (i + 5) hour, null]) as left_at,
    unnest([false, false, true]) as is_final
from range(1, 41) as t (i)
cross join (select timestamptz '2026-05-01 00:00:00Z' as day);
insert into stays (
    entity_id, status, entered_at, left_at, visit, transition_count, is_final
) values
    (41, 'new', '2026-05-01 00:00:00', '2026-05-01 10:00:00', 1, 1, false),
    (41, 'done', '2026-05-01 10:00:00', null, 1, 1, true),
    (42, 'new', '2026-05-01 00:00:00', '2026-05-01 10:00:00', 1, 1, false),
    (42, 'sent', '2026-05-01 10:00:00', '2026-05-01 11:00:00', 1, 1, false),
    (42, 'new', '2026-05-01 11:00:00', '2026-05-01 12:00:00', 2, 1, false),
    (42, 'sent', '2026-05-01 12:00:00', '2026-05-01 17:00:00', 2, 1, false),
    (42, 'done', '2026-05-01 17:00:00', null, 1, 1, true),
    (43, 'new', '2026-05-01 00:00:00', '2026-05-01 10:00:00', 1, 1, false),
    (43, 'lost', '2026-05-01 10:00:00', '2026-05-31 10:00:00', 1, 1, false),
    (43, 'done', '2026-05-31 10:00:00', null, 1, 1, true),
    (44, 'sent', '2026-05-25 00:00:00', null, 1, 1, false),
    (48, 'sent', '2026-05-25 00:00:00.000001', null, 1, 1, false),
    (45, 'new', '2026-05-01 00:00:00', '2026-05-01 10:00:00', 1, 3, false),
    (45, 'sent', '2026-05-01 10:00:00', '2026-05-01 15:00:00', 1, 1, false),
    (46, 'new', '2026-05-01 00:00:00', '2026-05-04 10:00:00', 1, 1, false),
    (47, 'new', '2026-05-01 00:00:00', '2026-05-12 00:00:00', 1, 1, false);
"""


@pytest.fixture
def publication(publish: Publish) -> Publication:
    return publish(SCRIPT, AS_OF)


def _entities(publication: Publication, finding: Finding) -> list[int]:
    return sorted(publication.frame(finding.rows)["entity_id"].to_list())


def _of(found: list[Finding], status: str) -> Finding:
    (finding,) = (f for f in found if f.group["status"] == status)
    return finding


def test_each_kind_finds_its_rows_and_no_others(publication: Publication) -> None:
    kinds = {
        "rework": (findings.rework, "new", [42], 47),
        "ping_pong": (findings.ping_pong, "new", [42], 1),
        "skipped_steps": (findings.skipped_steps, "done", [41], 1),
        "repetition": (findings.repetition, "new", [45], 47),
        "idle": (findings.idle, "sent", [44], 2),
    }
    for name, (find, status, entities, of) in kinds.items():
        finding = _of(find(publication), status)
        assert (finding.name, finding.count, finding.of) == (name, len(entities), of)
        assert _entities(publication, finding) == entities
    back, unknown = findings.extra_steps(publication)
    assert {back.group["status"], unknown.group["status"]} == {"new", "lost"}


def test_slow_stays_are_over_the_fences_of_their_own_status(
    publication: Publication,
) -> None:
    slow, extreme = (
        f for f in findings.bottlenecks(publication) if f.group["status"] == "new"
    )
    # Quartiles of the 47 closed stays in new: 10 h and 31 h.
    assert slow.threshold == "more than 225,000 business seconds (62.5 h) in the status"
    assert extreme.threshold.startswith("more than 338,400 ")
    assert _entities(publication, slow) == [46, 47]
    assert _entities(publication, extreme) == [47]


def test_rows_of_every_finding_recount_to_its_figure(publication: Publication) -> None:
    for scope in (Scope(), Scope(status="new"), Scope(entity_type="order")):
        found = findings.all_findings(publication, scope)
        assert len(found) >= 4
        for finding in found:
            assert publication.frame(finding.rows).height == finding.count
            assert finding.interval.low <= finding.ratio <= finding.interval.high
    assert findings.table(found).height == len(found)


def test_of_nothing_nothing_is_found(publish: Publish) -> None:
    publication = publish("", AS_OF)
    assert findings.all_findings(publication) == []
    assert breaches.associations(publication).is_empty()
    assert breaches.compare(publication, Scope(), Scope()).is_empty()


# 1,200 stays; those of region north breach twice as often, all else is chance. Every
# tenth is open, overdue or not yet due.
BREACHES = """
insert into stays by name
with drawn as (
    select
        i as entity_id, 'new' as status,
        timestamptz '2026-05-01 00:00:00Z' + interval (hash(i) % 600) hour
            as entered_at,
        hash(i * 3) % 100 < if(i % 2 = 0, 40, 20) as is_late, i % 10 = 0 as is_open
    from range(1200) as t (i)
)
select entity_id, status, entered_at,
    ['ann', 'bob', 'cy'][1 + (hash(entity_id * 5) % 3)::int] as user_name,
    'web' as system,
    if(is_open and not is_late, timestamptz '2026-06-05 00:00:00Z',
        entered_at + interval 24 hour) as sla_deadline,
    if(is_open, null, entered_at + if(is_late, interval 30 hour, interval 3 hour))
        as left_at
from drawn;
insert into entities by name
select 'order' as entity_type, entity_id, min(entered_at) as last_changed_at,
    json_object('region', if(entity_id % 2 = 0, 'north', 'south'), 'a/b~c', 'x',
        'ticket', entity_id, 'nested', json_object('x', 1)) as first_context
from stays group by entity_id;
"""


def test_what_goes_with_breaches_is_found_and_chance_is_not(publish: Publish) -> None:
    publication = publish(BREACHES, AS_OF)
    found = breaches.associations(publication)
    assert found["factor"].unique().sort().to_list() == [
        "context.a/b~c",
        "context.region",
        "hour",
        "system",
        "user",
        "weekday",
    ]
    signal = found.filter(pl.col("q") < 0.01)
    assert signal.select("factor", "value").sort("value").rows() == [
        ("context.region", "north"),
        ("context.region", "south"),
    ]
    north = found.filter(pl.col("value") == "north").row(0, named=True)
    # A tenth are open, all of them north: those not yet due, a fifth of 0.6, are out.
    assert north["odds_low"] < 0.4 / 0.48 / (0.2 / 0.8) < north["odds_high"]
    assert 1.2 < north["lift"] < 1.5
    # All there is has the value: there is nothing to compare.
    assert found.filter(pl.col("factor") == "system")["q"].to_list() == [None]
    # Corrected for every row that has a p, not for those that look well.
    tested = found.drop_nulls("p").sort("p")
    assert tested["q"][0] == pytest.approx(tested["p"][1] * tested.height / 2)


# Ann has the hard status, and breaches there as often as Bob does; in both statuses
# those of region north breach twice as often.
MIXED = """
insert into stays by name
with drawn as (
    select
        i as entity_id, if(i % 4 < 2, 'hard', 'easy') as status, i % 8 < 4 as is_north,
        if(hash(i * 7) % 100 < if(i % 4 < 2, 90, 10), 'ann', 'bob') as user_name,
        hash(i * 3) % 100 < if(i % 4 < 2, 30, 5) * if(i % 8 < 4, 2, 1) as is_late,
        timestamptz '2026-05-01 00:00:00Z' + interval (i % 300) hour as entered_at
    from range(4000) as t (i)
)
select entity_id, status, entered_at, user_name,
    entered_at + interval 24 hour as sla_deadline,
    entered_at + if(is_late, interval 30 hour, interval 3 hour) as left_at
from drawn;
insert into entities by name
select 'order' as entity_type, entity_id, min(entered_at) as last_changed_at,
    json_object('region', if(entity_id % 8 < 4, 'north', 'south')) as first_context
from stays group by entity_id;
"""


def test_who_has_the_hard_status_is_not_told_as_a_cause(publish: Publish) -> None:
    found = breaches.associations(publish(MIXED, AS_OF))
    rows = {row["value"]: row for row in found.iter_rows(named=True)}
    ann, north = rows["ann"], rows["north"]
    assert ann["q"] < 1e-9
    assert ann["odds_low"] > 3
    assert ann["adjusted_low"] < 1 < ann["adjusted_high"]
    assert north["adjusted_low"] > 2
    assert north["adjusted_odds_ratio"] > north["odds_ratio"]
    bob = rows["bob"]
    assert bob["adjusted_odds_ratio"] == pytest.approx(1 / ann["adjusted_odds_ratio"])


def test_breached_rows_of_a_value_recount_to_its_figure(publish: Publish) -> None:
    publication = publish(BREACHES, AS_OF)
    found = breaches.associations(publication)
    due = publication.connection.execute(
        "select count(*) from status_intervals cross join publication "
        "where verdict is not null or sla_deadline < as_of"
    ).fetchone()[0]
    for factor in ("context.region", "weekday", "hour"):
        assert found.filter(pl.col("factor") == factor)["due_count"].sum() == due
    for row in found.iter_rows(named=True):
        rows = breaches.association_rows(Scope(), row["factor"], row["value"])
        assert publication.frame(rows).height == row["breached_count"]


def test_two_groups_differ_by_more_than_noise_or_not(publish: Publish) -> None:
    publication = publish(BREACHES, AS_OF)
    regions = [Scope(context={"region": name}) for name in ("south", "north")]
    row = breaches.compare(publication, *regions).row(0, named=True)
    assert row["difference"] == row["second_ratio"] - row["first_ratio"] < 0
    assert row["low"] < 0.48 / 0.88 - 0.8 < row["high"]
    assert not row["is_noise"]
    users = [Scope(context={"a/b~c": "x"}), Scope()]
    assert breaches.compare(publication, *users, by=()).row(0, named=True)["is_noise"]
