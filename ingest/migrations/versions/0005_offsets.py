"""Rejects say at which byte of their file they began."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the plain SQL beside this file."""
    sql = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # The driver itself: SQLAlchemy would send parameters, and with them one statement.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(sql)
