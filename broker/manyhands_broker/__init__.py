"""The broker: one scheduler for a fleet of nodes.

- `core`: the pure scheduler; no socket, clock, thread or file.
- `loop`: the ZeroMQ ROUTER loop around it.
- `liveness`, `monitor`, `lastseen`: UDP heartbeats, from datagram to suspicion.
- `journal`: what survives the process. `security`: who may connect.
- `server`: all of it put together.
"""
