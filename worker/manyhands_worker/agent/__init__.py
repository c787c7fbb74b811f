"""The host agent: it speaks for the members of all programs on its host, and starts their processes."""
