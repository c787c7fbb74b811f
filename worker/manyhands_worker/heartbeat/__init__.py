"""The heartbeat process, and what keeps it alive."""
