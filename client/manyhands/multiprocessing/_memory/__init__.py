"""Shared memory of a program: blocks, segments, and the manager of `SharedMemory`."""
