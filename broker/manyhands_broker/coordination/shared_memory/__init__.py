"""Segments of shared memory of programs, and what each host has of them."""
