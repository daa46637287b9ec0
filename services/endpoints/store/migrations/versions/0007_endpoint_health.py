"""The health of endpoints, their probes and their scheduled indexes."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is kept of them."""
    run_script(__file__, "0007_up.sql")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "0007_down.sql")
