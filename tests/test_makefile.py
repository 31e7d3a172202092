"""What `make` says while pip installs, with a pip of the test."""

import subprocess
import sys
import time
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PIP = """\
echo "Collecting polars<3,>=2 (from status-engine)"
sleep $SECONDS_EACH
mkdir -p "$SITE/polars-2.dist-info"
echo "Installing collected packages: polars"
sleep $SECONDS_EACH
echo noise
exit $ENDS_WITH
"""


def _make(
    folder: Path, ends_with: int, seconds_each: int
) -> tuple[int, list[tuple[float, str]]]:
    """Its exit code, and its lines with the seconds since the one before."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "pip").write_text(PIP)
    site = folder / "lib" / "python3" / "site-packages"
    told, before = [], time.monotonic()
    with subprocess.Popen(
        ["make", f"VENV={folder}", f"PIP=sh {folder}/pip", f"{folder}/run"],
        cwd=PROJECT,
        env={
            "PATH": "/usr/bin:/bin",
            "SITE": str(site),
            "ENDS_WITH": str(ends_with),
            "SECONDS_EACH": str(seconds_each),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            now = time.monotonic()
            told.append((now - before, line.rstrip()))
            before = now
    return running.returncode, told


def test_make_says_every_few_seconds_what_pip_is_at_without_a_terminal(
    tmp_path: Path,
) -> None:
    code, told = _make(tmp_path, 0, seconds_each=4)
    lines = [line for _, line in told]
    assert code == 0
    assert "  0 packages installed; pip: Collecting polars" in lines
    assert "  1 packages installed; pip: Installing collected" in lines
    assert "noise" not in lines
    assert max(seconds for seconds, _ in told) < 6
    assert (tmp_path / "run").exists()


def test_make_shows_what_a_failed_pip_said(tmp_path: Path) -> None:
    code, told = _make(tmp_path, 1, seconds_each=0)
    lines = [line for _, line in told]
    assert code != 0
    assert lines[-3:-1] == ["noise", f"All of it is in {tmp_path}/pip.log."]
    assert not (tmp_path / "run").exists()


def test_what_is_installed_holds_every_package_of_the_project() -> None:
    said = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = ("analytics", "ingest", "dagster_project", "simulator")
    found = {
        ".".join(path.parent.relative_to(PROJECT).parts)
        for room in rooms
        for path in (PROJECT / room).rglob("__init__.py")
    }
    assert sorted(said["packages"]) == sorted(found)
