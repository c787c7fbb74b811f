"""What peers say: one module a subject."""
