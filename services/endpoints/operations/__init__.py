"""Use cases over ports: what each call and each queue job does."""
