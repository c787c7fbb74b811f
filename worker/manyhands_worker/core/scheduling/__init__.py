"""Which of the tasks on a node runs next, and in which slot."""
