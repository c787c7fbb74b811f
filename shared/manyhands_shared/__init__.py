"""What the broker, the node and the client of manyhands have in common.

- `messages`: the messages of protocol version 1, one frozen dataclass each.
- `wire`: messages to frames and back, with every limit enforced on the way in.
- `serial`: Python values to payloads and back (pickle protocol 5, out-of-band buffers).
- `plain`: the same without pickle, for safe jobs.
- `labels`: what a node must be like to run a job.
- `failure`: a task's exception as a payload that loads everywhere.
- `beat`: the signed UDP heartbeat datagram.
- `keys`, `role_key`: the cluster key and what is derived from it; keys of one person or machine.
- `allow_list`: which of the latter a broker lets in.
- `config`, `settings`: the options of each role, and reading them from outside.
- `errors`: what users catch. `clock`: time as an argument.

Nothing in here imports another part of manyhands.
"""

__version__ = "0.1.0"
