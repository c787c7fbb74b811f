"""What a node decides: no socket, process, clock or file in it.

Pool children do not load this package.
"""
