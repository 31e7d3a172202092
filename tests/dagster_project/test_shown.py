"""What the UI is given to show: columns and their origin, pictures, failed rows."""

from datetime import date, timedelta
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from first_run import Built
from hypothesis import given
from hypothesis import strategies as st

from dagster_project import lineage
from dagster_project.assets.published import published_assets
from dagster_project.dbt_process import DBT, known_tables
from dagster_project.failures import LETTERS, in_markdown
from dagster_project.lineage import Column
from dagster_project.pictures import (
    SHOWN_AT_ONCE,
    WEEKS,
    Calibrated,
    Overdue,
    draw_calibration,
    draw_compliance,
    draw_overdue,
)
from dagster_project.publish import read_manifest
from ingest.store import database

# What their SQL asks of a function, or dbt compiles nothing of.
NOT_FOLLOWED = {
    "built_cuts",
    "business_deadline",
    "business_seconds",
    "known_workflow_versions",
    "live_status",
    "reconfigured_entities",
    "reconfigured_status",
    "restatements",
    "sla_performance_by",
    "stg_workflow_versions",
}


def test_columns_are_made_of_columns_that_there_are(first_run: Built) -> None:
    made_of = lineage.kept(first_run.home, DBT)
    assert made_of["status_intervals"]["entered_at"] == [
        Column("building", "pinned_transitions", "created_at")
    ]
    assert made_of["sla_performance"]["met_count"] == [
        Column("sla", "sla_daily_counts", "met_count")
    ]
    assert made_of["stg_batches"]["batch_id"] == [Column("raw", "batches", "batch_id")]
    assert {name for name, columns in made_of.items() if not columns} | (
        {table.name for table in known_tables().derived} - made_of.keys()
    ) <= NOT_FOLLOWED
    with database.connect(first_run.url) as connection:
        known = lineage.columns(connection, "raw", "sla", "sla_staging")
    schemas = {"staging": "sla_staging", "building": "sla_staging"}
    named = {c for columns in made_of.values() for cs in columns.values() for c in cs}
    assert [
        column
        for column in named
        if column.name
        not in known[schemas.get(column.layer, column.layer)].get(column.table, {})
    ] == []


def test_of_other_models_no_origin_is_shown(first_run: Built, tmp_path: Path) -> None:
    for name in ("models", "macros", "tests"):
        (tmp_path / name).symlink_to(DBT / name)
    (tmp_path / "profiles.yml").symlink_to(DBT / "profiles.yml")
    changed = (DBT / "dbt_project.yml").read_text() + "\n"
    (tmp_path / "dbt_project.yml").write_text(changed)
    assert lineage.kept(first_run.home, tmp_path) == {}


def test_published_columns_are_those_of_the_files(first_run: Built) -> None:
    manifest = read_manifest(first_run.home / "published" / "current")
    shown = {
        spec.key.path[-1]: {
            column.name: column.type
            for column in spec.metadata["dagster/column_schema"].columns
        }
        for spec in published_assets(known_tables()).specs
        if spec.key.path[-1] != "analytics"
    }
    assert shown == {name: said.columns for name, said in manifest.tables.items()}


def _svg(markdown: str) -> ElementTree.Element:
    assert markdown.isascii()
    assert len(markdown) < SHOWN_AT_ONCE
    data = markdown.partition("](<data:image/svg+xml,")[2].removesuffix(">)")
    # What a browser takes for the end of the data, or markdown for that of an address.
    assert not set(data) & set("#<>\n")
    return ElementTree.fromstring(unquote(data))  # noqa: S314


@given(st.lists(st.floats(0, 1), min_size=1, max_size=WEEKS))
def test_a_picture_of_compliance_is_shown_at_once(ratios: list[float]) -> None:
    weeks = [(date(2026, 1, 5) + timedelta(weeks=n), r) for n, r in enumerate(ratios)]
    bars = _svg(draw_compliance(weeks))[0].attrib["d"].split("M")[1:]
    heights = [int(bar.rpartition("v-")[2]) for bar in bars]
    assert heights == [round(80 * ratio) for ratio in ratios]


shares = st.floats(0, 1)


@given(st.lists(st.tuples(shares, shares, shares, shares), min_size=1, max_size=10))
def test_a_picture_of_calibration_is_shown_at_once(
    rows: list[tuple[float, float, float, float]],
) -> None:
    bins = [Calibrated(*row) for row in rows]
    spans, dots = (path.attrib["d"] for path in _svg(draw_calibration(bins))[1:3])
    places = [(round(40 + 100 * b.said), round(110 - 100 * b.came)) for b in bins]
    assert dots == "".join(f"M{across} {up}h0" for across, up in places)
    assert spans.count("V") == len(bins)


@given(st.lists(st.tuples(st.text(), st.integers(0, 10**9)), max_size=30))
def test_a_picture_of_what_is_overdue_is_shown_at_once(
    rows: list[tuple[str, int]],
) -> None:
    types = [Overdue(name, count, 10**9) for name, count in rows]
    picture = draw_overdue(types)
    if any(row.overdue for row in types):
        assert _svg(picture).tag.endswith("svg")
    else:
        assert picture == "Nothing is overdue."


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("a|b\nc", "a\\|b c"),
        ("[x](javascript:1)", "\\[x\\]\\(javascript:1\\)"),
        ("<img>", "\\<img\\>"),
        ("x" * (LETTERS + 1), "x" * LETTERS + "…"),
    ],
)
def test_what_is_in_a_row_is_text(value: object, cell: str) -> None:
    assert in_markdown(["name"], [[value]]) == f"| name |\n| --- |\n| {cell} |"
