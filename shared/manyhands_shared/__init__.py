"""What the broker, the node and the client of manyhands have in common.

- `messages`: the messages of protocol version 1, one frozen dataclass each.
- `wire`: messages to frames and back, with every limit enforced on the way in.
- `serial`: Python values to payloads and back (pickle protocol 5, out-of-band buffers).
- `failure`: a task's exception as a payload that loads everywhere.
- `beat`: the signed UDP heartbeat datagram.
- `keys`: the cluster key and what is derived from it.
- `config`, `settings`: the options of each role, and reading them from outside.
- `errors`: what users catch. `clock`: time as an argument.

Nothing in here imports another part of manyhands.
"""

__version__ = "0.1.0"
