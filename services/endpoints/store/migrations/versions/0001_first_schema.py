"""The first schema: tenancy, endpoints and their indexes, the catalog, the ledger."""

from __future__ import annotations

from services.endpoints.store.migrations.script import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    run_script(__file__, "0001_up.sql")


def downgrade() -> None:
    """Drop everything, data included."""
    run_script(__file__, "0001_down.sql")
