"""One index entry less for each queue job that is due at once."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the index of what waits by one of what waits for its time."""
    run_script(__file__, "0003_up.sql")


def downgrade() -> None:
    """Bring the index of all that waits back."""
    run_script(__file__, "0003_down.sql")
