"""The whole job in this process, on a small inbox: what it records and leaves."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import duckdb
import pytest

from dagster_project.resources import Warehouse
from dagster_project.run import RunResult, run
from ingest.errors import StatusEngineError
from ingest.store import database

PARTS = ["configuration", "inbox", "cut", "build", "publish"]
AS_OF = datetime(2026, 3, 10, 12, tzinfo=UTC)
LATER = datetime(2026, 3, 10, 12, 5, tzinfo=UTC)
HISTORY = """\
created_at,entity_type,entity_id,to_status
2026-03-01T09:00:00Z,order,1,new
2026-03-01T10:00:00Z,order,1,confirmed
2026-03-09T13:00:00Z,order,2,new
2026-03-32T13:00:00Z,order,3,new
2026-03-01T09:00:00Z,order,1,new
"""
MAPPED = """\
nr;when;what
A-1;01.03.2026 09:00;opened
A-2;02.03.2026 09:00;opened
"""
MAPPING = """\
source: shop
timezone: Europe/Amsterdam
delimiter: ";"
entity_type: {constant: form_submission}
entity_id: {column: nr, key: true, namespace: shop}
created_at: {column: when, format: "%d.%m.%Y %H:%M"}
to_status: {column: what, values: {opened: received}}
"""


class Ran(NamedTuple):
    """Two runs of one installation, the second on an inbox with the same files."""

    home: Path
    url: str
    first: RunResult
    second: RunResult


def _fill(inbox: Path) -> None:
    shop = inbox / "shop"
    shop.mkdir(parents=True, exist_ok=True)
    (inbox / "history.csv").write_text(HISTORY)
    (inbox / "wrong.csv").write_text("when,what\n2026-03-01,new\n")
    (shop / "orders.csv").write_text(MAPPED)
    (shop / "mapping.yml").write_text(MAPPING)


@pytest.fixture(scope="module")
def ran(
    installation: Callable[..., AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ran]:
    home = tmp_path_factory.mktemp("home")
    with installation(home, "order.yml", "office_nl.yml") as url:
        _fill(home / "inbox")
        first = run(Warehouse(), PARTS, as_of=AS_OF)
        _fill(home / "inbox")
        second = run(Warehouse(), PARTS, as_of=LATER)
        yield Ran(home, url, first, second)


def _counts(result: RunResult) -> tuple[int, ...]:
    names = ("read", "appended", "duplicate", "rejected", "refused_files")
    return tuple(result.metadata["raw/batches"][name] for name in names)


# Views for one entity, which nobody counts over all.
LOOK_UPS = {
    "sla/audit_trail",
    "sla/automatic_rules",
    "sla/automatic_transitions",
    "sla/business_deadline",
    "sla/business_seconds",
    "sla/deadline_windows",
    "sla/due_alerts",
    "sla/entities",
    "sla/interval_explanations",
    "sla/milestones",
    "sla/order_status_history",
    "sla/publication",
    "sla/sla_performance_by",
    "sla/status_as_of",
    "sla/workflow_candidates",
}


def test_every_asset_that_is_no_view_is_recorded_with_its_rows(ran: Ran) -> None:
    rows = {
        name: metadata.get("dagster/row_count")
        for name, metadata in ran.first.metadata.items()
        if not name.startswith(("staging/", "building/", "actions/"))
        and name not in LOOK_UPS
    }
    assert ran.first.metadata.keys() >= LOOK_UPS
    assert None not in rows.values()
    stored = (
        "raw/status_transitions",
        "raw/rejected_transitions",
        "raw/cuts",
        "sla/status_intervals",
        "sla/entity_current_status",
    )
    assert [rows[name] for name in stored] == [5, 1, 1, 5, 4]
    assert rows["published/status_intervals"] == 5
    assert rows["published/analytics"] == sum(
        count
        for name, count in rows.items()
        if name.startswith("published/") and name != "published/analytics"
    )
    assert len(rows) == 68


def test_each_transition_that_was_read_is_counted(ran: Ran) -> None:
    assert _counts(ran.first) == (7, 5, 1, 1, 1)


def test_a_second_run_on_the_same_files_appends_nothing(ran: Ran) -> None:
    assert _counts(ran.second) == (7, 0, 6, 1, 1)
    for name in ("raw/status_transitions", "sla/status_intervals", "raw/batches"):
        first, second = ran.first.metadata[name], ran.second.metadata[name]
        assert first["dagster/row_count"] == second["dagster/row_count"]


def test_the_instant_of_the_run_is_the_clock_of_its_cut(ran: Ran) -> None:
    with database.connect(ran.url) as connection:
        cuts = connection.execute(
            "select run_id, as_of from raw.cuts where run_id = any(%s) order by cut",
            [[ran.first.run_id, ran.second.run_id]],
        )
        assert cuts.fetchall() == [
            (ran.first.run_id, AS_OF),
            (ran.second.run_id, LATER),
        ]
    for result, instant in ((ran.first, AS_OF), (ran.second, LATER)):
        for name in ("raw/cuts", "published/analytics"):
            assert result.metadata[name]["as_of"] == instant.timestamp()


def test_files_are_filed_away_and_refused_ones_say_why(ran: Ran) -> None:
    def names(folder: str) -> list[str]:
        root = ran.home / folder
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())

    assert names("inbox") == ["shop/mapping.yml"]
    assert names("archive") == [
        "1-history.csv",
        "history.csv",
        "shop/1-orders.csv",
        "shop/orders.csv",
    ]
    assert names("refused") == [
        "1-wrong.csv",
        "1-wrong.csv.txt",
        "wrong.csv",
        "wrong.csv.txt",
    ]
    reason = (ran.home / "refused" / "wrong.csv.txt").read_text()
    assert "line 1: the header" in reason


def test_every_check_passed_but_the_one_that_tells_of_refused_files(ran: Ran) -> None:
    with dg.DagsterInstance.get() as instance:
        events = instance.all_logs(
            ran.first.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
    found = [e.dagster_event.asset_check_evaluation_data for e in events]
    assert {c.check_name for c in found if not c.passed} == {"every_file_was_accepted"}
    (warning,) = [c for c in found if not c.passed]
    assert warning.severity is dg.AssetCheckSeverity.WARN
    claims = Path(__file__).parents[2] / "dbt" / "tests"
    passed = {c.check_name for c in found if c.passed}
    assert {path.stem for path in claims.glob("*.sql")} <= passed
    assert "files_hold_what_the_manifest_says" in passed
    # A full build beside each other one would be too much; every night there is one.
    (equal,) = [c for c in found if c.check_name == "equals_a_full_build"]
    assert equal.description == "cut 1 is a full build"


def test_what_is_published_is_of_the_last_run(ran: Ran) -> None:
    file = ran.home / "published" / "current" / "analytics.duckdb"
    with duckdb.connect(file, read_only=True) as analytics:
        analytics.execute("set timezone = 'UTC'")
        (row,) = analytics.execute("select cut, as_of from publication").fetchall()
        assert row == (ran.second.metadata["raw/cuts"]["cut"], LATER)
        current = analytics.execute(
            "select entity_id, current_status, is_overdue from entity_current_status"
            " where entity_type = 'order' order by 1"
        ).fetchall()
    assert current == [(1, "confirmed", True), (2, "new", False)]


def test_a_failed_step_is_told_by_its_own_reason(ran: Ran) -> None:
    """Refused files are a warning, and no reason why a run failed."""
    broken = ran.home / "workflows" / "broken.yml"
    broken.write_text("entity_type: order\n")
    with pytest.raises(StatusEngineError, match=r"broken\.yml, line 1: key .* missing"):
        run(Warehouse(), ["configuration", "inbox"])
    broken.unlink()


@pytest.mark.nightly
def test_a_failing_test_of_dbt_fails_the_run_by_its_name(ran: Ran) -> None:
    """A ledger row without its transition; what is built and published stays."""
    current = ran.home / "published" / "current"
    before = current.resolve()
    with database.connect(ran.url) as connection:
        claim = connection.execute(
            "insert into raw.batches (kind, source, source_row_count, read_count,"
            " appended_count, duplicate_count, rejected_count)"
            " values ('transitions', 'test', 1, 1, 1, 0, 0) returning batch_id"
        ).fetchone()
        with pytest.raises(
            StatusEngineError, match="assert_every_read_transition_is_accounted_for"
        ):
            run(Warehouse(), ["cut", "build", "publish"], as_of=LATER)
        assert current.resolve() == before
        assert claim is not None
        connection.execute(
            "insert into raw.status_transitions (id, created_at, entity_type,"
            " entity_id, to_status, batch_id, batch_row)"
            " values (gen_random_uuid(), %s, 'order', 3, 'new', %s, 1)",
            [LATER, claim[0]],
        )
    run(Warehouse(), ["cut", "build", "publish"], as_of=LATER)
    assert current.resolve() != before


@pytest.mark.nightly
def test_of_two_builds_at_once_the_second_waits_and_doubles_nothing(ran: Ran) -> None:
    with database.connect(ran.url) as connection:
        stays = "select count(*), count(distinct interval_id) from sla.status_intervals"
        before = connection.execute(stays).fetchone()
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "dagster_project", "build"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]
        said = [build.communicate()[1].decode() for build in both]
        assert connection.execute(stays).fetchone() == before
    codes = sorted(build.returncode for build in both)
    # The one whose cut is older may find that a later one is built, which holds it.
    assert codes in ([0, 0], [0, 1]), said
    assert codes == [0, 0] or any("is built already and holds" in text for text in said)
