"""Scripts, and how they are run."""
