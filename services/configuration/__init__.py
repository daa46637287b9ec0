"""What both services' settings are read with: one file beside the environment, and values with units."""
