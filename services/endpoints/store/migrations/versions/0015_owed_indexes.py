"""When an index that an endpoint is owed is asked for."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tell it from the next one by schedule."""
    run_script(__file__, "0015_up.sql")


def downgrade() -> None:
    """Have it due before all schedules."""
    run_script(__file__, "0015_down.sql")
