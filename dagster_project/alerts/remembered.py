"""What pipeline alerts remember in the home folder, so that they need no database.

`alert_channels.json` is a copy of the channels in force; `pipeline_alerts.json` holds
incidents, what channels were told, and messages that are not recorded in `raw` yet.
Addresses are in neither: channels name the variables that hold theirs.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec

from dagster_project.alerts.channels import PIPELINE, Channel
from dagster_project.alerts.incidents import Incident, Told
from ingest.store.database import Connection
from ingest.store.on_disk import make_folder, write_whole

CHANNELS_NAME = "alert_channels.json"
MEMORY_NAME = "pipeline_alerts.json"
# Of messages that wait to be recorded, where a database is away for weeks.
LONGEST = 1000
_TOLD_BY_THE_TABLE = """
select channel_name, details
from raw.alert_messages
where
    topic = %s
    and channel_name = any(%s)
    and is_delivered
    and sent_at > clock_timestamp() - interval '7 days'
order by sent_at
"""


class Attempt(msgspec.Struct):
    """A message that was sent through a channel, taken or not."""

    message_id: UUID
    channel: str
    title: str
    count: int
    sent_at: float
    error: str | None
    details: dict[str, object]


class Failures(msgspec.Struct):
    """How often a channel did not take a message since it took one, and when last."""

    count: int
    last_at: float


class Memory(msgspec.Struct):
    """What was seen of troubles, and told.

    position: of the newest failed run that was counted, in Dagster's storage, and when
        that was updated.
    ticks: the newest failed tick that was counted, by schedule and sensor.
    """

    incidents: dict[str, Incident] = {}
    told: dict[str, dict[str, Told]] = {}
    failures: dict[str, Failures] = {}
    unrecorded: list[Attempt] = []
    position: int = 0
    position_at: float = 0.0
    ticks: dict[str, int] = {}


# Of folders on which nothing can be written now, as on a full disk.
_KEPT_HERE: dict[Path, Memory] = {}


@contextmanager
def remembering(home: Path) -> Iterator[Memory | None]:
    """The memory of a home folder, for one process at a time; None where it is taken.

    It is kept at the end, and as often as `keep` is called.
    """
    with (make_folder(home) / f".{MEMORY_NAME}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        memory = _KEPT_HERE.get(home) or _read(home)
        try:
            yield memory
        finally:
            keep(home, memory)


def keep(home: Path, memory: Memory) -> None:
    """Write it; where the disk is full, this process remembers it at least."""
    del memory.unrecorded[:-LONGEST]
    try:
        write_whole(home / MEMORY_NAME, msgspec.json.encode(memory).decode())
    except OSError:
        _KEPT_HERE[home] = memory
    else:
        _KEPT_HERE.pop(home, None)


def _read(home: Path) -> Memory:
    try:
        return msgspec.json.decode((home / MEMORY_NAME).read_bytes(), type=Memory)
    # None yet, or of another release; what was told is in the database, too.
    except (OSError, msgspec.MsgspecError):
        return Memory()


def remember_channels(home: Path, channels: Sequence[Channel]) -> None:
    """Keep a copy of the channels in force, where it says something else.

    A folder that can't be written to keeps nobody from being told.
    """
    path = make_folder(home) / CHANNELS_NAME
    content = json.dumps([channel._asdict() for channel in channels], indent=1)
    try:
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_whole(path, content)
    except OSError:
        return


def remembered_channels(home: Path) -> list[Channel]:
    """The channels as of the copy; none where there is no copy."""
    try:
        rows = json.loads((home / CHANNELS_NAME).read_bytes())
        return [Channel(**row) for row in rows]
    except (OSError, ValueError, TypeError):
        return []


def recall(connection: Connection, memory: Memory, channels: Sequence[Channel]) -> None:
    """Add what the table says that channels were told, by whichever home it was."""
    names = [channel.channel_name for channel in channels]
    rows = connection.execute(_TOLD_BY_THE_TABLE, [PIPELINE, names])
    for channel_name, details in rows:
        known = memory.told.setdefault(channel_name, {})
        for said in (details or {}).get("causes", []):
            cause, told = said["cause"], msgspec.convert(said["told"], Told)
            if cause not in known or known[cause].at < told.at:
                known[cause] = told
            incident = memory.incidents.get(cause)
            if incident is None and not told.is_over:
                memory.incidents[cause] = msgspec.convert(said["incident"], Incident)
