"""What is made of published files on request: event logs and the week's review.

What they hold is tested in tests/analytics.
"""

import html
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from commands import assert_one_sentence, run
from first_run import Built

from dagster_project.definitions import build_definitions
from dagster_project.resources import Warehouse
from ingest.store.database import PROJECT


@pytest.fixture(autouse=True)
def _home(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(built.home))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("orders.xes", ["--type", "order"], ", entities "),
        ("orders.xes.gz", ["--type", "order"], ", entities "),
        ("log.sqlite", [], ", objects "),
    ],
)
def test_a_log_is_written_whole_in_the_place_of_another(
    tmp_path: Path, name: str, arguments: list[str], said: str
) -> None:
    file = tmp_path / name
    for _ in range(2):
        result = run("export", file, *arguments)
        assert (result.code, result.out) == (0, "")
        assert said in result.err
    assert file.stat().st_size > 100
    assert list(tmp_path.iterdir()) == [file]


def test_what_can_not_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "orders.xes"
    file.write_text("mine")
    unknown = run("export", file, "--type", "ordr")
    assert_one_sentence(unknown, "There is no entity type 'ordr'; there are ", "order,")
    nowhere = run("export", tmp_path / "no" / "orders.xes", "--type", "order")
    assert_one_sentence(nowhere, "No such file or directory")
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "arguments", [["log.csv"], ["log.xes"], ["log.sqlite", "--type", "order"]]
)
def test_files_and_types_that_do_not_go_together_are_wrong_usage(
    arguments: list[str],
) -> None:
    assert run("export", *arguments).code == 2


def test_before_anything_is_published_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(tmp_path))
    said = run("export", tmp_path / "log.sqlite")
    assert_one_sentence(said, "Nothing is published in", "Run: status-engine run")


def test_a_review_is_written_by_the_command_and_by_its_job(
    tmp_path: Path, built: Built
) -> None:
    """Both write one page; a week that is not over is refused."""
    file = tmp_path / "week.html"
    said = run("report", "-o", file)
    assert (said.code, said.out) == (0, "")
    warehouse = Warehouse(database_url=built.url, home=str(built.home))
    job = build_definitions(warehouse).resolve_job_def("report")
    with dg.instance_for_test() as instance:
        result = job.execute_in_process(instance=instance)
    (made,) = result.asset_materializations_for_node("week")
    page = Path(str(made.metadata["file"].value))
    assert page.parent == built.home / "reports"
    # As the web server shows it: see test_web.
    assert made.metadata["page"].value == f"/reports/{page.name}"
    assert page.read_text() == file.read_text()
    assert made.metadata["week"].value in said.err
    (tested,) = result.asset_materializations_for_node("forecast_backtest")
    told = {name: value.value for name, value in tested.metadata.items()}
    assert told["verdict"] in html.unescape(page.read_text())
    rows = [record.data for record in tested.metadata["calibration_table"].records]
    assert sum(row["forecast_count"] for row in rows) == told["forecasts"] > 0
    assert sum(row["breached_count"] for row in rows) == told["breached"]
    assert told["calibration"].startswith("![")
    assert told["gain"] == told["base_rate_brier_score"] - told["brier_score"]
    assert_one_sentence(run("report", "--week", "2999-W01", "-o", file), "is not over")
    assert run("report", "--week", "2026-47", "-o", file).code == 2


def test_the_example_of_the_readme_answers(built: Built) -> None:
    readme = (PROJECT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    asked = example.replace('".status-engine"', repr(str(built.home)))
    said = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Three frames with rows; of wide ones polars prints the first columns.
    shapes = re.findall(r"shape: \((\d+), \d+\)", said)
    assert len(shapes) == 3
    assert all(map(int, shapes))
