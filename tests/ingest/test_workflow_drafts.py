"""Workflows drafted from what was recorded: what they say, and that they are sound."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ingest import append
from ingest.configuration import workflow_drafts, workflows
from ingest.configuration.yaml_files import read_yaml
from ingest.errors import WorkflowError
from ingest.store.database import PROJECT, Connection
from simulator import write_demo

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
History = list[tuple[str, float]]


def _append(
    connection: Connection, *histories: History, entity_type: str = "order"
) -> None:
    """Entities that go to each status so many hours after the Monday."""
    rows = [
        (MONDAY + hours * HOUR, entity_type, number, status)
        for number, history in enumerate(histories)
        for status, hours in history
    ]
    names = ["created_at", "entity_type", "entity_id", "to_status"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    assert append(connection, frame).appended == len(rows)


def _loaded(draft: workflow_drafts.Draft, folder: Path) -> workflows.Configuration:
    """The draft in a folder of its own, which says what was meant and is sound."""
    folder.mkdir()
    path = folder / "drafted.yml"
    path.write_text(draft.text, encoding="utf-8")
    defects: list[str] = []
    assert read_yaml(path, defects) == draft.content
    assert defects == []
    return workflows.check(folder)


def _steps(draft: workflow_drafts.Draft) -> list[tuple[str, list[str], bool]]:
    return [
        (step["status_name"], step["allowed_transitions"], step["is_final"])
        for step in draft.content["steps"]
    ]


def test_statuses_are_in_their_usual_order_with_the_moves_between_them(
    connection: Connection, tmp_path: Path
) -> None:
    usual: History = [("new", 0), ("busy", 1), ("done", 5)]
    again: History = [("new", 0), ("busy", 1), ("wait", 2), ("busy", 3), ("done", 9)]
    dropped: History = [("new", 0), ("dropped", 1)]
    _append(connection, usual, usual, again, dropped, [("new", 2)])
    draft = workflow_drafts.draft(connection, "order")
    assert _steps(draft) == [
        ("new", ["busy", "dropped"], False),
        ("busy", ["done", "wait"], False),
        ("wait", ["busy"], False),
        ("dropped", [], True),
        ("done", [], True),
    ]
    assert [step["status_label"] for step in draft.content["steps"]][:2] == [
        "New",
        "Busy",
    ]
    assert draft.text.startswith(
        "# Drafted from 14 transitions of 5 entities, 2026-01-05 to 2026-01-05.\n"
    )
    assert (
        "    allowed_transitions:\n"
        "      - busy  # 3 times\n"
        "      - dropped  # 1 times\n"
        "    sla_hours: null  # 9 of 10 stays lasted 1 h at most, around the clock\n"
    ) in draft.text
    assert "    is_final: true  # of 3 stays 0 were left\n" in draft.text
    configuration = _loaded(draft, tmp_path / "drafted")
    applied = workflows.apply(connection, configuration)
    assert applied == (("order/standard",), 0)


def test_repeated_statuses_do_not_restart_the_clock_and_are_no_moves(
    connection: Connection,
) -> None:
    """S3; and S2 decides where two have one instant: by batch, then by row."""
    _append(connection, [("new", 0), ("new", 3), ("done", 8), ("paid", 8)])
    found = {s.status: s for s in workflow_drafts.observe(connection, "order").statuses}
    assert found["new"][1:] == (1, 1, 1, 1.0, 8.0, {"done": 1})
    assert found["done"][1:] == (1, 1, 0, 2.0, 0.0, {"paid": 1})
    assert found["paid"][1:] == (1, 0, 0, 3.0, None, {})


def test_nine_of_ten_stays_that_ended_are_within_the_hours_that_are_told(
    connection: Connection,
) -> None:
    ended: list[History] = [[("new", 0), ("done", hours)] for hours in range(1, 11)]
    _append(connection, *ended, [("new", 0)])
    (new,) = (
        s
        for s in workflow_drafts.observe(connection, "order").statuses
        if s.status == "new"
    )
    assert (new.stays, new.left, new.usual_hours) == (11, 10, 9.0)


def test_rare_moves_are_left_out_and_counted(connection: Connection) -> None:
    """One of a thousand moves is rare, one of 999 is not."""
    for left, is_told in ((999, True), (1_000, False)):
        entity_type = "quote" if is_told else "visit"
        usual: list[History] = [[("new", 0), ("done", 1)]] * (left - 1)
        _append(connection, *usual, [("new", 0), ("odd", 1)], entity_type=entity_type)
        draft = workflow_drafts.draft(connection, entity_type)
        expected = ["done", "odd"] if is_told else ["done"]
        assert draft.content["steps"][0]["allowed_transitions"] == expected
        assert ("# without 1 other statuses, 1 times in all" in draft.text) != is_told


def test_status_that_is_hardly_ever_left_is_final_and_leads_nowhere(
    connection: Connection,
) -> None:
    """One of twenty; not where most begin, however many wait there."""
    usual: list[History] = [[("new", 0), ("done", 1)]] * 19
    reopened: History = [("new", 0), ("done", 1), ("new", 2)]
    _append(connection, *usual, reopened)
    assert _steps(workflow_drafts.draft(connection, "order"))[1] == ("done", [], True)
    _append(connection, *usual[:18], reopened, entity_type="quote")
    assert _steps(workflow_drafts.draft(connection, "quote"))[1] == (
        "done",
        ["new"],
        False,
    )
    waiting: list[History] = [[("new", 0)]] * 200
    _append(connection, *waiting, [("new", 0), ("done", 1)], entity_type="visit")
    assert _steps(workflow_drafts.draft(connection, "visit"))[0] == (
        "new",
        ["done"],
        False,
    )


def test_first_is_where_most_begin_and_others_may_begin_elsewhere(
    connection: Connection, tmp_path: Path
) -> None:
    usual: History = [("new", 0), ("done", 1)]
    _append(connection, usual, usual, [("import", 0), ("done", 1)])
    draft = workflow_drafts.draft(connection, "order")
    assert [name for name, _, _ in _steps(draft)] == ["new", "import", "done"]
    warnings = _loaded(draft, tmp_path / "drafted").warnings
    assert any("'import' can't be reached from the first" in w for w in warnings)


def test_entities_that_all_wait_in_one_status_make_a_sound_draft(
    connection: Connection, tmp_path: Path
) -> None:
    _append(connection, [("new", 0)])
    draft = workflow_drafts.draft(connection, "order")
    assert _steps(draft) == [("new", [], True)]
    _loaded(draft, tmp_path / "drafted")


ODD = [
    'say "yes"',
    "it's",
    "a: b",
    "a # b",
    "# a",
    "- a",
    "yes",
    "No",
    "null",
    "~",
    "1.50",
    "0x1F",
    "2026-01-05",
    "{a, b}",
    "[a]",
    "a, b",
    "<<",
    "=",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "?",
    "---",
    "...",
    "any",
    " a ",
    " ",
    "ünïcödé",
    "状態",
    "🙂",
    "two\nlines",
    "tab\there",
    "cr\rlf",
    "\x01\x1b[2J",
    "nbsp\xa0here",
    "\u202eright to left",
    "\u2028line",
    "\ufeffbom",
    "\U0010ffff",
    "back\\slash",
    "_",
    "in_progress",
    "x" * 255,
    "é: " * 85,
]


def _chain(statuses: list[str]) -> Iterator[tuple[str, float]]:
    yield from ((status, float(hours)) for hours, status in enumerate(statuses))


def test_odd_names_come_back_as_they_are(
    connection: Connection, tmp_path: Path
) -> None:
    _append(connection, list(_chain(ODD)))
    draft = workflow_drafts.draft(connection, "order")
    assert [name for name, _, _ in _steps(draft)] == ODD
    # A terminal shows each line as it is.
    assert [line for line in draft.text.split("\n") if not line.isprintable()] == []
    configuration = _loaded(draft, tmp_path / "drafted")
    assert len(workflows.apply(connection, configuration).changed) == 1
    stored = connection.execute(
        "select status_name, allowed_transitions from raw.status_workflow_steps "
        "order by step_order"
    ).fetchall()
    assert stored == [(name, allowed) for name, allowed, _ in _steps(draft)]


def test_workflow_beside_another_has_a_name_of_its_own_and_is_no_default(
    connection: Connection, tmp_path: Path
) -> None:
    _append(connection, [("new", 0), ("done", 1)])
    for number, name in enumerate(("standard", "drafted", "drafted_2")):
        draft = workflow_drafts.draft(connection, "order")
        assert draft.content["workflow_name"] == name
        assert draft.content["is_default"] == (number == 0)
        configuration = _loaded(draft, tmp_path / name)
        assert workflows.apply(connection, configuration).changed == (f"order/{name}",)


def test_what_can_not_be_drafted_is_refused_in_words(connection: Connection) -> None:
    def refusal(entity_type: str) -> str:
        with pytest.raises(WorkflowError) as refused:
            workflow_drafts.draft(connection, entity_type)
        return str(refused.value)

    assert refusal("ordre").startswith(
        "Entity type 'ordre' is unknown; known are order, quote, "
    )
    assert refusal("order") == (
        "No transition of 'order' is recorded, so there is nothing to draft a workflow "
        "from. Ingest a history of it first."
    )
    _append(connection, list(_chain([f"text {number}" for number in range(1_001)])))
    assert refusal("order").startswith("1,001 different statuses are recorded for ")


def test_drafts_of_the_demonstration_are_sound_and_applied(
    connection: Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    written = write_demo(
        folder,
        workflows=PROJECT / "workflows",
        entities=300,
        seed=7,
        end=datetime(2026, 6, 1, tzinfo=UTC),
    )
    history = next(path for path in written.paths if path.suffix == ".csv")
    append(connection, pl.read_csv(history, infer_schema=False))
    recorded = connection.execute(
        "select distinct entity_type from raw.status_transitions"
    ).fetchall()
    assert len(recorded) == 11
    for (entity_type,) in recorded:
        draft = workflow_drafts.draft(connection, entity_type)
        configuration = _loaded(draft, tmp_path / entity_type)
        assert len(workflows.apply(connection, configuration).changed) == 1
