"""How far a link to the broker has come, from hello to welcome: of a node, and of a host agent."""

from __future__ import annotations

from enum import Enum

#: From the hello on; a link that brings no welcome by then is given up.
WELCOME_SECONDS = 10.0


class Phase(Enum):
    """How far the present link has come."""

    DOWN = "down"
    GREETING = "greeting"
    READY = "ready"
