"""What passes through the broker between clients and nodes: printed output, stored values."""
