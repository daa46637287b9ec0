"""Plans that expect many rows of an environment, and few items of an index."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say how many environments and indexes a plan is to expect."""
    run_script(__file__, "0012_up.sql")


def downgrade() -> None:
    """Leave it to the statistics."""
    run_script(__file__, "0012_down.sql")
