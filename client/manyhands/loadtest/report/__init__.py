"""What a load test found, as tables, charts and pages."""
