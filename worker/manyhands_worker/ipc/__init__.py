"""Between the node and a pool child: both halves of each mechanism."""
