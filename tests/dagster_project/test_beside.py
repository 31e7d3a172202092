"""Commands that may run beside each other do: none waits for another's lock."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from commands import run
from first_run import Built

from ingest.store import database
from ingest.store.locks import Lock, holding

Installation = Callable[..., AbstractContextManager[str]]

HEADER = "created_at,entity_type,entity_id,to_status\n"
# Each command, and the locks that it may wait for. By day `run` is one that builds.
COMMANDS = {
    "init": set(),
    "explain order 1": {Lock.SWAP},
    "as-of order 1": {Lock.SWAP},
    "record order 1 confirmed": set(),
    "ingest FILE": set(),
    "rejects list": set(),
    "rejects replay": {Lock.REPLAY},
    "workflows show": set(),
    "workflows diff WORKFLOW": set(),
    "workflows apply WORKFLOW": {Lock.CONFIGURATION},
    "build": {Lock.PIN, Lock.BUILD},
    "build --full-refresh": {Lock.PIN, Lock.BUILD, Lock.SWAP},
    "build --as-of 2026-03-02T00:00Z --cut 1": set(),
    "publish": {Lock.SWAP},
    "verify": {Lock.BUILD},
    "run": {
        Lock.CONFIGURATION,
        Lock.INBOX,
        Lock.SOURCES,
        Lock.PIN,
        Lock.BUILD,
        Lock.SWAP,
    },
}


@pytest.fixture(scope="module")
def home(
    installation: Installation,
    tmp_path_factory: pytest.TempPathFactory,
    first_run: Built,
) -> Iterator[Path]:
    """A home of two orders, built."""
    home = tmp_path_factory.mktemp("beside") / "home"
    home.mkdir()
    (home / "rows.csv").write_text(f"{HEADER}2026-03-01T09:00:00Z,order,1,new\n")
    with installation(home, "office_nl.yml", "order.yml", template=first_run.url):
        yield home


@contextmanager
def _holding_all_but(url: str, free: set[Lock]) -> Iterator[list[str]]:
    """Hold all other locks; who waits for one is ended, and its statement told."""
    waited: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        with database.connect(url) as watcher:
            while not ended.wait(0.05):
                waited.extend(
                    query
                    for query, _ in watcher.execute(
                        """
                        select query, pg_terminate_backend(pid)
                        from pg_locks inner join pg_stat_activity using (pid)
                        where not granted and locktype = 'advisory'
                        and datname = current_database()
                        """
                    ).fetchall()
                )

    thread = threading.Thread(target=watch)
    with database.connect(url) as holder, ExitStack() as held:
        for lock in set(Lock) - free:
            held.enter_context(holding(holder, lock))
        thread.start()
        try:
            yield waited
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=pytest.mark.nightly)
        if command.startswith(("build", "verify"))
        else command
        for command in COMMANDS
    ],
)
def test_command_waits_for_no_lock_but_its_own(home: Path, command: str) -> None:
    files = {"FILE": home / "rows.csv", "WORKFLOW": home / "workflows"}
    words = [files.get(word, word) for word in command.split()]
    with _holding_all_but(database.url(), COMMANDS[command]) as waited:
        said = run(*words)
    assert (said.code, waited) == (0, []), said.err
