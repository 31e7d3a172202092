"""Live recording beside a bare INSERT of one row, by the same callers.

`measure_record` and `measure_insert` differ only in what a caller calls.
"""

import json
import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from ingest import record
from ingest.store import database

WARM_UP = 12
PATH = ("new", "confirmed", "surveying", "scheduled")
CREATE_BARE = """
drop table if exists public.bare_transitions;
create table public.bare_transitions (like raw.status_transitions including all)
"""
INSERT = """
insert into public.bare_transitions (
    id, created_at, entity_type, entity_id, from_status, to_status, transition_reason,
    business_context, triggered_by_system, batch_id, batch_row
)
values (%s, clock_timestamp(), 'order', %s, %s, %s, %s, %s, %s, %s, 1)
"""
CONTEXT = {"channel": "web", "priority": 2}
Call = Callable[[Any, int, str | None, str], None]


class Latency(NamedTuple):
    """Of one kind of call by a number of callers, each waiting for its answer."""

    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float


def measure_record(url: str, callers: int, seconds: float) -> Latency:
    """Transitions recorded one by one, each caller on entities of its own."""
    return _measure(_record, url, callers, seconds)


def measure_insert(url: str, callers: int, seconds: float) -> Latency:
    """The same rows, inserted one by one into an identical table."""
    with database.connect(url) as connection:
        connection.execute(CREATE_BARE)
    return _measure(_insert, url, callers, seconds)


def _record(connection: Any, entity_id: int, before: str | None, status: str) -> None:
    record(
        connection,
        entity_type="order",
        entity_id=entity_id,
        to_status=status,
        expected_status=before,
        transition_reason="bench",
        business_context=CONTEXT,
        triggered_by_system="bench",
    )


def _insert(connection: Any, entity_id: int, before: str | None, status: str) -> None:
    context = json.dumps(CONTEXT)
    values = [uuid.uuid4(), entity_id, before, status, "bench", context, "bench", 1]
    connection.execute(INSERT, values, prepare=True)


def _measure(call: Call, url: str, callers: int, seconds: float) -> Latency:
    """Callers are threads, in as many processes as there are cores."""
    spawn = multiprocessing.get_context("spawn")
    cores = os.cpu_count() or 1
    groups = [range(callers)[n::cores] for n in range(cores)]
    ready, answers = spawn.Barrier(callers), spawn.Queue()
    processes = [
        spawn.Process(target=_callers, args=(call, url, group, seconds, ready, answers))
        for group in groups
        if group
    ]
    for process in processes:
        process.start()
    each = [answers.get() for _ in range(callers)]
    for process in processes:
        process.join()
    elapsed = max(end for _, end, _ in each) - min(begin for begin, _, _ in each)
    times = sorted(t for _, _, times in each for t in times)
    return Latency(
        callers,
        len(times) / elapsed,
        times[len(times) // 2] * 1000,
        times[len(times) * 99 // 100] * 1000,
    )


def _callers(
    call: Call, url: str, group: range, seconds: float, ready: Any, answers: Any
) -> None:
    with ThreadPoolExecutor(len(group)) as pool:
        one = partial(_caller, call, url, seconds, ready)
        for answer in pool.map(one, group):
            answers.put(answer)


def _caller(
    call: Call, url: str, seconds: float, ready: Any, number: int
) -> tuple[float, float, list[float]]:
    steps = _steps(number)
    times = []
    with database.connect(url) as connection:
        for _ in range(WARM_UP):
            call(connection, *next(steps))
        ready.wait()
        begin = end = time.monotonic()
        while end < begin + seconds:
            call(connection, *next(steps))
            now = time.monotonic()
            times.append(now - end)
            end = now
    return begin, end, times


def _steps(number: int) -> Iterator[tuple[int, str | None, str]]:
    """Entities that no other run has touched, each led along PATH."""
    entity_id = time.time_ns() // 1000 * 100 + number
    for before, status in cycle(zip((None, *PATH), PATH, strict=False)):
        entity_id += 100 if before is None else 0
        yield entity_id, before, status
