"""Who offers what another endpoint registered since."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep who is displaced, beginning with those that are."""
    run_script(__file__, "0013_up.sql")


def downgrade() -> None:
    """Forget it; an index that was asked for at once is due by schedule, where there is one."""
    run_script(__file__, "0013_down.sql")
