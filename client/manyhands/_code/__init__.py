"""The user's own modules on their way to the nodes."""
