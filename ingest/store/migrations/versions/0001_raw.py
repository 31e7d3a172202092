"""Schema raw: configuration, the ledger, transitions and rejects (S5, S7, S17, S20)."""

from ingest.store.migrations import run_beside

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
