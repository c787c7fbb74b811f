"""What many looks at running tasks come to: counted stacks, a flame graph, a file for speedscope."""
