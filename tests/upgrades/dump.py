"""Dumps of what a release makes of a small history, for the tests of upgrades.

    .venv/bin/python tests/upgrades/dump.py 0009-2026-11-29
    .venv/bin/python tests/upgrades/dump.py 0007-75b882d --release FOLDER --built

The first part of the name is the step of schema raw that the release ends with, the
second says which release, by day or commit. FOLDER is a checkout of it, this one by
default, whose commands are run in a home folder of their own.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
HISTORY = HERE / "history"
# Lines of pg_dump that differ from run to run, or that PostgreSQL 15 can't read.
LEFT_OUT = re.compile(
    r"^(-- Dumped |SET transaction_timeout|\\restrict|\\unrestrict).*\n", re.MULTILINE
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="step and release, such as 0009-2026-11-29")
    parser.add_argument("--release", type=Path, default=PROJECT, help="a checkout")
    parser.add_argument("--built", action="store_true", help="schema sla too")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="se-", dir="/tmp"))
    home.chmod(0o755)
    try:
        _fill(given.release, home, is_built=given.built)
        url = _say(given.release, home, "url").strip()
        dumped = _dump(url, ["raw", "sla", "sla_staging"] if given.built else ["raw"])
    finally:
        _say(given.release, home, "stop", "--delete-data")
        shutil.rmtree(home)
    kind = "built" if given.built else "raw"
    path = HERE / "dumps" / f"{kind}-{given.name}.sql.gz"
    path.write_bytes(gzip.compress(dumped.encode(), mtime=0))


def _fill(release: Path, home: Path, *, is_built: bool) -> None:
    """Late, repeated and rejected rows, text keys, and rows that wait for a build."""
    folder = shutil.copytree(HISTORY / "workflows", home / "files")
    if not any((release / "ingest").rglob("calendars.py")):
        (folder / "office.yml").unlink()
        for path in folder.glob("*.yml"):
            path.write_text(re.sub("(?m)^calendar: .*\n", "", path.read_text()))
    _say(release, home, "workflows", "apply", str(folder))
    _say(release, home, "ingest", str(HISTORY / "first.csv"))
    keys = ("--mapping", str(HISTORY / "keys.yml"), str(HISTORY / "keys.csv"))
    _say(release, home, "ingest", *keys)
    if is_built:
        _say(release, home, "build")
    _say(release, home, "ingest", str(HISTORY / "late.csv"))
    if any((release / "ingest").rglob("audit_entry.py")):
        _say(
            release, home, "ingest", "--kind", "audit_logs", str(HISTORY / "audit.csv")
        )
    commands = (release / "dagster_project").rglob("*.py")
    if any(re.search(r"def record(_command)?\(", p.read_text()) for p in commands):
        _say(release, home, "record", "order", "7", "new", "--first")


def _say(release: Path, home: Path, *arguments: str) -> str:
    where = {"STATUS_ENGINE_HOME": str(home), "PYTHONPATH": str(release)}
    done = subprocess.run(
        [sys.executable, "-m", "dagster_project", *arguments],
        cwd=release,
        env={k: v for k, v in os.environ.items() if k != "DATABASE_URL"} | where,
        capture_output=True,
        text=True,
        check=False,
    )
    # 3: rows were rejected, as they are to be.
    if done.returncode not in (0, 3):
        sys.exit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def _dump(url: str, schemas: list[str]) -> str:
    from ingest.store import embedded

    named = [f"--schema={schema}" for schema in schemas]
    options = ["--inserts", "--no-owner", "--no-privileges", *named]
    done = subprocess.run(
        [str(embedded.client("pg_dump")), url, *options],
        capture_output=True,
        text=True,
        check=True,
    )
    return LEFT_OUT.sub("", done.stdout)


if __name__ == "__main__":
    main()
