"""The I/O thread: the only place with a socket, a poller and the session."""
