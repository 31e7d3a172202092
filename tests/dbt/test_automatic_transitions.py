"""Rules of workflows: when they hold, what they move, once, and what they never do.

All is read live, built or not: one build, made without a transition, for all tests.
"""

import json
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import pytest
from click import unstyle
from click.testing import CliRunner
from facts import append_rows, apply, at, calendar, step, workflow

from dagster_project.automation import Outlook, make_moves, outlook
from dagster_project.cli import main
from dagster_project.explain import explain, narrate
from ingest.automation import Move, append_moves
from ingest.record import record
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.database import PROJECT, Connection

Build = Callable[..., Cut]
Row = dict[str, Any]
FreshDatabase = Callable[..., AbstractContextManager[str]]
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NIGHT = calendar("night", "America/New_York", {day: ["22:00-06:00"] for day in DAYS})
CHILDREN = {"entity_type": "line_item", "context_key": "order_id"}
PARENT = {"entity_type": "order", "context_key": "order_id"}
MOVED = "select count(*) from raw.status_transitions where triggered_by_system = %s"


def _rules(*rules: Row) -> Row:
    return {
        "auto_transition_conditions": {
            "rules": [{"append": True, **rule} for rule in rules]
        }
    }


def _orders(**given: Any) -> Row:
    """Open statuses with their rules; the ends of orders, one behind an approval."""
    ends = ["done", "expired", "cancelled", "signed"]
    cancelled = {"to": "cancelled", "when_context": {"cancel": {"by": "customer"}}}
    gathered = {**CHILDREN, "all": ["delivered", "removed"]}
    rules = {
        "new": [cancelled, {"to": "expired", "after_hours": 8}],
        "waiting": [{"to": "expired", "after_hours": 8, "clock": "elapsed"}],
        "gathering": [{"to": "done", "when_children": gathered}],
        "hoping": [{"to": "done", "when_children": {**CHILDREN, "any": ["delivered"]}}],
        "asking": [
            {"to": "signed", "after_hours": 0, "append": False},
            {"to": "done", "after_hours": 0},
        ],
        **given,
    }
    steps = [
        step(name, order, [*ends, "new", "waiting"], **_rules(*of_step))
        for order, (name, of_step) in enumerate(rules.items())
    ]
    ended = [step(name, 10 + order, []) for order, name in enumerate(ends[:3])]
    signed = step("signed", 20, [], approval_role="boss")
    return workflow(
        "order",
        "standard",
        [*steps, *ended, signed],
        is_default=True,
        calendar="night",
    )


ITEMS = workflow(
    "line_item",
    "standard",
    [
        step(
            "open",
            1,
            ["delivered", "removed"],
            **_rules(
                {"to": "removed", "when_parent": {**PARENT, "reached": ["cancelled"]}}
            ),
        ),
        step("delivered", 2, ["open"]),
        step("removed", 3, []),
    ],
    is_default=True,
)


@pytest.fixture(scope="module")
def template(
    fresh_database: FreshDatabase,
    built_empty: str,
    build: Build,
    tmp_path_factory: Any,
) -> Iterator[str]:
    """The name of a database with the rules, built."""
    with fresh_database(built_empty, "kept") as url:
        with database.connect(url) as connection:
            folder: Path = tmp_path_factory.mktemp("rules")
            apply(connection, folder, at(0), NIGHT, _orders(), ITEMS)
        build(url, at(0))
        yield database.environment(url)["PGDATABASE"]


