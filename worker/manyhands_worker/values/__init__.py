"""Large values on this host."""
