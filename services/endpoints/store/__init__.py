"""PostgreSQL: named queries, one typed function for each, one transaction for a unit of work."""
