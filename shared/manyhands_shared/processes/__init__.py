"""How processes are started, what they inherit, and how they end."""
