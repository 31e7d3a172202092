"""What the run was that `built` begins with: three transitions of two orders."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

PARTS = ["configuration", "inbox", "cut", "build", "publish"]
AS_OF = datetime(2026, 3, 10, 12, tzinfo=UTC)
NEXT = AS_OF + timedelta(days=2)
HISTORY = """\
created_at,entity_type,entity_id,to_status
2026-03-01T09:00:00Z,order,1,new
2026-03-01T10:00:00Z,order,1,confirmed
2026-03-09T13:00:00Z,order,2,new
"""


class Built(NamedTuple):
    """The database that the run left, to be copied, and its home folder."""

    url: str
    home: Path
