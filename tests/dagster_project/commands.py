"""Commands of the project as a test runs them, in this process or in another."""

import subprocess
import sys
from typing import NamedTuple

from click.testing import CliRunner

from dagster_project.cli import main
from ingest.store.database import PROJECT


class Said(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


def run(*arguments: object, given: str | None = None) -> Said:
    """In this process; `given` is its standard input."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], input=given)
    return Said(result.exit_code, result.stdout, result.stderr)


def process(*arguments: object) -> Said:
    """In a process of its own, for what Dagster runs in."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project", *map(str, arguments)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def assert_one_sentence(said: Said, *parts: str) -> None:
    """Refused, by a sentence with these parts."""
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith(".\n")
    assert [part for part in parts if part not in said.err] == []
