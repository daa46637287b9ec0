"""Apps to try KongFlow with."""
