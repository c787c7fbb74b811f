"""How a large result travels from its node to a client of another host: in parts, and only if asked for.

The node serves on a socket of its own. What the client asks for it is told, so the node keeps nothing
about transfers: not how far they are, nor what comes next. The client decides how much is on the way
at once. A result of any size takes no more of either side's buffers than that.
"""

from __future__ import annotations

#: A held result is asked for by a key of this length, on its own host and elsewhere.
KEY_BYTES = 16
#: The longest part that is served.
PART_BYTES = 1 << 20
#: Parts that one client may have asked one node for and not got yet.
WINDOW = 8
#: Of the socket's authentication.
DOMAIN = "manyhands-results"
