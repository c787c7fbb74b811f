"""The rules of each kind of synchronisation object: pure state, no clock, no I/O."""
