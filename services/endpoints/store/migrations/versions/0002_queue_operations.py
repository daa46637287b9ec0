"""What operators need of the ledger: reading by environment and state, pauses that know whose lane they stop."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is needed."""
    run_script(__file__, "0002_up.sql")


def downgrade() -> None:
    """Take it away again; who owns a paused lane and what first answers said is lost."""
    run_script(__file__, "0002_down.sql")
