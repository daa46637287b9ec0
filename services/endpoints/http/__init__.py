"""The HTTP face: health, readiness, metrics and indexing hooks."""
