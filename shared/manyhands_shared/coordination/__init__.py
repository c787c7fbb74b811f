"""What members, host agents and the broker share of a program."""
