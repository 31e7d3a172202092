"""The notebook's frames from a few published rows made by hand, and its charts.

Expected numbers are written out; nothing here computes them again.
"""

import importlib.util
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace

import altair as alt
import duckdb
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "sla.py"

# As they are published, and in that order of columns.
SCHEMA = """
create table status_intervals (
    interval_id varchar, entity_type varchar, entity_id bigint, status varchar,
    visit bigint, entered_at timestamptz, left_at timestamptz, transition_count bigint,
    first_transition_id varchar, last_transition_id varchar,
    entity_created_at timestamptz, workflow_id varchar, workflow_name varchar,
    step_id varchar, business_entity_id varchar, sla_hours decimal(18, 6),
    sla_deadline timestamptz, deadline_source varchar, is_final boolean,
    verdict varchar, elapsed_seconds bigint
);
create table entity_current_status (
    id varchar, created_at timestamptz, entity_type varchar, entity_id bigint,
    current_status varchar, status_since timestamptz, sla_deadline timestamptz,
    is_overdue boolean, workflow_id varchar, last_transition_id varchar,
    workflow_name varchar, business_entity_id varchar, visit bigint,
    deadline_source varchar, is_final boolean
);
create table workflow_violations (
    transition_id varchar, violation varchar, created_at timestamptz,
    entity_type varchar, entity_id bigint, previous_status varchar,
    from_status varchar, to_status varchar, workflow_id varchar,
    workflow_name varchar, detail varchar
);
create table sla_performance (
    entered_on date, entity_type varchar, workflow_name varchar, status varchar,
    business_entity_id varchar, interval_count bigint, closed_count bigint,
    open_count bigint, met_count bigint, breached_count bigint,
    overdue_count bigint, due_count bigint, compliance_ratio double,
    closed_compliance_ratio double, elapsed_seconds bigint
);
create table publication (cut bigint, as_of timestamptz);
insert into publication values (7, '2027-01-06 12:00:00+00');
"""

# The clock is Wednesday 2027-01-06 12:00. The week of 2026-12-28 is 2026-W53, also on
# 1 January. Two quotes are overdue by 36 h, one order by 2.5 h, and another is due at
# this very instant.
ROWS = """
insert into entity_current_status by name
select * from (values
    ('order', 1, 'new', '2027-01-04 01:00', '2027-01-06 09:30', true),
    ('order', 2, 'new', '2027-01-04 02:00', '2027-01-06 12:00', false),
    ('order', 3, 'done', '2027-01-05 00:00', null, false),
    ('quote', 10, 'sent', '2027-01-01 00:00', '2027-01-05 00:00', true),
    ('quote', 9, 'sent', '2027-01-01 00:00', '2027-01-05 00:00', true)
) as t (
    entity_type, entity_id, current_status, status_since, sla_deadline, is_overdue
);

insert into status_intervals by name
select * from (values
    ('order', 1, 'new', 1, '2027-01-04 01:00', null, '2027-01-06 09:30', null),
    ('order', 2, 'new', 1, '2027-01-04 02:00', null, '2027-01-06 12:00', null),
    ('order', 3, 'new', 1, '2027-01-03 23:00', '2027-01-04 00:00', null, 3600),
    ('order', 3, 'held', 1, '2027-01-04 00:00', '2027-01-04 10:00', null, 36000),
    ('order', 3, 'new', 2, '2027-01-04 10:00', '2027-01-04 12:00', null, 7200),
    ('order', 3, 'new', 3, '2027-01-04 12:00', '2027-01-04 18:00', '2027-01-09', 21600),
    ('order', 3, 'done', 1, '2027-01-05 00:00', null, null, null),
    ('quote', 9, 'sent', 1, '2027-01-01 00:00', null, '2027-01-05 00:00', null),
    ('quote', 10, 'draft', 1, '2026-12-31 23:30', '2027-01-01 00:00', null, 1800),
    ('quote', 10, 'sent', 1, '2027-01-01 00:00', null, '2027-01-05 00:00', null)
) as t (
    entity_type, entity_id, status, visit, entered_at, left_at, sla_deadline,
    elapsed_seconds
);

insert into sla_performance by name
select *, met_count + breached_count + overdue_count as due_count from (values
    (date '2026-12-27', 'order', 4, 0, 0),
    (date '2026-12-28', 'order', 3, 1, 0),
    (date '2027-01-01', 'quote', 1, 0, 2),
    (date '2027-01-03', 'order', 0, 0, 0),
    (date '2027-01-04', 'order', 2, 0, 1),
    (date '2027-01-04', 'quote', 0, 0, 0)
) as t (entered_on, entity_type, met_count, breached_count, overdue_count);

insert into workflow_violations by name
select * from (values
    ('a', 'left_final', 'order', 1), ('b', 'wrong_role', 'order', 1),
    ('c', 'left_final', 'order', 1), ('d', 'left_final', 'quote', 9),
    ('d', 'broken_chain', 'quote', 9)
) as t (transition_id, violation, entity_type, entity_id);
"""

