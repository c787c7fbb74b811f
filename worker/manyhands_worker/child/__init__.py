"""What runs inside a pool child."""
