"""Processes of a program: how they start, speak with their host agent, and end."""
