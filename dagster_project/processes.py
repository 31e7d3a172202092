"""Which process executes a run, and whether it is there.

Without Dagster, which health does not load. What becomes of a run without a process
belongs in dead_runs.py.
"""

import socket

import psutil

# A tag of the run: the id of its process, when that began, since ids come again, and
# the name of its machine. The prefix is Dagster's, of tags that the UI does not show.
PROCESS_TAG = ".dagster/status_engine/process"


def process_tag(process_id: int) -> dict[str, str]:
    """The tag of a run that a process executes."""
    began = _began(process_id)
    said = f"{process_id} {began} {socket.gethostname()}" if began else ""
    return {PROCESS_TAG: said}


def lives(process: str, *, is_local: bool) -> bool:
    """Whether the process of a tag is there.

    Args:
        process: the tag's value.
        is_local: whether it is of this machine, whatever its name was; of a process of
            another machine nobody knows, so it is taken to live.
    """
    number, began, *machine = process.split()
    if not is_local and machine not in ([], [socket.gethostname()]):
        return True
    return _began(int(number)) == began


def _began(process_id: int) -> str:
    """When a process began; nothing where there is none."""
    try:
        return str(psutil.Process(process_id).create_time())
    except psutil.NoSuchProcess:
        return ""
