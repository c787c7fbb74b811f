"""What tasks have for inputs: stored values, and results of other tasks."""
