"""What began and never ended, apart from what was rescued."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    run_script(__file__, "0011_up.sql")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "0011_down.sql")
