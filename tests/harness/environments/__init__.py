"""Where tests run besides this process: containers, hosts with their own network, another Python."""
