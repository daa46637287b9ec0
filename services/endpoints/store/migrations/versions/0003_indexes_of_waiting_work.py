"""Indexes of what waits: one entry less, and each for one purpose."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace them."""
    run_script(__file__, "0003_up.sql")


def downgrade() -> None:
    """Bring the former ones back."""
    run_script(__file__, "0003_down.sql")
