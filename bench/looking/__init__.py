"""What it costs to look on, and how fluid the dashboard is."""
