"""Findings: what was looked at, how it is, and the figures; as lines, JSON, Prometheus.

What is looked at belongs in the modules beside this one.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple

State = Literal["ok", "warn", "fail"]
STATES: tuple[State, ...] = ("ok", "warn", "fail")
# Units are in the names, as Prometheus has them.
HELP = {
    "status_engine_health": "How each thing is: 0 ok, 1 warn, 2 fail.",
    "status_engine_batch_age_seconds": "Since the newest batch was recorded.",
    "status_engine_cut_age_seconds": "Since the newest cut was pinned.",
    "status_engine_built_cut_age_seconds": "Since the cut that is built was pinned.",
    "status_engine_unbuilt_batches": "Batches that are in no built table.",
    "status_engine_unbuilt_age_seconds": "Since the oldest unbuilt batch was recorded.",
    "status_engine_publication_age_seconds": "Since files were published.",
    "status_engine_alerts_due": "SLA alerts that are due and were not delivered.",
    "status_engine_channels_failing": "Channels whose last message was not taken.",
    "status_engine_daemon_age_seconds": "Since the daemon's last heartbeat.",
    "status_engine_runs_stuck": "Runs without a process, or queued for too long.",
    "status_engine_runs_queued": "Runs that wait for their turn.",
    "status_engine_last_run_failed": "Whether the last run failed: 1, or 0.",
    "status_engine_verification_failed": "Whether a failed verification stands.",
    "status_engine_database_bytes": "The size of the database.",
    "status_engine_home_free_bytes": "Free on the disk of the home folder.",
    "status_engine_published_free_bytes": "Free on the disk of the published files.",
}


class Finding(NamedTuple):
    """How a thing is that was looked at, in words and in figures.

    name: what was looked at; one of each.
    figures: by the end of their name as Prometheus has it, after "status_engine_".
    """

    name: str
    state: State
    said: str
    figures: Mapping[str, float] = {}

    def __str__(self) -> str:
        """A line, its state first."""
        return f"{self.state:<4}  {self.name}: {self.said}"


def worst(findings: Sequence[Finding]) -> State:
    """The worst state of all."""
    return max((f.state for f in findings), key=STATES.index, default="ok")


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """One object: the worst state, and each finding by its name."""
    return {
        "state": worst(findings),
        "findings": {
            finding.name: {
                "state": finding.state,
                "said": finding.said,
                **finding.figures,
            }
            for finding in findings
        },
    }


def as_prometheus(findings: Sequence[Finding]) -> str:
    """The text exposition format 0.0.4: a family a figure, each with HELP and TYPE."""
    samples: dict[str, list[str]] = {name: [] for name in HELP}
    for finding in findings:
        state = STATES.index(finding.state)
        samples["status_engine_health"].append(f'{{name="{finding.name}"}} {state}')
        for name, value in finding.figures.items():
            samples[f"status_engine_{name}"].append(f" {value:.15g}")
    lines = [
        line
        for name, values in samples.items()
        if values
        for line in (
            f"# HELP {name} {HELP[name]}",
            f"# TYPE {name} gauge",
            *(f"{name}{value}" for value in values),
        )
    ]
    return "\n".join(lines)


def span(seconds: float) -> str:
    """A time in the largest unit that makes sense, such as 3 min."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def minutes(window: timedelta) -> str:
    """A window that was given in minutes."""
    return f"{window / timedelta(minutes=1):.0f} min"
