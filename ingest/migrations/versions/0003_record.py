"""A live transition is judged and appended by one function (S9, S10, S19)."""

from ingest.migrations import run_beside

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
