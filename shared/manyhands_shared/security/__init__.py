"""Keys, and who is let in."""
