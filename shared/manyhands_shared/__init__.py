"""What the broker, the node and the client of manyhands have in common.

- `payloads`: Python values to bytes and back.
- `protocol`: the wire protocol: messages, their bounds, and frames.
- `transport`: connections to the broker.
- `shm`: memory lent between the processes of one host.
- `security`: keys, and who is let in.
- `processes`: how processes are started, what they inherit, and how they end.
- `config`: the options of each role. `errors`: what users catch.
- `errors`: what users catch. `clock`: time as an argument.

Nothing in here imports another part of manyhands.
"""

__version__ = "0.1.0"
#: Of the wire protocol.
PROTOCOL_VERSION = 1
