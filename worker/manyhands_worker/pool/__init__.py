"""The pool children, as the node sees them."""
