"""The wire protocol, as `docs/protocol.md` specifies it."""
