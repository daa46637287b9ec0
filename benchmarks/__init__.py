"""Measures this machine: the pair as real processes, a customer's endpoint beside it, tables with targets."""
