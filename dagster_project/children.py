"""Programs that end with the process that started them, however it ended.

Each is given a session of its own, so that Ctrl-C in a terminal does not reach it, and
a pipe that closes with its parent; then it interrupts itself and all that it started.
Run as a module, this is such a child: `python -m dagster_project.children NAME ...`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from typing import IO

# Seconds that a child and its runs get to end by themselves.
PATIENCE = 20.0


@contextmanager
def child(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of this environment while the block lasts; its group ends with it.

    What it says goes to standard error until then: how it takes its end, nobody asks.

    Args:
        name: of the program, as it is installed.
        arguments: what it is given.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    is_ending = threading.Event()
    said = (process.stdout, is_ending)
    threading.Thread(target=_repeat, args=said, daemon=True).start()
    try:
        yield process
    finally:
        is_ending.set()
        process.stdin.close()
        deadline = time.monotonic() + PATIENCE
        while _is_alive(process) and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _repeat(output: IO[bytes], is_ending: threading.Event) -> None:
    with output:
        while said := os.read(output.fileno(), 65_536):
            if not is_ending.is_set():
                sys.stderr.buffer.write(said)
                sys.stderr.buffer.flush()


def _is_alive(process: subprocess.Popen[bytes]) -> bool:
    """Whether anyone of its group is."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Be the program that is named, until the parent has ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name = sys.argv[1]
    sys.argv = sys.argv[1:]
    (program,) = entry_points(group="console_scripts", name=name)
    program.load()()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGINT)
    time.sleep(PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
