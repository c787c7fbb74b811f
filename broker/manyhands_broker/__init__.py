"""The broker: one scheduler for a fleet of nodes.

- `core`: the pure scheduler; no socket, clock, thread or file.
- `loop`: the loop around it. `commit_gate`: what leaves while the journal has no room.
- `ports`: where peers come in. `poller`: what the loop waits for.
- `heartbeats`: UDP heartbeats, from datagram to suspicion.
- `journal`: what survives the process. `auth`: who may connect.
- `server`: all of it put together.
"""
