"""A file that was broken off says why: its name, and the refused rows by code."""

from ingest.store.migrations import run_beside

revision = "0012"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