@pytest.fixture
def url(
    fresh_database: FreshDatabase, template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A copy of it, as commands find it."""
    with fresh_database(template) as copy:
        for name in database.environment(copy):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DATABASE_URL", copy)
        yield copy


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with database.connect(url) as connection:
        yield connection


def _row(entity_id: int, to: str, created_at: datetime, **given: Any) -> Row:
    return {
        "created_at": created_at,
        "entity_type": "order",
        "entity_id": entity_id,
        "to_status": to,
        "id": None,
        **given,
    }


def _item(entity_id: int, to: str, created_at: datetime, order: Any) -> Row:
    context = {"order_id": order}
    return _row(
        entity_id, to, created_at, entity_type="line_item", business_context=context
    )


def _append(connection: Connection, *rows: Row) -> None:
    result = append_rows(
        connection, [row | {"id": _id(number, row)} for number, row in enumerate(rows)]
    )
    assert result.appended == len(rows)


def _id(number: int, row: Row) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {row}"))


def _said(found: Outlook) -> list[tuple[Any, ...]]:
    return sorted(
        (row["entity_type"], row["entity_id"], row["to_status"], row["rule_number"])
        for row in found.due + found.proposed
    )


def _moved(connection: Connection) -> int:
    row = connection.execute(MOVED, ["automation"]).fetchone()
    assert row is not None
    return int(row[0])


def _wait_for(connection: Connection, which: LiteralString, count: int) -> None:
    """Until so many sessions of the database are such."""
    query = f"select count(*) from pg_stat_activity where {which}"
    within = f"{query} and datname = current_database()"
    while connection.execute(within).fetchone() != (count,):
        time.sleep(0.01)


def _command(*arguments: str) -> Any:
    result = CliRunner().invoke(main, ["automate", *arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(
    ("status", "entered_at", "holds_from"),
    [
        # The night of 7 March holds 7 hours, that of 31 October 9.
        ("new", "2026-03-07T22:00-05:00", "2026-03-08T23:00-04:00"),
        ("new", "2026-10-31T22:00-04:00", "2026-11-01T05:00-05:00"),
        ("new", "2026-05-04T12:00-04:00", "2026-05-05T06:00-04:00"),
        ("waiting", "2026-03-07T22:00-05:00", "2026-03-08T07:00-04:00"),
    ],
)
def test_a_rule_holds_from_the_instant_at_which_its_hours_are_up(
    connection: Connection, status: str, entered_at: str, holds_from: str
) -> None:
    due = datetime.fromisoformat(holds_from)
    _append(connection, _row(1, status, datetime.fromisoformat(entered_at)))
    assert outlook(connection, as_of=due - timedelta(microseconds=1)).due == []
    (row,) = outlook(connection, as_of=due).due
    assert (row["to_status"], row["holds_from"]) == ("expired", due)


def test_hours_run_from_the_beginning_of_the_stay_and_begin_again_with_another(
    connection: Connection,
) -> None:
    _append(
        connection,
        _row(1, "waiting", at(1)),
        # A self-transition begins no stay (S3).
        _row(1, "waiting", at(1.3)),
        _row(2, "waiting", at(1)),
        _row(2, "new", at(1.1)),
        _row(2, "waiting", at(1.2)),
    )
    found = outlook(connection, as_of=at(1.34))
    assert _said(found) == [("order", 1, "expired", 1)]
    assert len(outlook(connection, as_of=at(1.2) + timedelta(hours=8)).due) == 2


def test_of_the_context_the_last_value_counts_that_a_key_was_given(
    connection: Connection,
) -> None:
    wanted = {"cancel": {"by": "customer", "why": "late"}}
    contexts = [
        [{"a": 1}, wanted, {"a": 2}],
        [wanted, {"cancel": None}, None],
        [wanted, {"cancel": {"by": "us"}}],
        [{"cancel": {"by": "us"}}, wanted],
        [{"cancel": "customer"}],
        [None],
    ]
    _append(
        connection,
        *(
            _row(number, "new", at(1 + place), business_context=context)
            for number, told in enumerate(contexts)
            for place, context in enumerate(told)
        ),
    )
    # Before its hours are up; afterwards the first rule decides still.
    found = outlook(connection, as_of=at(1.01))
    assert _said(found) == [("order", n, "cancelled", 1) for n in (0, 1, 3)]
    later = outlook(connection, as_of=at(9))
    assert Counter(row["to_status"] for row in later.due) == {
        "cancelled": 3,
        "expired": 3,
    }


def test_all_and_any_children_by_id_or_key_and_a_late_one(
    connection: Connection,
) -> None:
    key = ("order", 2**62 + 1)
    orders = [
        _row(number, status, at(1))
        for status, first in (("gathering", 10), ("hoping", 20))
        for number in range(first, first + 4)
    ]
    items = [
        # Of the first of each one of two, of the second both, of the third none at all.
        _item(1, "delivered", at(1), 10),
        _item(2, "open", at(1), "10"),
        _item(3, "delivered", at(1), 11),
        # Removed is as good, and what left a status has reached it.
        _item(4, "removed", at(1), 11),
        _item(5, "delivered", at(1), 20),
        _item(5, "open", at(1.1), 20),
        _item(6, "open", at(1), 20),
        _item(7, "open", at(1), 21),
        # A child of another order since.
        _item(8, "delivered", at(1), 23),
        _item(8, "delivered", at(1.1), 13),
        # By the key of an order that its source knows by a text.
        _item(9, "delivered", at(1), "SO-1"),
    ]
    _append(connection, *orders, _row(key[1], "gathering", at(1)), *items)
    connection.execute(
        "insert into raw.entity_keys (entity_type, entity_id, namespace, entity_key,"
        " batch_id) select %s, %s, '', 'SO-1', max(batch_id) from raw.batches",
        key,
    )
    expected = [("order", n, "done", 1) for n in (11, 13, 20, key[1])]
    found = outlook(connection, as_of=at(2))
    assert _said(found) == expected
    row = next(row for row in found.due if row["entity_id"] == 11)
    assert (row["child_count"], row["reached_count"]) == (2, 2)
    _append(connection, _item(99, "open", at(0.5), 11))
    assert _said(outlook(connection, as_of=at(2))) == [
        rule for rule in expected if rule[1] != 11
    ]


def test_a_parent_moves_its_children_by_id_or_key(connection: Connection) -> None:
    _append(
        connection,
        _row(1, "new", at(1)),
        _row(1, "cancelled", at(2)),
        _row(1, "new", at(3)),
        _row(2, "hoping", at(1)),
        _row(2**62 + 1, "cancelled", at(2)),
        _item(1, "open", at(1), 1),
        _item(2, "open", at(1), "1"),
        _item(3, "open", at(1), 2),
        _item(4, "open", at(1), "SO-1"),
        _item(5, "open", at(1), "99999999999999999999"),
        _row(6, "open", at(1), entity_type="line_item"),
        # What moves nothing: it is elsewhere by now.
        _item(7, "open", at(1), 1),
        _item(7, "delivered", at(1.1), 1),
    )
    connection.execute(
        "insert into raw.entity_keys (entity_type, entity_id, namespace, entity_key,"
        " batch_id) select 'order', %s, '', 'SO-1', max(batch_id) from raw.batches",
        [2**62 + 1],
    )
    found = outlook(connection, as_of=at(3))
    assert _said(found) == [("line_item", n, "removed", 1) for n in (1, 2, 4)]


def test_random_rules_hold_as_an_oracle_says(
    connection: Connection, tmp_path: Path
) -> None:
    """Elapsed hours, contexts, children and parents, alone and together."""
    dice = random.Random(5)
    rules = {name: [_any_rule(dice) for _ in range(3)] for name in ("a", "b", "c")}
    apply(connection, tmp_path, at(0.5), _orders(**rules))
    rows = [_any_row(dice) for _ in range(600)]
    _append(connection, *rows)
    for day in (1, 5, 9):
        found = outlook(connection, as_of=at(day))
        expected = sorted(_by_oracle(rows, rules, at(day)))
        assert [row for row in _said(found) if row[0] == "order"] == expected
    assert len(expected) > 20
    assert len({number for *_, number in expected}) == 3


def _any_rule(dice: random.Random) -> Row:
    ends = ["done", "expired"]
    reached = dice.sample(["delivered", "removed", "open"], 2)
    conditions: Row = {
        "when_context": {"x": dice.randint(0, 2)},
        "when_children": {**CHILDREN, dice.choice(["all", "any"]): reached},
        # Orders are each other's parents here.
        "when_parent": {**PARENT, "reached": dice.sample(["a", "b", "c"], 2)},
    }
    chosen = dice.sample(sorted(conditions), dice.randint(1, 2))
    rule = {name: conditions[name] for name in chosen}
    hours = {"after_hours": dice.randint(1, 72), "clock": "elapsed"}
    return {"to": dice.choice(ends), **hours, **rule}


def _any_row(dice: random.Random) -> Row:
    context = {"x": dice.choice([0, 1, 2, None]), "order_id": dice.randint(1, 60)}
    told = dict(dice.sample(sorted(context.items()), dice.randint(0, 2)))
    given = {"business_context": told} if told else {}
    instant = at(dice.randint(0, 5 * 24) / 24)
    if dice.random() < 0.5:
        return _row(dice.randint(1, 60), dice.choice("abc"), instant, **given)
    status = dice.choice(["open", "delivered", "removed"])
    number = dice.randint(1, 90)
    return _row(number, status, instant, entity_type="line_item", **given)


def _by_oracle(
    rows: list[Row], rules: dict[str, list[Row]], now: datetime
) -> Iterator[tuple[Any, ...]]:
    """What the rules move, told by walking through each entity's transitions."""
    histories: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["created_at"]):
        entity = row["entity_type"], row["entity_id"]
        histories.setdefault(entity, []).append(row)
    contexts: dict[tuple[str, int], Row] = {entity: {} for entity in histories}
    for entity, history in histories.items():
        for row in history:
            told = row.get("business_context") or {}
            contexts[entity] |= {k: v for k, v in told.items() if v is not None}
    been = {e: {row["to_status"] for row in rows} for e, rows in histories.items()}
    for (kind, number), history in histories.items():
        if kind != "order":
            continue
        stay = history[-1:]
        while len(stay) < len(history) and (
            history[-len(stay) - 1]["to_status"] == stay[0]["to_status"]
        ):
            stay.insert(0, history[-len(stay) - 1])
        since, context = stay[0]["created_at"], contexts[kind, number]
        items = [
            been[child]
            for child, told in contexts.items()
            if child[0] == "line_item" and told.get("order_id") == number
        ]
        above = been.get(("order", context.get("order_id", 0)), set())
        for place, rule in enumerate(rules[stay[0]["to_status"]], start=1):
            children = rule.get("when_children", {})
            is_held = (
                since + timedelta(hours=rule["after_hours"]) <= now
                and rule.get("when_context", {}).items() <= context.items()
                and (
                    "all" not in children
                    or (
                        items != []
                        and all(item & set(children["all"]) for item in items)
                    )
                )
                and (
                    "any" not in children
                    or any(item & set(children["any"]) for item in items)
                )
                and (
                    "when_parent" not in rule
                    or above & set(rule["when_parent"]["reached"])
                )
            )
            if is_held:
                yield kind, number, rule["to"], place
                break


