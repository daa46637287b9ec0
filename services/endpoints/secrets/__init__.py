"""Encryption and keyed hashing of keys and tokens."""
