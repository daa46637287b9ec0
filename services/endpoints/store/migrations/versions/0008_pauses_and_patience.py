"""Who paused what and why, and endpoints that ask for patience."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is kept of them."""
    run_script(__file__, "0008_up.sql")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "0008_down.sql")
