"""Members of programs, their host agents, and what members say."""
