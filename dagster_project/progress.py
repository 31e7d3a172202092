"""What dbt is at while it builds, said every few seconds. No word on what it makes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg

from ingest.errors import DatabaseError
from ingest.store import database
from ingest.store.database import Connection

# Seconds between two lines.
EVERY = 4
# Dbt begins each statement with a comment in JSON that names its model or test.
_AT_WORK: LiteralString = """
select
    split_part(substring(query from '"node_id": "([^"]+)"'), '.', 1),
    split_part(substring(query from '"node_id": "([^"]+)"'), '.', 3),
    extract(epoch from clock_timestamp() - query_start)::integer
from pg_stat_activity
where
    datname = current_database()
    -- Not the workers beside it, which are at the same.
    and backend_type = 'client backend'
    and state = 'active'
    and query ~ '^/[*] {"app": "dbt".*"node_id": "'
order by query_start
"""


@contextmanager
def telling(url: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say every few seconds what dbt's sessions are at, until the block ends.

    Args:
        url: the database that is built; where it stops answering, nothing is said.
        say: takes a line; is called in a thread of its own.
    """
    is_over = threading.Event()
    thread = threading.Thread(target=_tell, args=(url, say, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _tell(url: str, say: Callable[[str], None], is_over: threading.Event) -> None:
    began = time.monotonic()
    if is_over.wait(EVERY):
        return
    try:
        with database.connect(url) as connection:
            while True:
                say(at_work(connection) or _idle(time.monotonic() - began))
                if is_over.wait(EVERY):
                    return
    # The build itself tells what is wrong.
    except (DatabaseError, psycopg.Error):
        return


def at_work(connection: Connection) -> str:
    """The models and tests that dbt's sessions are at, in words; empty for none."""
    return ", ".join(
        f"{'testing' if kind == 'test' else 'building'} {name}, {seconds} s"
        for kind, name, seconds in connection.execute(_AT_WORK)
    )


def _idle(seconds: float) -> str:
    return f"building, {seconds:.0f} s in all"
