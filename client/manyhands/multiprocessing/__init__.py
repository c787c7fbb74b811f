"""`multiprocessing` over a cluster: the same program, its processes on any host."""
