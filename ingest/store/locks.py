"""Every advisory lock of the project: who takes turns with whom, by one number each.

Two things that share a number wait for each other. What is done under a lock belongs
where it is taken. Three more kinds of lock have numbers of other spaces: one for each
entity that is being recorded (a hash of 64 bits, seeded by 7,361,820,148), one for each
file that is completed (a pair of integers), one for each schema that is built aside (a
hash of 32 bits).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

Connection = psycopg.Connection[TupleRow]


class Lock(IntEnum):
    """What is done by one session at a time; the numbers are any that are free."""

    MIGRATION = 7_361_820_145
    CONFIGURATION = 7_361_820_146
    # A later cut that committed first would hide the batches of an earlier one for
    # ever.
    PIN = 7_361_820_147
    BUILD = 7_361_820_148
    # A swap waits for those who hold it shared.
    SWAP = 7_361_820_149
    INBOX = 7_361_820_150
    REPLAY = 7_361_820_151
    SIGNALS = 7_361_820_153
    SOURCES = 7_361_820_159


_ALONE: tuple[LiteralString, LiteralString] = (
    "select pg_advisory_lock(%s)",
    "select pg_advisory_unlock(%s)",
)
_SHARED: tuple[LiteralString, LiteralString] = (
    "select pg_advisory_lock_shared(%s)",
    "select pg_advisory_unlock_shared(%s)",
)


@contextmanager
def holding(
    connection: Connection, lock: Lock, *, is_shared: bool = False
) -> Iterator[None]:
    """Hold a lock in a block; waits for another session that holds it.

    Args:
        connection: outside a transaction, before the block and after it.
        lock: which.
        is_shared: whether others that share it may hold it, too.
    """
    take, leave = _SHARED if is_shared else _ALONE
    connection.execute(take, [lock.value])
    try:
        yield
    finally:
        # The server lets go of the locks of a session that has ended.
        with suppress(psycopg.OperationalError):
            connection.execute(leave, [lock.value])


def hold_to_the_end(connection: Connection, lock: Lock) -> None:
    """Hold a lock until the transaction that is open ends."""
    connection.execute("select pg_advisory_xact_lock(%s)", [lock.value])
