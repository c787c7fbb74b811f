"""Locks, queues and the like: requests, waits, deadlines and deadlocks."""
