"""Benchmarks go to their end; whether their goals hold, each says of itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
NAMES = ("ingest", "deadlines", "serving", "analytics")


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_measures_a_tenth_to_its_end(name: str) -> None:
    results = PROJECT / "benchmarks" / "results" / f"{name}.json"
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True)
    assert results.exists(), done.stderr.decode()
    figures = json.loads(results.read_text())
    assert done.returncode == int(not all(figure["holds"] for figure in figures))
