"""Memory that the processes of a program share: what hosts and the broker both know of it."""
