"""What locks, queues and delegation have in common: an object at the broker."""
