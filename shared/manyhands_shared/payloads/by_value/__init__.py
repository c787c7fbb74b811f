"""Functions and classes that no other process can import: they travel as what they hold."""
