"""The README says what the code does."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.files.time_formats import COUNTS, DIRECTIVES
from ingest.kinds import CODES

PROJECT = Path(__file__).parents[1]
DATA = PROJECT.parent / "shared" / "data"
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_directives_of_a_format_are_those_that_are_read() -> None:
    readme = (PROJECT / "README.md").read_text()
    assert f"`{' '.join(DIRECTIVES)}`" in readme
    assert ", ".join(f"`{count}`" for count in COUNTS) in readme


def test_readme_lists_every_code_of_a_reject_with_its_sentence() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.MULTILINE))
    assert {code: listed.get(code) for code in CODES} == CODES


def test_readme_names_every_published_table() -> None:
    models = (PROJECT / "dbt" / "models" / "sla").rglob("*.sql")
    assert [
        p.stem for p in models if f"`{p.stem}`" not in README.replace("sla.", "")
    ] == []


def _section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture
def newcomer(tmp_path: Path, public_folder: Path) -> Iterator[Path]:
    """An empty folder of a newcomer, with the files of the project and a public log."""
    folder = public_folder / f"newcomer-{tmp_path.name}"
    folder.mkdir()
    for name in ("examples", "workflows"):
        (folder / name).symlink_to(PROJECT / name)
    yield folder
    for home in (".status-engine", "boston"):
        _bash(folder, f"STATUS_ENGINE_HOME=$PWD/{home} status-engine stop")


def _bash(folder: Path, script: str) -> str:
    """What a script says, both streams in their order; it ends at a failed line."""
    named = {
        k: v for k, v in os.environ.items() if not k.startswith(("PG", "DATABASE"))
    }
    done = subprocess.run(
        ["bash", "-c", f"cd {shlex.quote(str(folder))}\n{script}"],
        env={
            **named,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STATUS_ENGINE_HOME": str(folder / ".status-engine"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def _transcript(section: str) -> list[tuple[str, str]]:
    """The commands of its consoles, each with what it prints."""
    consoles = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    steps = re.findall(
        r"^\$ (.*\n(?:^> .*\n)*)((?:^(?![$>] ).*\n)*)", "".join(consoles), re.MULTILINE
    )
    return [(re.sub("(?m)^> ", "", command), out) for command, out in steps]


def _is_as_told(told: str, said: str) -> bool:
    """Word for word; three dots stand for anything, spaces at line ends for nothing."""
    text = "\n".join(line.rstrip() for line in said.rstrip().splitlines())
    pattern = ".*".join(map(re.escape, told.rstrip().split("...")))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def test_own_data_word_for_word_in_an_empty_home(newcomer: Path) -> None:
    blocks = re.findall(r"(?:^    .*\n)+", _section("Your own data"), re.MULTILINE)
    script = textwrap.dedent(blocks[0])
    said = _bash(newcomer, f"set -e\n{script}")
    assert "read 3 = 3 appended + 0 duplicate + 0 rejected" in said
    assert "order 1 is 'scheduled' since Thu 2026-03-05 16:45:00" in said
    assert "business time by calendar 'office_nl'" in said
    assert "published cut 1" in said
    assert "open it in a browser" in said
    assert "order.xes: cut 1, events 3, entities 1" in said
    assert (newcomer / ".status-engine" / "published" / "docs.html").exists()
    assert "<title>Service levels, week" in (newcomer / "week.html").read_text()


@pytest.mark.nightly
@pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")
def test_a_real_log_word_for_word(newcomer: Path) -> None:
    log = "boston_311_2011.csv.gz"
    (newcomer / log).symlink_to(DATA / log)
    steps = _transcript(_section("A real log"))
    assert len(steps) == 9
    mark = "-- and this is what came next"
    script = "".join(f"{command}echo '{mark}'\n" for command, _ in steps)
    said = _bash(newcomer, script).split(f"{mark}\n")[:-1]
    wrong = [
        (command, told, found)
        for (command, told), found in zip(steps, said, strict=True)
        if not _is_as_told(told, found)
    ]
    assert wrong == []


def test_prose_of_the_real_log_is_short_enough_to_read() -> None:
    lines = _section("A real log").splitlines()
    assert [line for line in lines if len(line) > 100] == []
