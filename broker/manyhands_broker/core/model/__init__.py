"""What there is: jobs, nodes, sessions, stored values."""
