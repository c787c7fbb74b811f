"""What becomes of a run: its targets, tables and chart."""
