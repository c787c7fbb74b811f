"""The pure core of programs with several processes: `coordinator` has its theory."""
