"""UDP heartbeats, from the datagram to the suspicion.

The receiver is a process of its own and must not load the scheduler, so nothing is imported here.
"""
