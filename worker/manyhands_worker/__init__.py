"""The node of manyhands: a pool of processes on one host, fed by the broker.

From the operating system up:

- `process`: what is asked of the operating system about processes.
- `control`, `slab`, `pipe`, `functions`: what a pool child and the node share.
- `child`, `runner`: what happens inside a pool child.
- `pool`: `NodePool`, the children as the node sees them.
- `core`, `dispatch`, `tasks`, `outbox`, `actions`: what the node decides; no socket, process or
  clock in them.
- `heartbeat`: the process that tells the broker by UDP that this host is alive.
- `transport`, `node`: the ZeroMQ link, and the one loop around everything.
"""
