"""What a benchmark measured, as a table for people and a JSON file for the README."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


class Figure(NamedTuple):
    """One measured value; `goal` in words, empty where it only gives the scale."""

    figure: str
    value: float
    unit: str
    goal: str = ""
    holds: bool = True


def at_least(figure: str, value: float, goal: float, unit: str = "ratio") -> Figure:
    """A figure that must not be below its goal."""
    return Figure(figure, value, unit, f">= {goal:g}", value >= goal)


def at_most(figure: str, value: float, goal: float, unit: str) -> Figure:
    """A figure that must not be above its goal."""
    return Figure(figure, value, unit, f"<= {goal:g}", value <= goal)


def seconds(work: Callable[[], object]) -> float:
    """How long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def medians(rounds: int, **works: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each; every round takes all in turn, on the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return {name: statistics.median(times) for name, times in taken.items()}


def report(name: str, figures: Sequence[Figure]) -> int:
    """Print the figures and write results/<name>.json; 1 where a goal is missed."""
    table = Table("figure", "value", "unit", "goal", "")
    for figure in figures:
        mark = "" if not figure.goal else "held" if figure.holds else "MISSED"
        value = f"{figure.value:,.4g}" if figure.value < 1e4 else f"{figure.value:,.0f}"
        table.add_row(figure.figure, value, figure.unit, figure.goal, mark)
    Console(width=110).print(table)
    RESULTS.mkdir(exist_ok=True)
    content = json.dumps([figure._asdict() for figure in figures], indent=1)
    (RESULTS / f"{name}.json").write_text(content + "\n")
    return 0 if all(figure.holds for figure in figures) else 1
