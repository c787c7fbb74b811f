"""The client's session as a pure state machine; `core` tells how it works."""

from manyhands.session.core import Session

__all__ = ["Session"]
