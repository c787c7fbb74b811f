"""HTTP for those who look after the broker: metrics, scale, health. Read-only, in its own process."""
