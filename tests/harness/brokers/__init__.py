"""Brokers of tests: scripted ones, local ones, and real ones as processes."""
