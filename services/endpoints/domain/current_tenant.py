"""Whose call is being answered, for what is shared out among tenants."""

from __future__ import annotations

from contextvars import ContextVar

_tenant: ContextVar[str | None] = ContextVar("kongflow_tenant", default=None)


def note_tenant(name: str | None) -> None:
    """Say that this task, and what it begins, works for a tenant or nobody's; `name` is unique among tenants."""
    _tenant.set(name)


def current_tenant() -> str | None:
    """Return for whom this task works, None for the service itself and for what is nobody's yet."""
    return _tenant.get()
