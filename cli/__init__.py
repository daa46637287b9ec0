"""The kongflow command."""
