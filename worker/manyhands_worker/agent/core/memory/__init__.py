"""Memory that an agent shares with members: segments, and the words of delegated locks."""