Run = Callable[..., tuple[tuple, dict]]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sla_notebook", NOTEBOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Publish the rows that a script inserts, then run the notebook on them."""

    def publish_and_run(rows: str | None = ROWS, **chosen: str):
        monkeypatch.setenv("STATUS_ENGINE_HOME", str(tmp_path))
        if rows is not None:
            folder = tmp_path / "published" / "current"
            folder.mkdir(parents=True)
            with duckdb.connect(str(folder / "analytics.duckdb")) as connection:
                connection.execute("set timezone = 'UTC'")
                connection.execute(SCHEMA + rows)
        outputs, defs = _load().app.run(
            defs={name: SimpleNamespace(value=value) for name, value in chosen.items()}
        )
        if "con" in defs:
            zone = defs["con"].execute("select current_setting('TimeZone')").fetchone()
            assert zone == ("UTC",)
            defs["con"].close()
        return outputs, defs

    return publish_and_run


def _text(outputs: tuple) -> str:
    return "".join(output.text for output in outputs if output is not None)


def _charts(defs: dict) -> list[dict]:
    """Every chart, checked against the schema of Vega-Lite."""
    charts = [
        defs[name].to_dict()
        for name in ("overdue_chart", "compliance_chart", "time_chart")
    ]
    return [*charts, defs["violations_chart"].to_dict()]


def test_page_names_its_cut_and_its_clock(run: Run):
    outputs, defs = run()
    assert (defs["cut"], defs["as_of"]) == (7, datetime(2027, 1, 6, 12, tzinfo=UTC))
    assert "2027-01-06 12:00 UTC" in _text(outputs)


def test_overdue_are_worst_first_with_their_hours(run: Run):
    _, defs = run()
    listed = defs["overdue_shown"].select("entity_type", "entity_id", "overdue_hours")
    assert listed.rows() == [("quote", 9, 36.0), ("quote", 10, 36.0), ("order", 1, 2.5)]
    assert defs["overdue_by_status"].rows() == [
        ("quote", "sent", 2, 36.0, 36.0),
        ("order", "new", 1, 2.5, 2.5),
    ]
    assert defs["entity_count"] == 5


def test_overdue_of_one_type(run: Run):
    _, defs = run(overdue_type="order")
    assert defs["overdue_shown"]["entity_id"].to_list() == [1]


COMPLIANCE = (
    "week_starts_on",
    "iso_week",
    "compliance_ratio",
    "closed_compliance_ratio",
    "not_yet_due_count",
)


def test_compliance_counts_open_overdue_against_and_not_yet_due_nowhere(run: Run):
    _, defs = run()
    assert defs["compliance_by_week"].select(COMPLIANCE).rows() == [
        (date(2026, 12, 21), "2026-W52", 1.0, 1.0, 0),
        (date(2026, 12, 28), "2026-W53", 4 / 7, 4 / 5, 0),
        (date(2027, 1, 4), "2027-W01", 2 / 3, 1.0, 1),
    ]
    assert defs["totals"].rows() == [(10, 1, 3, 10 / 14)]


def test_compliance_of_one_type_is_null_where_nothing_is_due(run: Run):
    _, defs = run(compliance_type="quote")
    assert defs["compliance_by_week"].select(COMPLIANCE).rows() == [
        (date(2026, 12, 28), "2026-W53", 1 / 3, 1.0, 0),
        (date(2027, 1, 4), "2027-W01", None, None, 0),
    ]


def test_compliance_of_every_type(run: Run):
    _, defs = run(compliance_type="Every type, side by side")
    columns = ("iso_week", "entity_type", "compliance_ratio")
    assert defs["compliance_by_week"].select(columns).rows() == [
        ("2026-W52", "order", 1.0),
        ("2026-W53", "order", 3 / 4),
        ("2026-W53", "quote", 1 / 3),
        ("2027-W01", "order", 2 / 3),
        ("2027-W01", "quote", None),
    ]
    assert isinstance(defs["compliance_chart"], alt.FacetChart)
    assert all(_charts(defs))


def test_time_is_of_closed_stays(run: Run):
    _, defs = run()
    assert defs["time_by_status"].rows() == [
        ("order", "held", 1, 0, 10.0, 10.0),
        ("order", "new", 3, 2, 9.0, 2.0),
        ("quote", "draft", 1, 0, 0.5, 0.5),
    ]
    assert defs["time_type"].value == "order"
    assert defs["time_shown"]["status"].to_list() == ["held", "new"]


def test_violations_are_counted_by_name(run: Run):
    _, defs = run()
    assert defs["violations_by_name"].rows() == [
        ("left_final", 3),
        ("broken_chain", 1),
        ("wrong_role", 1),
    ]
    assert defs["violations"].row(0) == ("left_final", "order", 2, 1)


def test_charts_are_valid_and_their_axes_have_units(run: Run):
    _, defs = run()
    text = str(_charts(defs))
    for title in (
        "Overdue entities (count)",
        "Compliance (%)",
        "Naive: closed stays only",
        "Total time (h)",
        "Median stay (h)",
        "Closed stays (count)",
        "Violations (count)",
    ):
        assert f"'{title}'" in text


def test_empty_tables_say_so(run: Run):
    outputs, defs = run("")
    assert all(_charts(defs))
    for sentence in (
        "Nothing is overdue.",
        "No stays have begun.",
        "No stay has ended.",
        "No transition violates its workflow.",
    ):
        assert sentence in _text(outputs)


def test_missing_file_says_what_to_run(run: Run):
    outputs, defs = run(None)
    assert "Nothing is published yet: run <code>make demo</code>" in _text(outputs)
    assert "con" not in defs