def test_a_move_is_recorded_with_the_rule_and_what_it_saw(
    connection: Connection,
) -> None:
    _append(
        connection,
        _row(1, "gathering", at(1)),
        _item(1, "delivered", at(1), 1),
        _item(2, "removed", at(1), 1),
    )
    moved = make_moves(connection, outlook(connection, as_of=at(2)))
    assert moved == (1, Counter())
    reason = (
        "rule 1 of 'gathering' in workflow 'standard': 2 of 2 line_item reached "
        "'delivered' or 'removed'"
    )
    found = explain(connection, "order", 1)
    row = found.transitions[-1]
    assert (row["from_status"], row["to_status"]) == ("gathering", "done")
    assert row["triggered_by_system"] == "automation"
    assert row["transition_reason"] == reason
    assert row["violations"] is None
    rule = row["metadata"]["rule"]
    assert (rule["rule_number"], rule["child_count"], rule["reached_count"]) == (
        1,
        2,
        2,
    )
    assert rule["workflow_id"] == str(row["workflow_id"])
    assert rule["when_children"] == {**CHILDREN, "all": ["delivered", "removed"]}
    text = unstyle("\n".join(narrate(found)))
    assert f"through automation, because '{reason}'" in text
    current = "select current_status from sla.entity_current_status where entity_id = 1"
    status = connection.execute(f"{current} and entity_type = 'order'").fetchone()
    assert status == ("done",)


