"""Args of queue jobs as large as they look."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Store what comes from now on uncompressed."""
    run_script(__file__, "0009_up.sql")


def downgrade() -> None:
    """Compress again."""
    run_script(__file__, "0009_down.sql")
