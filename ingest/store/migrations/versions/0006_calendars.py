"""Business calendars and business time (S9-S12); workflows name their calendar."""

from ingest.store.migrations import run_beside

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
