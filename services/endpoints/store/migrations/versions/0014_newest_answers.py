"""The number of each index's newest answer."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep it, beginning with what is there."""
    run_script(__file__, "0014_up.sql")


def downgrade() -> None:
    """Forget it."""
    run_script(__file__, "0014_down.sql")
