"""Secrets that calls to endpoints are signed with."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their columns."""
    run_script(__file__, "0005_up.sql")


def downgrade() -> None:
    """Drop their columns."""
    run_script(__file__, "0005_down.sql")
