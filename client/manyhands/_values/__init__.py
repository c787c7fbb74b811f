"""Large values that this client keeps, and results fetched from other hosts."""
