"""Everything that health looks at, each within a time of its own.

Disks and published files are looked at here, and what can hang is given up.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

from dagster_project.health import instance, warehouse
from dagster_project.health.findings import Finding, minutes, span

# Three ticks of the schedule.
WITHIN = timedelta(minutes=15)
# A server or a disk may take a question and never answer, as one that is stopped.
GIVEN_UP = timedelta(seconds=6)
# Of a disk: a share, and what a run may need at once.
SHORT, FULL = 0.10, 0.03
LEAST = 256 * 2**20


def survey(
    home: Path,
    *,
    within: timedelta = WITHIN,
    is_daemon_expected: bool | None = None,
    conninfo: str | None = None,
    now: datetime | None = None,
) -> list[Finding]:
    """How everything is, worst things included, in a stable order.

    Args:
        home: the home folder.
        within: how long a batch, a run or a publication may lag.
        is_daemon_expected: whether one has to run; where it ever did, by default.
        conninfo: of another database than that of the environment.
        now: the instant, with a zone; that of this machine by default.
    """
    instant = now or datetime.now(UTC)
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "database": lambda: warehouse.ask(home, within, conninfo),
        "publication": lambda: _publication(home, within, instant, conninfo),
        "daemon": lambda: instance.ask(
            home, within, instant, is_daemon_expected=is_daemon_expected
        ),
        "disk": lambda: _disks(home),
    }
    answers = {name: _Answers(name, look) for name, look in looks.items()}
    found = [finding for answer in answers.values() for finding in answer.in_time()]
    return [_by_schedule(finding, found, within) for finding in found]


def _by_schedule(finding: Finding, found: list[Finding], within: timedelta) -> Finding:
    """Where a daemon lives, the schedule pins a cut every five minutes."""
    lives = any(f.name == "daemon" and f.state != "fail" and f.figures for f in found)
    age = finding.figures.get("cut_age_seconds", 0)
    if not lives or age <= within.total_seconds():
        return finding
    said = f"{finding.said}, of {minutes(within)} at most: does the schedule run?"
    return finding._replace(state="fail", said=said)


class _Answers:
    """What a look finds, all of them at once, until it is given up."""

    def __init__(self, name: str, look: Callable[[], Iterator[Finding]]) -> None:
        self.name, self.look = name, look
        self.found: list[Finding] = []
        # A thread that hangs keeps no process from ending.
        self.thread = Thread(target=self._gather, daemon=True)
        self.thread.start()

    def _gather(self) -> None:
        try:
            for finding in self.look():
                self.found.append(finding)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            self.found.append(Finding(self.name, "fail", reason))

    def in_time(self) -> list[Finding]:
        """All that was found in time; a failure where it had to be given up."""
        self.thread.join(GIVEN_UP.total_seconds())
        if not self.thread.is_alive():
            return self.found
        said = f"no answer within {GIVEN_UP.total_seconds():.0f} s"
        return [*self.found, Finding(f"{self.name}_answers", "fail", said)]


def _publication(
    home: Path, within: timedelta, now: datetime, conninfo: str | None
) -> Iterator[Finding]:
    """How old the published files are; whether the built cut is newer, `behind`."""
    manifest = home / "published" / "current" / "manifest.json"
    try:
        changed = manifest.stat().st_mtime
    except FileNotFoundError:
        yield Finding("publication", "ok", "nothing was published yet")
        return
    age = max(now.timestamp() - changed, 0.0)
    figures = {"publication_age_seconds": age}
    behind = _behind(home, conninfo, changed)
    said = f"the files are of {span(age)} ago"
    if behind is None or behind <= within.total_seconds():
        yield Finding("publication", "ok", said, figures)
        return
    more = f"; what is built since {span(behind)}, of {minutes(within)} at most, is not"
    how = " published. Run: status-engine publish"
    yield Finding("publication", "fail", said + more + how, figures)


def _behind(home: Path, conninfo: str | None, published: float) -> float | None:
    """For how long, in seconds, built rows wait to be published; None where none do."""
    try:
        with warehouse.connecting(home, conninfo) as connection:
            row = connection.execute(
                "select extract(epoch from clock_timestamp() - min(pinned_at))::float "
                "from raw.cuts where pinned_at > to_timestamp(%s) "
                "and cut <= (select min(cut) from sla.built_cuts)",
                [published],
            ).fetchone()
    # That it does not answer is told of the database.
    except Exception:
        return None
    return row[0] if row else None


def _disks(home: Path) -> Iterator[Finding]:
    folders = {"home": home, "published": home / "published"}
    for name, folder in folders.items():
        there = next(p for p in (folder, *folder.parents) if p.exists())
        usage = shutil.disk_usage(there)
        yield disk(name, folder, usage.total, usage.free)


def disk(name: str, folder: Path, total: int, free: int) -> Finding:
    """Whether a disk has room, by its bytes."""
    figures = {f"{name}_free_bytes": free}
    said = f"{free / 2**20:,.0f} MB of {total / 2**20:,.0f} are free at {folder}"
    if free < FULL * total or free < LEAST:
        return Finding(f"disk_{name}", "fail", f"{said}; make room", figures)
    state = "warn" if free < SHORT * total else "ok"
    return Finding(f"disk_{name}", "warn" if state == "warn" else "ok", said, figures)