def test_an_approval_and_an_illegal_move_are_refused_and_stop_no_other(
    connection: Connection,
) -> None:
    """By the judgement of `record`, also where the view would let them through."""
    _append(connection, *(_row(number, "waiting", at(1)) for number in range(4)))
    found = outlook(connection, as_of=at(2))
    for row, target in zip(
        found.due, ("signed", "gathering", "nowhere", "expired"), strict=True
    ):
        row["to_status"] = target
    moved = make_moves(connection, found)
    assert moved == (
        1,
        Counter(missing_approval=1, illegal_transition=1, unknown_status=1),
    )
    assert _moved(connection) == 1


def test_the_first_rule_that_holds_is_only_proposed_and_no_later_one_is_made(
    connection: Connection,
) -> None:
    _append(connection, _row(1, "asking", at(1)))
    found = outlook(connection)
    assert (found.due, found.obstacles) == ([], Counter(requires_approval=1))
    assert _said(found) == [("order", 1, "signed", 1)]
    assert make_moves(connection, found) == (0, Counter())


def test_an_entity_that_moved_on_since_it_was_seen_is_not_moved(
    connection: Connection,
) -> None:
    """It may have left its status and come back, or moved within it."""
    _append(connection, *(_row(number, "waiting", at(1)) for number in range(4)))
    seen = outlook(connection)
    entities = [row["entity_id"] for row in seen.due]
    for number, statuses in zip(
        entities, (["new"], ["new", "waiting"], ["waiting"], []), strict=True
    ):
        for status in statuses:
            record(connection, entity_type="order", entity_id=number, to_status=status)
    moved = make_moves(connection, seen)
    assert moved == (1, Counter(expected_status=1, moved_on=2))
    # What is refused leaves no trace in the ledger either.
    ledger = "select count(*) from raw.batches where source = 'automation'"
    assert connection.execute(ledger).fetchone() == (1,)
    assert _moved(connection) == 1


