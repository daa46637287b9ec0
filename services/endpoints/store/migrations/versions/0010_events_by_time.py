"""Events of an environment by the time at which they were written."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    run_script(__file__, "0010_up.sql")


def downgrade() -> None:
    """Drop it."""
    run_script(__file__, "0010_down.sql")
