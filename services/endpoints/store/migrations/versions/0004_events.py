"""Events, what they were given to, and runs."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their tables."""
    run_script(__file__, "0004_up.sql")


def downgrade() -> None:
    """Drop their tables."""
    run_script(__file__, "0004_down.sql")
