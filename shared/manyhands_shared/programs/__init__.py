"""Programs as tasks: a command, what each input makes of it, and running it in a pool child."""
