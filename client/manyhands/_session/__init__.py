"""The client's session as a pure state machine; `session` tells how it works."""

from manyhands._session.session import Session

__all__ = ["Session"]
