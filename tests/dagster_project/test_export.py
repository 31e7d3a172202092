"""The command that hands event logs to other tools; the logs are tests/analytics'."""

from pathlib import Path

import pytest
from commands import assert_one_sentence, run
from first_run import Built


@pytest.fixture(autouse=True)
def _home(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(built.home))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("orders.xes", ["--type", "order"], "entities, cut 1: "),
        ("orders.xes.gz", ["--type", "order"], "entities, cut 1: "),
        ("log.sqlite", [], "objects, cut 1: "),
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