def test_a_stay_is_left_by_rule_once(connection: Connection) -> None:
    """By its id, which is the same in every run that saw it."""
    _append(connection, _row(1, "waiting", at(1)))
    seen = outlook(connection)
    assert make_moves(connection, seen) == (1, Counter())
    assert make_moves(connection, seen) == (0, Counter(id_conflict=1))
    assert outlook(connection).due == []
    assert _moved(connection) == 1


def test_run_twice_and_side_by_side_and_killed_each_is_moved_once(
    url: str,
    connection: Connection,
    check_conservation: Callable[[Connection], None],
) -> None:
    """Real processes; one of them is killed amid its moves."""
    count = 900
    _append(connection, *(_row(number, "waiting", at(1)) for number in range(count)))
    command = [
        sys.executable,
        "-m",
        "dagster_project",
        "automate",
        "--append",
        "--json",
    ]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    killed = start()
    while _moved(connection) < 50:
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.communicate()
    # It may have died while it was committing.
    _wait_for(connection, "datname = current_database()", 1)
    done_before = _moved(connection)
    assert done_before < count
    with database.connect(url) as holder, holder.transaction():
        # Neither writes before both have read what is to be moved.
        holder.execute("lock table raw.batches in share mode")
        beside = [start(), start()]
        _wait_for(connection, "wait_event_type = 'Lock'", 2)
    results = []
    for process in beside:
        out, err = process.communicate()
        assert process.returncode == 0, err
        results.append(json.loads(out))
    assert sum(result["appended"] for result in results) == count - done_before
    refused = sum(sum(result["refused"].values()) for result in results)
    assert refused == count - done_before
    assert _moved(connection) == count
    twice = (
        "select count(*) from raw.status_transitions group by entity_id"
        " having count(*) <> 2"
    )
    assert connection.execute(twice).fetchall() == []
    assert json.loads(_command("--append", "--json").stdout)["appended"] == 0
    check_conservation(connection)


