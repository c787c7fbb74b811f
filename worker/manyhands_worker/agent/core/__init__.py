"""What a host agent decides: no socket, process or clock is in here."""
