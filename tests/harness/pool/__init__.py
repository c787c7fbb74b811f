"""A node's pool and one of its children, with a test in the node's place."""
