"""What a delivery would be, in words and as JSON.

What is counted belongs in ingest/preview.py.
"""

from typing import Any

from dagster_project.terminal import say
from ingest.kinds import KINDS
from ingest.preview import Preview

SHOWN_STATUSES = 12
SHOWN_REFUSALS = 5


def tell_preview(name: str, found: Preview) -> None:
    """Say what a file would bring, on standard error."""
    skipped = f", {found.skipped_rows:,} of them skipped" if found.skipped_rows else ""
    kind = KINDS[found.kind]
    refused = sum(refusal.row_count for refusal in found.rejected)
    say(
        f"{name}: {found.rows:,} rows{skipped}; {found.transitions:,} {kind.noun} of "
        f"{found.entities:,} entities, {refused:,} rows would be rejected"
    )
    if found.first_at is not None:
        say(f"  from {found.first_at} to {found.last_at}")
    if found.repeated:
        say(
            f"  {found.repeated:,} equal another of the file; tell them apart by "
            "identity in the mapping, if they are events of their own"
        )
    shown = list(found.statuses.items())[:SHOWN_STATUSES]
    for status, count in shown:
        say(f"  {count:>11,}  {status}")
    if len(found.statuses) > SHOWN_STATUSES:
        say(f"  and {len(found.statuses) - SHOWN_STATUSES:,} more")
    for refusal in found.rejected[:SHOWN_REFUSALS]:
        say(f"  rejected: {refusal}")


def preview_as_json(name: str, found: Preview) -> dict[str, Any]:
    """The same as one object."""
    rejected = [refusal._asdict() for refusal in found.rejected]
    return {"file": name, **found._asdict(), "rejected": rejected}
