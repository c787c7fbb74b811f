"""The broker: one scheduler for a fleet of nodes.

- `core`: the pure scheduler; no socket, clock, thread or file.
- `loop`: the ZeroMQ ROUTER loop around it.
- `ports`: where peers come in. `heartbeats`: UDP heartbeats, from datagram to suspicion.
- `journal`: what survives the process. `auth`: who may connect.
- `server`: all of it put together.
"""
