"""The node of manyhands: a pool of processes on one host, fed by the broker.

From the operating system up:

- `host`: what the node asks of the operating system.
- `core`: what the node decides; no socket, process, clock or file in it.
- `values`: large values on this host. `broker_link`: the link to the broker.
- `heartbeat`: the process that tells the broker by UDP that this host is alive.
- `ipc`: both halves of each mechanism between the node and a pool child.
- `child`: what runs inside a pool child.
- `pool`: `NodePool`, the children as the node sees them.
- `node`: the one loop around everything.
"""
