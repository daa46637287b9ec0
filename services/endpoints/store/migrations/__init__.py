"""The schema's history as hand-written SQL, up and down."""
