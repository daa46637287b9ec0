"""PostgreSQL, Redis and both services in one process tree, with nothing to install."""
