"""What a node asks of the operating system."""
