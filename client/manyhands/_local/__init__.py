"""Processes of a cluster on this machine."""
