"""What was: jobs over time, samples of runs, failures. In bounded memory, for people alone."""
