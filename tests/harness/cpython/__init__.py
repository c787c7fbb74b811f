"""CPython's own tests, run with our modules in place of the standard ones."""
