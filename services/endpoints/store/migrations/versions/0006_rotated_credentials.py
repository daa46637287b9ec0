"""Credentials that overlap while they are rotated, and when they were last used."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their columns."""
    run_script(__file__, "0006_up.sql")


def downgrade() -> None:
    """Drop their columns."""
    run_script(__file__, "0006_down.sql")
