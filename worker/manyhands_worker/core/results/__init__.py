"""Results on a node until the broker or a client has them, and what is sampled of their runs."""
