"""Writers, builds, publishing and an inbox, with kills and stops: nothing is lost.

Some seconds of it in `make test`, ten minutes in `make nightly`.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nights import NIGHTLY, tries

from dagster_project.aside import verify
from dagster_project.publish import read_manifest
from dagster_project.resources import Warehouse
from ingest import StatusEngineError
from ingest.store import database, embedded
from ingest.store.database import PROJECT, Connection

SECONDS = tries(8, 600)
RECORDERS = 2
FILE_ROWS = 200
HEADER = "id,created_at,entity_type,entity_id,to_status\n"
STATUSES = ("new", "confirmed", "in_progress", "completed")
# Its own process, which is killed and started again. Each line that it prints is an id
# whose recording was acknowledged.
RECORDER = """
import random, sys, uuid
from ingest import StatusEngineError, record
from ingest.store import database
while True:
    try:
        with database.session() as connection:
            while True:
                given = uuid.uuid4()
                record(
                    connection, entity_type="payment",
                    entity_id=random.randrange(500), to_status=random.choice("abcd"),
                    id=given,
                )
                print(given, flush=True)
    except StatusEngineError:
        pass
"""
# Seconds until a command is killed; by night most come to their end.
PATIENCE = (1, 3, 5, 8, 60, 60) if NIGHTLY else (1, 3, 5, 8)
COMMANDS = (["run"], ["run"], ["build"], ["publish"], ["build", "--full-refresh"])


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a server of its own, which is stopped at the end."""
    parent = Path(tempfile.mkdtemp(prefix="se-"))
    parent.chmod(0o755)
    home = parent / "home"
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with database.session():
        (home / "inbox").mkdir()
    yield home
    embedded.start(home)
    embedded.stop(home, delete=True)
    shutil.rmtree(parent)


class _Soak:
    """What is at work on a home, and what was promised meanwhile."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.chance = random.Random(20260301)
        self.acknowledged: list[Path] = []
        self.delivered: dict[str, set[str]] = {}
        self.ended = threading.Event()
        self.unforeseen: list[str] = []

    def record(self, number: int) -> None:
        """Keep a recorder at work; it is killed now and then."""
        while not self.ended.is_set():
            kept = self.home / f"acknowledged-{number}-{len(self.acknowledged)}"
            self.acknowledged.append(kept)
            with kept.open("w") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", RECORDER], cwd=PROJECT, stdout=output
                )
                self.ended.wait(self.chance.uniform(2, 6))
                process.kill()
                process.wait()

    def write_files(self) -> None:
        """Put one file after another into the inbox, mostly under one name.

        The name is free as soon as its file is taken, so that the next one comes while
        that is delivered.
        """
        number = 0
        while not self.ended.wait(0.05):
            number += 1
            rows = [
                f"{uuid.UUID(int=self.chance.getrandbits(128))},2026-03-01T{h:02}:00:00Z,order,"
                f"{self.chance.randrange(1000)},{self.chance.choice(STATUSES)}"
                for h in range(20)
                for _ in range(FILE_ROWS // 20)
            ]
            beside = self.home / f"file-{number}"
            beside.write_text(HEADER + "".join(f"{row}\n" for row in rows))
            names = ("latest.csv", "latest.csv", f"{number}.csv")
            self._link(beside, self.home / "inbox" / self.chance.choice(names))
            self.delivered[beside.name] = {row.partition(",")[0] for row in rows}

    def _link(self, file: Path, name: Path) -> None:
        """Give a file a name in the inbox as soon as no other has it."""
        while True:
            try:
                name.hardlink_to(file)
            except FileExistsError:
                if self.ended.wait(0.01):
                    name = name.with_name(f"{file.name}.csv")
            else:
                return

    def run_commands(self) -> None:
        """One command after another, each to its end or until it is killed."""
        while not self.ended.is_set():
            words = self.chance.choice(COMMANDS)
            patience = self.chance.choice(PATIENCE)
            self._run(words, patience)

    def _run(self, words: list[str], patience: float) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster_project", *words],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        else:
            if process.returncode not in (0, 1) or "Traceback" in err:
                self.unforeseen.append(err)

    def stop_servers(self) -> None:
        """Now and then the server ends at once, or is killed."""
        while not self.ended.wait(self.chance.uniform(4, 12)):
            place = embedded.log_of(self.home).parent
            try:
                found = (place / "data" / "postmaster.pid").read_text().split()[0]
                os.kill(
                    int(found), self.chance.choice((signal.SIGQUIT, signal.SIGKILL))
                )
            except (OSError, IndexError):
                continue


def _ids(connection: Connection) -> set[str]:
    rows = connection.execute("select id::text from raw.status_transitions").fetchall()
    return {found for (found,) in rows}


def _check_promises(soak: _Soak, check: Callable[[Connection], None]) -> None:
    """Whatever is at work: what was acknowledged is there, and S20 holds."""
    promised = [
        line.strip()
        for kept in list(soak.acknowledged)
        for line in kept.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    while True:
        try:
            with database.session() as connection, connection.transaction():
                connection.execute("set transaction isolation level repeatable read")
                check(connection)
                assert set(promised) - _ids(connection) == set()
        except StatusEngineError:
            # The server was ended under the check.
            continue
        return


@pytest.mark.nightly
def test_nothing_is_lost_whatever_is_killed(
    home: Path, check_conservation: Callable[[Connection], None]
) -> None:
    soak = _Soak(home)
    jobs: list[Callable[[], Any]] = [soak.write_files, soak.run_commands]
    jobs += [lambda n=n: soak.record(n) for n in range(RECORDERS)]
    jobs.append(soak.stop_servers)
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(tries(3, 5))
            _check_promises(soak, check_conservation)
    finally:
        soak.ended.set()
        for thread in threads:
            thread.join()
    _check_promises(soak, check_conservation)
    said = subprocess.run(
        [sys.executable, "-m", "dagster_project", "run", "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert soak.unforeseen == []
    with database.session() as connection:
        check_conservation(connection)
        files = set().union(*soak.delivered.values())
        assert files - _ids(connection) == set()
        archived = [p for p in (home / "archive").rglob("*") if p.is_file()]
        assert len(archived) == len(soak.delivered)
        assert [p for p in (home / "inbox").rglob("*") if p.is_file()] == []
        assert not (home / "refused").exists()
    verified = verify(Warehouse())
    assert verified.differences == []
    manifest = read_manifest(home / "published" / "current")
    assert (
        manifest.cut
        == verified.cut.number
        == json.loads(said.stdout)["assets"]["published/analytics"]["cut"]
    )
