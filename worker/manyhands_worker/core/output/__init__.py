"""What tasks have printed, until the broker has it."""