def test_the_limit_lets_those_through_that_wait_longest_and_is_told(
    connection: Connection,
) -> None:
    _append(connection, *(_row(n, "waiting", at(9 - n)) for n in range(1, 6)))
    _append(connection, *(_row(n, "asking", at(1)) for n in range(11, 16)))
    said = _command("--append", "--limit", "2")
    assert "2 of 5 moved by rules, proposed only: 5 requires_approval" in said.stderr
    assert "Warning: the limit of 2 is reached; 3 wait for the next run." in said.stderr
    moved = "select entity_id from raw.status_transitions where to_status = 'expired'"
    assert {n for (n,) in connection.execute(moved)} == {5, 4}
    assert "3 of 3 moved" in _command("--append", "--limit", "3").stderr
    assert "reached" not in _command("--append", "--limit", "3").stderr


def test_without_append_nothing_is_written(connection: Connection) -> None:
    _append(connection, _row(1, "waiting", at(1)), _row(2, "waiting", at(3)))
    tables: LiteralString = (
        "select (select count(*) from raw.status_transitions),"
        " (select count(*) from raw.batches)"
    )
    before = connection.execute(tables).fetchone()
    said = _command()
    assert said.stdout.splitlines()[1].split()[:4] == [
        "order",
        "1",
        "waiting",
        "expired",
    ]
    assert "2 to be moved by rules" in said.stderr
    assert "Nothing was moved; status-engine automate --append does it." in said.stderr
    content = json.loads(_command("--json", "--as-of", "2026-01-02T08:00:00Z").stdout)
    assert [row["entity_id"] for row in content["due"]] == [1]
    assert "appended" not in content
    assert connection.execute(tables).fetchone() == before


def test_the_version_in_force_rules_also_stays_that_began_before_it(
    connection: Connection, tmp_path: Path
) -> None:
    """So a rule that was a mistake is stopped by a version without it."""
    _append(connection, _row(1, "waiting", at(1)), _row(2, "gathering", at(1)))
    assert _said(outlook(connection)) == [("order", 1, "expired", 1)]
    late = [{"to": "cancelled", "after_hours": 24}]
    changed = _orders(waiting=[], gathering=late)
    apply(connection, tmp_path, at(5), changed)
    assert _said(outlook(connection)) == [("order", 2, "cancelled", 1)]
    assert _said(outlook(connection, as_of=at(4))) == [("order", 1, "expired", 1)]


def test_conditions_that_are_no_rules_are_ignored_and_told(
    connection: Connection,
) -> None:
    """As older releases kept them unjudged."""
    _append(connection, _row(1, "waiting", at(1)), _row(2, "new", at(1)))
    connection.execute(
        "alter table raw.status_workflow_steps disable trigger append_only"
    )
    connection.execute(
        "update raw.status_workflow_steps"
        ' set auto_transition_conditions = \'{"after_deadline": true, "to": 5}\''
        " where status_name = 'waiting'"
    )
    assert _said(outlook(connection)) == [("order", 2, "expired", 2)]
    assert (
        "Warning: order/standard, step waiting has conditions that are no rules: they "
        "are ignored." in _command().stderr
    )


def test_a_run_without_rules_asks_for_no_statuses(connection: Connection) -> None:
    """So a scheduled run pays a millisecond where no workflow has a rule."""
    connection.execute(
        "alter table raw.status_workflow_steps disable trigger append_only"
    )
    connection.execute(
        "update raw.status_workflow_steps set auto_transition_conditions = '{}'"
    )
    # Whoever asked for statuses would be told that there is no such view.
    connection.execute("drop view sla.automatic_transitions")
    assert outlook(connection) == Outlook([], 0, [], Counter(), [])


def test_a_move_of_what_is_no_transition_is_refused(connection: Connection) -> None:
    move = Move("order", 1, "x", 1, uuid.uuid4(), "", "why", {})
    assert append_moves(connection, [move]).refused.total() == 1
