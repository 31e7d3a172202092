"""Who takes turns with whom: every lock has a number of its own."""

import re
import threading
from itertools import permutations

import pytest

from ingest.store.database import PROJECT, Connection, connect
from ingest.store.locks import Lock, hold_to_the_end, holding


def test_every_lock_has_a_number_of_its_own() -> None:
    assert len(set(map(int, Lock))) == len(Lock.__members__)
    # Those of schemas that are built aside are hashes of 32 bits.
    assert min(Lock) > 2**31


def test_no_lock_is_taken_by_a_number_that_is_not_among_them() -> None:
    taken = re.compile(r"pg_(?:try_)?advisory_(?:xact_)?lock\w*\(([^()]*)")
    rooms = [PROJECT / name for name in ("ingest", "dagster_project", "dbt")]
    files = [
        path
        for room in rooms
        for kind in ("*.py", "*.sql")
        for path in room.rglob(kind)
        if "target" not in path.parts
    ]
    texts = [path.read_text() for path in files]
    found = {words.strip() for text in texts for words in taken.findall(text)}
    assert found == {
        "%s",
        "%s::int, 0",
        "{Lock.MIGRATION.value}",
        "hashtext",
        "hashtextextended",
    }


@pytest.mark.parametrize(
    ("held", "wanted"), list(permutations(Lock, 2)), ids=lambda lock: lock.name
)
def test_holders_of_different_locks_do_not_wait(
    connection: Connection, database_url: str, held: Lock, wanted: Lock
) -> None:
    with holding(connection, held), connect(database_url) as other:
        other.execute("set lock_timeout = '1s'")
        with holding(other, wanted), other.transaction():
            hold_to_the_end(other, wanted)


@pytest.mark.parametrize("lock", Lock, ids=lambda lock: lock.name)
def test_holder_of_the_same_lock_is_waited_for(
    connection: Connection, database_url: str, lock: Lock
) -> None:
    order: list[str] = []

    def wait() -> None:
        with connect(database_url) as other, holding(other, lock):
            order.append("second")

    second = threading.Thread(target=wait)
    with holding(connection, lock):
        second.start()
        waiting = "select count(*) from pg_locks where not granted"
        while connection.execute(waiting).fetchone() != (1,):
            assert order == []
        order.append("first")
    second.join()
    assert order == ["first", "second"]
