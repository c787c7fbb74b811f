"""The results that a pool child has not handed over yet."""
